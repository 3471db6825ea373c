"""UNITER's LMDB of pictures, plain or compressed, and perhaps COCO's .json for the sizes

The database is SPLIT/feat_th0.2_max100_min10, SPLIT/feat_numbb36 or SPLIT/all, with or without
"_compressed". nbb_*.json beside it tells how many rows of each picture count. Sizes and boxes:
see `uniter_npz`.
"""

import io
import itertools
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from vlbert_jax.options import DataError
from vlbert_jax.prepare import lmdb_file, sizes
from vlbert_jax.prepare.fields import BrokenError, count, rows
from vlbert_jax.prepare.msgpack_numpy import unpack
from vlbert_jax.prepare.raw import Bad, Counted, RawPicture
from vlbert_jax.prepare.readers.uniter_npz import counted, load_npz, picture
from vlbert_jax.prepare.unpickle import DamagedError

KIND = "pictures"
CONFIDENCE, LEAST, MOST = 0.2, 10, 100  # of rows, where no list tells their number
ZIP = b"PK"


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad | Counted]:
    """The pictures of the databases.

    Raises:
      DataError: no whole LMDB, or a .json file without sizes.
    """
    names, known = sizes.among(inputs)
    found = [
        lmdb_file.examples([name], _decode, _example(pathlib.Path(name), known)) for name in names
    ]
    return counted(itertools.chain.from_iterable(found), known)


def _decode(data: bytes, where: str) -> Any:
    if data[:2] == ZIP:
        return load_npz(io.BytesIO(data))
    if data[:1] == b"[":  # the list of keys
        try:
            return json.loads(data)
        except ValueError as error:
            raise DamagedError(f"no JSON ({error})") from error
    return unpack(data)


def _example(database: pathlib.Path, known: sizes.Sizes) -> Callable[[Any, str, str], RawPicture]:
    numbers = _numbers(database)
    all_rows = database.name.startswith("feat_numbb")

    def example(stored: Any, key: str, where: str) -> RawPicture:
        n = None
        if numbers is not None:
            n = count(numbers, key)
            if len(rows(stored, "norm_bb")) < n:
                raise BrokenError("norm_bb", f"{len(stored['norm_bb'])} rows; the list tells {n}")
        elif not all_rows:
            sure = int((rows(stored, "conf", columns=1) > CONFIDENCE).sum())
            n = min(MOST, max(LEAST, sure))
        return picture(stored, key.removesuffix(".npz"), where, known.of(key), n)

    return example


def _numbers(database: pathlib.Path) -> dict[str, int] | None:
    """Rows of each picture by the list beside the database, None without one."""
    name = database.name.removesuffix("_compressed").removeprefix("feat_")
    file = database.with_name(f"nbb_{name}.json")
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_bytes())
    except ValueError as error:
        raise DataError(f"{file}: no JSON ({error})") from error
