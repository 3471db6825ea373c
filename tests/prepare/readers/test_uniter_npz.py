"""The recorded sample; how exact the geometry is without the size of the picture."""

import shutil

import numpy as np
import pytest

from tests.prepare.samples import SAMPLES, bad, by_number, coco_sizes, expected
from vlbert_jax.data import regions
from vlbert_jax.options import DataError
from vlbert_jax.prepare.raw import Counted
from vlbert_jax.prepare.readers.uniter_npz import picture, read

SAMPLE = SAMPLES / "uniter_npz"


def assert_is_sample(found, name):
    """Features and classes bit for bit; the boxes are the same shares of the sides."""
    found, wanted = by_number(found), expected(name)
    assert found.keys() == wanted.keys()
    for number, fields in wanted.items():
        raw = found[number]
        np.testing.assert_array_equal(raw.features, fields["features"])
        np.testing.assert_array_equal(raw.classes, fields["soft_labels"])
        shares = raw.boxes / np.float32([raw.width, raw.height] * 2)
        np.testing.assert_allclose(shares, fields["norm_bb"][:, :4], atol=1e-7)


def test_sample():
    *found, unknown = read(sorted(str(file) for file in SAMPLE.glob("coco*")), "train")
    assert_is_sample(found, "uniter_npz")
    assert found[0].image_id == "coco_train2014_000000000009"
    assert unknown == Counted("sizes_unknown", 3)


def test_sample_with_sizes(tmp_path):
    """The boxes are the pixels of the sample's other formats, as far as half precision goes."""
    for file in SAMPLE.glob("coco*"):
        shutil.copyfile(file, tmp_path / file.name)
    file, known = coco_sizes(tmp_path)
    found = by_number(list(read([str(tmp_path), file], "train")))
    for number, fields in expected("vilbert_lmdb").items():
        assert (found[number].width, found[number].height) == known[number]
        np.testing.assert_allclose(found[number].boxes, fields["boxes"], atol=640 * 2**-12)
    file, _ = coco_sizes(tmp_path, without=["25"])
    said = bad(read([str(tmp_path), file], "train"))
    assert said == {
        "coco_train2014_000000000025": f"size: {file} does not have this picture",
    }


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", [(640, 480), (480, 640), (500, 333), (640, 640), (1000, 300)])
def test_geometry_of_a_picture_of_unknown_size(size, mirror):
    """Against the true size: shares of all boxes and the whole image, as documented."""
    draw = np.random.default_rng(0)
    corner = draw.uniform(0, 0.9, (300, 2))
    end = np.minimum(corner + draw.uniform(0.05, 1, (300, 2)), 1 - 1 / np.array(size))
    norm = np.hstack([corner, end])
    stored = {
        "norm_bb": np.hstack([norm, end - corner]).astype(np.float16),
        "features": np.ones((300, 8), np.float16),
    }
    raw = picture(stored, "a", "here", None)
    kept = regions.shares(*_flat(regions.place(raw.boxes, raw.width, raw.height, mirror)))
    true = regions.shares(*_flat(regions.place(norm * (size * 2), *size, mirror)))
    off = np.abs(kept - true).max(axis=1)
    assert off[0] < 0.0013
    assert 1e-4 < off[1:].max() < 0.0006


def _flat(placed):
    boxes, size = placed
    return boxes, *size


def test_broken_records(tmp_path):
    boxes, features = np.zeros((2, 6), np.float16), np.ones((2, 8), np.float16)
    np.savez(tmp_path / "good_1.npz", norm_bb=boxes, features=features, other=np.array({}, object))
    np.savez(tmp_path / "few_1.npz", norm_bb=boxes, features=features[:1])
    np.savez(tmp_path / "without_1.npz", norm_bb=boxes)
    np.savez(tmp_path / "pickle_1.npz", norm_bb=np.array([1, None], object), features=features)
    whole = (tmp_path / "good_1.npz").read_bytes()
    (tmp_path / "cut_1.npz").write_bytes(whole[:-30])
    (tmp_path / "none_1.npz").write_bytes(b"")
    (tmp_path / "flipped_1.npz").write_bytes(whole[:150] + b"\x01" + whole[151:])
    said = bad(read([str(tmp_path)], "train"))
    for key, words in {
        "few": "features: 1 rows for 2 boxes",
        "without": "features: is missing; found norm_bb",
        "pickle": "value: no whole .npz file (Object arrays cannot be loaded",
        "cut": "value: no whole .npz file",
        "none": "value: no whole .npz file",
        "flipped": "value: no whole .npz file",
    }.items():
        assert said.pop(f"{key}_1").startswith(words), key
    assert said == {}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no file ends in \.npz"):
        list(read([str(tmp_path / "empty")], "train"))
