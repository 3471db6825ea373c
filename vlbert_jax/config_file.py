"""A config file and `--config.section.key=value` become a ConfigDict, or one line of error.

Below `config.py`, which declares the options and checks the result.
"""

import ast
import difflib
import importlib.util
import inspect
import math
import pathlib
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import ml_collections

from vlbert_jax.options import ConfigError


def run(file: str) -> ml_collections.ConfigDict:
    """What get_config of `file.py[:argument]` returns.

    Raises:
      ConfigError: no such file, or any error inside it, with its line.
    """
    name, _, argument = file.partition(":")
    path = pathlib.Path(name).resolve()
    if not path.is_file() or path.suffix != ".py":
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.py")], n=1)
        hint = f"; did you mean {pathlib.Path(name).with_name(near[0])}?" if near else ""
        raise ConfigError(f"--config={file}: there is no Python file {name}{hint}")
    spec = importlib.util.spec_from_file_location("vlbert_jax_config_file", path)
    module = importlib.util.module_from_spec(spec)
    root = str(path.parent.parent)  # so that a config file can say `from configs import base`
    sys.path.insert(0, root)
    try:
        spec.loader.exec_module(module)
        if not hasattr(module, "get_config"):
            raise ConfigError(f"--config={file}: {name} has no function get_config")
        takes_argument = bool(inspect.signature(module.get_config).parameters)
        if argument and not takes_argument:
            raise ConfigError(f"--config={file}: {name} takes no argument, found {argument!r}")
        config = module.get_config(argument) if takes_argument else module.get_config()
    except ConfigError:
        raise
    except Exception as error:  # the file may contain anything
        raise ConfigError(f"--config={file}: {_explain(error)}") from error
    finally:
        sys.path.remove(root)
    if not isinstance(config, ml_collections.ConfigDict):
        raise ConfigError(
            f"--config={file}: get_config returns no ConfigDict; start it from default()"
        )
    return config


def _explain(error: Exception) -> str:
    """One line: where in the config file the error arose, and what ConfigDict or Python says."""
    message = str(error.args[0]) if error.args else ""
    near = re.search(r'Did you mean "(.+)" instead of "(.+)"', message)
    locked = re.search(r'Key "(.+)" does not exist', message)
    wrong_type = re.match(
        r"Could not override field '(.+)' \(reference\)\. (.*) is of original", message
    )
    if near:
        message = f"there is no {near[2]}; did you mean {near[1]}?"
    elif locked:
        message = f"there is no {locked[1]}; every option is listed by --help_config"
    elif wrong_type:
        expected = re.search(r"to type <class '(?:.*\.)?(\w+)'>", message)
        message = f"{wrong_type[1]} expects {expected[1]}, found {wrong_type[2]}"
    elif not isinstance(error, AttributeError | KeyError):
        message = f"{type(error).__name__}: {error}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if "ml_collections" not in frame.filename and frame.filename != __file__
    ]
    lines = [f"line {f.lineno} of {pathlib.Path(f.filename).name}: " for f in frames[-1:]]
    return "".join(lines) + " ".join(message.split())


def override(config: ml_collections.ConfigDict, setting: str) -> None:
    """Applies "section.key=value" in place; the value becomes the type that stands there.

    Raises:
      ConfigError: an unknown key (the nearest is named), or a value of another type.
    """
    key, equals, text = setting.partition("=")
    if not equals:
        raise ConfigError(f"--config.{key}: the value is missing, write --config.{key}=VALUE")
    section, path = config, ""
    for part in key.split("."):
        if not isinstance(section, ml_collections.ConfigDict):
            raise ConfigError(f"--config.{key}: {path} is an option, not a section")
        if part not in section:
            raise ConfigError(f"--config.{key}: {unknown(part, list(section), path)}")
        path = f"{path}.{part}" if path else part
        parent, section = section, section[part]
    if isinstance(section, ml_collections.ConfigDict):
        options = ", ".join(f"{key}.{name}" for name in section)
        raise ConfigError(f"--config.{key}: this is a section; it has {options}")
    parent[part] = _parse(text, section, f"--config.{key}={text}")


def unknown(name: str, known: Sequence[str], path: str) -> str:
    """The message for a name that is not among the `known` ones of section `path`."""
    where = f"section {path}" if path else "the config"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]}?" if near else f"; it has {', '.join(known)}"
    return f"{where} has no {name}{hint}"


def _parse(text: str, old: Any, where: str) -> Any:
    """The value that `text` writes, of the type of `old`."""
    if isinstance(old, str):
        return text
    try:
        value = ast.literal_eval({"true": "True", "false": "False"}.get(text, text))
    except (ValueError, SyntaxError) as error:
        raise ConfigError(f"{where}: expected {_type_name(old)}, found {text!r}") from error
    return typed(value, old, where)


def typed(value: Any, old: Any, where: str) -> Any:
    """`value` as the type of `old`: 100.0 and 1e4 are integers, 1 is a float, a list is a tuple.

    Raises:
      ConfigError: it is not of that type, or not finite.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    is_finite = is_number and math.isfinite(value)
    if isinstance(old, bool):
        if isinstance(value, bool):
            return value
    elif isinstance(old, int):
        if is_finite and value == int(value):
            return int(value)
    elif isinstance(old, float):
        if is_finite:
            return float(value)
    elif isinstance(old, str):
        if isinstance(value, str):
            return value
    elif isinstance(value, tuple | list):
        return tuple(tuple(item) if isinstance(item, list) else item for item in value)
    raise ConfigError(f"{where}: expected {_type_name(old)}, found {value!r}")


def _type_name(value: Any) -> str:
    names = {bool: "True or False", int: "a whole number", float: "a finite number", str: "text"}
    return names.get(type(value), 'a tuple such as (("DIR", 1.0),)')
