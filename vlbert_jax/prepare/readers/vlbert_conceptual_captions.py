"""the VL-BERT release's Conceptual Captions: train_frcnn.json, val_frcnn.json and their archives

One JSON object a line names the caption and a feature file, "train_frcnn.zip@/00000007.json" =
member 00000007.json of that archive, or the same file in the unpacked folder.
"""

import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from vlbert_jax.options import DataError
from vlbert_jax.prepare import tables
from vlbert_jax.prepare.fields import BrokenError
from vlbert_jax.prepare.raw import Bad, RawCaption
from vlbert_jax.prepare.readers.text import lines

KIND = "captions"
LISTS = {"train": "train_frcnn.json", "validation": "val_frcnn.json", "val": "val_frcnn.json"}
COLUMNS = {"boxes": 4, "features": 2048, "classes": 1601}  # of each array, float32


def read(inputs: list[str], split: str) -> Iterator[RawCaption | Bad]:
    """The examples of train_frcnn.json or val_frcnn.json of a folder, or of a named list.

    Raises:
      DataError: no such list, or an archive that is missing or not complete.
    """
    for name in inputs:
        list_file = _list_file(pathlib.Path(name), split)
        features = _Features(list_file.parent)
        for line in lines(list_file):
            if isinstance(line, Bad):
                yield line
            elif line.text.strip():
                yield _example(line.text, line.where, features)


def _list_file(path: pathlib.Path, split: str) -> pathlib.Path:
    if path.is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    if split not in LISTS:
        raise DataError(
            f"split {split!r}: the release has {', '.join(LISTS)}; for another split name the"
            " list of its examples (JSON lines) as the input"
        )
    if not (path / LISTS[split]).is_file():
        found = sorted(file.name for file in path.glob("*.json"))
        raise DataError(
            f"{path}: no {LISTS[split]} in this folder, the list of the {split} examples with"
            f" features; found {', '.join(found) or 'no .json file'}"
        )
    return path / LISTS[split]


class _Features:
    """Feature files by the names that the list gives them; archives stay open."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self._archives: dict[str, zipfile.ZipFile] = {}

    def read(self, name: str) -> bytes:
        archive, at, member = name.partition("@/")
        if not at:
            return self._file(pathlib.Path(name))
        if archive not in self._archives:
            if not (self.folder / archive).is_file():
                return self._file(self._unpacked(archive) / member)
            self._archives[archive] = self._open(self.folder / archive)
        try:
            return self._archives[archive].read(member)
        except KeyError:
            raise BrokenError("frcnn", f"archive {archive} has no member {member}") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise BrokenError(
                "frcnn", f"member {member} of archive {archive} is damaged ({error})"
            ) from error

    def _open(self, file: pathlib.Path) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise DataError(
                f"{file}: not a complete zip archive, {file.stat().st_size:,} bytes ({error});"
                " download it again"
            ) from error

    def _unpacked(self, archive: str) -> pathlib.Path:
        """The folder of an archive; the parts of a split one may lie in one folder together."""
        folder = archive.removesuffix(".zip")
        without_part = folder[:-2] if folder[-2:] in (".0", ".1", ".2", ".3") else folder
        for each in (folder, without_part):
            if (self.folder / each).is_dir():
                return pathlib.Path(each)
        raise DataError(
            f"{self.folder}: neither the archive {archive} nor the unpacked folder {folder} is"
            " there; the list of examples names it"
        )

    def _file(self, name: pathlib.Path) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise BrokenError("frcnn", f"file {name} cannot be read ({error.strerror})") from error


def _example(line: str, where: str, features: _Features) -> RawCaption | Bad:
    key = "?"
    try:
        entry = tables.json_object(line, "line")
        name, caption = (tables.item(entry, field, "line") for field in ("frcnn", "caption"))
        if not isinstance(name, str):
            raise BrokenError("frcnn", f"is {name!r}; expected the name of a feature file")
        key = pathlib.PurePosixPath(name.partition("@/")[2] or name).stem
        if isinstance(caption, list) and all(isinstance(word, str) for word in caption):
            caption = " ".join(caption)
        if not isinstance(caption, str):
            raise BrokenError("caption", f"is {caption!r:.80}; expected a list of words")
        stored = tables.json_object(features.read(name), "frcnn")
        width, height, n = (
            tables.count(tables.item(stored, field, "frcnn"), field)
            for field in ("image_w", "image_h", "num_boxes")
        )
        return RawCaption(
            key=key,
            image_id=key,
            caption=caption,
            width=width,
            height=height,
            boxes=_array(stored, "boxes", n),
            features=_array(stored, "features", n),
            classes=_array(stored, "classes", n) if "classes" in stored else None,
            where=where,
        )
    except BrokenError as fault:
        return Bad(key, *fault.args, where)


def _array(stored: dict[str, Any], name: str, n: int) -> np.ndarray:
    return tables.array(tables.item(stored, name, "frcnn"), name, n, COLUMNS[name])
