"""Every file of configs/ loads and builds its model; the released ones have the release's numbers."""

import ast
import pathlib

import jax
import pytest

from tests import goldens
from vlbert_jax import config as config_lib
from vlbert_jax import state
from vlbert_jax.options import ConfigError

CONFIGS = pathlib.Path(__file__).parent.parent / "configs"
FILES = sorted(path.name for path in CONFIGS.glob("*.py"))
# Parameters of the original with the same settings (SPEC.md; its own lists of names and shapes).
RELEASED = {
    "base.py": 114_491_515,
    "base.py:packed": 114_491_515,
    "large.py": 342_071_675,
    "large.py:packed": 342_071_675,
    "base_captions_only.py": 114_490_747,  # without the "no image" vector of 768
    "base_captions_only.py:packed": 114_490_747,
}


def load(name, *overrides):
    return config_lib.load(str(CONFIGS / name), overrides)


def count_params(config):
    """Builds the model without memory or arithmetic and counts its parameters."""
    layout = goldens.layout_of(goldens.terms_of(config.model))
    model = state.make_model(goldens.make_config(config.model), layout)
    params = jax.eval_shape(lambda: state.init_params(model, layout, seed=0))
    return state.count_params(params, config.model)


@pytest.mark.parametrize("name", FILES)
def test_every_config_loads_and_builds(name):
    config = load(name)
    assert config_lib.from_json(config_lib.to_json(config)) == config
    assert count_params(config) > 0


@pytest.mark.parametrize("name", FILES)
def test_every_config_opens_with_command_hardware_time_and_result(name):
    text = ast.get_docstring(ast.parse((CONFIGS / name).read_text()))
    assert f"configs/{name}" in text
    assert "not run yet" in text or "Result:" in text


@pytest.mark.parametrize("name", RELEASED)
def test_released_models_have_the_parameters_of_the_original(name):
    assert count_params(load(name)) == RELEASED[name]


def test_base_with_relation_head():
    assert count_params(load("base.py", "model.relation=True")) == 115_083_645


def test_released_recipe():
    base, large, captions = (load(f"{n}.py") for n in ("base", "large", "base_captions_only"))
    for config in (base, large, captions):
        assert not config.data.packing
        assert config.data.rows_per_batch == 256
        assert config.train.total_epochs == 10
        assert config.optimizer.peak_lr == 1e-7 * 256
        assert (config.optimizer.b1, config.optimizer.b2) == (0.9, 0.999)
        assert (config.optimizer.eps, config.optimizer.weight_decay) == (1e-6, 1e-4)
        assert config.optimizer.clip_norm == 10
        assert config.data.text_slots == 64
    sizes = ("layers", "hidden", "heads", "mlp")
    assert [getattr(base.model, name) for name in sizes] == [12, 768, 12, 3072]
    assert [getattr(large.model, name) for name in sizes] == [24, 1024, 16, 4096]
    assert base.optimizer.warmup_steps == large.optimizer.warmup_steps == 16_000
    assert captions.optimizer.warmup_steps == 8_000
    assert [weight for _, weight in base.data.train] == [1.0, 1.0]
    assert len(captions.data.train) == 1


def test_packed_rows_hold_about_as_many_examples():
    """At the sizes assumed for the real data: 48 slots a caption, 65 a text, rows 98 % full."""
    base = load("base.py:packed").data
    assert base.rows_per_batch * base.row_slots * 0.98 / ((48 + 65) / 2) == pytest.approx(
        256, rel=0.05
    )
    captions = load("base_captions_only.py:packed").data
    assert captions.rows_per_batch * captions.row_slots * 0.98 / 48 == pytest.approx(256, rel=0.05)


def test_an_unknown_argument_is_told():
    with pytest.raises(ConfigError, match="the only one is packed"):
        load("large.py:fast")
