"""Training: the loop and the step, read top to bottom.

Called by main.py. The run folder is claimed, data and devices are opened and checked, the newest
checkpoint or a fresh state is put on the mesh, the step is compiled; then the loop feeds it.
Metrics of a step are fetched while the next one runs, so that the device never waits for the host.
"""

import dataclasses
import functools
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from vlbert_jax import checkpoint, evaluate, losses, run_folder, sharding, state
from vlbert_jax import config as config_lib
from vlbert_jax import optimizer as optimizers
from vlbert_jax.config import Config
from vlbert_jax.data import rows
from vlbert_jax.data.pipeline import Batches
from vlbert_jax.interval import Interval
from vlbert_jax.metrics import Metrics
from vlbert_jax.model.vlbert import VLBert
from vlbert_jax.state import TrainState
from vlbert_jax.tasks import task
from vlbert_jax.terms import Term

DONE, PREEMPTED, INTERRUPTED = 0, 75, 130  # exit codes

Batch = Mapping[str, jax.Array]
Step = Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]


def run(config: Config, workdir: str, allow_change: bool = False) -> int:
    """Trains until the last step, continuing what is in `workdir`; returns the exit code.

    Raises:
      ConfigError, DataError: before any training time is spent.
      RunError: a save failed, or too many updates in a row were not finite.
    """
    process, processes = jax.process_index(), jax.process_count()
    with run_folder.claim(workdir, config, allow_change, process) as changes:
        stop = _Stop()
        mesh = sharding.make_mesh(config.mesh)
        sharding.check_rows(mesh, config)
        data = task.open_training(config, process, processes)
        validation = task.open_validation(config, process, processes)
        total_steps = config.train.total_steps or data.steps_in(config.train.total_epochs)
        config_lib.check_warmup(config.optimizer.warmup_steps, total_steps)
        with checkpoint.Checkpointer(workdir, config.checkpoint.keep) as checkpointer:
            start = checkpointer.latest_step() or 0
            changes += run_folder.record_environment(
                workdir, config, data.fingerprints, start, allow_change, process
            )
            if process == 0:
                run_folder.record_config(workdir, config)
            log = Metrics(workdir, total_steps, start, process)
            for change in changes:
                log.say(f"changed: {change}")
            if start < total_steps:
                return _train(
                    config, workdir, mesh, data, validation, total_steps, checkpointer, log, stop
                )
            log.say(f"finished: {workdir} holds all {total_steps:,} steps")
            return DONE


def _train(
    config: Config,
    workdir: str,
    mesh: Mesh,
    data: Batches,
    validation: Batches | None,
    total_steps: int,
    checkpointer: checkpoint.Checkpointer,
    log: Metrics,
    stop: "_Stop",
) -> int:
    """Puts the state on the mesh, compiles the step and feeds it."""
    # The state: this run's newest checkpoint, another run's weights, or from scratch.
    terms = data.layout.terms
    model = state.make_model(config, data.layout)
    optimizer = optimizers.make(config.optimizer)
    init = functools.partial(state.init, model, data.layout, optimizer, config.seed)
    abstract = sharding.abstract_state(mesh, jax.eval_shape(init))
    start = checkpointer.latest_step() or 0
    if start:
        train_state, meta = checkpointer.restore(abstract)
    else:
        train_state, meta = jax.jit(init, out_shardings=sharding.of(abstract))(), {}
        if config.init_from:
            given, _ = checkpoint.restore_params(config.init_from)
            params, report = state.with_weights(train_state.params, given, config.init_from)
            train_state = train_state.replace(params=params)
            log.say(report)
    log.say(
        f"{state.count_params(train_state.params, config.model):,} parameters on"
        f" {sharding.describe(mesh)}; batch of {config.data.rows_per_batch} rows x"
        f" {data.layout.slots} slots; peak rate {config.optimizer.peak_lr:g}, warm-up"
        f" {config.optimizer.warmup_steps:,} of {total_steps:,} steps; from step {start:,}"
    )

    began = time.perf_counter()
    train_step = jax.jit(
        make_step(config, model, optimizer, terms, total_steps),
        donate_argnums=0,
        out_shardings=(sharding.of(abstract), None),
    )
    abstract_batch = sharding.abstract_batch(mesh, data.layout, config.data.rows_per_batch)
    train_step = train_step.lower(abstract, abstract_batch).compile()
    log.say(f"compiled the step in {time.perf_counter() - began:.1f} s")

    def evaluation(params: Any) -> dict[str, float] | None:
        if validation is None:
            return None
        return evaluate.evaluate(eval_step, params, validation.batches(), terms, mesh)

    eval_step = evaluate.make_step(model, terms)
    stop_after = config.train.stop_after_nonfinite
    interval = Interval(log, workdir, data.records_of, stop_after, meta.get("interval"))
    meta = {"config": dataclasses.asdict(config), "data": data.fingerprints}
    batches = data.batches(start, total_steps)
    try:
        return _loop(
            config, mesh, train_state, start, total_steps,
            batches, train_step, evaluation, interval, checkpointer, log, meta, stop,
        )  # fmt: skip
    finally:
        log.close()


