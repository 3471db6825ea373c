"""dataset_info.json and features.json: a prepared set as tensorflow-datasets sees it.

`tfds.builder_from_directory(DIR).as_data_source(split)` reads a prepared set with no code of ours.
"""

import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import dataset_info, naming, splits

from vlbert_jax.data.record import Form

NAME = "vlbert"  # of the data set; its files begin with it


def write(folder: pathlib.Path, form: Form, parts: dict[str, dict[str, Any]]) -> None:
    """Writes both files into `folder`; `parts` is the "splits" of set.json."""
    identity = dataset_info.DatasetIdentity(
        name=NAME, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=f"Prepared set of vlbert_jax, {form.kind}.",
        features=_features(form),
        disable_shuffling=True,
    )
    template = naming.ShardedFileTemplate(
        data_dir=folder, dataset_name=NAME, filetype_suffix="array_record"
    )
    of_splits = [
        splits.SplitInfo(
            name=split,
            shard_lengths=part["shard_lengths"],
            num_bytes=part["bytes"],
            filename_template=template,
        )
        for split, part in parts.items()
    ]
    info.set_file_format("array_record")
    info.set_splits(splits.SplitDict(of_splits))
    info.write_to_directory(folder)


def _features(form: Form) -> tfds.features.FeaturesDict:
    def tensor(dtype: str, *shape: int | None) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=shape, dtype=np.dtype(dtype), encoding="bytes")

    text, texts = tfds.features.Text(), tfds.features.Sequence(tfds.features.Text())
    features = {"pieces": tensor("int32", None), "word": tensor("int32", None)}
    if form.kind == "text":
        features["key"] = text
    else:
        features |= {
            "key": texts,
            "image_id": text,
            "caption": texts,
            "caption_ends": tensor("int32", None),
            "size": tensor("int32", 2),
            "boxes": tensor("float32", None, 4),
            "features": tensor(form.feature_dtype, None, form.region_width),
        }
        if form.region_classes:
            features["classes"] = tensor(form.feature_dtype, None, form.region_classes)
    return tfds.features.FeaturesDict(features)
