"""captions of Karpathy's splits: dataset_coco.json, dataset_flickr30k.json; ViLBERT's .jsonline

COCO's "restval" belongs to train. ViLBERT's files (all_data_final_*.jsonline) have one split each.
"""

import json
import pathlib
from collections.abc import Iterator
from typing import Any

from vlbert_jax.options import DataError
from vlbert_jax.prepare import tables
from vlbert_jax.prepare.fields import BrokenError
from vlbert_jax.prepare.raw import Bad, RawText
from vlbert_jax.prepare.readers.coco_captions import caption, load
from vlbert_jax.prepare.readers.text import lines

KIND = "text"
LINES = (".jsonline", ".jsonl")
SPLITS = {"train": ("train", "restval"), "validation": ("val",)}  # another one is called alike


def read(inputs: list[str], split: str) -> Iterator[RawText | Bad]:
    """The captions of the split in order, each with the id of its picture.

    Raises:
      DataError: no such file, not of this format, or no such split in it.
    """
    for file in map(pathlib.Path, inputs):
        if not file.is_file():
            raise DataError(f"{file}: no such file")
        yield from _lines(file) if file.suffix in LINES else _dataset(file, split)


def _dataset(file: pathlib.Path, split: str) -> Iterator[RawText | Bad]:
    images = load(file)
    images = images.get("images", images) if isinstance(images, dict) else images
    wanted, seen = SPLITS.get(split, (split,)), {}
    if not isinstance(images, list):
        raise DataError(f"{file}: no list 'images' in it; found {', '.join(images)}")
    for number, image in enumerate(images):
        where = f"{file.name} image {number}"
        try:
            of = tables.item(image, "split", "image")
            seen[of] = None
            if of in wanted:
                sentences = tables.item(image, "sentences", "image")
                image_id = image.get("cocoid", image.get("filename"))
                yield from _captions(image_id, sentences, f"{number}", where)
        except BrokenError as fault:
            yield Bad(f"{number}", *fault.args, where)
    if not set(wanted) & set(seen):
        raise DataError(
            f"{file}: no image of split {split} ({' or '.join(wanted)}); found"
            f" {', '.join(map(str, seen)) or 'none'}"
        )


def _lines(file: pathlib.Path) -> Iterator[RawText | Bad]:
    for number, line in enumerate(lines(file)):
        if isinstance(line, Bad):
            yield line
        elif line.text.strip():
            try:
                entry = tables.json_object(line.text, "line")
                sentences = tables.item(entry, "sentences", "line")
                image_id = tables.item(entry, "id", "line")
                yield from _captions(image_id, sentences, f"{number}", line.where)
            except BrokenError as fault:
                yield Bad(line.key, *fault.args, line.where)


def _captions(image_id: Any, sentences: Any, number: str, where: str) -> list[RawText]:
    """The captions of one image: texts, or objects with a text "raw"."""
    if not isinstance(sentences, list):
        raise BrokenError("sentences", f"is {json.dumps(sentences):.80}; expected a list")
    texts = [each.get("raw") if isinstance(each, dict) else each for each in sentences]
    return [caption(f"{number}#{place}", text, image_id, where) for place, text in enumerate(texts)]
