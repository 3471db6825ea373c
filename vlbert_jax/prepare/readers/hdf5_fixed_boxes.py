"""HDF5 of bottom-up-attention features, the same number of boxes a picture (train36.hdf5)

image_features, image_bb and spatial_features are [N, n, ...]; NAME_imgid2idx.pkl beside NAME.hdf5
tells the row of each picture. The picture's size follows from the pixels and the shares of the side
of its largest box.
"""

import functools
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from vlbert_jax.options import DataError
from vlbert_jax.prepare import hdf5_file, unpickle
from vlbert_jax.prepare.fields import BrokenError, attempt
from vlbert_jax.prepare.raw import Bad, RawPicture
from vlbert_jax.prepare.readers.text import files

KIND = "pictures"
ARRAYS = ("image_features", "image_bb", "spatial_features")
OFF = 0.5  # pixels between a box and its shares of the size that was found


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of files, or of a folder's .hdf5 and .h5 files, in the order of their rows.

    Raises:
      DataError: no such file or not a whole one, or no list of rows beside it.
    """
    return pictures(inputs, lambda stored, row: row)


def pictures(
    inputs: list[str], part: Callable[[Any, int], int | slice]
) -> Iterator[RawPicture | Bad]:
    """The pictures of files whose arrays hold picture `row` at the index `part(file, row)`."""
    for file in [file for name in inputs for file in files(name, (".hdf5", ".h5"))]:
        ids = _ids(file)
        with hdf5_file.opened(file) as stored:
            for key, row in ids:
                where = f"{file.name} row {row}"
                make = functools.partial(_picture, stored, key, row, part, where)
                yield attempt(make, key, where)


def _ids(file: pathlib.Path) -> list[tuple[str, int]]:
    """Picture and row, by rows."""
    beside = file.with_name(file.stem + "_imgid2idx.pkl")
    if not beside.is_file():
        raise DataError(f"{file}: no {beside.name} beside it, which tells the pictures of its rows")
    try:
        rows = unpickle.loads(beside.read_bytes(), str(beside))
        pairs = [(str(key), int(row)) for key, row in rows.items()]
    except (unpickle.DamagedError, AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{beside}: no list of picture -> row ({error})") from error
    return sorted(pairs, key=lambda pair: pair[1])


def _picture(
    stored: Any, key: str, row: int, part: Callable[[Any, int], int | slice], where: str
) -> RawPicture:
    try:
        index = part(stored, row)
        features, boxes, shares = (hdf5_file.read(stored, name, index) for name in ARRAYS)
    except (IndexError, ValueError) as error:
        raise BrokenError("row", f"{row} is outside of the arrays ({error})") from error
    for name, found, columns in (("image_bb", boxes, 4), ("spatial_features", shares, 6)):
        if found.shape != (len(features), columns):
            raise BrokenError(name, f"{found.shape}; expected {(len(features), columns)}")
    if not len(boxes):
        raise BrokenError("size", "no box that tells the size of the picture")
    width, height = (_side(boxes[:, end], shares[:, end]) for end in (2, 3))
    if (off := np.abs(boxes - shares[:, :4] * np.float32([width, height] * 2)).max()) > OFF:
        raise BrokenError(
            "spatial_features", f"{off:g} pixels from image_bb in a {width}×{height} picture"
        )
    return RawPicture(key, width, height, boxes, features, None, where)


def _side(pixels: np.ndarray, shares: np.ndarray) -> int:
    """Width (or height) of the picture from x2 (or y2) of its boxes: pixels and shares of it."""
    largest = int(np.argmax(pixels))
    if not (shares[largest] > 0 and np.isfinite(pixels[largest] / shares[largest])):
        raise BrokenError("spatial_features", f"region {largest} tells no size")
    return round(float(pixels[largest] / shares[largest]))
