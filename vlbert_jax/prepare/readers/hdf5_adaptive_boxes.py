"""HDF5 of bottom-up-attention features, 10 to 100 boxes a picture (train.hdf5 with pos_boxes)

As `hdf5_fixed_boxes`, but the regions of all pictures stand in one row of arrays; pos_boxes [N, 2]
tells start and end of each picture.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from vlbert_jax.prepare import hdf5_file
from vlbert_jax.prepare.fields import BrokenError
from vlbert_jax.prepare.raw import Bad, RawPicture
from vlbert_jax.prepare.readers import hdf5_fixed_boxes

KIND = "pictures"


def read(inputs: list[str], split: str) -> Iterator[RawPicture | Bad]:
    """The pictures of files, or of a folder's .hdf5 and .h5 files, in the order of their rows.

    Raises:
      DataError: no such file or not a whole one, or no list of rows beside it.
    """
    return hdf5_fixed_boxes.pictures(inputs, _part)


def _part(stored: Any, row: int) -> slice:
    place = hdf5_file.read(stored, "pos_boxes", row)
    total = len(stored["image_bb"]) if "image_bb" in stored else 0
    if place.shape != (2,) or not 0 <= place[0] <= place[1] <= total:
        raise BrokenError("pos_boxes", f"is {np.array2string(place)}; there are {total} regions")
    return slice(int(place[0]), int(place[1]))
