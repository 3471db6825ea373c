"""The step."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from vlbert_jax import losses
from vlbert_jax import optimizer as optimizers
from vlbert_jax.config import Config
from vlbert_jax.model.vlbert import VLBert
from vlbert_jax.state import TrainState
from vlbert_jax.terms import Term

Batch = Mapping[str, jax.Array]


def make_step(
    config: Config,
    model: VLBert,
    optimizer: optax.GradientTransformationExtraArgs,
    terms: Mapping[str, Term],
    total_steps: int,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """One update: (state, global batch) -> (state, metrics), to be jitted.

    Targets are counted over the whole global batch first; then each micro-batch adds its share of
    loss and gradient, so accumulation changes memory and nothing else. Where loss or gradient is
    not finite, parameters and optimizer state stay as they are; the step counts all the same.
    """
    micro_batches = config.train.accumulation

    def loss_fn(params, batch, counts, rng):
        logits = model.apply({"params": params}, batch, train=True, rngs={"dropout": rng})
        sums = losses.term_sums(terms, logits, batch)
        return losses.total(terms, sums, counts), sums

    def gradients(params: Any, batch: Batch, rng: jax.Array):
        counts = {name: jnp.sum(batch[f"{name}_weight"]) for name in terms}
        of_batch = jax.value_and_grad(loss_fn, has_aux=True)
        if micro_batches == 1:
            (loss, sums), gradient = of_batch(params, batch, counts, rng)
            return loss, sums, gradient

        def add(total, part):
            number, micro_batch = part
            key = jax.random.fold_in(rng, number)
            (loss, sums), gradient = of_batch(params, micro_batch, counts, key)
            return jax.tree.map(jnp.add, total, (loss, sums, gradient)), None

        # Every micro-batch takes each n-th row, so that all devices have their share of it.
        parts = jax.tree.map(
            lambda x: jnp.moveaxis(x.reshape(-1, micro_batches, *x.shape[1:]), 1, 0), batch
        )
        shapes = jax.eval_shape(of_batch, params, jax.tree.map(lambda x: x[0], parts), counts, rng)
        (loss, sums), gradient = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        numbers = jnp.arange(micro_batches)
        return jax.lax.scan(add, (loss, sums, gradient), (numbers, parts))[0]

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        rng = jax.random.fold_in(jax.random.key(config.seed), state.step)
        loss, sums, gradient = gradients(state.params, batch, rng)
        norm = optax.tree.norm(gradient)
        rate = optimizers.learning_rate(config.optimizer, state.step, total_steps)
        clipped = optimizers.clip(gradient, norm, config.optimizer.clip_norm)
        updates, opt_state = optimizer.update(clipped, state.opt_state, state.params, rate=rate)
        params = optax.apply_updates(state.params, updates)

        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old),
            (params, opt_state),
            (state.params, state.opt_state),
        )
        metrics = {
            "loss": loss,
            **term_metrics(sums),
            "learning_rate": rate,
            "grad_norm": norm,
            "finite": finite,
        }
        return TrainState(state.step + 1, params, opt_state), metrics

    return step


def term_metrics(sums: Mapping[str, losses.TermSums]) -> dict[str, jax.Array]:
    """loss/<term>, accuracy/<term> (means) and count/<term> of sums over a batch."""
    metrics = {}
    for name, term in sums.items():
        metrics[f"loss/{name}"] = losses.mean(term.loss, term.count)
        metrics[f"accuracy/{name}"] = losses.mean(term.correct, term.count)
        metrics[f"count/{name}"] = term.count
    return metrics
