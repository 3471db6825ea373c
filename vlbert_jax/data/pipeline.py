"""Batches: a batch is a pure function of (prepared sets, config, seed, step).

Between the prepared sets and the training loop; host only. The plan says which records make the
rows, the task makes items of them, `rows.pack` lays them into this host's share of the global
batch. Grain runs that function over steps, in a thread or in worker processes, which start no
jax backend.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import grain
import numpy as np
from absl import flags, logging

from vlbert_jax.data import plan as plans
from vlbert_jax.data import rows
from vlbert_jax.data.sources import Sources
from vlbert_jax.options import ConfigError

BUFFERED = 2  # batches that wait in a thread, or in each worker process


class Task(Protocol):
    """What plan and pipeline ask of a task (a file of `tasks/`); it must be picklable.

    Attributes:
      sources: the sets that its records come from.
      slots: of a row.
    """

    sources: Sources
    slots: int

    def sizes(self, records: np.ndarray, turns: np.ndarray) -> np.ndarray:
        """[measures, n] of the records' items: slots, regions, and what `layout` wants to know."""

    def layout(self, loads: np.ndarray) -> rows.Layout:
        """The row, given [measures, rows] of an epoch in which only the slots bound a row."""

    def item(self, record: int, turn: int) -> rows.Item:
        """The item of a record in its pass `turn`; depends on nothing else."""


class Batches:
    """The batches of a run or of an evaluation, this host's rows of each.

    Attributes:
      layout: static shape of a row.
      plan: which records stand where.
      fingerprints: "directory:split" -> hash of its content.
    """

    def __init__(
        self,
        task: Task,
        line: Callable[[int], plans.Examples],
        rows_per_batch: int,
        open_rows: int,
        workers: int,
        host: int = 0,
        hosts: int = 1,
    ):
        """
        Args:
          task: makes the items.
          line: `plan.mixed(...)` for training, `plan.in_order(...)` for evaluation.
          rows_per_batch: of the global batch.
          open_rows: see `plan.Plan`.
          workers: processes that build batches; 0: a thread.
          host, hosts: this host has the host-th of `hosts` equal parts of each batch.

        Raises:
          ConfigError: the rows do not divide over the hosts.
        """
        if rows_per_batch % hosts:
            raise ConfigError(
                f"a global batch of {rows_per_batch} rows does not divide over {hosts} processes;"
                " change config.data.rows_per_batch (for evaluation config.eval.rows_per_batch)"
            )
        self._task, self._workers = task, workers
        self.fingerprints = task.sources.fingerprints
        draft = plans.Plan(line, task.sizes, task.slots, task.slots, rows_per_batch, open_rows)
        self.layout = task.layout(draft.epoch(0).loads)
        self.plan = plans.Plan(
            line, task.sizes, task.slots, self.layout.regions, rows_per_batch, open_rows
        )
        share = rows_per_batch // hosts
        self._first, self._last = host * share, (host + 1) * share

    def __getitem__(self, step: int) -> rows.Batch:
        """This host's rows of the batch of `step`, from 0."""
        batch = rows.empty(self.layout, self._last - self._first)
        left_out = 0
        for row, examples in enumerate(self.plan.rows(step, self._first, self._last)):
            pairs = zip(examples.record.tolist(), examples.turn.tolist(), strict=True)
            items = [self._task.item(record, turn) for record, turn in pairs]
            left_out += rows.pack(items, batch, row)
        if left_out:
            logging.warning(
                "batch %d: %d targets left out, their rows have more than the layout's places",
                step,
                left_out,
            )
        return batch

    def batches(self, start: int = 0, stop: int | None = None) -> Iterator[rows.Batch]:
        """Batches start..stop-1, built ahead of use; without `stop` to the end of an epoch.

        Raises:
          DataError: a record cannot be read; where workers read it, as in this process.
        """
        stop = self.plan.batches_in(0) if stop is None else stop
        self.plan.rows(start)  # counts the epochs before, so that no worker has to
        steps = grain.MapDataset.range(start, stop).map(self.__getitem__)
        if self._workers:
            if not flags.FLAGS.is_parsed():  # Grain asks for its own, outside of commands too
                flags.FLAGS.mark_as_parsed()
            dataset = steps.to_iter_dataset(grain.ReadOptions(0, 0)).mp_prefetch(
                grain.MultiprocessingOptions(self._workers, BUFFERED)
            )
        else:
            dataset = steps.to_iter_dataset(grain.ReadOptions(1, BUFFERED))
        iterator = iter(dataset)
        iterator.start_prefetch()
        return _closing(iterator)

    def steps_in(self, epochs: float) -> int:
        """Batches of that many passes over the first set."""
        return self.plan.steps_in(epochs)

    def records_of(self, step: int) -> list[str]:
        """Keys of the records in the global batch of update `step`, from 1 as in metrics.jsonl."""
        examples = self.plan.rows(step - 1)
        sources = self._task.sources
        return [sources[number].key for row in examples for number in row.record.tolist()]


def _closing(iterator: grain.DatasetIterator) -> Iterator[rows.Batch]:
    """Ends the workers when the caller is done."""
    try:
        yield from iterator
    finally:
        iterator.close()
