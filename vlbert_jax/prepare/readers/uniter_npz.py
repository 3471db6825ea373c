"""UNITER's .npz files, one a picture, and perhaps COCO's .json for the sizes

Each holds features, norm_bb (x1/w, y1/h, x2/w, y2/h, ...) and soft_labels in half precision, and
neither the picture's size nor pixels. Name COCO's captions_*.json (or instances_*, image_info_*) as
a second input for the sizes; without it `FRAME` stands in for them, and the pictures are counted.
"""

import pathlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import IO

import numpy as np

from vlbert_jax.prepare import sizes
from vlbert_jax.prepare.fields import attempt, rows
from vlbert_jax.prepare.raw import Bad, Counted, Raw, RawPicture
from vlbert_jax.prepare.readers.text import files
from vlbert_jax.prepare.unpickle import DamagedError

KIND = "pictures"
NEEDED = ("features", "norm_bb", "soft_labels", "conf")

# Width and height that pictures of unknown size get, those of most pictures of COCO. The geometry
# sees shares of the sides, so that the size matters for the last pixel only (boxes end at w - 1).
# Regions are off by up to 0.06 % of the side, of which half precision alone makes 0.05 %, and the
# whole image by up to 0.13 % in pictures of another shape or size (sides of 300 pixels and more).
FRAME = (640, 480)


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad | Counted]:
    """The pictures of files and folders, those of a folder in the order of their names.

    Raises:
      DataError: no .npz file there, or a .json file without sizes.
    """
    names, known = sizes.among(inputs)
    found = [file for name in names for file in files(name, (".npz",))]
    return counted((_attempt(file, known) for file in found), known)


def counted(pictures: Iterable[Raw], known: sizes.Sizes) -> Iterator[Raw]:
    """The pictures, and how many of them have no size."""
    unknown = 0
    for raw in pictures:
        unknown += isinstance(raw, RawPicture) and not known.files
        yield raw
    if unknown:
        yield Counted("sizes_unknown", unknown)


def load_npz(file: IO[bytes]) -> dict[str, np.ndarray]:
    """The arrays of an .npz file that a picture needs; pickles are refused.

    Raises:
      DamagedError: no whole .npz file.
    """
    try:
        with np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files if name in NEEDED}
    except (ValueError, EOFError, OSError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise DamagedError(f"no whole .npz file ({error})") from error


def picture(
    stored: Mapping[str, np.ndarray],
    key: str,
    where: str,
    size: tuple[int, int] | None,
    n: int | None = None,
) -> RawPicture:
    """The first n (None: all) regions of a picture; without a size in pixels of `FRAME`."""
    shares = rows(stored, "norm_bb", columns=6)
    features = rows(stored, "features", n=len(shares))
    classes = None
    if "soft_labels" in stored:
        classes = rows(stored, "soft_labels", n=len(shares))[:n]
    width, height = size or FRAME
    boxes = shares[:n, :4].astype(np.float32) * np.array([width, height] * 2, np.float32)
    return RawPicture(key, width, height, boxes, features[:n], classes, where)


def _attempt(file: pathlib.Path, known: sizes.Sizes) -> Raw:
    def make() -> RawPicture:
        with open(file, "rb") as opened:
            stored = load_npz(opened)
        return picture(stored, file.stem, file.name, known.of(file.stem))

    return attempt(make, file.stem, file.name)
