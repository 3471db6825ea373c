"""How an option is declared, and the two errors that a user can mend.

Below everything: `config.py` and the files of `tasks/` declare their options with `option`.
"""

import dataclasses
from typing import Any


class ConfigError(ValueError):
    """A wrong option or config file; the message names it and the remedy. Exit code 2."""


class DataError(ValueError):
    """A wrong data set or record; the message names it and the remedy. Exit code 2."""


def option(default: Any, meaning: str, least: float | None = None, choices: tuple = ()) -> Any:
    """A dataclass field with its meaning, its least value and the values that it may take."""
    return dataclasses.field(
        default=default, metadata={"meaning": meaning, "least": least, "choices": choices}
    )
