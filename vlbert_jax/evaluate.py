"""Evaluation: the terms' losses and accuracies over a set, each record exactly once.

A command, and the function that the training loop calls:

  python -m vlbert_jax.evaluate --workdir=runs/base [--checkpoint=runs/base/best] [--output=DIR]
"""

import argparse
import collections
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from absl.flags import argparse_flags
from jax.sharding import Mesh

from vlbert_jax import checkpoint, losses, run_folder, sharding, state
from vlbert_jax.data import rows
from vlbert_jax.model.vlbert import VLBert
from vlbert_jax.options import ConfigError, DataError
from vlbert_jax.tasks import task
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
    step: EvalStep,
    params: Any,
    batches: Iterable[rows.Batch],
    terms: Mapping[str, Term],
    mesh: Mesh,
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
        sums = jax.device_get(step(params, sharding.put_batch(mesh, state.device_fields(batch))))
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


def evaluate_run(workdir: str, where: str = "") -> dict[str, float]:
    """Metrics of a run's parameters on its validation sets.

    Args:
      workdir: the run folder.
      where: a run folder, its checkpoints/ or best/, or one checkpoint; empty: the newest of
        `workdir`.

    Raises:
      ConfigError, DataError: no run, checkpoint or validation set there.
    """
    config = run_folder.read_config(workdir)
    data = task.open_validation(config)
    if data is None:
        raise ConfigError(f"{workdir}: its config.data.validation is empty, nothing to evaluate on")
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_rows(mesh, config)
    model = state.make_model(config, data.layout)
    shapes = jax.eval_shape(lambda: state.init_params(model, data.layout, config.seed))
    abstract = sharding.abstract_state(mesh, shapes)
    params, meta = checkpoint.restore_params(where or workdir, abstract)
    terms = data.layout.terms
    values = evaluate(make_step(model, terms), params, data.batches(), terms, mesh)
    return {"step": meta["step"], **values}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Flags of the command line."""
    parser = argparse_flags.ArgumentParser(
        prog="python -m vlbert_jax.evaluate",
        description="Evaluates a run on its validation sets, each record exactly once.",
    )
    parser.add_argument("--workdir", required=True, metavar="DIR", help="the run folder")
    parser.add_argument(
        "--checkpoint", default="", metavar="DIR", help="such as DIR/best; default: the newest"
    )
    parser.add_argument("--output", metavar="DIR", help="folder for metrics.json")
    arguments = parser.parse_args(argv[1:])
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = logging.ERROR  # libraries chat at INFO, absl's default
    return arguments


def main(arguments: argparse.Namespace) -> int:
    """Prints the metrics, and writes them where asked for; returns the exit code."""
    try:
        values = evaluate_run(arguments.workdir, arguments.checkpoint)
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for name, value in values.items():
        print(f"{name:24} {value:12.6g}")
    if arguments.output:
        folder = pathlib.Path(arguments.output)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(values, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
