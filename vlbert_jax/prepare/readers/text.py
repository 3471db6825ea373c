"""plain text files (.txt, .doc), one passage a line; several files are one corpus

Also the lines of the other readers: only a line feed ends a line, whatever Unicode or Python think
of U+2028, form feeds and the like, and a carriage return before it belongs to it.
"""

import os
import pathlib
from collections.abc import Iterator

from vlbert_jax.options import DataError
from vlbert_jax.prepare.raw import Bad, RawText

KIND = "text"
BYTE_ORDER_MARK = "\ufeff"


def read(inputs: list[str], split: str) -> Iterator[RawText | Bad]:
    """The lines of the files in the order given, stripped, without the empty ones.

    A folder stands for its .doc and .txt files in the order of their names.

    Raises:
      DataError: no such file, or a folder without text files.
    """
    for file in [file for name in inputs for file in files(name, (".doc", ".txt"))]:
        for line in lines(file):
            if isinstance(line, Bad) or line.text.strip():
                yield line


def files(name: str, suffixes: tuple[str, ...]) -> list[pathlib.Path]:
    """The file `name`, or the files of the folder `name` that end in one of `suffixes`, sorted.

    Raises:
      DataError: there is none.
    """
    path = pathlib.Path(name)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError(f"{name}: no such file or folder")
    found = sorted(file for file in path.iterdir() if file.suffix in suffixes and file.is_file())
    if not found:
        names = sorted(os.listdir(path))
        raise DataError(
            f"{name}: no file ends in {' or '.join(suffixes)}; found"
            f" {', '.join(names[:5]) or 'nothing'}{', ...' * (len(names) > 5)}"
        )
    return found


def lines(file: pathlib.Path) -> Iterator[RawText | Bad]:
    """Every line of a UTF-8 file, empty ones too, without its end and the byte order mark."""
    with open(file, "rb") as opened:
        for number, data in enumerate(opened, start=1):
            key, where = f"{file.name}:{number}", f"{file.name} line {number}"
            try:
                text = data.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = data[error.start]
                yield Bad(
                    key,
                    "line",
                    f"byte {error.start + 1} is 0x{byte:02x}: not UTF-8 text; convert the file",
                    where,
                )
                continue
            text = text.removesuffix("\n").removesuffix("\r")
            yield RawText(key, text.removeprefix(BYTE_ORDER_MARK * (number == 1)), where)
