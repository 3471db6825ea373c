"""Region features in tab-separated files: the recorded samples, and the faults of case H01."""

import base64
import json
import shutil

import numpy as np
import pytest

from tests.prepare.readers.samples import SAMPLES, assert_is_sample, pictures
from tests.prepare.records import FILES
from vlbert_jax.options import DataError
from vlbert_jax.prepare.raw import Bad
from vlbert_jax.prepare.readers import (
    bottom_up_attention_tsv,
    lxmert_tsv,
    oscar_caption_tsv,
    scene_graph_benchmark_tsv,
    vinvl_tsv,
)

H01 = FILES / "cases" / "H01_regions.tsv"
BUTD = SAMPLES / "bottom_up_attention_tsv" / "trainval_resnet101_faster_rcnn_genome.tsv"
LXMERT = SAMPLES / "lxmert_tsv" / "train2014_obj36.tsv"
COCO = "COCO_train2014_{:012d}"


def b64(numbers, dtype="<f4"):
    return base64.b64encode(np.asarray(numbers, dtype).tobytes()).decode()


def write(file, *rows, end="\n"):
    file.write_bytes("".join("\t".join(map(str, row)) + end for row in rows).encode())
    return file


@pytest.mark.parametrize("name", [BUTD, BUTD.parent])
def test_bottom_up_attention(name):
    assert_is_sample(pictures(bottom_up_attention_tsv, name), "bottom_up_attention_tsv")


def test_bottom_up_attention_in_parts(tmp_path):
    """The published archive's karpathy_train….tsv.0 and .1, without CR this time."""
    first, *rest = BUTD.read_bytes().replace(b"\r", b"").splitlines(keepends=True)
    (tmp_path / "part.tsv.1").write_bytes(b"".join(rest))
    (tmp_path / "part.tsv.0").write_bytes(first)
    assert_is_sample(pictures(bottom_up_attention_tsv, tmp_path), "bottom_up_attention_tsv")


def test_a_field_of_a_megabyte(tmp_path):
    features = np.random.default_rng(0).random((100, 2048), np.float32)
    boxes = np.tile(np.float32([0, 0, 9, 9]), (100, 1))
    scores = np.full((100, 1601), 1 / 1601, np.float32)
    row = ["7", 640, 480, 100, b64(boxes), b64(features), b64(scores)]
    (picture,) = pictures(bottom_up_attention_tsv, write(tmp_path / "a.tsv", row, end="\r\n"))
    np.testing.assert_array_equal(picture.features, features, strict=True)
    np.testing.assert_array_equal(picture.classes, scores, strict=True)


def test_h01():
    found = pictures(bottom_up_attention_tsv, H01)
    good = {picture.where: picture for picture in found if not isinstance(picture, Bad)}
    assert [int(where.split()[-1]) for where in good] == [1, 3, 4, 8]
    sums = [float(picture.features.sum()) for picture in good.values()]
    assert sums == [21.0, 48.5625, 21.0, 28.125]
    assert good["H01_regions.tsv line 1"].boxes.tolist() == [[10, 20, 200, 220]]
    bad = [picture for picture in found if isinstance(picture, Bad)]
    assert [(each.where[-1], each.key, each.field) for each in bad] == [
        ("2", "300002", "features"),
        ("5", "300004", "boxes"),
        ("6", "300005", "row"),
        ("7", "300006", "boxes"),
    ]
    reasons = [each.reason for each in bad]
    assert reasons[0].startswith("no base64 (")
    assert reasons[1] == "16 bytes = 1 rows of 4 float32; num_boxes is 3"
    assert reasons[2].startswith("5 columns; expected 6 or 7: image_id, image_w")
    assert reasons[3].startswith("no base64 (")


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({1: "wide"}, "image_w", "is 'wide'; expected a number of at least 0"),
        ({3: "-1"}, "num_boxes", "is '-1'; expected a number"),
        ({5: b64(np.zeros(7))}, "features", "28 bytes are no 2 rows of float32; num_boxes is 2"),
        ({5: ""}, "features", "0 bytes are no 2 rows"),
        ({4: "çç"}, "boxes", "no base64"),
    ],
)
def test_faults_of_a_row(tmp_path, changes, field, reason):
    row = ["7", 640, 480, 2, b64(np.zeros((2, 4))), b64(np.zeros((2, 5)))]
    for column, value in changes.items():
        row[column] = value
    (bad,) = pictures(bottom_up_attention_tsv, write(tmp_path / "a.tsv", row))
    assert (bad.key, bad.field) == ("7", field)
    assert reason in bad.reason


