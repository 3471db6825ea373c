"""The recorded samples of formats: what a correct reader returns for them."""

import numpy as np

from tests.prepare.records import FILES
from vlbert_jax.prepare.raw import RawPicture

SAMPLES = FILES / "samples"


def pictures(reader, *inputs, split="train"):
    """What the reader yields for files or folders."""
    return list(reader.read([str(name) for name in inputs], split))


def assert_is_sample(found, name, spelled="{}", tolerance=0):
    """The pictures are those of NAME/expected.npz, in its order.

    Args:
      spelled: how the format writes image id {}.
      tolerance: in pixels.
    """
    with np.load(SAMPLES / name / "expected.npz") as expected:
        ids = list(dict.fromkeys(key.split("/")[0] for key in expected.files))
        assert [picture.image_id for picture in found] == [spelled.format(int(i)) for i in ids]
        for picture, image_id in zip(found, ids, strict=True):
            assert isinstance(picture, RawPicture)
            assert [picture.width, picture.height] == expected[f"{image_id}/size"].tolist()
            boxes, features = expected[f"{image_id}/boxes"], expected[f"{image_id}/features"]
            assert picture.boxes.dtype == boxes.dtype
            np.testing.assert_allclose(picture.boxes, boxes, rtol=0, atol=tolerance)
            np.testing.assert_array_equal(picture.features, features, strict=True)
            assert picture.classes is None
