"""captions of a tab-separated file without header (caption, url), as text without pictures"""

from collections.abc import Iterator

from vlbert_jax.prepare.raw import Bad, RawText
from vlbert_jax.prepare.readers.text import files, lines

KIND = "text"


def read(inputs: list[str], split: str) -> Iterator[RawText | Bad]:
    """The first column of every line that is not empty.

    Raises:
      DataError: no such file.
    """
    for file in [file for name in inputs for file in files(name, (".tsv",))]:
        for line in lines(file):
            if isinstance(line, Bad):
                yield line
            elif line.text:
                yield RawText(line.key, line.text.split("\t")[0], line.where)
