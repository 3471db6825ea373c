"""captions of LXMERT: mscoco_train.json, vgnococo.json and the like; without their questions"""

import pathlib
from collections.abc import Iterator

from vlbert_jax.options import DataError
from vlbert_jax.prepare import tables
from vlbert_jax.prepare.fields import BrokenError
from vlbert_jax.prepare.raw import Bad, RawText
from vlbert_jax.prepare.readers.coco_captions import caption, load

KIND = "text"
SOURCES = ("mscoco", "vg")  # the others hold questions


def read(inputs: list[str], split: str) -> Iterator[RawText | Bad]:
    """The captions of the files in order, each with the id of its picture.

    Raises:
      DataError: no such file, or not of this format.
    """
    for file in map(pathlib.Path, inputs):
        stored = load(file)
        if not isinstance(stored, list):
            raise DataError(f"{file}: holds an object; expected a list of pictures with sentf")
        for number, entry in enumerate(stored):
            where = f"{file.name} entry {number}"
            try:
                yield from _captions(entry, where)
            except BrokenError as fault:
                yield Bad(f"{number}", *fault.args, where)


def _captions(entry: object, where: str) -> list[RawText]:
    image_id, texts = (tables.item(entry, name, "entry") for name in ("img_id", "sentf"))
    if not isinstance(texts, dict):
        raise BrokenError("sentf", f"is {texts!r:.80}; expected lists of texts by their source")
    found = []
    for source in SOURCES:
        of_source = texts.get(source, [])
        if not isinstance(of_source, list):
            raise BrokenError("sentf", f"{source} is {of_source!r:.80}; expected a list of texts")
        found += [
            caption(f"{image_id}#{source}-{place}", text, image_id, where)
            for place, text in enumerate(of_source)
        ]
    return found
