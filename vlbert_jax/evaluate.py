"""Evaluation: the terms' losses and accuracies over a set, each record exactly once.

A command, and the function that the training loop calls:

  python -m vlbert_jax.evaluate --workdir=runs/base [--checkpoint=runs/base/best] --output=DIR
"""

import collections
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from absl import app, flags
from jax.sharding import Mesh

from vlbert_jax import losses, sharding
from vlbert_jax.data import rows
from vlbert_jax.model.vlbert import VLBert
from vlbert_jax.state import device_fields
from vlbert_jax.terms import Term

EvalStep = Callable[[Any, Mapping[str, jax.Array]], dict[str, losses.TermSums]]


def make_step(model: VLBert, terms: Mapping[str, Term]) -> EvalStep:
    """(params, global batch) -> sums of every term, jitted; dropout off."""

    @jax.jit
    def step(params, batch):
        logits = model.apply({"params": params}, batch, train=False)
        return losses.term_sums(terms, logits, batch)

    return step


def evaluate(
    step: EvalStep, params: Any, batches: Iterable[rows.Batch], terms: Mapping[str, Term], mesh: Mesh
) -> dict[str, float]:
    """Means over all targets of `batches`; empty rows and slots count for nothing.

    Args:
      step: of `make_step`.
      params: on the mesh.
      batches: this host's rows of every global batch.
      terms: the task's terms.
      mesh: where the batches go.

    Returns:
      loss (weighted sum of the terms' means), loss/<term>, accuracy/<term>, count/<term>.
    """
    totals = collections.defaultdict(lambda: np.zeros(3))  # loss, correct, count in float64
    for batch in batches:
        sums = jax.device_get(step(params, sharding.put_batch(mesh, device_fields(batch))))
        for name, term in sums.items():
            totals[name] += np.array(term, np.float64)
    return means(totals, terms)


def means(totals: Mapping[str, np.ndarray], terms: Mapping[str, Term]) -> dict[str, float]:
    """Sums (loss, correct, count) of each term -> the metrics of a line."""
    metrics = {"loss": 0.0}
    for name, (loss, correct, count) in totals.items():
        divisor = max(count, 1)
        metrics["loss"] += terms[name].weight * loss / divisor
        metrics[f"loss/{name}"] = loss / divisor
        metrics[f"accuracy/{name}"] = correct / divisor
        metrics[f"count/{name}"] = count
    return metrics
