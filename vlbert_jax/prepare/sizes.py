"""Sizes of pictures by annotation files of COCO's kind, for formats that do not tell them.

Such a reader takes these files (.json) among its inputs.
"""

import dataclasses
import json

from vlbert_jax.options import DataError
from vlbert_jax.prepare.fields import BrokenError
from vlbert_jax.prepare.join import canonical


@dataclasses.dataclass(frozen=True)
class Sizes:
    """(width, height) of pictures by the canonical spelling of their ids."""

    files: list[str]
    known: dict[str, tuple[int, int]]

    def of(self, image_id: str) -> tuple[int, int] | None:
        """Size of a picture; None where no file of sizes was given.

        Raises:
          BrokenError: the files do not have this picture.
        """
        if not self.files:
            return None
        if canonical(image_id) not in self.known:
            raise BrokenError("size", f"{', '.join(self.files)} does not have this picture")
        return self.known[canonical(image_id)]


def among(inputs: list[str]) -> tuple[list[str], Sizes]:
    """The inputs that are no .json file, and the sizes of the others.

    Those hold {"images": [{"id", "width", "height"}, ...]} (captions_*.json, instances_*.json,
    image_info_*.json of COCO), or such a list with "image_id" (image_data.json of Visual Genome).

    Raises:
      DataError: a .json file that is none of these, or nothing else among the inputs.
    """
    files = [name for name in inputs if name.endswith(".json")]
    others = [name for name in inputs if name not in files]
    if not others:
        raise DataError(f"{', '.join(files)}: only sizes of pictures; name the features too")
    known = {}
    for file in files:
        with open(file, "rb") as opened:
            data = opened.read()
        try:
            stored = json.loads(data)
            for entry in stored["images"] if isinstance(stored, dict) else stored:
                name = canonical(str(entry["id" if "id" in entry else "image_id"]))
                known[name] = (int(entry["width"]), int(entry["height"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{file}: no sizes of pictures; expected images with id, width, height"
                f" ({type(error).__name__}: {error})"
            ) from error
    return others, Sizes(files, known)
