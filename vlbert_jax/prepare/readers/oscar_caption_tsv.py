"""regions of Oscar's captioning files: train.yaml, or train.feature.tsv with train.hw.tsv beside

Their captions: --captions=train_caption.json --captions_format=coco_captions.
"""

import functools
import json
import pathlib
from collections.abc import Iterator

from vlbert_jax.options import DataError
from vlbert_jax.prepare import tables
from vlbert_jax.prepare.fields import BrokenError
from vlbert_jax.prepare.raw import Bad, RawPicture
from vlbert_jax.prepare.readers import vinvl_tsv

KIND = "pictures"
FEATURES, SIZES = ".feature.tsv", ".hw.tsv"


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of the feature file; a folder stands for its yaml file of the split.

    Raises:
      DataError: no such file, or no sizes of the pictures.
    """
    for name in inputs:
        features, size_file = _files(pathlib.Path(name), split)
        make = functools.partial(_picture, sizes(size_file))
        yield from tables.pictures([str(features)], [("image_id", "regions")], make)


def _picture(known: dict[str, tuple[int, int]], row: dict[str, str], where: str) -> RawPicture:
    stored = tables.json_object(row["regions"], "regions")
    n = tables.count(tables.item(stored, "num_boxes", "regions"), "num_boxes")
    rows = vinvl_tsv.numbers(tables.item(stored, "features", "regions"), n)
    if row["image_id"] not in known:
        raise BrokenError("size", "the file of sizes (hw) does not have this picture")
    return vinvl_tsv.placed(row["image_id"], rows, *known[row["image_id"]], None, where)


def sizes(file: pathlib.Path) -> dict[str, tuple[int, int]]:
    """Picture -> (width, height) of a file *.hw.tsv.

    Raises:
      DataError: no such file, or a row that is none.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file; it has the sizes of the pictures")
    known = {}
    for number, cells in enumerate(tables.rows(file), start=1):
        if cells == [""]:
            continue
        try:
            stored = json.loads(cells[-1])
            stored = stored[0] if isinstance(stored, list) else stored
            known[cells[0]] = int(stored["width"]), int(stored["height"])
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise DataError(
                f"{file}: line {number}: expected the picture's id and a JSON object with width"
                f" and height ({error})"
            ) from error
    return known


def _files(path: pathlib.Path, split: str) -> tuple[pathlib.Path, pathlib.Path]:
    """The feature file and the file of sizes."""
    if path.is_dir():
        short = {"validation": "val"}.get(split, split)
        names = [f"{split}.yaml", f"{short}.yaml"]
        found = next((path / name for name in names if (path / name).is_file()), None)
        if found is None:
            raise DataError(f"{path}: no {names[-1]} in it; name the yaml or feature file itself")
        path = found
    if path.suffix != ".yaml":
        return path, path.with_name(path.name.removesuffix(FEATURES) + SIZES)
    if not path.is_file():
        raise DataError(f"{path}: no such file or folder")
    lines = [line.partition(":") for line in path.read_text("utf-8").splitlines()]
    named = {key.strip(): value.strip().strip("'\"") for key, _, value in lines}
    if missing := [key for key in ("feature", "hw") if not named.get(key)]:
        raise DataError(f"{path}: names no {' and no '.join(missing)} file")
    return path.parent / named["feature"], path.parent / named["hw"]
