"""The update: learning rate, clipping, AdamW as the release has it (SPEC.md "Pre-training").

Read by the train step. Everything is an optax transformation; the learning rate of a step is
handed in, so that it depends on the step alone.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from vlbert_jax.config import Optimizer


class AdamState(NamedTuple):
    """Updates done so far, first and second moments."""

    count: jax.Array
    mu: optax.Params
    nu: optax.Params


def learning_rate(config: Optimizer, step: jax.Array, total_steps: int) -> jax.Array:
    """Rate of the update that follows `step` finished ones: linear up, then linear to exactly 0.

    Update k = step + 1 of N has peak x k / warmup while k < warmup, then
    peak x (N - k) / (N - warmup).
    """
    k = step + 1
    up = k / max(config.warmup_steps, 1)
    down = (total_steps - k) / max(total_steps - config.warmup_steps, 1)
    return config.peak_lr * jnp.maximum(jnp.where(k < config.warmup_steps, up, down), 0.0)


def clip(gradients: optax.Params, norm: jax.Array, most: float) -> optax.Params:
    """Gradients x min(1, most / (norm + 1e-6)), `norm` their global norm."""
    scale = jnp.minimum(1.0, most / (norm + 1e-6))
    return jax.tree.map(lambda g: g * scale, gradients)


def make(config: Optimizer) -> optax.GradientTransformationExtraArgs:
    """The release's AdamW; `update` takes the learning rate as keyword `rate`.

    m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2
    p <- p - rate sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)
    p <- p - rate decay p

    eps is added before the bias correction and the decay acts on the updated p, unlike in
    optax.adamw.
    """

    def init(params: optax.Params) -> AdamState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AdamState(jnp.zeros((), jnp.int32), zeros, jax.tree.map(jnp.zeros_like, params))

    def update(gradients, state, params, *, rate, **_):
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: config.b1 * m + (1 - config.b1) * g, state.mu, gradients)
        nu = jax.tree.map(lambda v, g: config.b2 * v + (1 - config.b2) * g * g, state.nu, gradients)
        t = count.astype(rate.dtype)
        # 1 - b^t by expm1: in float32, 1 - 0.999 would keep four digits only.
        correction1, correction2 = (-jnp.expm1(t * math.log(b)) for b in (config.b1, config.b2))
        adam_rate = rate * jnp.sqrt(correction2) / correction1
        decay = rate * config.weight_decay

        def step(p, m, v):
            adam = -adam_rate * m / (jnp.sqrt(v) + config.eps)
            return adam - decay * (p + adam)

        return jax.tree.map(step, params, mu, nu), AdamState(count, mu, nu)

    return optax.GradientTransformationExtraArgs(init, update)
