"""Pickles of strangers, read without running anything that they name.

For the readers. A pickle is a program that may call any function of the machine. Here it gets
stand-ins for the few names that NumPy's pickles need, and no other. NumPy's own constructors are
not called either: they trust their arguments, so that an invented dtype could read or write
foreign memory. Every array is made from checked bytes, dtype and shape.
"""

import contextlib
import io
import math
import os
import pathlib
import pickle
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vlbert_jax.options import DataError

PLAIN_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248]|c8|c16|[SU]\d{0,9}|O8?)")

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class DamagedError(ValueError):
    """No whole pickle or npy file; the message says what is wrong with it."""


def loads(data: bytes, where: str) -> Any:
    """The value of a pickle: None, numbers, text, bytes, plain containers, NumPy arrays, scalars.

    Strings of Python 2 become text of one character a byte (latin1). Arrays are read-only.

    Args:
      data: one pickle of any protocol.
      where: file and record for messages.

    Raises:
      DataError: it names anything else. Nothing of that was run.
      DamagedError: no whole pickle, or an array whose bytes do not fit its shape.
    """
    with _damage("pickle"):
        return _plain(_Unpickler(io.BytesIO(data), where).load())


def load_npy(file: str | os.PathLike) -> np.ndarray:
    """The array of an .npy file; one of objects goes through `loads`.

    Raises:
      DataError: as `loads`, or a dtype with fields.
      DamagedError: not a whole .npy file.
      OSError: it cannot be opened.
    """
    path = pathlib.Path(file)
    with open(path, "rb") as opened, _damage(".npy file"):
        version = np.lib.format.read_magic(opened)
        if version not in HEADERS:
            raise DamagedError(f".npy file of version {version}; expected 1 or 2")
        shape, _, dtype = HEADERS[version](opened)
        if not dtype.hasobject:
            opened.seek(0)
            return np.load(opened, allow_pickle=False)
        if dtype != np.dtype(object):
            raise _refused(str(path), f"an array of {dtype}")
        value = _plain(_Unpickler(opened, str(path)).load())
    if not isinstance(value, np.ndarray) or value.shape != shape:
        raise DamagedError(f"header tells an array of {shape}, the pickle holds another thing")
    return value


def _refused(where: str, found: str) -> DataError:
    return DataError(
        f"{where}: pickle with {found}; expected only numbers, text, plain containers and NumPy"
        " arrays of these. Nothing of it was run; do not trust this file"
    )


@contextlib.contextmanager
def _damage(of: str) -> Iterator[None]:
    try:
        yield
    except (DataError, DamagedError):
        raise
    except Exception as error:  # as the documentation of pickle says, it may be any
        raise DamagedError(f"no whole {of} ({type(error).__name__}: {error})") from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, opened: Any, where: str):
        super().__init__(opened, encoding="latin1")
        self.where = where
        self._names = {
            ("numpy", "ndarray"): _Name("ndarray", None),
            ("numpy", "dtype"): _Name("dtype", self._dtype),
            ("collections", "OrderedDict"): _Name("OrderedDict", _ordered),
            ("_codecs", "encode"): _Name("encode", _encode),  # bytes of protocol 2
        }
        for builtins in ("builtins", "__builtin__"):
            self._names[builtins, "bytes"] = _Name("bytes", _no_bytes)
        for core in ("core", "_core"):
            make = _Name("array", _Array)
            self._names[f"numpy.{core}.multiarray", "_reconstruct"] = make
            self._names[f"numpy.{core}.multiarray", "scalar"] = _Name("scalar", _scalar)
            self._names[f"numpy.{core}.numeric", "_frombuffer"] = _Name("frombuffer", _frombuffer)

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._names:
            raise _refused(self.where, f"{module}.{name}")
        return self._names[module, name]

    def persistent_load(self, name: Any) -> Any:
        raise _refused(self.where, f"a reference to outside ({name!r:.80})")

    def _dtype(self, name: Any, *flags: Any) -> "_Dtype":
        if not isinstance(name, str) or not PLAIN_DTYPE.fullmatch(name):
            raise _refused(self.where, f"the dtype {name!r:.80}")
        return _Dtype(name, self.where)


class _Name:
    """A name of the pickle that may be called; nothing of it can be changed."""

    __slots__ = ("_make", "_name")

    def __init__(self, name: str, make: Callable | None):
        self._name, self._make = name, make

    def __call__(self, *arguments: Any) -> Any:
        if self._make is None:
            raise DamagedError(f"calls {self._name}")
        return self._make(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise DamagedError(f"changes {self._name}")


class _Dtype:
    """A dtype without fields; its state tells the byte order."""

    __slots__ = ("dtype", "where")

    def __init__(self, name: str, where: str):
        self.dtype, self.where = np.dtype(name), where

    def __setstate__(self, state: Any) -> None:
        _, order, *fields = state
        if any(part is not None for part in fields[:3]) or order not in ("<", ">", "|", "="):
            raise _refused(self.where, f"a dtype with fields ({fields!r:.80})")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array to be: what it holds comes after it was named."""

    __slots__ = ("value",)

    def __init__(self, *unused: Any):
        self.value = None

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_columns, data = state
        self.value = _array(data, dtype, shape, "F" if by_columns else "C")


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple):
        raise DamagedError("array without dtype or shape")
    if not all(isinstance(length, int) and length >= 0 for length in shape):
        raise DamagedError(f"array of shape {shape!r:.80}")
    count, dtype = math.prod(shape), dtype.dtype
    if dtype.hasobject:
        if not isinstance(data, list) or len(data) != count:
            raise DamagedError(f"array of {shape} objects without its objects")
        made = np.empty(count, object)
        for number, value in enumerate(data):  # of a list at once, NumPy would look into it
            made[number] = value
        return made.reshape(shape, order=order)
    if isinstance(data, str):  # a string of Python 2
        data = data.encode("latin1")
    size = count * dtype.itemsize
    found = memoryview(data).nbytes
    if found != size:
        raise DamagedError(f"array of {shape} {dtype} with {found:,} bytes; expected {size:,}")
    if not size:
        return np.empty(shape, dtype)
    return np.frombuffer(data, dtype).reshape(shape, order=order)


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.value = _array(data, dtype, shape, "F" if order == "F" else "C")
    return made


def _scalar(dtype: Any, data: Any = b"") -> Any:
    made = _Array()
    made.value = _array(data, dtype, (), "C")[()]
    return made


def _ordered(items: Any = ()) -> dict:
    return dict(items)


def _encode(text: Any, encoding: Any = "") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise DamagedError(f"text in the encoding {encoding!r:.20}; expected latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


def _plain(value: Any) -> Any:
    """`value` with the arrays in the places of their stand-ins."""
    if isinstance(value, _Array):
        value = value.value
        if isinstance(value, np.ndarray) and value.dtype.hasobject:
            for index, each in np.ndenumerate(value):
                value[index] = _plain(each)
        return value
    if isinstance(value, _Dtype | _Name):
        raise DamagedError("a dtype or function where a value is expected")
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_plain(each) for each in value)
    return value