def test_a_picture_without_regions(tmp_path):
    row = ["7", 640, 480, 0, "", ""]
    (picture,) = pictures(bottom_up_attention_tsv, write(tmp_path / "a.tsv", row, [""]))
    assert (picture.boxes.shape, len(picture.features)) == ((0, 4), 0)


def test_lxmert():
    assert_is_sample(pictures(lxmert_tsv, LXMERT), "lxmert_tsv", COCO)


def test_lxmert_of_volta(tmp_path):
    """13 columns: class scores at last."""
    scores = np.random.default_rng(0).dirichlet(np.ones(1601), 3).astype("f4")
    row = LXMERT.read_text().splitlines()[0].split("\t")
    row += [b64(scores), b64(np.zeros((3, 401))), b64(np.ones((3, 1601)))]
    (picture,) = pictures(lxmert_tsv, write(tmp_path / "a.tsv", row))
    np.testing.assert_array_equal(picture.classes, scores, strict=True)
    assert (picture.width, picture.height) == (640, 480)
    row[10] = b64(scores[:, 1:])  # without background
    (picture,) = pictures(lxmert_tsv, write(tmp_path / "a.tsv", row))
    np.testing.assert_allclose(picture.classes, scores, atol=1e-6)


@pytest.mark.parametrize("name", ["", "features.tsv"])
def test_vinvl(name):
    found = pictures(vinvl_tsv, SAMPLES / "vinvl_tsv" / name)
    assert_is_sample(found, "vinvl_tsv", tolerance=1e-3)


def test_vinvl_without_boxes_in_the_rows(tmp_path):
    """2048 numbers: the boxes are those of predictions.tsv, if it has as many."""
    folder = SAMPLES / "vinvl_tsv"
    shutil.copy(folder / "predictions.tsv", tmp_path / "predictions_gt.tsv")
    with np.load(folder / "expected.npz") as expected:
        rows = [[i, n, b64(expected[f"{i}/features"])] for i, n in ((9, 3), (25, 2), (391895, 1))]
    write(tmp_path / "features.tsv", *rows)
    assert_is_sample(pictures(vinvl_tsv, tmp_path), "vinvl_tsv")
    write(tmp_path / "features.tsv", [9, 1, b64(np.zeros((1, 2048)))], ["x", 0, ""])
    other, unknown = pictures(vinvl_tsv, tmp_path)
    assert (other.field, "3 in the other file for 1 regions" in other.reason) == ("boxes", True)
    assert (unknown.field, unknown.key) == ("size", "x")
    (tmp_path / "predictions_gt.tsv").write_text('9\t{"image_w": 4}\n')
    with pytest.raises(DataError, match=r"predictions_gt.tsv: line 1 cannot be read .*image_h"):
        pictures(vinvl_tsv, tmp_path)
    (tmp_path / "predictions_gt.tsv").unlink()
    with pytest.raises(DataError, match=r"no predictions.tsv or predictions_gt.tsv, which has"):
        pictures(vinvl_tsv, tmp_path)


