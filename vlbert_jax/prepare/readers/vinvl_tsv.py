"""regions of VinVL: features.tsv, and predictions.tsv beside it for the sizes of the pictures

The last 6 of 2054 numbers are the box as shares of the picture: x1, y1, x2, y2, width, height.
"""

import functools
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from vlbert_jax.options import DataError
from vlbert_jax.prepare import tables
from vlbert_jax.prepare.fields import BrokenError
from vlbert_jax.prepare.raw import Bad, RawPicture

KIND = "pictures"
APPEARANCE, WITH_BOX = 2048, 2054
SIZE = ("image_w", "image_h")
PREDICTIONS = ("predictions.tsv", "predictions_gt.tsv")


class Known(NamedTuple):
    """What predictions.tsv says of a picture: pixels, and [n, 4] boxes of its objects."""

    width: int
    height: int
    boxes: np.ndarray


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of features.tsv, named itself or by its folder, in order.

    Raises:
      DataError: no such file, or no predictions beside it.
    """
    for name in inputs:
        path = pathlib.Path(name)
        file = path / "features.tsv" if path.is_dir() else path
        make = functools.partial(_picture, _predictions(file.parent))
        yield from tables.pictures([str(file)], [("image_id", "num_boxes", "features")], make)


def _picture(known: dict[str, Known], row: dict[str, str], where: str) -> RawPicture:
    n = tables.digits(row["num_boxes"], "num_boxes")
    rows = numbers(row["features"], n)
    if row["image_id"] not in known:
        raise BrokenError("size", "predictions.tsv does not have this picture")
    return placed(row["image_id"], rows, *known[row["image_id"]], where)


def numbers(value: str, n: int) -> np.ndarray:
    """[n, 2054 or 2048] float32 or float16 of a base64 field; its length tells which."""
    return tables.array(value, "features", n, (WITH_BOX, APPEARANCE), dtypes="fe")


def placed(
    image_id: str,
    rows: np.ndarray,
    width: int,
    height: int,
    boxes: np.ndarray | None,
    where: str,
) -> RawPicture:
    """The picture; its boxes come from the 6 last of 2054 numbers, else from `boxes`.

    Raises:
      BrokenError: 2048 numbers, and `boxes` is None or does not have as many rows.
    """
    if rows.shape[1] == WITH_BOX:
        boxes = rows[:, APPEARANCE : APPEARANCE + 4] * np.array([width, height] * 2, np.float32)
    elif boxes is None or len(boxes) != len(rows):
        found = "none" if boxes is None else f"{len(boxes)}"
        raise BrokenError(
            "boxes",
            f"{APPEARANCE} numbers a region, so none of its box, and {found} in the other file"
            f" for {len(rows)} regions",
        )
    return RawPicture(image_id, width, height, boxes, rows[:, :APPEARANCE], None, where)


def _predictions(folder: pathlib.Path) -> dict[str, Known]:
    file = next((folder / name for name in PREDICTIONS if (folder / name).is_file()), None)
    if file is None:
        raise DataError(
            f"{folder}: no {' or '.join(PREDICTIONS)}, which has the sizes of the pictures; put"
            " it beside features.tsv"
        )
    known = {}
    for number, cells in enumerate(tables.rows(file), start=1):
        if cells == [""]:
            continue
        try:
            stored = tables.json_object(cells[-1], "row")
            size = (tables.count(tables.item(stored, name, "row"), name) for name in SIZE)
            rects = [each["rect"] for each in stored.get("objects", [])]
            known[cells[0]] = Known(*size, np.array(rects, np.float32).reshape(-1, 4))
        except (BrokenError, KeyError, TypeError, ValueError) as error:
            raise DataError(f"{file}: line {number} cannot be read ({error})") from error
    return known
