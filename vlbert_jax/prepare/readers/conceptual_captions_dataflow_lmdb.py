"""ViLBERT's and volta's Conceptual Captions: one LMDB file of a dataflow, captions inside

A value is a list of 8 (ViLBERT) or 13 (volta) items, serialised with msgpack or pickle.
"""

from collections.abc import Iterator
from typing import Any

from vlbert_jax.prepare import lmdb_file, unpickle
from vlbert_jax.prepare.fields import BrokenError, count, regions, text
from vlbert_jax.prepare.msgpack_numpy import unpack
from vlbert_jax.prepare.raw import Bad, RawCaption

KIND = "captions"
LAST = ("boxes", "num_boxes", "image_h", "image_w", "image_id", "caption")
ITEMS = {
    8: ("features", "cls_prob", *LAST),
    13: (
        *("features", "cls_prob", "objects_id", "objects_conf", "attrs_id", "attrs_conf"),
        *("attr_scores", *LAST),
    ),
}
PICKLE = b"\x80"
MSGPACK_LISTS = {*range(0x90, 0xA0), 0xDC, 0xDD}


def read(inputs: list[str], split: str) -> Iterator[RawCaption | Bad]:
    """The examples of the databases.

    Raises:
      DataError: no whole LMDB, or a pickle that asks to run code.
    """
    return lmdb_file.examples(inputs, _decode, _example)


def _decode(data: bytes, where: str) -> Any:
    if data[:1] == PICKLE:
        return unpickle.loads(data, where)
    if data and data[0] in MSGPACK_LISTS:
        return unpack(data)
    raise BrokenError(
        "value",
        f"begins with {data[:4]!r}: neither msgpack nor pickle; values that pyarrow"
        " serialised must be written anew with the pyarrow (below 15) that can read them",
    )


def _example(stored: Any, key: str, where: str) -> RawCaption:
    if not isinstance(stored, list | tuple) or len(stored) not in ITEMS:
        found = f"{len(stored)} items" if isinstance(stored, list | tuple) else f"{stored!r:.80}"
        raise BrokenError("value", f"is {found}; expected a list of 8 or 13")
    named = dict(zip(ITEMS[len(stored)], stored, strict=True))
    boxes, features, classes = regions(named)
    return RawCaption(
        key=key,
        image_id=_name(named),
        caption=text(named, "caption"),
        width=count(named, "image_w"),
        height=count(named, "image_h"),
        boxes=boxes,
        features=features,
        classes=classes,
        where=where,
    )


def _name(named: dict[str, Any]) -> str:
    is_text = isinstance(named["image_id"], str | bytes)
    return text(named, "image_id") if is_text else str(count(named, "image_id"))
