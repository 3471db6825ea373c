"""How an option is declared, and the errors that are told in one line.

Below everything: `config.py` and the files of `tasks/` declare their options with `option`.
"""

import dataclasses
from typing import Any


class ConfigError(ValueError):
    """A wrong option or config file; the message names it and the remedy. Exit code 2."""


class DataError(ValueError):
    """A wrong data set or record; the message names it and the remedy. Exit code 2."""


class RunError(RuntimeError):
    """A run that cannot go on; the message says why, what is saved and what to do. Exit code 1."""


def option(default: Any, meaning: str, least: float | None = None, choices: tuple = ()) -> Any:
    """A dataclass field with its meaning, its least value and the values that it may take."""
    return dataclasses.field(
        default=default, metadata={"meaning": meaning, "least": least, "choices": choices}
    )
