"""ViLBERT's 8 items in msgpack and volta's 13 in pickle; the broken ones."""

import json
import pickle

import pytest

from tests.prepare.samples import SAMPLES, assert_is_sample, bad
from vlbert_jax.options import DataError
from vlbert_jax.prepare.readers.conceptual_captions_dataflow_lmdb import read

lmdb = pytest.importorskip("lmdb")
pytest.importorskip("msgpack")
SAMPLE = SAMPLES / "conceptual_captions_dataflow_lmdb"
FILES = ["vilbert_training_feat_all.lmdb", "volta_training_feat_all.lmdb"]


def found(file):
    return list(read([str(file)], "train"))


def values(file):
    with (
        lmdb.open(str(SAMPLE / file), subdir=False, readonly=True, lock=False) as opened,
        opened.begin() as stored,
    ):
        return dict(stored.cursor())


def written(path, stored):
    with (
        lmdb.open(str(path), subdir=False, map_size=2**24) as opened,
        opened.begin(write=True) as transaction,
    ):
        for key, value in stored.items():
            transaction.put(key, value)
    return path


@pytest.mark.parametrize("file", FILES)
def test_sample(file):
    records = found(SAMPLE / file)
    assert_is_sample(records, "conceptual_captions_dataflow_lmdb")
    captions = json.loads((SAMPLE / "expected.json").read_text())["captions"]
    assert {raw.image_id: raw.caption for raw in records} == captions
    assert [raw.key for raw in records] == ["00000000", "00000001", "00000002"]


def test_broken_records(tmp_path):
    stored = values(FILES[1])
    items = pickle.loads(stored[b"00000000"])
    stored[b"00000001"] = pickle.dumps(items[:-1])
    stored[b"00000002"] = pickle.dumps([*items[:-1], None])
    stored[b"a"] = pickle.dumps([*items[:8], "2000", *items[9:]])
    stored[b"b"] = b"\xff\xff\xff\xff\x18"
    stored[b"c"] = b""
    stored[b"d"] = values(FILES[0])[b"00000001"][:-100]
    data = values(FILES[0])[b"00000001"]
    stored[b"e"] = data.replace(b"<f4", b"|O8")
    stored[b"f"] = data.replace(b"<f4", b"<f8")
    stored[b"g"] = pickle.dumps({"features": 1})
    said = bad(found(written(tmp_path / "a.lmdb", stored)))
    for key, words in {
        "00000001": "value: is 12 items; expected a list of 8 or 13",
        "00000002": "caption: is None; expected text",
        "a": "boxes: 3 rows; num_boxes is 2000",
        "b": r"value: begins with b'\xff\xff\xff\xff': neither msgpack nor pickle",
        "c": "value: begins with b'': neither",
        "d": "value: no whole msgpack",
        "e": "value: array of the dtype '|O8'",
        "f": "value: array of [2, 2048] float64 with 16,384 bytes; expected 32,768",
        "g": "value: is {'features': 1}",
    }.items():
        assert said.pop(key).startswith(words), key
    assert said == {}


def test_hostile(tmp_path):
    stored = values(FILES[1])
    stored[b"00000001"] = b"\x80\x02cos\nsystem\nU\x04true\x85R."
    with pytest.raises(DataError, match=r"key 00000001: pickle with os\.system"):
        found(written(tmp_path / "a.lmdb", stored))
