"""Tab-separated files and what stands in their cells: numbers, base64 arrays, JSON.

The readers of such formats call this; what is wrong with a cell is a `BrokenError`, which
becomes a `Bad` record.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from vlbert_jax.prepare.fields import BrokenError
from vlbert_jax.prepare.raw import Bad, RawPicture
from vlbert_jax.prepare.readers.text import files


def pictures(
    inputs: Sequence[str],
    layouts: Sequence[tuple[str, ...]],
    make: Callable[[dict[str, str], str], RawPicture],
    suffixes: tuple[str, ...] = (".tsv",),
) -> Iterator[RawPicture | Bad]:
    """The rows of tab-separated files without header as pictures.

    A field may have megabytes; a row ends in LF or CR LF.

    Args:
      inputs: files, or folders that stand for their files with one of `suffixes`.
      layouts: names of the columns, the picture's id first; told apart by their number.
      make: (column -> text, file and line) -> the picture, or raises BrokenError.

    Raises:
      DataError: no such file.
    """
    for file in [file for name in inputs for file in files(name, suffixes)]:
        for number, cells in enumerate(rows(file), start=1):
            where = f"{file.name} line {number}"
            if cells == [""]:
                continue
            try:
                columns = next((names for names in layouts if len(names) == len(cells)), None)
                if columns is None:
                    expected = " or ".join(f"{len(names)}" for names in layouts)
                    raise BrokenError(
                        "row",
                        f"{len(cells)} columns; expected {expected}: {', '.join(layouts[-1])}",
                    )
                yield make(dict(zip(columns, cells, strict=True)), where)
            except BrokenError as fault:
                yield Bad(cells[0][:80], *fault.args, where)


def rows(file: Any) -> Iterator[list[str]]:
    """Cells of each line; what is not UTF-8 comes as U+FFFD."""
    with open(file, "rb") as opened:
        for line in opened:
            text = line.removesuffix(b"\n").removesuffix(b"\r").decode(errors="replace")
            yield text.split("\t")


def json_object(text: str | bytes, field: str) -> dict[str, Any]:
    """An object of JSON."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BrokenError(field, f"no JSON ({error})") from error
    if not isinstance(value, dict):
        raise BrokenError(field, f"JSON holds a {type(value).__name__}; expected an object")
    return value


def item(stored: Any, name: str, of: str) -> Any:
    """stored[name]; `of` is what `stored` is called in messages."""
    if not isinstance(stored, dict):
        raise BrokenError(of, f"is {stored!r:.80}; expected an object")
    if name not in stored:
        raise BrokenError(of, f"has no {name!r}; found {', '.join(stored) or 'nothing'}")
    return stored[name]


def count(value: Any, name: str) -> int:
    """A whole number of at least 0."""
    if not isinstance(value, int) or value < 0:
        raise BrokenError(name, f"is {value!r:.80}; expected a number of at least 0")
    return value


def digits(text: str, name: str) -> int:
    """A whole number of at least 0, written in digits."""
    return count(int(text) if text.strip().isdecimal() else text, name)


def array(
    value: Any, name: str, n: int, columns: int | Sequence[int] = 0, dtypes: str = "f"
) -> np.ndarray:
    """[n, columns] of a base64 field, little endian.

    Args:
      value: base64 of the bytes.
      name: of the field.
      n: number of rows.
      columns: 0: whatever the number of bytes gives; several: the one that fits it.
      dtypes: letters of NumPy's dtypes that the bytes may have, the first that fits is taken;
        "f" is float32, "e" float16.
    """
    try:
        data = base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise BrokenError(name, f"no base64 ({error})") from error
    allowed = [columns] if isinstance(columns, int) else list(columns)
    for letter in dtypes:
        dtype = np.dtype(letter).newbyteorder("<")
        for each in allowed:
            width = each or len(data) // max(n * dtype.itemsize, 1)
            if len(data) == n * width * dtype.itemsize and (width or not n):
                return np.frombuffer(data, dtype).reshape(n, width)
    dtype = np.dtype(dtypes[0])
    if not allowed[0]:
        raise BrokenError(name, f"{len(data):,} bytes are no {n} rows of {dtype}; num_boxes is {n}")
    found, rest = divmod(len(data), allowed[0] * dtype.itemsize)
    raise BrokenError(
        name,
        f"{len(data):,} bytes = {found} rows of {allowed[0]} {dtype}{' and a bit' * (rest > 0)};"
        f" num_boxes is {n}",
    )
