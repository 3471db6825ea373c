"""Fixed and adaptive numbers of boxes: samples, sizes from shares, and what does not fit."""

import pickle
import shutil

import pytest

from tests.prepare.samples import SAMPLES, assert_is_sample, bad
from vlbert_jax.options import DataError
from vlbert_jax.prepare.readers import hdf5_adaptive_boxes, hdf5_fixed_boxes

h5py = pytest.importorskip("h5py")
FIXED, ADAPTIVE = SAMPLES / "hdf5_fixed_boxes", SAMPLES / "hdf5_adaptive_boxes"
SIZES = {"9": (640, 480), "25": (480, 640), "391895": (500, 333)}


def found(reader, *paths):
    return list(reader.read([str(path) for path in paths], "train"))


@pytest.mark.parametrize(
    ("reader", "sample", "file"),
    [(hdf5_fixed_boxes, FIXED, "train36.hdf5"), (hdf5_adaptive_boxes, ADAPTIVE, "train.hdf5")],
)
def test_sample(reader, sample, file):
    records = found(reader, sample / file)
    assert_is_sample(records, sample.name)
    for raw in records:
        assert (raw.width, raw.height) == SIZES[raw.image_id]
        assert raw.classes is None
    assert len(found(reader, sample)) == len(records)


def copied(sample, tmp_path, **arrays):
    for file in sample.iterdir():
        shutil.copyfile(file, tmp_path / file.name)
    (file,) = tmp_path.glob("*.hdf5")
    with h5py.File(file, "a") as stored:
        for name, value in arrays.items():
            del stored[name]
            if value is not None:
                stored[name] = value
    return file


def test_fixed_broken(tmp_path):
    with h5py.File(FIXED / "train36.hdf5") as stored:
        boxes, shares = stored["image_bb"][()], stored["spatial_features"][()]
    shares[0, 0, 0] += 0.1
    shares[1] = 0
    file = copied(FIXED, tmp_path, spatial_features=shares)
    rows = tmp_path / "train36_imgid2idx.pkl"
    rows.write_bytes(pickle.dumps({9: 0, 25: 1, 7: 2, 8: -3}, 2))
    said = bad(found(hdf5_fixed_boxes, file))
    for key, words in {
        "9": "spatial_features: 64 pixels from image_bb in a 640×480 picture",
        "25": "spatial_features: region 0 tells no size",
        "7": "row: 2 is outside of the arrays",
        "8": "row: -3 is outside of the arrays",
    }.items():
        assert said.pop(key).startswith(words), key
    assert said == {}
    copied(FIXED, tmp_path, image_bb=boxes[:, :1], spatial_features=None)
    assert "image_bb" in bad(found(hdf5_fixed_boxes, copied(FIXED, tmp_path, image_bb=None)))["9"]
    file = copied(FIXED, tmp_path, image_bb=boxes[:, :1])
    assert bad(found(hdf5_fixed_boxes, file))["9"] == "image_bb: (1, 4); expected (2, 4)"


def test_adaptive_broken(tmp_path):
    places = [[0, 3], [5, 3], [5, 7]]
    said = bad(found(hdf5_adaptive_boxes, copied(ADAPTIVE, tmp_path, pos_boxes=places)))
    assert said == {
        "25": "pos_boxes: is [5 3]; there are 6 regions",
        "391895": "pos_boxes: is [5 7]; there are 6 regions",
    }
    places = [[0, 3], [3, 5], [5, 5]]
    said = bad(found(hdf5_adaptive_boxes, copied(ADAPTIVE, tmp_path, pos_boxes=places)))
    assert said == {"391895": "size: no box that tells the size of the picture"}


def test_list_of_rows(tmp_path):
    file = copied(FIXED, tmp_path)
    rows = tmp_path / "train36_imgid2idx.pkl"
    rows.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(DataError, match="no list of picture -> row"):
        found(hdf5_fixed_boxes, file)
    rows.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(DataError, match=r"imgid2idx.pkl: pickle with os\.system"):
        found(hdf5_fixed_boxes, file)
    rows.unlink()
    with pytest.raises(DataError, match=r"no train36_imgid2idx.pkl beside it"):
        found(hdf5_fixed_boxes, file)
