"""volta's LMDB of pickled dictionaries, made from LXMERT's features or from MMF's

Both spellings may stand in one database: arrays, or boxes and features as base64 of float32 with
cls_prob, which has no background. obj_id and obj_conf alone are no class distribution.
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
    width, height = count(stored, "img_w"), count(stored, "img_h")
    return RawPicture(key, width, height, *regions(stored), where)
