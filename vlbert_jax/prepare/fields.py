"""Fields of a stored picture -> numbers and arrays, each checked against the count of regions.

Shared by the readers of dictionaries, databases and HDF5 files. What is wrong with one picture is
raised as `BrokenError`, which `attempt` turns into a `Bad` record.
"""

import base64
import binascii
import importlib
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vlbert_jax.options import DataError
from vlbert_jax.prepare.raw import Bad, Raw
from vlbert_jax.prepare.unpickle import DamagedError

CLASSES = 1600  # of Visual Genome, without background


class BrokenError(Exception):
    """A fault of one picture: field, reason."""


def attempt(make: Callable[[], Raw], key: str, where: str) -> Raw:
    """What `make` gives, or what is wrong with it as a `Bad` record."""
    try:
        return make()
    except BrokenError as fault:
        return Bad(key, *fault.args, where)
    except DamagedError as fault:
        return Bad(key, "value", str(fault), where)


def library(name: str) -> types.ModuleType:
    """An optional library.

    Raises:
      DataError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(
            f"this format needs the library {name} ({error}): pip install 'vlbert_jax[readers]'"
        ) from error


def field(stored: Any, *names: str) -> Any:
    """The value of the first of `names` that is there.

    Raises:
      BrokenError: none is.
    """
    if not isinstance(stored, Mapping):
        raise BrokenError(
            names[0], f"is sought in a {type(stored).__name__}; expected a dictionary"
        )
    for name in names:
        if name in stored:
            return stored[name]
    there = ", ".join(str(name) for name in stored)
    raise BrokenError(names[0], f"is missing; found {there or 'nothing':.200}")


def count(stored: Any, *names: str) -> int:
    """A whole number of at least 0, stored as a number or as text."""
    value = field(stored, *names)
    is_one = isinstance(value, np.ndarray | np.generic) and value.size == 1
    plain = value.item() if is_one else value
    if isinstance(plain, bytes):
        plain = plain.decode("latin1")
    try:
        number = int(plain)
    except (TypeError, ValueError, OverflowError):
        number = -1
    if number < 0 or (isinstance(plain, float) and plain != number):
        raise BrokenError(names[0], f"is {value!r:.80}; expected a whole number of at least 0")
    return number


def text(stored: Any, *names: str) -> str:
    """A text, stored as such or as UTF-8 bytes."""
    value = field(stored, *names)
    if isinstance(value, bytes):
        value = value.decode("utf-8", errors="replace")
    if not isinstance(value, str):
        raise BrokenError(names[0], f"is {value!r:.80}; expected text")
    return value


def rows(stored: Any, *names: str, n: int | None = None, columns: int | None = None) -> np.ndarray:
    """[n, W] numbers: an array, or the base64 of float32, of which n or W must be known.

    Args:
      n: number of rows; None: as many as there are.
      columns: W; None: whatever it is.

    Raises:
      BrokenError: missing, no array of two axes, other rows than n or another width.
    """
    value = field(stored, *names)
    if isinstance(value, str | bytes):
        value = _decoded(value, names[0], n, columns)
    if not isinstance(value, np.ndarray) or value.ndim != 2 or value.dtype.kind not in "fiu":
        shape = f"{value.dtype} of {value.shape}" if isinstance(value, np.ndarray) else repr(value)
        raise BrokenError(names[0], f"is {shape:.80}; expected numbers in rows, one a region")
    if columns is not None and value.shape[1] != columns:
        raise BrokenError(names[0], f"{value.shape[1]} numbers a region; expected {columns}")
    if n is not None and len(value) != n:
        raise BrokenError(names[0], f"{len(value)} rows for {n} boxes")
    return value


def regions(
    stored: Any, *boxes: str, number: str = "num_boxes", classes: str = "cls_prob"
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Boxes [n, 4], features [n, W], classes [n, C] or None of one dictionary.

    The field `number` gives n where it is there. Arrays may have rows past it, which are padding
    and dropped; base64 may not.

    Args:
      boxes: names that the boxes may have; none: "boxes".

    Raises:
      BrokenError: fields are missing, or their rows are not of the same number, or fewer than n.
    """
    boxes = boxes or ("boxes",)
    placed = rows(stored, *boxes, columns=4)
    features = rows(stored, "features", n=len(placed))
    scores = None
    if classes in stored:
        scores = with_background(rows(stored, classes, n=len(placed)))
    n = count(stored, number) if number in stored else len(placed)
    is_text = isinstance(field(stored, *boxes), str | bytes)
    if n > len(placed) or (n < len(placed) and is_text):
        raise BrokenError(boxes[0], f"{len(placed)} rows; {number} is {n}")
    return placed[:n], features[:n], None if scores is None else scores[:n]


def with_background(classes: np.ndarray) -> np.ndarray:
    """Class scores with the background in column 0, [n, C].

    Of 1600 columns, which have none, the background becomes what is left of 1.
    """
    if classes.shape[1] != CLASSES:
        return classes
    left = np.clip(1 - classes.sum(axis=1, keepdims=True, dtype=np.float64), 0, None)
    return np.concatenate([left.astype(classes.dtype), classes], axis=1)


def _decoded(value: str | bytes, name: str, n: int | None, columns: int | None) -> np.ndarray:
    """[n, columns] float32 of base64."""
    try:
        data = base64.b64decode(value, validate=True)
    except (ValueError, binascii.Error) as error:
        raise BrokenError(name, f"no base64 ({error})") from error
    whole = 4 * (columns or n or 1)
    if len(data) % whole or (n == 0 and data):
        of = f"rows of {columns} float32" if columns else f"float32 for each of {n} boxes"
        raise BrokenError(name, f"{len(data):,} bytes; no whole number of {of}")
    other = len(data) // whole
    return np.frombuffer(data, "<f4").reshape((other, columns) if columns else (n, other))
