"""The records of an LMDB database, for the readers of such formats; in the order of its key list."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from vlbert_jax.options import DataError
from vlbert_jax.prepare import unpickle
from vlbert_jax.prepare.fields import BrokenError, attempt, library
from vlbert_jax.prepare.raw import Raw

KEY_LISTS = (b"keys", b"__keys__")


def examples(
    inputs: list[str],
    decode: Callable[[bytes, str], Any],
    example: Callable[[Any, str, str], Raw],
) -> Iterator[Raw]:
    """The examples of databases; keys that a list of keys lacks come last in theirs, sorted.

    Args:
      inputs: directories with data.mdb, or databases of one file.
      decode: bytes of a value (of the list of keys too) and a name for messages -> value.
      example: value, key and a name for messages -> example. Both raise BrokenError or
        DamagedError where it is bad.

    Raises:
      DataError: no such database or not a whole one, or it asks to run code.
    """
    lmdb = library("lmdb")
    for path in [_path(name) for name in inputs]:
        try:
            with (
                lmdb.open(
                    str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False
                ) as opened,
                opened.begin() as transaction,
            ):
                for key in _keys(path, transaction, decode):
                    yield _example(path, key, transaction.get(key), decode, example)
        except lmdb.Error as error:
            raise DataError(f"{path}: no whole LMDB database ({error})") from error


def _example(
    path: pathlib.Path, key: bytes, data: bytes | None, decode: Callable, example: Callable
) -> Raw:
    shown = key.decode("utf-8", errors="replace")
    where = f"{path.name}, key {shown}"

    def make() -> Raw:
        if data is None:
            raise BrokenError("key", "is in the list of keys, not in the database")
        return example(decode(data, f"{path}, key {shown}"), shown, where)

    return attempt(make, shown, where)


def _keys(
    path: pathlib.Path, transaction: Any, decode: Callable[[bytes, str], Any]
) -> Iterator[bytes]:
    listed: dict[bytes, None] = {}
    for name in KEY_LISTS:
        if (data := transaction.get(name)) is not None:
            where = f"{path}, its list of keys ({name.decode()})"
            try:
                keys = decode(data, where)
                listed = {
                    key if isinstance(key, bytes) else str(key).encode(): None for key in keys
                }
            except (unpickle.DamagedError, BrokenError, TypeError) as error:
                raise DataError(f"{where}: {error}") from error
    yield from listed
    for key in transaction.cursor().iternext(keys=True, values=False):
        if key not in listed and key not in KEY_LISTS:
            yield bytes(key)


def _path(name: str) -> pathlib.Path:
    path = pathlib.Path(name)
    if path.is_file() or (path / "data.mdb").is_file():
        return path
    if not path.is_dir():
        raise DataError(f"{path}: no such file or folder")
    found = ", ".join(sorted(each.name for each in path.iterdir())) or "nothing"
    raise DataError(
        f"{path}: no LMDB database (data.mdb) in this folder, found {found:.300}; name the database"
        " itself, a folder with data.mdb or a file"
    )
