"""Arrays and the strings of TSV files; broken and hostile records; databases that are none."""

import base64
import os
import pickle
import sys

import numpy as np
import pytest

from tests.prepare.samples import SAMPLES, assert_is_sample, bad
from vlbert_jax.options import DataError
from vlbert_jax.prepare.readers.vilbert_lmdb import read

lmdb = pytest.importorskip("lmdb")
SAMPLE = SAMPLES / "vilbert_lmdb" / "COCO_trainval_resnext152_faster_rcnn_genome.lmdb"


def sample_values():
    with lmdb.open(str(SAMPLE), readonly=True, lock=False) as opened, opened.begin() as stored:
        return {key.decode(): pickle.loads(stored.get(key)) for key in (b"9", b"25", b"391895")}


def database(path, values, keys=None, subdir=True):
    """Writes an LMDB; `keys` (None: those of the values) is its list of keys."""
    with (
        lmdb.open(str(path), subdir=subdir, map_size=2**24) as opened,
        opened.begin(write=True) as stored,
    ):
        for key, value in values.items():
            data = value if isinstance(value, bytes) else pickle.dumps(value, 2)
            stored.put(key.encode(), data)
        keys = [key.encode() for key in values] if keys is None else keys
        stored.put(b"keys", pickle.dumps(keys, 2))
    return str(path)


def found(*inputs):
    return list(read([str(each) for each in inputs], "train"))


def test_sample():
    records = found(SAMPLE)
    assert_is_sample(records, "vilbert_lmdb")
    assert [raw.image_id for raw in records] == ["9", "25", "391895"]  # as its list of keys
    assert records[1].where == f"{SAMPLE.name}, key 25"


def test_made_from_tsv(tmp_path):
    """A TSV's row as it stands, text or bytes."""
    values = sample_values()
    for value in values.values():
        for name in ("boxes", "features", "cls_prob"):
            value[name] = base64.b64encode(value[name].tobytes())
        for name in ("image_h", "image_w", "num_boxes"):
            value[name] = str(value[name])
    values["9"]["boxes"] = values["9"]["boxes"].decode()
    values["9"]["image_h"] = b"480"
    assert_is_sample(found(database(tmp_path / "a.lmdb", values)), "vilbert_lmdb")
    assert_is_sample(found(database(tmp_path / "b", values, subdir=False)), "vilbert_lmdb")
    del values["9"]["cls_prob"]
    assert found(database(tmp_path / "c.lmdb", values))[0].classes is None


def test_rows_past_the_number_are_padding(tmp_path):
    values = sample_values()
    values["9"]["num_boxes"] = np.int64(2)
    first = found(database(tmp_path / "a.lmdb", values))[0]
    assert (len(first.boxes), len(first.features), len(first.classes)) == (2, 2, 2)


def test_broken_records(tmp_path):
    def changed(**changes):
        return {**sample_values()["9"], **changes}

    def encoded(name, rows):
        return base64.b64encode(sample_values()["9"][name][:rows].tobytes())

    without = changed()
    del without["image_w"]
    values = {
        "good": changed(),
        "count": changed(num_boxes=4),
        "rows": changed(features=np.ones((2, 2048), np.float32)),
        "classes": changed(cls_prob=np.ones((2, 1601), np.float32)),
        "width": changed(boxes=np.ones((3, 5), np.float32)),
        "axes": changed(features=np.ones(2048, np.float32)),
        "kind": changed(features=np.array(["a"])),
        "size": changed(image_h="tall"),
        "negative": changed(image_h=-1),
        "half": changed(image_w=639.5),
        "without": without,
        "list": [1, 2],
        "base64": changed(features=b"AB*="),
        "bytes": changed(boxes=encoded("boxes", 3), features=encoded("features", 3)[:-8]),
        "few": changed(boxes=encoded("boxes", 2), features=encoded("features", 2), cls_prob=b""),
        "many": changed(
            num_boxes=2, **{name: encoded(name, 3) for name in ("boxes", "features", "cls_prob")}
        ),
        "pickle": b"\x80\x02}q",
        "text": b"neither",
    }
    path = database(tmp_path / "a.lmdb", values, [*values, b"gone"])
    records = found(path)
    assert [raw.image_id for raw in records if hasattr(raw, "boxes")] == ["good"]
    said = bad(records)
    for key, words in {
        "count": "boxes: 3 rows; num_boxes is 4",
        "rows": "features: 2 rows for 3 boxes",
        "classes": "cls_prob: 2 rows for 3 boxes",
        "width": "boxes: 5 numbers a region; expected 4",
        "axes": "features: is float32 of (2048,); expected numbers in rows",
        "kind": "features: is <U1 of (1,)",
        "size": "image_h: is 'tall'; expected a whole number",
        "negative": "image_h: is -1",
        "half": "image_w: is 639.5",
        "without": "image_w: is missing; found image_id, image_h, num_boxes",
        "list": "image_w: is sought in a list",
        "base64": "features: no base64",
        "bytes": "features: 24,570 bytes; no whole number of float32 for each of 3 boxes",
        "few": "boxes: 2 rows; num_boxes is 3",
        "many": "boxes: 3 rows; num_boxes is 2",
        "pickle": "value: no whole pickle",
        "text": "value: no whole pickle",
        "gone": "key: is in the list of keys, not in the database",
    }.items():
        assert said.pop(key).startswith(words), key
    assert said == {}


def test_keys_that_the_list_lacks_come_last(tmp_path):
    path = database(tmp_path / "a.lmdb", sample_values(), ["9"])
    assert [raw.image_id for raw in found(path)] == ["9", "25", "391895"]
    path = database(tmp_path / "b.lmdb", sample_values(), [])
    assert_is_sample(found(path), "vilbert_lmdb")
    with pytest.raises(DataError, match=r"c.lmdb, its list of keys \(keys\)"):
        found(database(tmp_path / "c.lmdb", {}, 7))


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (self.mark, "w")


@pytest.mark.parametrize("field", ["boxes", "unused"])
def test_hostile_record_ends_it(tmp_path, field):
    mark = str(tmp_path / "was_run")
    values = sample_values()
    values["25"][field] = Hostile(mark)
    with pytest.raises(DataError, match=r"a\.lmdb, key 25: pickle with \w+\.open"):
        found(database(tmp_path / "a.lmdb", values))
    with pytest.raises(DataError, match=r"list of keys \(keys\): pickle with \w+\.open"):
        found(database(tmp_path / "b.lmdb", {}, Hostile(mark)))
    assert not os.path.exists(mark)


def test_no_database(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        found(tmp_path / "nothing")
    (tmp_path / "x.lmdb").mkdir()
    with pytest.raises(DataError, match=r"no LMDB database.*found x.lmdb; name the database"):
        found(tmp_path)
    (tmp_path / "file").write_bytes(b"nonsense" * 2000)
    with pytest.raises(DataError, match="no whole LMDB database"):
        found(tmp_path / "file")


def test_library_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(DataError, match=r"library lmdb .*pip install 'vlbert_jax\[readers\]'"):
        found(SAMPLE)
