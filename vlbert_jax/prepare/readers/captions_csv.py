"""captions of a comma-separated file with a column named caption

A column image, image_id, img_id, filename or file_name names the picture.
"""

import csv
from collections.abc import Iterator, Sequence

from vlbert_jax.options import DataError
from vlbert_jax.prepare.raw import RawText
from vlbert_jax.prepare.readers.text import files

KIND = "text"
COLUMN = "caption"
IMAGE_COLUMNS = ("image", "image_id", "img_id", "filename", "file_name")
LONGEST_FIELD = 2**30


def read(inputs: list[str], split: str) -> Iterator[RawText]:
    """The column `caption` of every row; quoted commas, quotes and line breaks belong to it.

    Raises:
      DataError: no such file, no such column, or not UTF-8.
    """
    csv.field_size_limit(LONGEST_FIELD)
    for file in [file for name in inputs for file in files(name, (".csv",))]:
        with open(file, encoding="utf-8-sig", newline="") as opened:
            rows = csv.DictReader(opened)
            try:
                if COLUMN not in (rows.fieldnames or ()):
                    raise DataError(
                        f"{file}: no column {COLUMN!r} in its first line, found"
                        f" {', '.join(rows.fieldnames or ()) or 'nothing'}"
                    )
                image = image_column(rows.fieldnames)
                for number, row in enumerate(rows, start=1):
                    where = f"{file.name} row {number}"
                    key = f"{file.name}:{number}"
                    yield RawText(key, row[COLUMN] or "", where, (image and row[image]) or "")
            except (UnicodeDecodeError, csv.Error) as error:
                raise DataError(f"{file}: after line {rows.line_num}: {error}") from error


def image_column(names: Sequence[str]) -> str:
    """The column that names the picture; empty where there is none."""
    return next((name for name in IMAGE_COLUMNS if name in names), "")
