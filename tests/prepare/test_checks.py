"""What makes a record bad, what is only counted, and what becomes of odd numbers."""

import dataclasses
import re

import numpy as np
import pytest

from tests.prepare import records
from vlbert_jax.prepare import checks


def raw(boxes=((10, 10, 100, 100), (5, 5, 50, 50)), size=(640, 480), **changes):
    made = dataclasses.replace(
        records.captions(1)[0],
        width=size[0],
        height=size[1],
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        features=np.ones((len(boxes), 16), np.float32),
        classes=np.full((len(boxes), 5), 0.2, np.float32),
    )
    return dataclasses.replace(made, **changes)


def problems(record, width=16, classes=5):
    return [
        f"{field}: {reason}" for field, reason in checks.picture(record, width, classes).problems
    ]


def test_good():
    found = checks.picture(raw(), 16, 5)
    assert (found.problems, found.notes, found.warnings) == ([], [], [])


@pytest.mark.parametrize("field", ["boxes", "features", "classes"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite(field, value):
    record = raw()
    getattr(record, field)[1, 3] = value
    (problem,) = problems(record)
    assert problem.startswith(f"{field}: region 1, element 3 is {value}")


@pytest.mark.parametrize(
    ("boxes", "size", "expected"),
    [
        ([(0.1, 0.2, 0.9, 1.0)], (640, 480), "look like fractions"),
        ([(20, 30, 1180, 890)], (640, 480), "reach 1180×890 in a 640×480 picture; other frame"),
        ([(0, 0, 9, 9), (0, -30, 9, 9)], (640, 480), "start at -30"),
        ([(0, 0, 470, 630)], (640, 480), "reach 470×630"),
        ([(300, 200, 100, 250)], (640, 480), "x2 < x1"),
        ([(0, 0, 9, 9), (5, 50, 6, 40)], (640, 480), "box 1 is .5, 50, 6, 40.*y2 < y1"),
        ([(1, 1, 5, 5)], (0, 480), "size: picture of 0×480"),
    ],
)
def test_boxes_of_another_kind(boxes, size, expected):
    (problem,) = problems(raw(boxes, size))
    assert re.search(expected, problem)


def test_counts_must_agree():
    assert problems(raw(features=np.ones((3, 16), np.float32))) == ["features: 3 rows for 2 boxes"]
    assert problems(raw(classes=np.full((1, 5), 0.2))) == ["classes: 1 rows for 2 boxes"]


def test_widths_must_be_the_sets():
    assert problems(raw(), width=2048) == ["features: 16 numbers a region; the set has 2048"]
    assert problems(raw(), classes=0) == ["classes: 5 class scores a region; the set has 0"]
    assert problems(raw(classes=None)) == ["classes: 0 class scores a region; the set has 5"]
    assert problems(raw(), width=None, classes=None) == []


def test_all_faults_of_a_record_are_told():
    record = raw(size=(0, 480))
    record.features[0, 0] = np.nan
    record.classes[0, 0] = np.inf
    assert len(problems(record)) == 3


def test_what_is_only_counted():
    def notes(record):
        found = checks.picture(record, 16, 5)
        assert not found.problems
        return found.notes

    assert notes(raw(boxes=[])) == ["without_regions"]
    assert notes(raw([(100, 100, 100, 200)])) == ["boxes_without_area"]
    assert notes(raw([(-0.4, 10, 100, 100)])) == ["boxes_clamped"]
    assert notes(raw(classes=np.full((2, 5), 0.15, np.float32))) == ["class_sums_off"]
    assert notes(raw(features=np.full((2, 16), -1, np.float32))) == ["negative_features"]


def test_extreme_features_are_said():
    found = checks.picture(raw(features=np.full((2, 16), 3e38, np.float32)), 16, 5)
    assert found.notes == ["extreme_features"]
    assert "3e+38" in found.warnings[0]


def test_clamped_only_where_a_box_leaves_the_picture():
    inside = [(0, 0, 639.4, 479.7), (3, 3, 9, 9)]
    np.testing.assert_array_equal(checks.clamped(raw(inside)), np.float32(inside))
    leaves = [(0, 0, 640, 480), (-0.4, 10, 100, 479.7)]
    expected = [(0, 0, 639, 479), (0, 10, 100, 479)]
    np.testing.assert_array_equal(checks.clamped(raw(leaves)), np.float32(expected))


def test_stored_rounds_as_numpy_does():
    draw = np.random.default_rng(0)
    numbers = draw.normal(size=20000) * 10.0 ** draw.uniform(-12, 5, 20000)
    edges = [0, -0.0, 2**-14, 2**-24, 2**-25, 1.5 * 2**-24, 2.5 * 2**-24, 65504, -65504]
    numbers = np.r_[numbers[np.abs(numbers) < 65504], edges].astype(np.float32)
    found = checks.stored(numbers, "float16")
    np.testing.assert_array_equal(found.view("u2"), numbers.astype(np.float16).view("u2"))
    assert checks.stored(np.float32([3e38, -3e38]), "float16").tolist() == [65504, -65504]
    assert checks.stored(np.float32([3e38]), "float32") == np.float32(3e38)
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16)
    assert checks.stored(halves, "float16").tobytes() == halves.tobytes()


@pytest.mark.public_files
def test_real_boxes_in_the_frame_of_the_resized_picture(public_files):
    """A real detector's output that lies in another frame than its picture, and scaled back."""
    files = sorted((public_files / "regions").glob("*.npz"))
    assert len(files) == 5
    for file in files:
        with np.load(file) as stored:
            size = int(stored["image_w"]), int(stored["image_h"])
            ratio = np.float32([stored["frame_w"] / size[0], stored["frame_h"] / size[1]] * 2)
            features, boxes = stored["features"], stored["boxes"]
        record = raw(size=size, boxes=boxes, features=features, classes=None)
        assert "other frame" in problems(record, 1024, 0)[0]
        assert problems(dataclasses.replace(record, boxes=boxes / ratio), 1024, 0) == []
