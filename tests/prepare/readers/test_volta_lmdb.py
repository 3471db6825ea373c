"""Both spellings of one database."""

import numpy as np
import pytest

from tests.prepare.samples import SAMPLES, assert_background_added, assert_is_sample, expected
from vlbert_jax.prepare.readers.volta_lmdb import read

pytest.importorskip("lmdb")


def test_sample():
    found = list(read([str(SAMPLES / "volta_lmdb" / "mscoco_boxes36.lmdb")], "train"))
    assert_is_sample(found, "volta_lmdb")
    assert [raw.classes is None for raw in found] == [True, False, True]
    of_the_same_picture = expected("mmf_lmdb")["25"]["cls_prob_without_background"]
    assert_background_added(found[1].classes, of_the_same_picture)
    assert found[1].classes.dtype == np.float32
