"""The recorded sample; files and arrays that are missing."""

import shutil

import pytest

from tests.prepare.samples import SAMPLES, assert_is_sample, bad, coco_sizes
from vlbert_jax.options import DataError
from vlbert_jax.prepare.raw import Counted
from vlbert_jax.prepare.readers.vlp_h5 import read

h5py = pytest.importorskip("h5py")
SAMPLE = SAMPLES / "vlp_h5"
PREFIX = "coco_detection_vg_100dets_gvd_checkpoint_trainval"
BOXES = "coco_detection_vg_thresh0.2_feat_gvd_checkpoint_trainvaltest.h5"
NINE, OTHER, LAST = (f"COCO_train2014_{number:012d}" for number in (9, 25, 391895))


def found(folder):
    return list(read([str(folder)], "train"))


def test_sample(tmp_path):
    file, known = coco_sizes(tmp_path)
    records = list(read([str(SAMPLE), file], "train"))
    assert_is_sample(records, "vlp_h5")
    assert [raw.image_id for raw in records] == [NINE, OTHER, LAST]
    assert [(raw.width, raw.height) for raw in records] == list(known.values())


def test_guessed_sizes():
    *records, guessed = found(SAMPLE)
    assert_is_sample(records, "vlp_h5")
    assert guessed == Counted("sizes_guessed", 3)
    assert (records[2].width, records[2].height) == (411, 148)
    for raw in records:
        ends = raw.boxes[:, 2:].max(axis=0)
        assert ((ends < [raw.width, raw.height]) & (ends + 1 >= [raw.width, raw.height])).all()


def test_missing(tmp_path):
    for file in SAMPLE.glob("*.h5"):
        shutil.copyfile(file, tmp_path / file.name)
    with h5py.File(tmp_path / BOXES, "a") as stored:
        del stored[NINE]
        boxes = stored[LAST][()]
        del stored[LAST]
        stored[LAST] = [*boxes, *boxes]
    with h5py.File(tmp_path / f"{PREFIX}_cls025.h5", "a") as stored:
        del stored[OTHER]
    said = bad(found(tmp_path))
    assert said[NINE].startswith("boxes: file ")
    assert said[NINE].endswith(f"trainvaltest.h5 has no array {NINE}")
    assert said[OTHER].endswith(f"cls025.h5 has no array {OTHER}")
    assert said[LAST] == "features: 1 rows for 2 boxes"
    (tmp_path / f"{PREFIX}_cls025.h5").unlink()
    with pytest.raises(DataError, match=r"no .*_cls025.h5 beside it"):
        found(tmp_path)
    (tmp_path / BOXES).unlink()
    with pytest.raises(DataError, match=r"3 files .* and 0 of boxes"):
        found(tmp_path)
