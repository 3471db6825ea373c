"""The release's AdamW, rate and clipping against the original's own run."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import goldens
from vlbert_jax import config, optimizer


def hyper(golden: dict, run: str, warmup: str = "warmup_steps") -> config.Optimizer:
    values = {key: float(value) for key, value in goldens.part(golden, f"{run}hyper/").items()}
    return config.Optimizer(
        peak_lr=values["peak_lr"],
        warmup_steps=int(values[warmup]),
        weight_decay=values["weight_decay"],
        clip_norm=values["clip_norm"],
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("run", ["visible", "release"])
def test_adamw(run, dtype):
    """20 updates on given gradients: rates, norms and every parameter after every update."""
    golden = goldens.load("adamw")
    settings = hyper(golden, f"{run}/")
    expected = goldens.part(golden, f"{run}/outputs/")
    gradients = goldens.part(golden, "inputs/grads/")
    limit = goldens.STRICT if dtype == "float64" else 5e-6
    with goldens.precision(dtype):
        params = {
            name: jnp.asarray(value, dtype)
            for name, value in goldens.part(golden, "inputs/params/").items()
        }
        start = {name: np.asarray(value) for name, value in params.items()}
        adamw = optimizer.make(settings)
        state = adamw.init(params)
        for step in range(20):
            gradient = {
                name: jnp.asarray(gradients[name][step] if name in gradients else 0 * value, dtype)
                for name, value in params.items()
            }
            norm = optax.tree.norm(gradient)
            rate = optimizer.learning_rate(settings, jnp.asarray(step, f"int{dtype[5:]}"), 20)
            clipped = optimizer.clip(gradient, norm, settings.clip_norm)
            updates, state = adamw.update(clipped, state, params, rate=rate)
            params = optax.apply_updates(params, updates)
            assert abs(rate - expected["lr"][step]) <= limit * settings.peak_lr
            assert goldens.deviation(norm, expected["grad_norm"][step]) < limit
            for name, value in params.items():
                if name == "no_grad":  # the original leaves it alone; ours sees a gradient of 0
                    continue
                if dtype == "float32" and run == "release" and name == "zero_grad":
                    np.testing.assert_array_equal(value, start[name])  # too small a decay
                    continue
                assert goldens.deviation(value, expected[f"params/{name}"][step]) < limit, name


def test_rate_is_the_release_triangle():
    settings = config.Optimizer(peak_lr=1.0, warmup_steps=4)
    rates = [float(optimizer.learning_rate(settings, jnp.asarray(step), 10)) for step in range(10)]
    expected = [1 / 4, 2 / 4, 3 / 4, 6 / 6, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_small_gradients_tell_where_eps_goes():
    """optax.adamw puts eps behind the bias correction: the goldens must tell the two apart."""
    golden = goldens.load("adamw")
    settings = hyper(golden, "visible/")
    params = {"tiny_grads": jnp.asarray(golden["inputs/params/tiny_grads"])}
    usual = optax.adam(settings.peak_lr / settings.warmup_steps, eps=settings.eps)
    updates, _ = usual.update(
        {"tiny_grads": jnp.asarray(golden["inputs/grads/tiny_grads"][0])}, usual.init(params)
    )
    after = optax.apply_updates(params, updates)["tiny_grads"]
    assert goldens.deviation(after, golden["visible/outputs/params/tiny_grads"][0]) > 1e-4
