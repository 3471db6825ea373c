"""The losses: each term a sum over its targets, divided by their number in the global batch.

Between model and train step. Terms keep sums and counts apart until the end, so that devices and
micro-batches with few targets do not weigh more than others (SPEC.md "Pre-training" and the last
column of its oddities).
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vlbert_jax.terms import Term


class TermSums(NamedTuple):
    """Sums over the targets of one term, float32 scalars: loss, right answers, weights."""

    loss: jax.Array
    correct: jax.Array
    count: jax.Array


def term_sums(
    terms: Mapping[str, Term], logits: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]
) -> dict[str, TermSums]:
    """Cross entropy and right answers of every term, summed over the targets of the batch.

    Args:
      terms: the task's terms.
      logits: term -> [B, K, C] float32.
      batch: `<term>_label` [B, K] or `<term>_target` [B, K, C] (not renormalised), and
        `<term>_weight` [B, K], 0 where there is no target.
    """
    sums = {}
    for name, term in terms.items():
        weight = batch[f"{name}_weight"]
        log_probability = jax.nn.log_softmax(logits[name], axis=-1)
        if term.loss == "distribution":
            target = batch[f"{name}_target"].astype(log_probability.dtype)
            loss = -jnp.sum(target * log_probability, axis=-1)
            label = jnp.argmax(target, axis=-1)
        else:
            label = batch[f"{name}_label"]
            loss = -jnp.take_along_axis(log_probability, label[..., None], axis=-1)[..., 0]
        correct = jnp.argmax(logits[name], axis=-1) == label
        sums[name] = TermSums(
            loss=jnp.sum(loss * weight),
            correct=jnp.sum(correct * weight),
            count=jnp.sum(weight),
        )
    return sums


def total(
    terms: Mapping[str, Term], sums: Mapping[str, TermSums], counts: Mapping[str, jax.Array]
) -> jax.Array:
    """Sum over the terms of weight x loss / count; a term without a target gives 0.

    Args:
      terms: the task's terms.
      sums: of the whole batch, or of one micro-batch of it.
      counts: term -> number of targets (sum of weights) of the whole global batch.
    """
    return sum(term.weight * mean(sums[name].loss, counts[name]) for name, term in terms.items())


def mean(value: jax.Array, count: jax.Array) -> jax.Array:
    """value / count, 0 where the count is 0."""
    return jnp.where(count > 0, value / jnp.where(count > 0, count, 1), 0)
