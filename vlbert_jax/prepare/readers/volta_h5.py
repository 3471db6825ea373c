"""volta's HDF5: one group a picture, of features, boxes, img_w, img_h

obj_id and obj_conf are no class distribution: these pictures have none.
"""

import functools
from collections.abc import Iterator
from typing import Any

from vlbert_jax.prepare import hdf5_file
from vlbert_jax.prepare.fields import BrokenError, attempt, count, regions
from vlbert_jax.prepare.raw import Bad, RawPicture
from vlbert_jax.prepare.readers.text import files

KIND = "pictures"
NEEDED = ("features", "boxes", "num_boxes", "cls_prob", "img_w", "img_h")


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of files, or of a folder's .h5 and .hdf5 files.

    Raises:
      DataError: no such file or not a whole one.
    """
    for file in [file for name in inputs for file in files(name, (".h5", ".hdf5"))]:
        with hdf5_file.opened(file) as stored:
            for key in stored:
                where = f"{file.name}, group {key}"
                yield attempt(functools.partial(_picture, stored, key, where), key, where)


def _picture(stored: Any, key: str, where: str) -> RawPicture:
    group = stored[key]
    if not hasattr(group, "keys"):
        raise BrokenError("group", "is an array; expected a group of features, boxes, img_w, img_h")
    found = {name: hdf5_file.read(group, name) for name in group if name in NEEDED}
    return RawPicture(key, count(found, "img_w"), count(found, "img_h"), *regions(found), where)
