"""Two files a picture and all in one; what is missing or no picture."""

import shutil

import numpy as np
import pytest

from tests.prepare.samples import SAMPLES, assert_is_sample, bad, expected
from vlbert_jax.options import DataError
from vlbert_jax.prepare.readers.mmf_npy import read

SAMPLE = SAMPLES / "mmf_npy"
NAME = "COCO_train2014_000000000025"


def found(folder):
    return list(read([str(folder)], "train"))


def test_sample():
    records = found(SAMPLE / "features")
    assert_is_sample(records, "mmf_npy")
    assert [raw.image_id for raw in records][1] == NAME


def test_one_file():
    (raw,) = found(SAMPLE / "vilbert_one_file")
    wanted = expected("mmf_npy")["25"]
    np.testing.assert_array_equal(raw.features, wanted["features"])
    np.testing.assert_array_equal(raw.boxes, wanted["boxes"])
    assert (raw.width, raw.height) == (480, 640)
    assert raw.classes.shape == (2, 1601)  # as it stands: it has the background
    np.testing.assert_array_equal(raw.classes, expected("vilbert_lmdb")["25"]["classes"])


def test_folders_in_folders_name_the_picture():
    assert f"vilbert_one_file/{NAME}" in {raw.image_id for raw in found(SAMPLE)}


def test_broken_records(tmp_path):
    shutil.copytree(SAMPLE / "features", tmp_path, dirs_exist_ok=True)
    (tmp_path / f"{NAME}_info.npy").unlink()
    np.save(tmp_path / "grid.npy", np.ones((1, 7, 7, 2048), np.float32))
    np.save(tmp_path / "three.npy", np.array([{}, {}, {}], object))
    np.save(tmp_path / "few.npy", np.ones((2, 2048), np.float32))
    shutil.copy(tmp_path / "COCO_train2014_000000000009_info.npy", tmp_path / "few_info.npy")
    (tmp_path / "cut.npy").write_bytes((tmp_path / "few.npy").read_bytes()[:-5])
    said = bad(found(tmp_path))
    for key, words in {
        NAME: f"boxes: no file {NAME}_info.npy",
        "grid": "features: grid of (1, 7, 7, 2048)",
        "three": "value: object array of (3,)",
        "few": "features: 2 rows for 3 boxes",
        "cut": "value: no whole .npy file",
    }.items():
        assert said.pop(key).startswith(words), key
    assert said == {}


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"no \.npy file"):
        found(tmp_path)
