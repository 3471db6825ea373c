"""What a reader yields: one example as its source has it, or what is wrong with it."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class RawCaption:
    """A caption and the regions of its picture, in the order of the source.

    Attributes:
      key: name of the record, unique in its split.
      image_id: name of the picture.
      caption: the text; words of a list are joined by single blanks.
      width, height: of the original picture, pixels.
      boxes: [n, 4] float x1, y1, x2, y2, pixels of the original picture.
      features: [n, W] float.
      classes: [n, C] float class scores, or None.
      where: file and line for messages.
    """

    key: str
    image_id: str
    caption: str
    width: int
    height: int
    boxes: np.ndarray
    features: np.ndarray
    classes: np.ndarray | None
    where: str = ""


@dataclasses.dataclass(frozen=True)
class RawPicture:
    """A picture's regions; its captions come with it, from `join.py`, or not at all.

    Attributes:
      image_id: name of the picture, as its source spells it.
      width, height: of the original picture, pixels; None where the source does not tell.
      boxes: [n, 4] float x1, y1, x2, y2, pixels of the original picture; None likewise.
      features: [n, W] float.
      classes: [n, C] float class scores, background in column 0, or None.
      where: file and line for messages.
      captions: of the picture.
    """

    image_id: str
    width: int | None
    height: int | None
    boxes: np.ndarray | None
    features: np.ndarray
    classes: np.ndarray | None
    where: str = ""
    captions: Sequence["RawText"] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class RawText:
    """One line of a corpus or one caption; image_id names its picture where the source does."""

    key: str
    text: str
    where: str = ""
    image_id: str = ""


@dataclasses.dataclass(frozen=True)
class Bad:
    """A record that cannot be used: the field that is wrong, what was found and expected."""

    key: str
    field: str
    reason: str
    where: str = ""


@dataclasses.dataclass(frozen=True)
class Counted:
    """Something that the set's description counts under `name`, such as left-over captions."""

    name: str
    count: int


Raw = RawCaption | RawPicture | RawText | Bad | Counted
Records = Iterable[Raw]
