"""The recorded sample and groups that are no pictures."""

import shutil

import numpy as np
import pytest

from tests.prepare.samples import SAMPLES, assert_is_sample, bad
from vlbert_jax.options import DataError
from vlbert_jax.prepare.readers.volta_h5 import read

h5py = pytest.importorskip("h5py")
SAMPLE = SAMPLES / "volta_h5" / "val2014_obj36.h5"


def found(path):
    return list(read([str(path)], "train"))


def test_sample():
    records = found(SAMPLE)
    assert_is_sample(records, "volta_h5")
    assert_is_sample(found(SAMPLE.parent), "volta_h5")
    assert records[0].image_id == "COCO_val2014_000000000009"
    assert records[0].classes is None


def test_broken_records(tmp_path):
    file = tmp_path / "a.h5"
    shutil.copy(SAMPLE, file)
    with h5py.File(file, "a") as stored:
        nine, other, last = stored
        del stored[nine]["features"]
        stored[nine]["features"] = np.ones((2, 2048), "f4")
        del stored[other]["img_w"]
        del stored[last]["boxes"]
        stored[last].create_group("boxes")
        stored["array"] = [1]
    said = bad(found(file))
    assert said.pop(nine) == "features: 2 rows for 3 boxes"
    assert said.pop(other).startswith("img_w: is missing; found boxes, features, img_h")
    assert said.pop(last).startswith("boxes: cannot be read")
    assert said.pop("array").startswith("group: is an array")
    assert said == {}


def test_no_whole_file(tmp_path):
    (tmp_path / "a.h5").write_bytes(SAMPLE.read_bytes()[:9999])
    with pytest.raises(DataError, match=r"a\.h5: no whole HDF5 file"):
        found(tmp_path)
