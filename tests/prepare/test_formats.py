"""Other people's formats from file to verified set, by the command."""

import numpy as np
import pytest

from tests.prepare.samples import SAMPLES, coco_sizes, expected
from vlbert_jax.data.prepared import open_set
from vlbert_jax.prepare.__main__ import main
from vlbert_jax.prepare.join import canonical

INPUTS = {
    "vilbert_lmdb": ["COCO_trainval_resnext152_faster_rcnn_genome.lmdb"],
    "mmf_lmdb": ["detectron.lmdb"],
    "mmf_npy": ["features"],
    "uniter_npz": [f"coco_train2014_{number:012d}.npz" for number in (9, 25, 391895)],
    "uniter_lmdb": ["coco_train2014/feat_th0.2_max100_min10_compressed"],
    "hdf5_fixed_boxes": ["train36.hdf5"],
    "hdf5_adaptive_boxes": ["train.hdf5"],
    "volta_h5": ["val2014_obj36.h5"],
    "vlp_h5": ["."],
}
NEEDS = {"lmdb": ["lmdb", "msgpack"], "hdf5": ["h5py"], "h5": ["h5py"], "npz": [], "npy": []}


def prepare(reader, tmp_path, inputs, *others):
    for library in next(NEEDS[part] for part in reader.split("_") if part in NEEDS):
        pytest.importorskip(library)
    output = str(tmp_path / "set")
    assert main([reader, "--input", *map(str, inputs), f"--output={output}", *others]) == 0
    assert main(["verify", output]) == 0
    return open_set(output)


@pytest.mark.parametrize("reader", INPUTS)
def test_pictures_and_captions(reader, tmp_path):
    captions = tmp_path / "captions.csv"
    captions.write_text(
        "image_id,caption\n9,a dog\n25,two people\n25,in a kitchen\n391895,a flower"
    )
    inputs = [SAMPLES / reader / name for name in INPUTS[reader]]
    if reader in ("uniter_npz", "uniter_lmdb", "vlp_h5"):
        inputs.append(coco_sizes(tmp_path)[0])
    set_ = prepare(reader, tmp_path, inputs, f"--captions={captions}")
    wanted = expected(reader)
    examples = [set_[index] for index in range(len(set_))]
    assert {canonical(example.image_id) for example in examples} == wanted.keys()
    assert len(examples) == len(wanted) + 1  # one picture has two captions
    for example in examples:
        fields = wanted[canonical(example.image_id)]
        np.testing.assert_array_equal(example.features, fields["features"].astype(np.float16))
        if "boxes" in fields:
            np.testing.assert_array_equal(example.boxes, fields["boxes"])


@pytest.mark.parametrize("file", ["vilbert_training_feat_all.lmdb", "volta_training_feat_all.lmdb"])
def test_captions_inside(file, tmp_path):
    reader = "conceptual_captions_dataflow_lmdb"
    set_ = prepare(reader, tmp_path, [SAMPLES / reader / file])
    assert (len(set_), set_.region_width, set_.region_classes) == (3, 2048, 1601)
    assert set_[1].caption == "two people talk in a kitchen"


def test_both_spellings_of_volta(tmp_path, capsys):
    """The sample's pictures have class scores or have none: no set can hold both."""
    pytest.importorskip("lmdb")
    database = SAMPLES / "volta_lmdb" / "mscoco_boxes36.lmdb"
    arguments = ["volta_lmdb", f"--input={database}", f"--output={tmp_path / 'set'}"]
    assert main(arguments) == 2
    assert "key 25, record 25: classes: 1601 class scores" in capsys.readouterr().err
    assert main([*arguments, "--on_bad=skip"]) == 0
    assert main(["verify", str(tmp_path / "set")]) == 0
