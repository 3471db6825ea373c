"""Recorded samples of other people's formats, and what a correct reader makes of them."""

import json
import re

import numpy as np

from tests.prepare.records import FILES
from vlbert_jax.prepare.raw import Bad, Counted

SAMPLES = FILES / "samples"


def expected(name):
    """{picture: {field: array}} of a sample; pictures are told by their number."""
    pictures = {}
    with np.load(SAMPLES / name / "expected.npz") as stored:
        for path in stored.files:
            picture, field = path.split("/")
            pictures.setdefault(picture, {})[field] = stored[path]
    return pictures


def by_number(found):
    """{number that ends the picture's name: raw}, none of them bad."""
    assert not [raw for raw in found if isinstance(raw, Bad)]
    found = [raw for raw in found if not isinstance(raw, Counted)]
    named = {str(int(re.search(r"\d+$", raw.image_id)[0])): raw for raw in found}
    assert len(named) == len(found)
    return named


def assert_is_sample(found, name):
    """Raw pictures or captions are bit for bit those of the sample; their classes where it has them."""
    found, wanted = by_number(found), expected(name)
    assert found.keys() == wanted.keys()
    for number, fields in wanted.items():
        raw = found[number]
        for field in ("boxes", "features", "classes"):
            if field in fields:
                value = getattr(raw, field)
                assert value.dtype in (np.float32, np.float16)
                np.testing.assert_array_equal(value, fields[field].astype(value.dtype))
        if "size" in fields:
            assert [raw.width, raw.height] == fields["size"].tolist()
        if "cls_prob_without_background" in fields:
            assert_background_added(raw.classes, fields["cls_prob_without_background"])


def assert_background_added(classes, without):
    np.testing.assert_array_equal(classes[:, 1:], without)
    np.testing.assert_allclose(classes.sum(axis=1), 1, atol=1e-6)
    assert classes.min() >= 0


def bad(found):
    """{key: "field: reason"} of the bad records."""
    return {raw.key: f"{raw.field}: {raw.reason}" for raw in found if isinstance(raw, Bad)}


def coco_sizes(folder, without=()):
    """A file of COCO's kind with the sizes of the samples' pictures, and the sizes."""
    known = {"9": (640, 480), "25": (480, 640), "391895": (500, 333)}
    images = [
        {"id": int(number), "width": width, "height": height, "file_name": f"{number:0>12}.jpg"}
        for number, (width, height) in known.items()
        if number not in without
    ]
    file = folder / "captions_train2017.json"
    file.write_text(json.dumps({"images": images, "annotations": []}))
    return str(file), known
