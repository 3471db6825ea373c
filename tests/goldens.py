"""The goldens of the original implementation as our configs, parameters and batches.

Shared by the tests of model, losses, optimizer and step. Inputs and weights are exact float32;
outputs and gradients were computed by the original in float64 (rounded to float32). The strict
check runs ours in float64; the other one in float32, within ten times the noise that the
original's own float32 run shows.
"""

import contextlib
import functools
import pathlib

import jax
import numpy as np

from vlbert_jax import config, state
from vlbert_jax.config import Model
from vlbert_jax.data import rows
from vlbert_jax.model import names
from vlbert_jax.terms import Term

FILES = pathlib.Path(__file__).parent / "files"
STRICT = 1e-6  # relative, float64

TERMS = {
    "mlm_caption": Term("words", "label", 1.0, 48),
    "mlm_text": Term("words", "label", 1.0, 48),
    "region_class": Term("regions", "distribution", 1.0, 24),
    "relation": Term("relation", "label", 1.0, 8),
}


@functools.cache
def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FILES / f"{name}.npz") as file:
        return dict(file)


def part(golden: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {key[len(prefix) :]: value for key, value in golden.items() if key.startswith(prefix)}


def small_model(dtype: str, **changes) -> Model:
    """The sizes of the model goldens."""
    sizes = dict(
        layers=2,
        hidden=32,
        heads=4,
        mlp=64,
        vocabulary=61,
        positions=40,
        region_classes=21,
        relation=True,
        dropout=0.0,
        attention_dropout=0.0,
        region_dropout=0.0,
        dtype=dtype,
    )
    return Model(**{**sizes, **changes})


def terms_of(model: Model) -> dict[str, Term]:
    has = {"mlm_text": model.text_only, "relation": model.relation}
    return {name: term for name, term in TERMS.items() if has.get(name, True)}


def make_config(model: Model, **sections) -> config.Config:
    return config.Config(model=model, data=config.Data(text_slots=39), **sections)


def params(golden: dict, model: Model, prefix: str = "weights/", dtype: str | None = None):
    """The golden's weights as our tree, in the dtype of the computation."""
    layout = layout_of(terms_of(model))
    network = state.make_model(make_config(model), layout)
    shapes = jax.eval_shape(lambda: state.init_params(network, layout, seed=0))
    tree = names.from_release(lambda name: golden[prefix + name], model, shapes)
    dtype = dtype or ("float64" if model.dtype == "float64" else "float32")
    return jax.tree.map(lambda x: x.astype(dtype), tree)


def layout_of(terms: dict[str, Term], slots: int = 160, regions: int = 40) -> rows.Layout:
    return rows.Layout(slots, regions, 16, 2048, 21, "float32", terms)


def items(inputs: dict[str, np.ndarray], model: Model) -> list[rows.Item]:
    """Image-text items, then text-only items, of one golden batch; unrounded float64 boxes."""
    made = []
    for b, text in enumerate(inputs["text"]):
        made.append(_image_text(inputs, model, b, text[text > 0]))
    for b, text in enumerate(inputs.get("aux_text", ())):
        labels = inputs["aux_mlm_labels"][b]
        made.append(_text_only(model, len(made), text[text > 0], labels))
    return made


def _image_text(inputs, model: Model, b: int, text: np.ndarray) -> rows.Item:
    boxes = inputs["boxes"][b].astype(np.float64)
    boxes = boxes[boxes[:, 0] > -1.5]
    t, r = len(text), len(boxes)
    width, height = inputs["im_info"][b, :2].astype(np.float64)
    x1, y1, x2, y2 = boxes[:, :4].T
    shares = [(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height]
    word = np.flatnonzero(inputs["mlm_labels"][b, :t] >= 0)
    distribution = inputs["mvrc_labels"][b, :r]
    region = np.flatnonzero(np.abs(distribution.sum(1) - 1) < 0.1)
    targets = {
        "mlm_caption": _target(word, inputs["mlm_labels"][b][word]),
        "region_class": _target(t + region, distribution[region]),
    }
    if model.relation:
        targets["relation"] = _target(np.array([0]), inputs["relationship_label"][b : b + 1])
    return rows.Item(
        record=b,
        tokens=np.r_[text, [model.vocabulary] * r, model.vocabulary + 2].astype(np.int32),
        segments=np.r_[[0] * t, [2] * (r + 1)].astype(np.int32),
        positions=np.r_[np.arange(t), [t] * r, t + 1].astype(np.int32),
        visual=np.r_[[2] * t, 2 + np.arange(r), 0].astype(np.int32),
        sequence=np.ones(t + r + 1, np.int32),
        region_features=boxes[:, 4:],
        region_boxes=np.stack(shares, axis=1),
        region_replaced=inputs["mvrc_ops"][b, :r] == 1,
        targets=targets,
    )


def _text_only(model: Model, record: int, text: np.ndarray, labels: np.ndarray) -> rows.Item:
    t = len(text)
    word = np.flatnonzero(labels[:t] >= 0)
    return rows.Item(
        record=record,
        tokens=np.r_[text, model.vocabulary + 2].astype(np.int32),
        segments=np.r_[[0] * t, 2].astype(np.int32),
        positions=np.r_[np.arange(t), t + 1].astype(np.int32),
        visual=np.r_[[1] * t, 0].astype(np.int32),
        sequence=np.ones(t + 1, np.int32),
        region_features=np.zeros((0, 2048)),
        region_boxes=np.zeros((0, 4)),
        region_replaced=np.zeros(0, bool),
        targets={"mlm_text": _target(word, labels[word])},
    )


def _target(slot: np.ndarray, value: np.ndarray) -> rows.Target:
    return rows.Target(slot, value, np.ones(len(slot)))


def batch_of(row_items: list[list[rows.Item]], layout: rows.Layout, dtype: str) -> rows.Batch:
    """One row per list of items; floats in the dtype of the computation."""
    batch = {
        name: array.astype(dtype) if array.dtype.kind == "f" else array
        for name, array in rows.empty(layout, len(row_items)).items()
    }
    for row, group in enumerate(row_items):
        assert rows.pack(group, batch, row) == 0
    return state.device_fields(batch)


def float_dtype(model: Model) -> str:
    return "float64" if model.dtype == "float64" else "float32"


@contextlib.contextmanager
def precision(dtype: str):
    """float64 where asked for, and matrix products in full precision."""
    with jax.enable_x64(dtype == "float64"), jax.default_matmul_precision("highest"):
        yield


def deviation(ours, golden) -> float:
    """Largest difference as a share of the golden's largest value."""
    ours, golden = np.asarray(ours, np.float64), np.asarray(golden, np.float64)
    assert ours.shape == golden.shape, f"{ours.shape} against {golden.shape}"
    return float(np.abs(ours - golden).max() / max(np.abs(golden).max(), 1e-30))
