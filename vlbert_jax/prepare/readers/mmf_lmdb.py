"""MMF's LMDB of pickled dictionaries (detectron.lmdb)

A value holds features, image_height, image_width, bbox, and mostly num_boxes and cls_prob, which has
no background. Rows past num_boxes are padding.
"""

from collections.abc import Iterator
from typing import Any

from vlbert_jax.prepare import lmdb_file, unpickle
from vlbert_jax.prepare.fields import count, regions
from vlbert_jax.prepare.raw import Bad, RawPicture

KIND = "pictures"
BOXES = ("bbox", "boxes", "image_bboxes")  # by the age of the file


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of the databases.

    Raises:
      DataError: no whole LMDB, or a pickle that asks to run code.
    """
    return lmdb_file.examples(inputs, unpickle.loads, picture)


def picture(stored: Any, key: str, where: str) -> RawPicture:
    """The picture of one dictionary of MMF's."""
    width, height = count(stored, "image_width"), count(stored, "image_height")
    return RawPicture(key, width, height, *regions(stored, *BOXES), where)
