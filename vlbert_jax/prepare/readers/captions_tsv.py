"""captions of a tab-separated file: caption, url without header, or columns caption and image

Without header (Conceptual Captions) a picture's number is its caption's line, from 0.
"""

from collections.abc import Iterator

from vlbert_jax.prepare.raw import Bad, RawText
from vlbert_jax.prepare.readers.captions_csv import COLUMN, image_column
from vlbert_jax.prepare.readers.text import files, lines

KIND = "text"


def read(inputs: list[str], split: str) -> Iterator[RawText | Bad]:
    """The caption of every line that is not empty.

    A first line is a header where it has a column `caption` and one for the picture, as
    `captions_csv` names it.

    Raises:
      DataError: no such file.
    """
    for file in [file for name in inputs for file in files(name, (".tsv",))]:
        header = None
        for number, line in enumerate(lines(file)):
            if isinstance(line, Bad):
                yield line
                continue
            cells = line.text.split("\t")
            if number == 0 and COLUMN in cells and image_column(cells):
                header = cells
            elif line.text and header:
                row = dict(zip(header, cells, strict=False))
                caption, image = row.get(COLUMN, ""), row.get(image_column(header), "")
                yield RawText(line.key, caption, line.where, image)
            elif line.text:
                yield RawText(line.key, cells[0], line.where, f"{number}")
