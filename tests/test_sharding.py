"""The same losses and updates on every mesh and with every accumulation (cases H04, H19)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import goldens
from tests.made_items import random_item
from vlbert_jax import config, optimizer, sharding, state, train
from vlbert_jax.options import ConfigError

LAYOUT = goldens.layout_of(goldens.TERMS, slots=48, regions=20)
ROWS = 8


def uneven_batch(dtype: str) -> dict:
    """8 rows: some full of targets, some without any, one empty; text-only in one row only."""
    rng = np.random.default_rng(0)
    items = [
        [random_item(rng, 2 * row, 9, 6), random_item(rng, 2 * row + 1, 5, 4)]
        for row in range(ROWS)
    ]
    items[1], items[2] = [], [random_item(rng, 99, 9, 0)]
    batch = goldens.batch_of(items, LAYOUT, dtype)
    batch["mlm_caption_weight"][4:] = 0
    return batch


@functools.cache
def two_steps(dtype: str, mesh_shape: tuple[int, int, int], micro_batches: int):
    """Metrics of two updates and the parameters after them."""
    model = goldens.small_model(dtype)
    settings = goldens.make_config(
        model,
        optimizer=config.Optimizer(peak_lr=1e-2, warmup_steps=1),
        train=config.Train(total_steps=4, accumulation=micro_batches),
    )
    with goldens.precision(dtype):
        axes, devices = ("data", "fsdp", "tensor"), jax.devices()[: np.prod(mesh_shape)]
        kinds = (jax.sharding.AxisType.Auto,) * 3
        mesh = jax.make_mesh(mesh_shape, axes, axis_types=kinds, devices=devices)
        network = state.make_model(settings, LAYOUT)
        adamw = optimizer.make(settings.optimizer)
        params = goldens.params(goldens.load("trajectory"), model)
        start = state.TrainState(jnp.zeros((), jnp.int32), params, adamw.init(params))
        abstract = sharding.abstract_state(mesh, jax.eval_shape(lambda: start))
        now = jax.device_put(start, sharding.of(abstract))
        step = jax.jit(
            train.make_step(settings, network, adamw, goldens.TERMS, 4),
            donate_argnums=0,
            out_shardings=(sharding.of(abstract), None),
        )
        history = []
        for _ in range(2):
            batch = sharding.put_batch(mesh, uneven_batch(dtype))
            with jax.transfer_guard("disallow"):
                now, metrics = step(now, batch)
            history.append(jax.device_get(metrics))
        return history, jax.device_get(now.params)


def assert_same(ours, expected, limit: float, floor: float) -> None:
    for mine, theirs in zip(ours[0], expected[0], strict=True):
        for name, value in theirs.items():
            np.testing.assert_allclose(mine[name], value, rtol=limit, atol=1e-12, err_msg=name)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=limit, atol=floor),
        ours[1],
        expected[1],
    )


@pytest.mark.parametrize("mesh_shape", [(8, 1, 1), (2, 4, 1), (1, 1, 4), (2, 2, 2)])
def test_every_mesh_gives_the_losses_of_one_device(mesh_shape):
    expected = two_steps("float32", (1, 1, 1), 1)
    # Adam divides by sqrt(v): where a gradient is rounding error alone, so is the update.
    assert_same(two_steps("float32", mesh_shape, 1), expected, limit=1e-5, floor=3e-4)


@pytest.mark.parametrize("micro_batches", [2, 4])
def test_accumulation_changes_nothing(micro_batches):
    expected = two_steps("float64", (1, 1, 1), 1)
    ours = two_steps("float64", (1, 1, 1), micro_batches)
    assert_same(ours, expected, limit=1e-6, floor=1e-9)


def test_accumulation_on_a_mesh():
    expected = two_steps("float64", (1, 1, 1), 1)
    assert_same(two_steps("float64", (2, 2, 1), 2), expected, limit=1e-6, floor=1e-9)


def test_a_sum_is_divided_by_the_global_count():
    """Two devices with (sum 6, count 2) and (sum 1, count 8): 0.7, not the mean of means."""
    from vlbert_jax import losses

    sums = {
        "mlm_caption": losses.TermSums(
            jnp.array([6.0, 1.0]).sum(), 0.0, jnp.array([2.0, 8.0]).sum()
        )
    }
    terms = {"mlm_caption": goldens.TERMS["mlm_caption"]}
    total = losses.total(terms, sums, {"mlm_caption": sums["mlm_caption"].count})
    np.testing.assert_allclose(total, 0.7, rtol=1e-6)


def test_a_term_without_target_gives_zero_not_nan():
    history, params = two_steps("float32", (1, 1, 1), 1)
    batch = uneven_batch("float32")
    batch["mlm_text_weight"][:] = 0
    model = goldens.small_model("float32")
    settings = goldens.make_config(model, train=config.Train(total_steps=4))
    network = state.make_model(settings, LAYOUT)
    adamw = optimizer.make(settings.optimizer)
    now = state.TrainState(jnp.zeros((), jnp.int32), params, adamw.init(params))
    step = jax.jit(train.make_step(settings, network, adamw, goldens.TERMS, 4))
    _, metrics = step(now, batch)
    assert metrics["loss/mlm_text"] == 0
    assert metrics["finite"]
    assert np.isfinite(metrics["loss"])
    assert history[0]["loss/mlm_text"] > 0


def test_state_is_sharded_as_the_table_says():
    model = goldens.small_model("float32")
    network = state.make_model(goldens.make_config(model), LAYOUT)
    mesh = sharding.make_mesh(config.Mesh(data=2, fsdp=2, tensor=2))
    adamw = optimizer.make(config.Optimizer())
    shapes = jax.eval_shape(lambda: state.init(network, LAYOUT, adamw, 0))
    abstract = sharding.abstract_state(mesh, shapes)
    kernel = abstract.params["encoder"]["layers"]["qkv"]["kernel"]
    assert kernel.sharding.shard_shape(kernel.shape) == (2, 16, 3, 2, 8)
    moment = abstract.opt_state.mu["encoder"]["layers"]["qkv"]["kernel"]
    assert moment.sharding == kernel.sharding
    table = abstract.params["embeddings"]["tokens"]
    assert table.sharding.shard_shape(table.shape) == (32, 32)
    odd = abstract.params["region_head"]["classify"]["bias"]  # 21 divides by nothing
    assert odd.sharding.is_fully_replicated


def test_wrong_numbers_are_told_with_the_nearest():
    with pytest.raises(ConfigError, match="needs 6 devices, there are 8"):
        sharding.make_mesh(config.Mesh(data=3, fsdp=2))
    mesh = sharding.make_mesh(config.Mesh(data=4, fsdp=2))
    settings = config.Config(data=config.Data(rows_per_batch=30))
    with pytest.raises(ConfigError, match=r"rows_per_batch=30 .* = 8 devices .* does: 32"):
        sharding.check_rows(mesh, settings)
