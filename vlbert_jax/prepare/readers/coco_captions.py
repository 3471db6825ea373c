"""captions of COCO: captions_train2017.json and the like; also a bare list of such annotations"""

import json
import pathlib
from collections.abc import Iterator

from vlbert_jax.options import DataError
from vlbert_jax.prepare import tables
from vlbert_jax.prepare.fields import BrokenError
from vlbert_jax.prepare.raw import Bad, RawText

KIND = "text"


def read(inputs: list[str], split: str) -> Iterator[RawText | Bad]:
    """The captions of the files in order, each with the id of its picture.

    A folder stands for the one captions_<split>*.json in it or in its folder annotations.

    Raises:
      DataError: no such file, or not of this format.
    """
    for file in [_file(pathlib.Path(name), split) for name in inputs]:
        stored = load(file)
        if isinstance(stored, dict):
            stored = stored.get("annotations", stored)
        if not isinstance(stored, list):
            raise DataError(
                f"{file}: no list 'annotations' in it; found {', '.join(stored)}; is it of another"
                " format (--captions_format)?"
            )
        for number, annotation in enumerate(stored):
            where = f"{file.name} annotation {number}"
            try:
                yield caption(
                    f"{tables.item(annotation, 'id', 'annotation')}",
                    tables.item(annotation, "caption", "annotation"),
                    tables.item(annotation, "image_id", "annotation"),
                    where,
                )
            except BrokenError as fault:
                yield Bad(f"{number}", *fault.args, where)


def load(file: pathlib.Path) -> dict | list:
    """The object or list of a JSON file."""
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    try:
        stored = json.loads(file.read_bytes())
    except ValueError as error:
        raise DataError(f"{file}: no JSON ({error}); is the download complete?") from error
    if not isinstance(stored, dict | list):
        raise DataError(f"{file}: JSON holds a {type(stored).__name__}; expected captions")
    return stored


def caption(key: str, text: object, image_id: object, where: str) -> RawText:
    """A caption whose parts are what they should be.

    Raises:
      BrokenError: they are not.
    """
    if not isinstance(text, str):
        raise BrokenError("caption", f"is {text!r:.80}; expected a text")
    if isinstance(image_id, bool) or not isinstance(image_id, int | str):
        raise BrokenError("image_id", f"is {image_id!r:.80}; expected a number or a name")
    return RawText(key, text, where, f"{image_id}")


def _file(path: pathlib.Path, split: str) -> pathlib.Path:
    if not path.is_dir():
        return path
    short = {"validation": "val"}.get(split, split)
    found = sorted(path.glob(f"captions_{short}*.json"))
    found += sorted(path.glob(f"annotations/captions_{short}*.json"))
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise DataError(
            f"{path}: expected one captions_{short}*.json, found {names}; name the file"
        )
    return found[0]
