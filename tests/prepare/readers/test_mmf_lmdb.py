"""The recorded sample; older names of fields."""

import numpy as np
import pytest

from tests.prepare.samples import SAMPLES, assert_is_sample
from vlbert_jax.prepare.readers.mmf_lmdb import picture, read

pytest.importorskip("lmdb")


def test_sample():
    found = list(read([str(SAMPLES / "mmf_lmdb" / "detectron.lmdb")], "train"))
    assert_is_sample(found, "mmf_lmdb")
    assert found[0].image_id == "COCO_train2014_000000000009"


@pytest.mark.parametrize("name", ["bbox", "boxes", "image_bboxes"])
def test_older_names(name):
    boxes = np.float32([[1, 2, 3, 4], [0, 0, 0, 0]])
    stored = {name: boxes, "features": np.ones((2, 8)), "image_width": 9, "image_height": 7}
    raw = picture(stored, "a", "here")
    np.testing.assert_array_equal(raw.boxes, boxes)
    assert (raw.width, raw.height, raw.classes) == (9, 7, None)
    assert len(picture({**stored, "num_boxes": 1}, "a", "here").features) == 1
