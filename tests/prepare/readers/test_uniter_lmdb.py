"""Plain and compressed databases; how many rows of a picture count."""

import json
import shutil

import numpy as np
import pytest

from tests.prepare.readers.test_uniter_npz import assert_is_sample
from tests.prepare.samples import SAMPLES, bad, by_number, coco_sizes
from vlbert_jax.options import DataError
from vlbert_jax.prepare.readers.uniter_lmdb import read

lmdb = pytest.importorskip("lmdb")
msgpack = pytest.importorskip("msgpack")
SAMPLE = SAMPLES / "uniter_lmdb" / "coco_train2014"
NAME = "feat_th0.2_max100_min10"


def found(path):
    return list(read([str(path)], "train"))


@pytest.mark.parametrize("name", [NAME, f"{NAME}_compressed"])
def test_sample(name):
    records = found(SAMPLE / name)
    assert_is_sample(records, "uniter_lmdb")
    assert records[2].image_id == "coco_train2014_000000391895"


@pytest.mark.parametrize("name", [NAME, f"{NAME}_compressed"])
def test_list_of_row_numbers(name, tmp_path):
    shutil.copytree(SAMPLE / name, tmp_path / name)
    list_file = tmp_path / "nbb_th0.2_max100_min10.json"
    nine, other = (f"coco_train2014_{number:012d}.npz" for number in (9, 25))
    list_file.write_text(json.dumps({nine: 2, other: 3}))
    first, *others = found(tmp_path / name)
    assert (len(first.boxes), len(first.features), len(first.classes)) == (2, 2, 2)
    said = bad(others)
    assert said[other] == "norm_bb: 2 rows; the list tells 3"
    assert said["coco_train2014_000000391895.npz"].startswith("coco_train2014_000000391895.npz: is")
    list_file.write_text("{")
    with pytest.raises(DataError, match="no JSON"):
        found(tmp_path / name)

    stored = lmdb.open(str(tmp_path / name))
    with stored, stored.begin(write=True) as transaction:
        transaction.put(b"__keys__", b"[1, ")
    list_file.unlink()
    with pytest.raises(DataError, match=r"list of keys \(__keys__\): no JSON"):
        found(tmp_path / name)


def test_sizes(tmp_path):
    file, known = coco_sizes(tmp_path)
    records = by_number(list(read([str(SAMPLE / NAME), file], "train")))
    assert {name: (raw.width, raw.height) for name, raw in records.items()} == known


def array(values):
    return {
        b"nd": True,
        b"type": values.dtype.str,
        b"kind": b"",
        b"shape": values.shape,
        b"data": values.tobytes(),
    }


@pytest.mark.parametrize(
    ("name", "sure", "kept"),
    [("all", 15, 15), ("all", 3, 10), ("all", 110, 100), ("feat_numbb36", 3, 120)],
)
def test_rows_without_a_list(name, sure, kept, tmp_path):
    conf = np.full((120, 1), 0.1, np.float16)
    conf[:sure] = 0.5
    value = {
        "norm_bb": array(np.zeros((120, 6), np.float16)),
        "features": array(np.ones((120, 8), np.float16)),
        "conf": array(conf),
    }
    with (
        lmdb.open(str(tmp_path / name), map_size=2**22) as opened,
        opened.begin(write=True) as stored,
    ):
        stored.put(b"a_1.npz", msgpack.packb(value))
        stored.put(b"__keys__", b'["a_1.npz"]')
    raw, _ = found(tmp_path / name)
    assert (len(raw.boxes), raw.image_id, raw.classes) == (kept, "a_1", None)
