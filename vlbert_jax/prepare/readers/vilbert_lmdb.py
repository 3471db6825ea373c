"""ViLBERT's and 12-in-1's LMDB of pickled dictionaries, also those made from TSV files

A value holds image_h, image_w, num_boxes, boxes, features and perhaps cls_prob, as arrays or as the
strings of a TSV file (base64 of float32, numbers as text).
"""

from collections.abc import Iterator
from typing import Any

from vlbert_jax.prepare import lmdb_file, unpickle
from vlbert_jax.prepare.fields import count, regions
from vlbert_jax.prepare.raw import Bad, RawPicture

KIND = "pictures"


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of the databases.

    Raises:
      DataError: no whole LMDB, or a pickle that asks to run code.
    """
    return lmdb_file.examples(inputs, unpickle.loads, _picture)


def _picture(stored: Any, key: str, where: str) -> RawPicture:
    width, height = count(stored, "image_w"), count(stored, "image_h")
    return RawPicture(key, width, height, *regions(stored), where)
