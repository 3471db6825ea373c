"""Ten training steps of the original, through the step that training uses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import goldens
from vlbert_jax import config, optimizer, state, train
from vlbert_jax.model import names

SUMMED = {
    "mlm_caption": "mlm_loss_wvc",
    "mlm_text": "mlm_loss_aux",
    "region_class": "mvrc_loss",
    "relation": "relationship_loss",
}
# Ten times the noise of the original's float32 run: absolute for losses and weights, relative for
# norms.
NOISE = {"loss": 4.1e-5, "norm": 2.8e-5, "weights": 4.3e-5}


def run(dtype: str, micro_batches: int):
    """Our losses, norms, rates and final weights; one entry an update."""
    golden = goldens.load("trajectory")
    model = goldens.small_model(dtype)
    terms = goldens.terms_of(model)
    prefix = "accumulate2_" if micro_batches == 2 else ""
    total = int(golden[f"hyper/{prefix}total_steps"])
    settings = goldens.make_config(
        model,
        optimizer=config.Optimizer(
            peak_lr=float(golden["hyper/peak_lr"]),
            warmup_steps=int(golden[f"hyper/{prefix}warmup_steps"]),
            weight_decay=float(golden["hyper/weight_decay"]),
            clip_norm=float(golden["hyper/clip_norm"]),
        ),
        train=config.Train(total_steps=total, accumulation=micro_batches),
    )
    layout = goldens.layout_of(terms, slots=64, regions=16)
    rows = [
        [[item] for item in goldens.items(goldens.part(golden, f"inputs/batch{b}/"), model)]
        for b in golden["inputs/batch_order"]
    ]
    history = []
    with goldens.precision(dtype):
        network = state.make_model(settings, layout)
        adamw = optimizer.make(settings.optimizer)
        params = goldens.params(golden, model)
        now = state.TrainState(jnp.asarray(0, f"int{dtype[5:]}"), params, adamw.init(params))
        step = jax.jit(train.make_step(settings, network, adamw, terms, total))
        for first in range(0, len(rows), micro_batches):
            parts = [
                goldens.batch_of(group, layout, dtype)
                for group in rows[first : first + micro_batches]
            ]
            now, metrics = step(now, as_one_batch(parts, terms))
            history.append(jax.tree.map(np.asarray, metrics))
    return history, names.to_release(jax.tree.map(np.asarray, now.params), model)


def as_one_batch(parts: list[dict], terms) -> dict:
    """Micro-batches as one batch in which each term weighs as the release weighs it.

    The release takes a mean in each micro-batch and averages the means; ours divides by the
    global count. Weights of 1 / (targets of its micro-batch) make one the other. Row n goes to
    micro-batch n mod (number of parts).
    """
    if len(parts) > 1:
        for part in parts:
            for name in terms:
                count = part[f"{name}_weight"].sum()
                if count:
                    part[f"{name}_weight"] = part[f"{name}_weight"] / count
    return {
        name: np.stack([part[name] for part in parts], axis=1).reshape(-1, *first.shape[1:])
        for name, first in parts[0].items()
    }


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("micro_batches", [1, 2])
def test_trajectory(dtype, micro_batches):
    golden = goldens.load("trajectory")
    outputs = goldens.part(golden, "outputs/" if micro_batches == 1 else "outputs_accumulate2/")
    history, weights = run(dtype, micro_batches)
    strict = dtype == "float64"

    def means(name):  # of the micro-batches of an update
        return outputs[name].reshape(-1, micro_batches).mean(axis=1)

    losses = {"loss": outputs["loss"].reshape(-1, micro_batches).sum(axis=1)}
    losses |= {f"loss/{term}": means(theirs) for term, theirs in SUMMED.items()}
    for name, expected in losses.items():
        ours = np.array([metrics[name] for metrics in history])
        limit = goldens.STRICT * np.abs(expected).max() if strict else NOISE["loss"]
        np.testing.assert_allclose(ours, expected, atol=limit, rtol=0, err_msg=name)
    norms = np.array([metrics["grad_norm"] for metrics in history])
    np.testing.assert_allclose(
        norms, outputs["grad_norm"], rtol=goldens.STRICT if strict else NOISE["norm"]
    )
    rates = np.array([metrics["learning_rate"] for metrics in history])
    expected = outputs["lr"].reshape(-1, micro_batches)[:, -1]
    np.testing.assert_allclose(rates, expected, rtol=1e-6, atol=1e-12)
    if micro_batches > 1:  # its final weights are not in the golden; later losses rest on them
        return
    final = goldens.part(golden, "final_weights/")
    for name, ours in weights.items():
        if strict:
            assert goldens.deviation(ours, final[name]) < goldens.STRICT, name
        else:
            assert np.abs(ours - final[name]).max() < NOISE["weights"], name


def test_a_step_without_finite_loss_changes_nothing():
    golden = goldens.load("trajectory")
    model = goldens.small_model("float32")
    terms = goldens.terms_of(model)
    settings = goldens.make_config(model, train=config.Train(total_steps=10))
    settings = dataclasses.replace(
        settings, optimizer=config.Optimizer(peak_lr=1e-3, warmup_steps=2)
    )
    layout = goldens.layout_of(terms, slots=64, regions=16)
    items = goldens.items(goldens.part(golden, "inputs/batch0/"), model)
    batch = goldens.batch_of([[item] for item in items], layout, "float32")
    poisoned = dict(batch, region_features=batch["region_features"] * np.nan)
    params = goldens.params(golden, model)
    adamw = optimizer.make(settings.optimizer)
    before = state.TrainState(jnp.asarray(0), params, adamw.init(params))
    network = state.make_model(settings, layout)
    step = jax.jit(train.make_step(settings, network, adamw, terms, total_steps=10))
    after, metrics = step(before, poisoned)
    assert not metrics["finite"]
    assert after.step == 1
    jax.tree.map(
        np.testing.assert_array_equal,
        (after.params, after.opt_state),
        (before.params, before.opt_state),
    )
    healthy, metrics = step(after, batch)
    assert metrics["finite"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(healthy.params))
