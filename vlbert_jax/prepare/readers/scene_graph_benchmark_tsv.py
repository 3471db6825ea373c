"""regions of scene_graph_benchmark: predictions.tsv, with *.hw.tsv beside it for the sizes"""

import functools
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from vlbert_jax.options import DataError
from vlbert_jax.prepare import tables
from vlbert_jax.prepare.fields import BrokenError
from vlbert_jax.prepare.raw import Bad, RawPicture
from vlbert_jax.prepare.readers.oscar_caption_tsv import SIZES, sizes

KIND = "pictures"


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of predictions.tsv, named itself or by its folder, in order.

    Raises:
      DataError: no such file, or no sizes of the pictures.
    """
    for name in inputs:
        path = pathlib.Path(name)
        file = path / "predictions.tsv" if path.is_dir() else path
        size_files = sorted(file.parent.glob(f"*{SIZES}"))
        if not size_files:
            raise DataError(
                f"{file.parent}: no *{SIZES}, which has the sizes of the pictures; put it beside"
                " the predictions"
            )
        known = {}
        for size_file in size_files:
            known |= sizes(size_file)

        make = functools.partial(_picture, known)
        yield from tables.pictures([str(file)], [("image_id", "regions")], make)


def _picture(known: dict[str, tuple[int, int]], row: dict[str, str], where: str) -> RawPicture:
    objects = tables.item(tables.json_object(row["regions"], "row"), "objects", "row")
    if row["image_id"] not in known:
        raise BrokenError("size", f"no *{SIZES} has this picture")
    size = known[row["image_id"]]
    return RawPicture(row["image_id"], *size, _boxes(objects), _features(objects), None, where)


def _boxes(objects: list[dict[str, Any]]) -> np.ndarray:
    rects = [tables.item(each, "rect", "objects") for each in objects]
    try:
        return np.array(rects, np.float32).reshape(len(rects), 4)
    except (ValueError, TypeError) as error:
        raise BrokenError("rect", f"expected 4 numbers ({error})") from error


def _features(objects: list[dict[str, Any]]) -> np.ndarray:
    rows = [tables.array(tables.item(each, "feature", "objects"), "feature", 1) for each in objects]
    widths = sorted({row.shape[1] for row in rows})
    if len(widths) > 1:
        raise BrokenError("feature", f"objects have {widths} numbers; expected the same of each")
    return np.concatenate(rows) if rows else np.zeros((0, 0), np.float32)