@pytest.mark.parametrize("name", ["", "train.yaml", "train.feature.tsv"])
def test_oscar(name):
    """The numbers of the regions; the boxes are those that VinVL's sample of the same has."""
    folder = SAMPLES / "oscar_caption_tsv"
    found = pictures(oscar_caption_tsv, folder / name)
    assert_is_sample(found, "vinvl_tsv", tolerance=1e-3)
    with np.load(folder / "expected.npz") as expected:
        for picture in found:
            rows = expected[f"{picture.image_id}/features_2054"]
            np.testing.assert_array_equal(picture.features, rows[:, :2048])


def test_oscar_in_half_precision(tmp_path):
    folder = SAMPLES / "oscar_caption_tsv"
    for name in ("val.feature.tsv", "train.hw.tsv"):
        shutil.copy(folder / name, tmp_path / name.replace("train", "val"))
    (tmp_path / "val.yaml").write_text("feature: 'val.feature.tsv'\nhw: val.hw.tsv\n")
    (picture,) = pictures(oscar_caption_tsv, tmp_path, split="validation")
    with np.load(folder / "expected.npz") as expected:
        rows = expected["val/9/features_2054"]
        boxes = expected["9/features_2054"][:, 2048:2052] * [640, 480, 640, 480]
    np.testing.assert_array_equal(picture.features, rows[:, :2048].astype(np.float16))
    np.testing.assert_allclose(picture.boxes, boxes, atol=640 * 0.0005)
    (tmp_path / "val.hw.tsv").write_text('9\t[{"height": 480}]\n')
    with pytest.raises(DataError, match=r"val.hw.tsv: line 1: expected the picture's id and"):
        pictures(oscar_caption_tsv, tmp_path, split="validation")
    (tmp_path / "val.hw.tsv").unlink()
    with pytest.raises(DataError, match=r"val.hw.tsv: no such file; it has the sizes"):
        pictures(oscar_caption_tsv, tmp_path / "val.feature.tsv")
    (tmp_path / "val.yaml").write_text("label: x.tsv\n")
    with pytest.raises(DataError, match=r"names no feature and no hw file"):
        pictures(oscar_caption_tsv, tmp_path / "val.yaml")
    with pytest.raises(DataError, match=r"no train.yaml in it"):
        pictures(oscar_caption_tsv, tmp_path)


@pytest.mark.parametrize("name", ["", "predictions.tsv"])
def test_scene_graph_benchmark(name):
    found = pictures(scene_graph_benchmark_tsv, SAMPLES / "scene_graph_benchmark_tsv" / name)
    assert_is_sample(found, "scene_graph_benchmark_tsv")


def test_faults_of_scene_graph_benchmark(tmp_path):
    (tmp_path / "a.hw.tsv").write_text('1\t[{"height": 9, "width": 9}]\n')
    one, two = {"rect": [0, 0, 1, 1], "feature": b64([1])}, {"feature": b64([1, 2])}
    rows = [
        [2, {"objects": []}],
        [1, {"objects": [one, one | two]}],
        [1, {"objects": [two]}],
        [1, {"objects": [one | {"rect": [1, 2]}]}],
        [1, {}],
        [1, [7]],
        [1, {"objects": [7]}],
    ]
    rows = [[image_id, json.dumps(value)] for image_id, value in rows]
    write(tmp_path / "predictions.tsv", *rows)
    found = pictures(scene_graph_benchmark_tsv, tmp_path)
    assert [each.field for each in found] == [
        "size",
        "feature",
        "objects",
        "rect",
        "row",
        "row",
        "objects",
    ]
    write(tmp_path / "predictions.tsv", [1, '{"objects": []}'])
    (picture,) = pictures(scene_graph_benchmark_tsv, tmp_path)
    assert (picture.boxes.shape, len(picture.features)) == ((0, 4), 0)
    (tmp_path / "a.hw.tsv").unlink()
    with pytest.raises(DataError, match=r"no \*.hw.tsv, which has the sizes"):
        pictures(scene_graph_benchmark_tsv, tmp_path)
