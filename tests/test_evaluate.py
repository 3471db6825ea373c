"""Each record once, whatever batch, devices and packing; against a loop in NumPy (case H18)."""

import dataclasses

import jax
import numpy as np
import pytest

from tests import tiny
from vlbert_jax import config as config_lib
from vlbert_jax import evaluate, sharding, state
from vlbert_jax.data import rows
from vlbert_jax.options import DataError
from vlbert_jax.tasks import task

RECORDS = 13


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny.make_world(tmp_path_factory.mktemp("world"), train=20, validation=RECORDS)


def variant(world, packing: bool = True) -> config_lib.Config:
    return config_lib.load(str(world), [f"data.packing={packing}"])


def params_of(config, layout):
    model = state.make_model(config, layout)
    return model, jax.jit(lambda: state.init_params(model, layout, seed=3))()


def numpy_loop(config) -> dict[str, list[float]]:
    """Per term [loss, correct, count], target by target in float64, one record a row."""
    data = task.open_validation(
        dataclasses.replace(
            config, data=dataclasses.replace(config.data, packing=False, rows_per_batch=1)
        )
    )
    model, params = params_of(config, data.layout)
    apply = jax.jit(lambda params, batch: model.apply({"params": params}, batch, train=False))
    totals = {name: [0.0, 0.0, 0.0] for name in data.layout.terms}
    for batch in data.batches():
        for name, logits in apply(params, state.device_fields(batch)).items():
            for k in np.flatnonzero(batch[f"{name}_weight"][0]):
                row = np.asarray(logits[0, k], np.float64)
                log_probability = row - row.max() - np.log(np.exp(row - row.max()).sum())
                if f"{name}_target" in batch:
                    target = batch[f"{name}_target"][0, k].astype(np.float64)
                else:
                    target = np.zeros(len(row))
                    target[batch[f"{name}_label"][0, k]] = 1
                totals[name][0] -= (target * log_probability).sum()
                totals[name][1] += row.argmax() == target.argmax()
                totals[name][2] += 1
    return totals


@pytest.fixture(scope="module")
def expected(world):
    return numpy_loop(variant(world))


@pytest.mark.parametrize(("packing", "devices"), [(True, 1), (True, 8), (False, 4)])
def test_metrics_equal_a_loop(world, expected, packing, devices):
    config = variant(world, packing)
    data = task.open_validation(config)
    kinds = (jax.sharding.AxisType.Auto,) * 3
    mesh = jax.make_mesh(
        (devices, 1, 1),
        ("data", "fsdp", "tensor"),
        axis_types=kinds,
        devices=jax.devices()[:devices],
    )
    model, params = params_of(config, data.layout)
    abstract = sharding.abstract_state(mesh, params)
    params = jax.device_put(params, sharding.of(abstract))
    step = evaluate.make_step(model, data.layout.terms)
    values = evaluate.evaluate(step, params, data.batches(), data.layout.terms, mesh)
    for name, (loss, correct, count) in expected.items():
        assert values[f"count/{name}"] == count > 0
        np.testing.assert_allclose(values[f"loss/{name}"], loss / count, rtol=1e-6)
        np.testing.assert_allclose(values[f"accuracy/{name}"], correct / count, atol=1e-6)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("rows_per_batch", [1, 8])
def test_every_record_once(world, packing, rows_per_batch):
    config = variant(world, packing)
    config = dataclasses.replace(config, eval=config_lib.Eval(rows_per_batch=rows_per_batch))
    ids = np.concatenate(
        [batch[rows.ITEM_ID].ravel() for batch in task.open_validation(config).batches()]
    )
    assert sorted(ids[ids >= 0]) == list(range(2 * RECORDS))


def test_the_command_gives_what_the_run_logged(world, tmp_path):
    tiny.run(world, tmp_path, "train.total_steps=3", "optimizer.warmup_steps=1")
    (logged,) = tiny.metrics(tmp_path, "validation")
    values = evaluate.evaluate_run(str(tmp_path))
    assert values["step"] == 3
    for name, value in values.items():  # 8 devices here, 1 in the run
        assert value == pytest.approx(logged[name], rel=1e-5)


def test_no_record_is_told_before_training(world, tmp_path):
    config = variant(world)
    nothing = dataclasses.replace(
        config, data=dataclasses.replace(config.data, validation=((str(tmp_path), 1.0),))
    )
    with pytest.raises(DataError, match="prepared set"):
        task.open_validation(nothing)