def _loop(
    config: Config,
    mesh: Mesh,
    train_state: TrainState,
    step: int,
    total_steps: int,
    batches: Iterator[rows.Batch],
    train_step: Step,
    evaluation: Callable[[Any], dict[str, float] | None],
    interval: Interval,
    checkpointer: checkpoint.Checkpointer,
    log: Metrics,
    meta: dict[str, Any],
    stop: "_Stop",
) -> int:
    """Steps, lines, evaluations and checkpoints until the last step or a signal to stop."""
    while step < total_steps:
        began = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - began
        on_device = sharding.put_batch(mesh, state.device_fields(batch))
        with jax.transfer_guard("disallow"):
            train_state, metrics = train_step(train_state, on_device)
        step += 1
        interval.add(step, metrics, batch, waited)
        log.progress(step)
        checkpointer.raise_if_failed()

        last = step == total_steps
        stopping = not last and stop.reached(step)
        if last or step % config.train.log_every_steps == 0:
            interval.write(step)
        if not stopping and (last or _due(step, config.eval.every_steps)):
            interval.settle()
            if values := evaluation(train_state.params):
                log.write(step, "validation", values)
                value = values[config.checkpoint.best_metric]
                checkpointer.save_best(step, train_state, meta, value)
            interval.restart_clock()
        if last or stopping or _due(step, config.checkpoint.every_steps):
            interval.settle()
            checkpointer.save(step, train_state, {**meta, "interval": interval.sums})
            interval.restart_clock()
        if stopping:
            checkpointer.wait()
            log.say(f"stopped: step {step:,} is saved; the same command continues")
            return stop.exit_code
    checkpointer.wait()
    log.say(f"finished: {total_steps:,} steps")
    return DONE


class _Stop:
    """Notes SIGTERM and Ctrl-C, so that the loop can end the step, save and exit.

    A second Ctrl-C ends at once.
    """

    def __init__(self):
        self.exit_code = PREEMPTED
        self._noticed = False
        signal.signal(signal.SIGINT, self._note)
        if jax.process_count() == 1:  # else jax listens, and tells all processes the same step
            signal.signal(signal.SIGTERM, self._note)

    def _note(self, number: int, _) -> None:
        self._noticed = True
        if number == signal.SIGINT:
            self.exit_code = INTERRUPTED
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def reached(self, step: int) -> bool:
        """Is `step` the one to stop after; the same on all processes."""
        if jax.process_count() == 1:
            return self._noticed
        return multihost_utils.reached_preemption_sync_point(step)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def make_step(
    config: Config,
    model: VLBert,
    optimizer: optax.GradientTransformationExtraArgs,
    terms: Mapping[str, Term],
    total_steps: int,
) -> Step:
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
            "slots_filled": jnp.mean(batch["sequence"] > 0),
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
