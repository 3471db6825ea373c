"""HDF5 files for the readers of such formats: opened, and their arrays read row by row."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from vlbert_jax.options import DataError
from vlbert_jax.prepare.fields import BrokenError, library


@contextlib.contextmanager
def opened(file: pathlib.Path) -> Iterator[Any]:
    """The h5py.File.

    Raises:
      DataError: not a whole HDF5 file, or a damaged one.
    """
    h5py = library("h5py")
    try:
        stored = h5py.File(file, "r")
    except OSError as error:
        raise DataError(f"{file}: no whole HDF5 file ({error})") from error
    with stored:
        yield stored


def read(stored: Any, name: str, part: Any = ()) -> np.ndarray:
    """An array of a file or group, or a part of it.

    Raises:
      BrokenError: not there, or damaged.
    """
    if name not in stored:
        there = ", ".join(list(stored)[:9])
        raise BrokenError(name, f"is missing in {stored.name}; found {there or 'nothing'}")
    try:
        return np.asarray(stored[name][part])
    except (OSError, AttributeError, TypeError) as error:
        raise BrokenError(name, f"cannot be read ({error})") from error
