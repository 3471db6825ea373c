"""VLP's HDF5 files: *_featDDD.h5, *_clsDDD.h5 and one file of boxes

DDD are the last three characters of the pictures' names; each picture is an array of that name. The
files do not tell the sizes of pictures.
"""

import functools
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from vlbert_jax.options import DataError
from vlbert_jax.prepare import hdf5_file
from vlbert_jax.prepare.fields import BrokenError, attempt, rows, with_background
from vlbert_jax.prepare.raw import Bad, RawPicture
from vlbert_jax.prepare.readers.text import files

KIND = "pictures"
PART = re.compile(r".*_(feat|cls)...")


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of folders, those of *_feat000.h5 first.

    Raises:
      DataError: a file is missing or not a whole one.
    """
    for name in inputs:
        found = files(name, (".h5",))
        boxes = [file for file in found if not PART.fullmatch(file.stem)]
        features = [file for file in found if file not in boxes and file.stem[-7:-3] == "feat"]
        if len(boxes) != 1 or not features:
            raise DataError(
                f"{name}: {len(features)} files *_feat???.h5 and {len(boxes)} of boxes; expected a"
                " folder of *_feat???.h5, *_cls???.h5 and one .h5 file of boxes"
            )
        with hdf5_file.opened(boxes[0]) as placed:
            for file in features:
                yield from _pictures(file, placed)


def _pictures(file: pathlib.Path, placed: Any) -> Iterator[RawPicture | Bad]:
    prefix, number = file.stem[:-7], file.stem[-3:]
    other = file.with_name(f"{prefix}cls{number}.h5")
    if not other.is_file():
        raise DataError(f"{file}: no {other.name} beside it, with the class scores")
    with hdf5_file.opened(file) as features, hdf5_file.opened(other) as classes:
        for key in features:
            where = f"{file.name}, array {key}"
            make = functools.partial(_picture, key, placed, features, classes, where)
            yield attempt(make, key, where)


def _picture(key: str, placed: Any, features: Any, classes: Any, where: str) -> RawPicture:
    for name, stored in (("boxes", placed), ("classes", classes)):
        if key not in stored:
            raise BrokenError(name, f"file {stored.filename} has no array {key}")
    found = {
        "boxes": hdf5_file.read(placed, key),
        "features": hdf5_file.read(features, key),
        "classes": hdf5_file.read(classes, key),
    }
    boxes = rows(found, "boxes", columns=6)[:, :4]
    n = len(boxes)
    return RawPicture(
        image_id=key,
        width=None,
        height=None,
        boxes=boxes,
        features=rows(found, "features", n=n),
        classes=with_background(rows(found, "classes", n=n)),
        where=where,
    )
