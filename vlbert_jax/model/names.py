"""Our parameters by the release's names: one table for tests, conversion and `init_from`.

The release's file is a flat dictionary of PyTorch tensors (linear weights [out, in]); ours is a
tree in which the layers are stacked, query/key/value are one array, and the special vectors are
rows of the token table.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping

import flax.traverse_util
import numpy as np

from vlbert_jax.config import Model
from vlbert_jax.model.vlbert import GEOMETRY_WIDTH

TIED = {
    "vlbert.mlm_head.predictions.decoder.weight": "vlbert.word_embeddings.weight",
}


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor of the release and where it lies in ours.

    Attributes:
      name, shape: the tensor of the release.
      path: our parameter, its keys joined by "/".
      at: index into our parameter.
      transposed: a linear weight, [out, in] there and [in, out] here.
    """

    name: str
    shape: tuple[int, ...]
    path: str
    at: tuple = ()
    transposed: bool = False


def entries(config: Model) -> Iterator[Entry]:
    """Every tensor of the release for this model, tied copies left out."""
    hidden, vocabulary = config.hidden, config.vocabulary
    width = config.region_vector or hidden

    def linear(name: str, path: str, outputs: int, inputs: int, at: tuple = ()) -> Iterator[Entry]:
        yield Entry(f"{name}.weight", (outputs, inputs), f"{path}/kernel", at, transposed=True)
        yield Entry(f"{name}.bias", (outputs,), f"{path}/bias", at)

    def norm(name: str, path: str, at: tuple = ()) -> Iterator[Entry]:
        yield Entry(f"{name}.weight", (hidden,), f"{path}/scale", at)
        yield Entry(f"{name}.bias", (hidden,), f"{path}/bias", at)

    def row(name: str, index: int) -> Entry:
        return Entry(f"{name}.weight", (1, hidden), "embeddings/tokens", (index,))

    inputs = GEOMETRY_WIDTH + config.region_width
    yield from linear("image_feature_extractor.obj_downsample.1", "regions/project", width, inputs)
    yield row("object_linguistic_embeddings", vocabulary)
    yield Entry("object_mask_visual_embedding.weight", (1, config.region_width), "regions/masked")
    yield row("object_mask_word_embedding", vocabulary + 1)
    if config.text_only:
        yield Entry("aux_text_visual_embedding.weight", (1, width), "embeddings/no_image")
    yield Entry(
        "vlbert.word_embeddings.weight",
        (vocabulary, hidden),
        "embeddings/tokens",
        (slice(0, vocabulary),),
    )
    yield row("vlbert.end_embedding", vocabulary + 2)
    for theirs, ours, rows in (
        ("position_embeddings", "positions", config.positions),
        ("token_type_embeddings", "segments", config.segments),
    ):
        yield Entry(f"vlbert.{theirs}.weight", (rows, hidden), f"embeddings/{ours}")
    yield from norm("vlbert.embedding_LayerNorm", "embeddings/norm")
    for theirs, ours in (("text", "text"), ("object", "region")):
        if width != hidden:
            yield from linear(
                f"vlbert.visual_1x1_{theirs}", f"embeddings/visual_{ours}", hidden, width
            )
        yield from norm(f"vlbert.visual_ln_{theirs}", f"embeddings/visual_{ours}_norm")

    for layer in range(config.layers):
        theirs, ours, at = f"vlbert.encoder.layer.{layer}", "encoder/layers", (layer,)
        for part, name in enumerate(("query", "key", "value")):
            attention = f"{theirs}.attention.self.{name}"
            kernel_at = (layer, slice(None), part)
            yield Entry(
                f"{attention}.weight", (hidden, hidden), f"{ours}/qkv/kernel", kernel_at, True
            )
            yield Entry(f"{attention}.bias", (hidden,), f"{ours}/qkv/bias", (layer, part))
        output = f"{theirs}.attention.output"
        yield from linear(f"{output}.dense", f"{ours}/attention_out", hidden, hidden, at)
        yield from norm(f"{output}.LayerNorm", f"{ours}/attention_norm", at)
        yield from linear(f"{theirs}.intermediate.dense", f"{ours}/mlp_in", config.mlp, hidden, at)
        yield from linear(f"{theirs}.output.dense", f"{ours}/mlp_out", hidden, config.mlp, at)
        yield from norm(f"{theirs}.output.LayerNorm", f"{ours}/mlp_norm", at)

    if config.relation:
        yield from linear("vlbert.pooler.dense", "relation_head/pooler", hidden, hidden)
        relation = "vlbert.relationsip_head.caption_image_relationship"  # spelled so there
        yield from linear(relation, "relation_head/classify", 2, hidden)
    words = "vlbert.mlm_head.predictions"
    yield Entry(f"{words}.bias", (vocabulary,), "word_head/bias")
    yield from linear(f"{words}.transform.dense", "word_head/transform", hidden, hidden)
    yield from norm(f"{words}.transform.LayerNorm", "word_head/norm")
    yield from linear("vlbert.mvrc_head.transform.dense", "region_head/transform", hidden, hidden)
    classes = config.region_classes
    yield from linear("vlbert.mvrc_head.region_cls_pred", "region_head/classify", classes, hidden)


def to_release(params: Mapping, config: Model) -> dict[str, np.ndarray]:
    """Our parameters (or gradients) under the release's names and shapes, tied copies left out."""
    flat = flax.traverse_util.flatten_dict(params, sep="/")
    tensors = {}
    for entry in entries(config):
        part = np.asarray(flat[entry.path])[entry.at]
        tensors[entry.name] = (
            part.reshape(entry.shape[::-1]).T if entry.transposed else part.reshape(entry.shape)
        )
    return tensors


def from_release(
    tensor: Callable[[str], np.ndarray], config: Model, shapes: Mapping
) -> dict[str, dict]:
    """Our parameter tree from the release's tensors; the padding of the token table is 0.

    Args:
      tensor: name -> array of the release's shape.
      config: sizes of the model.
      shapes: tree of our parameters' shapes and dtypes, as jax.eval_shape gives it.

    Raises:
      ValueError: a tensor of another shape than the config says.
    """
    flat = {
        path: np.zeros(leaf.shape, leaf.dtype)
        for path, leaf in flax.traverse_util.flatten_dict(shapes, sep="/").items()
    }
    for entry in entries(config):
        theirs = np.asarray(tensor(entry.name))
        if theirs.shape != entry.shape:
            raise ValueError(f"{entry.name} is {theirs.shape}, the config says {entry.shape}")
        part = flat[entry.path][entry.at]
        flat[entry.path][entry.at] = (theirs.T if entry.transposed else theirs).reshape(part.shape)
    return flax.traverse_util.unflatten_dict(flat, sep="/")
