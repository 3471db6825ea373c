"""Sizes of pictures by files of COCO and Visual Genome; what is none of these."""

import json

import pytest

from tests.prepare.samples import coco_sizes
from vlbert_jax.options import DataError
from vlbert_jax.prepare import sizes
from vlbert_jax.prepare.fields import BrokenError


def test_files_of_both_kinds(tmp_path):
    coco, _ = coco_sizes(tmp_path)
    genome = tmp_path / "image_data.json"
    genome.write_text(json.dumps([{"image_id": 7, "width": 800, "height": 600, "url": ""}]))
    others, known = sizes.among(["a", coco, "b.h5", str(genome)])
    assert others == ["a", "b.h5"]
    assert known.of("COCO_train2014_000000000025") == (480, 640)
    assert known.of("7") == (800, 600)
    with pytest.raises(BrokenError, match=r"image_data\.json does not have this picture"):
        known.of("8")


def test_no_files():
    others, known = sizes.among(["a"])
    assert (others, known.of("9")) == (["a"], None)


@pytest.mark.parametrize("text", ["{", "[7]", '{"images": [{"id": 9}]}', '{"a": 1}', "7"])
def test_no_sizes(text, tmp_path):
    file = tmp_path / "a.json"
    file.write_text(text)
    with pytest.raises(DataError, match=r"a\.json: no sizes of pictures; expected images with id"):
        sizes.among(["features", str(file)])


def test_nothing_but_sizes(tmp_path):
    with pytest.raises(DataError, match="only sizes of pictures"):
        sizes.among([coco_sizes(tmp_path)[0]])
