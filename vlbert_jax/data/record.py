"""One prepared example, in memory and as the bytes of an ArrayRecord file.

`prepare/writer.py` makes records once; `data/prepared.py` reads them in every run. On disk a
record is a `tf.train.Example` in which every field is one byte string (little endian, C order),
so that tensorflow-datasets reads it and nothing is parsed number by number.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2


@dataclasses.dataclass(frozen=True)
class Caption:
    """A caption and the regions of its picture, in the order of the source.

    Attributes:
      key: name of the record in its source, unique in its split.
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
      kind: "captions" or "text".
      feature_dtype: "float16" or "float32", of features and class scores.
      region_width: numbers of a region's appearance; 0 for text.
      region_classes: class scores of a region; 0 where the set has none.
    """

    kind: str
    feature_dtype: str = "float16"
    region_width: int | None = 0
    region_classes: int | None = 0


def to_bytes(record: Caption | Text) -> bytes:
    """The record as stored; `from_bytes` is the inverse."""
    fields = {"key": record.key, "pieces": record.pieces, "word": record.word}
    if isinstance(record, Caption):
        fields |= {
            "image_id": record.image_id,
            "caption": record.caption,
            "size": np.array([record.width, record.height], "<i4"),
            "boxes": record.boxes,
            "features": record.features,
        }
        if record.classes is not None:
            fields["classes"] = record.classes
    feature = {name: _feature(value) for name, value in fields.items()}
    example = tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=feature))
    return example.SerializeToString(deterministic=True)


def from_bytes(data: bytes, form: Form) -> Caption | Text:
    """The record of a set of this form; its arrays are read-only."""
    feature = tf_example_pb2.Example.FromString(data).features.feature
    fields = {name: value.bytes_list.value[0] for name, value in feature.items()}
    key = fields["key"].decode()
    pieces, word = (np.frombuffer(fields[name], "<i4") for name in ("pieces", "word"))
    if form.kind == "text":
        return Text(key, pieces, word)
    dtype = np.dtype(form.feature_dtype).newbyteorder("<")
    width, height = np.frombuffer(fields["size"], "<i4").tolist()
    boxes = np.frombuffer(fields["boxes"], "<f4").reshape(-1, 4)
    features = np.frombuffer(fields["features"], dtype).reshape(len(boxes), form.region_width)
    classes = None
    if form.region_classes:
        classes = np.frombuffer(fields["classes"], dtype).reshape(len(boxes), form.region_classes)
    return Caption(
        key=key,
        image_id=fields["image_id"].decode(),
        caption=fields["caption"].decode(),
        pieces=pieces,
        word=word,
        width=width,
        height=height,
        boxes=boxes,
        features=features,
        classes=classes,
    )


def _feature(value: str | np.ndarray) -> tf_feature_pb2.Feature:
    if isinstance(value, str):
        value = value.encode(errors="replace")  # half of a surrogate pair, from a broken JSON file
    else:
        value = value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes()
    return tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=[value]))
