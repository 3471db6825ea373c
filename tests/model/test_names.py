"""The name table against the original's own lists, and the initial values against its statistics."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tests import goldens
from vlbert_jax import config, state
from vlbert_jax.model import names

BASE = config.Model()
LARGE = config.Model(layers=24, hidden=1024, heads=16, mlp=4096)
RELEASED = {
    "base": BASE,
    "large": LARGE,
    "base_with_relation": config.Model(relation=True),
    "base_without_text_only": config.Model(text_only=False),
}


@pytest.fixture(scope="module")
def state_dict_names() -> dict:
    return json.loads((goldens.FILES / "state_dict_names.json").read_text())


def abstract_params(model: config.Model):
    layout = goldens.layout_of(goldens.terms_of(model))
    layout = dataclasses.replace(layout, region_classes=model.region_classes)
    network = state.make_model(goldens.make_config(model), layout)
    return jax.eval_shape(lambda: state.init_params(network, layout, seed=0))


@pytest.mark.parametrize("released", RELEASED)
def test_state_dict_names(released, state_dict_names):
    """Every tensor of the release has its place and shape in ours, and ours has no other."""
    model = RELEASED[released]
    expected = {
        name: tuple(shape)
        for name, shape in state_dict_names[released].items()
        if name not in names.TIED
    }
    entries = list(names.entries(model))
    assert {entry.name: entry.shape for entry in entries} == expected
    assert dict(map(reversed, state_dict_names["tied"])) == names.TIED

    params = abstract_params(model)
    flat = jax.tree_util.tree_flatten_with_path(params)[0]
    paths = {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in flat}
    assert {entry.path for entry in entries} == paths
    count = state.count_params(params, model)
    assert count == sum(int(np.prod(shape)) for shape in expected.values())
    if f"{released}__parameter_count" in state_dict_names:
        assert count == state_dict_names[f"{released}__parameter_count"]


def test_round_trip_keeps_every_number():
    model = goldens.small_model("float32", region_vector=40)
    params = goldens.params(goldens.load("pretraining"), goldens.small_model("float32"))
    shapes = abstract_params(model)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype("f4"), shapes)
    params["embeddings"]["tokens"][model.vocabulary + 3 :] = 0
    tensors = names.to_release(params, model)
    again = names.from_release(tensors.__getitem__, model, shapes)
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_wrong_shape_is_named():
    model = goldens.small_model("float32")
    tensors = names.to_release(goldens.params(goldens.load("pretraining"), model), model)
    wrong = dict(tensors, **{"vlbert.position_embeddings.weight": np.zeros((41, 32))})
    with pytest.raises(ValueError, match=r"position_embeddings.* is \(41, 32\), .* \(40, 32\)"):
        names.from_release(wrong.__getitem__, model, abstract_params(model))


def test_init_stats():
    """Fresh weights of the base model have the statistics of the original's fresh weights."""
    stats = json.loads((goldens.FILES / "init_stats.json").read_text())
    expected = stats["base"] | stats["with_relation"]
    model = config.Model(relation=True)
    layout = goldens.layout_of(goldens.terms_of(model))
    layout = dataclasses.replace(layout, region_classes=model.region_classes)
    network = state.make_model(goldens.make_config(model), layout)
    params = jax.jit(lambda: state.init_params(network, layout, seed=1))()
    table = np.asarray(params["embeddings"]["tokens"])
    assert not table[model.vocabulary + 3 :].any()
    tensors = names.to_release(jax.tree.map(np.asarray, params), model)
    assert set(tensors) == set(expected) - set(names.TIED)
    for name, tensor in tensors.items():
        theirs = expected[name]
        size = tensor.size
        if theirs["std"] == 0:
            assert tensor.min() == tensor.max() == theirs["mean"], name
            continue
        # Both are draws: the difference of two means (deviations) has sqrt(2) the error of one.
        std = theirs["std"]
        assert abs(tensor.mean() - theirs["mean"]) < 5 * std * (2 / size) ** 0.5, name
        assert abs(tensor.std() / std - 1) < 5 / size**0.5, name
        if "obj_downsample" in name:
            assert np.abs(tensor).max() <= 1 / 64
        elif size > 1e5:
            assert np.abs(tensor).max() > 4 * std  # not truncated
