"""One prepared example, in memory and as the bytes of an ArrayRecord file.

`prepare/writer.py` makes records once; `data/prepared.py` reads them in every run. On disk a
record is a `tf.train.Example` in which every array is one byte string (little endian, C order),
so that tensorflow-datasets reads it and nothing is parsed number by number.

A record holds one line of text, or one picture and all its captions, so that they share one copy
of the regions. An example is a line or one of the captions.
"""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption and the regions of its picture, in the order of the source.

    Attributes:
      key: name of the caption in its source, unique in its split.
      image_id: name of the picture.
      caption: the text as it came.
      pieces: [T] int32 word-piece ids, without [CLS] and [SEP].
      word: [T] int32, number of the basic-tokenizer word that each piece belongs to: 0, 1, ...
      width, height: of the original picture, pixels.
      boxes: [n, 4] float32 x1, y1, x2, y2, pixels of the original picture.
      features: [n, W] float16 or float32, appearance.
      classes: [n, C] float16 or float32, the detector's class scores, or None.
    """

    key: str
    image_id: str
    caption: str
    pieces: np.ndarray
    word: np.ndarray
    width: int
    height: int
    boxes: np.ndarray
    features: np.ndarray
    classes: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Text:
    """One line of a corpus: key, pieces [T] int32 and word [T] int32 as in `Caption`."""

    key: str
    pieces: np.ndarray
    word: np.ndarray


class Form(NamedTuple):
    """What all records of a set share; while the first split is written, None is "not known yet".

    Attributes:
      kind: "captions", "text", or "pictures": each as a Caption without words.
      feature_dtype: "float16" or "float32", of features and class scores.
      region_width: numbers of a region's appearance; 0 for text.
      region_classes: class scores of a region; 0 where the set has none.
    """

    kind: str
    feature_dtype: str = "float16"
    region_width: int | None = 0
    region_classes: int | None = 0


def to_bytes(examples: Sequence[Caption] | Text) -> bytes:
    """The record as stored: a line, or the captions of one picture; `from_bytes` is the inverse.

    Args:
      examples: captions that differ in key, caption, pieces and word alone.
    """
    if isinstance(examples, Text):
        fields = {"key": examples.key, "pieces": examples.pieces, "word": examples.word}
    else:
        picture = examples[0]
        lengths = [len(each.pieces) for each in examples]
        fields = {
            "key": [each.key for each in examples],
            "image_id": picture.image_id,
            "caption": [each.caption for each in examples],
            "pieces": np.concatenate([each.pieces for each in examples]),
            "word": np.concatenate([each.word for each in examples]),
            "caption_ends": np.cumsum(lengths).astype("<i4"),
            "size": np.array([picture.width, picture.height], "<i4"),
            "boxes": picture.boxes,
            "features": picture.features,
        }
        if picture.classes is not None:
            fields["classes"] = picture.classes
    feature = {name: _feature(value) for name, value in fields.items()}
    example = tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


def from_bytes(data: bytes, form: Form, number: int = 0) -> Caption | Text:
    """Example `number` of a record of a set of this form; its arrays are read-only."""
    feature = tf_example_pb2.Example.FromString(data).features.feature
    fields = {name: value.bytes_list.value for name, value in feature.items()}
    key = fields["key"][number].decode()
    pieces, word = (np.frombuffer(fields[name][0], "<i4") for name in ("pieces", "word"))
    if form.kind == "text":
        return Text(key, pieces, word)
    ends = np.frombuffer(fields["caption_ends"][0], "<i4").tolist()
    mine = slice(ends[number - 1] if number else 0, ends[number])
    dtype = np.dtype(form.feature_dtype).newbyteorder("<")
    width, height = np.frombuffer(fields["size"][0], "<i4").tolist()
    boxes = np.frombuffer(fields["boxes"][0], "<f4").reshape(-1, 4)
    features = np.frombuffer(fields["features"][0], dtype).reshape(len(boxes), form.region_width)
    classes = None
    if form.region_classes:
        classes = np.frombuffer(fields["classes"][0], dtype)
        classes = classes.reshape(len(boxes), form.region_classes)
    return Caption(
        key=key,
        image_id=fields["image_id"][0].decode(),
        caption=fields["caption"][number].decode(),
        pieces=pieces[mine],
        word=word[mine],
        width=width,
        height=height,
        boxes=boxes,
        features=features,
        classes=classes,
    )


def all_of(data: bytes, form: Form) -> list[Caption] | list[Text]:
    """All examples of a record."""
    keys = tf_example_pb2.Example.FromString(data).features.feature["key"].bytes_list.value
    return [from_bytes(data, form, number) for number in range(len(keys))]


def _feature(value: str | list[str] | np.ndarray) -> tf_feature_pb2.Feature:
    if isinstance(value, np.ndarray):
        stored = [value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()]
    else:
        texts = [value] if isinstance(value, str) else value
        # "replace": half of a surrogate pair, from a broken JSON file
        stored = [text.encode(errors="replace") for text in texts]
    return tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=stored))
