"""MMF's .npy files: NAME.npy with NAME_info.npy, or all in one NAME.npy (12-in-1)

NAME.npy is an array of features, NAME_info.npy a pickled dictionary of bbox, image_width,
image_height and mostly num_boxes and cls_prob; the one file holds the features in its dictionary.
"""

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from vlbert_jax.options import DataError
from vlbert_jax.prepare.fields import BrokenError, attempt
from vlbert_jax.prepare.raw import Bad, RawPicture
from vlbert_jax.prepare.readers import mmf_lmdb
from vlbert_jax.prepare.unpickle import load_npy

KIND = "pictures"
INFO = "_info.npy"


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of folders (and the folders in them), in the order of their names.

    Raises:
      DataError: no .npy file there, or a pickle that asks to run code.
    """
    for folder in [pathlib.Path(name) for name in inputs]:
        found = sorted(file for file in folder.rglob("*.npy") if not file.name.endswith(INFO))
        if not found:
            raise DataError(f"{folder}: no .npy file in this folder; expected NAME.npy, NAME{INFO}")
        for file in found:
            key = file.relative_to(folder).with_suffix("").as_posix()
            yield attempt(functools.partial(_picture, file, key), key, file.name)


def _picture(file: pathlib.Path, key: str) -> RawPicture:
    features = load_npy(file)
    if features.dtype.hasobject:
        return mmf_lmdb.picture(_dictionary(features), key, file.name)
    if features.ndim == 4:
        raise BrokenError("features", f"grid of {features.shape}; expected one row a region")
    info = file.with_name(file.stem + INFO)
    if not info.is_file():
        raise BrokenError("boxes", f"no file {info.name} beside it")
    stored = _dictionary(load_npy(info))
    return mmf_lmdb.picture({**stored, "features": features}, key, file.name)


def _dictionary(stored: np.ndarray) -> dict[str, Any]:
    value = stored.item() if stored.size == 1 else None
    if not isinstance(value, dict):
        raise BrokenError("value", f"object array of {stored.shape}; expected one dictionary")
    return value
