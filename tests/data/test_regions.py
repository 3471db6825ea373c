"""Order, boxes and whole image against the original's own output (data_recipe.json)."""

import json
import pathlib

import numpy as np
import pytest

from vlbert_jax.data import regions

GOLDEN = json.loads((pathlib.Path(__file__).parent.parent / "files/data_recipe.json").read_text())


def scores(highest, dtype="float32"):
    """[n, 4] class scores, the given one in a column of its own."""
    classes = np.zeros((len(highest), 4), dtype)
    classes[np.arange(len(highest)), np.arange(len(highest)) % 4] = highest
    return classes


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("case", GOLDEN["regions"], ids=lambda c: f"{c['image_w']}x{c['image_h']}")
def test_data_recipe_regions(case, dtype):
    order = regions.order(scores(case["class_scores_max"], dtype))
    assert order.tolist() == case["order_out"]
    boxes = np.array(case["boxes_in"], np.float32)[order]
    size = case["image_w"], case["image_h"]
    placed, new_size = regions.place(boxes, *size, case["flipped"])
    assert list(new_size) == case["im_info"][:2]
    np.testing.assert_allclose(placed, case["boxes_out"], atol=1e-4, rtol=0)
    x1, y1, x2, y2 = np.array(case["boxes_out"], np.float64).T
    w, h = new_size
    expected = np.stack([(x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h], 1)
    found = regions.shares(placed, *new_size)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=3e-7, rtol=0)
    features = np.array(case["appearance_in"], np.float32)
    np.testing.assert_allclose(
        regions.whole_image(features), case["whole_image_appearance"], rtol=1e-6
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_data_recipe_region_ties(dtype):
    golden = GOLDEN["region_ties"]
    assert regions.order(scores(golden["max_scores"], dtype)).tolist() == golden["order_out"]


@pytest.mark.parametrize("case", GOLDEN["whole_image_appearance_when_masked"])
def test_data_recipe_whole_image_appearance_when_masked(case):
    appearance = np.array(case["appearance_out"], np.float32)
    found = regions.whole_image(appearance[1:], np.array(case["replaced"][1:], bool))
    np.testing.assert_allclose(found, appearance[0], rtol=1e-6)


def test_whole_image_without_a_region_to_show():
    assert regions.whole_image(np.ones((3, 5), np.float32), np.ones(3, bool)).tolist() == [0] * 5
    for replaced in (None, np.zeros(0, bool)):
        assert regions.whole_image(np.zeros((0, 5), np.float16), replaced).tolist() == [0] * 5


def test_whole_image_of_half_precision_features():
    rng = np.random.default_rng(0)
    features, replaced = rng.random((9, 64)).astype(np.float16), rng.random(9) < 0.4
    exact = features.astype(np.float64)
    np.testing.assert_allclose(regions.whole_image(features), exact.mean(axis=0), rtol=1e-6)
    expected = exact[~replaced].sum(axis=0) / ((~replaced).sum() + 1e-5)
    np.testing.assert_allclose(regions.whole_image(features, replaced), expected, rtol=1e-6)


def test_every_half_is_widened_exactly():
    halves = np.arange(2**16, dtype=np.uint32).astype(np.uint16).view(np.float16)
    halves = halves[np.isfinite(halves)]
    found = regions.wide(halves)
    expected = halves.astype(np.float32)
    np.testing.assert_array_equal(found.view(np.int32), expected.view(np.int32))


def test_order_equals_a_loop():
    rng = np.random.default_rng(0)
    for dtype in (np.float16, np.float32):
        for n in (0, 1, 100):
            classes = rng.integers(0, 5, (n, 7)).astype(dtype) / 4
            loop = sorted(range(n), key=lambda i: (classes[i].max(), i), reverse=True)
            assert regions.order(classes).tolist() == loop


def test_size_rule():
    assert regions.resized(1200, 600) == (1000, 500)
    assert regions.resized(600, 1200) == (500, 1000)
    assert regions.resized(500, 500) == (600, 600)
    assert regions.resized(1500, 700) == (998, 466)  # rounded down twice
    assert regions.resized(1, 1) == (600, 600)
    assert regions.resized(3, 5000)[0] == 1
    assert regions.resized(2400, 1200, longest=1200) == (1200, 600)


def test_mirrored_twice_is_as_it_was():
    rng = np.random.default_rng(1)
    corner = rng.uniform(0, 200, (6, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 90, (6, 2))], axis=1)
    plain, size = regions.place(boxes, 400, 300, mirror=False)
    mirrored, _ = regions.place(boxes, 400, 300, mirror=True)
    back = mirrored.copy()
    back[:, [0, 2]] = size[0] - 1 - mirrored[:, [2, 0]]
    np.testing.assert_allclose(back, plain, atol=1e-9)
    assert (mirrored[:, 2] >= mirrored[:, 0]).all()
