"""Pictures and captions from different files, brought together by the id of the picture.

Between the readers and `writer.py`. The same id is written in many ways: 9, "9",
"COCO_train2014_000000000009", "9.json", "00000009.npz".
"""

import dataclasses
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator

import numpy as np

from vlbert_jax.options import DataError
from vlbert_jax.prepare.raw import Bad, Counted, RawPicture, RawText
from vlbert_jax.prepare.readers import (
    captions_csv,
    captions_tsv,
    coco_captions,
    karpathy_json,
    lxmert_json,
)

CAPTIONS = {
    "coco_captions": coco_captions,
    "karpathy_json": karpathy_json,
    "lxmert_json": lxmert_json,
    "captions_tsv": captions_tsv,
    "captions_csv": captions_csv,
}
_BY_SUFFIX = {
    ".tsv": "captions_tsv",
    ".csv": "captions_csv",
    ".jsonline": "karpathy_json",
    ".jsonl": "karpathy_json",
}
_SUFFIX = re.compile(r"\.(json|npz|npy|jpg|jpeg|png)$", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?:coco_(?:train|val|test)\d{4}_|flickr30k_|gcc_|vg_)?0*(\d+)", re.IGNORECASE
)


def canonical(image_id: str) -> str:
    """One spelling of a picture's id: of names with a number the number, else the name.

    Folders and a suffix do not count, so that pictures of one file need different names.
    """
    name = _SUFFIX.sub("", image_id.strip().rpartition("/")[2])
    number = _NUMBER.fullmatch(name)
    return number[1] if number else name


def format_of(file: str) -> str:
    """The captions' format by the name of the file or folder.

    Raises:
      DataError: the name does not tell.
    """
    path = pathlib.Path(file)
    if path.suffix in _BY_SUFFIX:
        return _BY_SUFFIX[path.suffix]
    if path.name.startswith("dataset_"):
        return "karpathy_json"
    if path.name.startswith("captions_") or path.is_dir():
        return "coco_captions"
    raise DataError(
        f"{file}: the name does not tell its format; add --captions_format, one of"
        f" {', '.join(CAPTIONS)}"
    )


def once(pictures: Iterable[RawPicture | Bad]) -> Iterator[RawPicture | Bad | Counted]:
    """The pictures without those whose id came before; these are counted."""
    first: dict[str, int] = {}
    repeated = other = 0
    for picture in pictures:
        if isinstance(picture, RawPicture):
            name, content = canonical(picture.image_id), _checksum(picture)
            if name in first:
                repeated += 1
                other += first[name] != content
                continue
            first[name] = content
        yield picture
    if repeated:
        yield Counted("repeated_pictures", repeated)
    if other:
        yield Counted("repeated_pictures_that_differ", other)


def captioned(
    pictures: Iterable[RawPicture | Bad], captions: Iterable[RawText | Bad]
) -> Iterator[RawPicture | Bad | Counted]:
    """The pictures that have captions, with them; what is left of both is counted.

    Raises:
      DataError: no picture has a caption, or a caption does not name its picture.
    """
    waiting: dict[str, list[RawText]] = {}
    for caption in captions:
        if isinstance(caption, Bad):
            yield caption
            continue
        if not caption.image_id:
            raise DataError(
                f"{caption.where}: does not name the caption's picture; name it in a column image"
                " or image_id"
            )
        waiting.setdefault(canonical(caption.image_id), []).append(caption)
    without, alone, found, bad = 0, "", False, set()
    for picture in once(pictures):
        if isinstance(picture, Bad):
            bad.add(canonical(picture.key))
        if not isinstance(picture, RawPicture):
            yield picture
        elif here := waiting.pop(canonical(picture.image_id), None):
            found = True
            yield dataclasses.replace(picture, captions=here)
        else:
            without += 1
            alone = alone or picture.image_id
    if without and waiting and not found:
        other = next(iter(waiting.values()))[0].image_id
        raise DataError(
            f"no picture has a caption: {without:,} pictures such as {alone!r}, captions of"
            f" {len(waiting):,} others such as {other!r}; are the files of the same pictures?"
        )
    of_bad = sum(len(texts) for name, texts in waiting.items() if name in bad)
    if of_bad:
        yield Counted("captions_of_bad_pictures", of_bad)
    yield Counted("captions_without_picture", sum(map(len, waiting.values())) - of_bad)
    yield Counted("pictures_without_caption", without)


def _checksum(picture: RawPicture) -> int:
    return zlib.crc32(np.ascontiguousarray(picture.features).reshape(-1).view(np.uint8))
