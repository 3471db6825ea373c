"""VLP's HDF5 files: *_featDDD.h5, *_clsDDD.h5 and one file of boxes, and COCO's .json for the sizes

DDD are the last three characters of the pictures' names; each picture is an array of that name. The
files do not tell the sizes of pictures: name COCO's captions_*.json (or instances_*, image_info_*)
as a second input. Without it a picture ends where its boxes end, as in VLP, which puts everything in
it too far right and low; how many were guessed is counted.
"""

import functools
import pathlib
import re
from collections.abc import Iterator
from typing import Any

from vlbert_jax.options import DataError
from vlbert_jax.prepare import hdf5_file, sizes
from vlbert_jax.prepare.fields import BrokenError, attempt, rows, with_background
from vlbert_jax.prepare.raw import Bad, Counted, RawPicture
from vlbert_jax.prepare.readers.text import files

KIND = "pictures"
PART = re.compile(r".*_(feat|cls)...")


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad | Counted]:
    """The pictures of folders, those of *_feat000.h5 first.

    Raises:
      DataError: a file is missing or not a whole one.
    """
    folders, known = sizes.among(inputs)
    guessed = 0
    for name in folders:
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
                for raw in _pictures(file, placed, known):
                    guessed += isinstance(raw, RawPicture) and not known.files
                    yield raw
    if guessed:
        yield Counted("sizes_guessed", guessed)


def _pictures(file: pathlib.Path, placed: Any, known: sizes.Sizes) -> Iterator[RawPicture | Bad]:
    prefix, number = file.stem[:-7], file.stem[-3:]
    other = file.with_name(f"{prefix}cls{number}.h5")
    if not other.is_file():
        raise DataError(f"{file}: no {other.name} beside it, with the class scores")
    with hdf5_file.opened(file) as features, hdf5_file.opened(other) as classes:
        for key in features:
            where = f"{file.name}, array {key}"
            make = functools.partial(_picture, key, placed, features, classes, known, where)
            yield attempt(make, key, where)


def _picture(
    key: str, placed: Any, features: Any, classes: Any, known: sizes.Sizes, where: str
) -> RawPicture:
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
    if (size := known.of(key)) is None:
        if not n:
            raise BrokenError("size", "no box to guess the size of the picture from")
        size = tuple(int(end) + 1 for end in boxes[:, 2:].max(axis=0).clip(0))
    return RawPicture(
        image_id=key,
        width=size[0],
        height=size[1],
        boxes=boxes,
        features=rows(found, "features", n=n),
        classes=with_background(rows(found, "classes", n=n)),
        where=where,
    )
