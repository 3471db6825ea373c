"""Which records make which row of which step: a pure function of lengths, config and seed.

Between the prepared sets and `pipeline.py`. The examples of an epoch stand in a line (shuffled
and mixed over the sets, or as they come for evaluation); the line is laid into rows, rows into
batches. Nothing is stored: any process that asks for step 1,234 works out the same records.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

from vlbert_jax.data import randomness

STRETCH = 4096  # examples that are laid into rows one after the other, beside other stretches


class Examples(NamedTuple):
    """Records with the pass over their own set: [n] int64 each."""

    record: np.ndarray
    turn: np.ndarray


class Epoch(NamedTuple):
    """An epoch laid into rows.

    Attributes:
      examples: in the order of the rows.
      first: [rows + 1] int64, where the examples of each row begin, and the end.
      loads: [measures, rows] int64, sizes of each row: slots, regions, and what else the task
        measures.
    """

    examples: Examples
    first: np.ndarray
    loads: np.ndarray


class Plan:
    """Rows of every step; epochs are planned when they are asked for, the last one is kept."""

    def __init__(
        self,
        line: Callable[[int], Examples],
        sizes: Callable[[np.ndarray, np.ndarray], np.ndarray],
        slots: int,
        regions: int,
        rows_per_batch: int,
        open_rows: int,
    ):
        """
        Args:
          line: epoch -> its examples in order (`mixed` or `in_order`).
          sizes: (records [n], turns [n]) -> [measures, n] integers: slots, regions, ...
          slots, regions: what a row can hold.
          rows_per_batch: of the global batch.
          open_rows: rows that can still be added to while packing; 0: one example a row.
        """
        self._line, self._sizes = line, sizes
        self._capacity = slots, regions
        self.rows_per_batch, self._open_rows = rows_per_batch, open_rows
        self._batches: dict[int, int] = {}  # epoch -> batches in it
        self._latest: tuple[int, Epoch] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_latest": None}  # a worker plans for itself

    def epoch(self, number: int) -> Epoch:
        """Epoch `number`, from 0."""
        latest = self._latest
        if latest is None or latest[0] != number:
            latest = number, self._plan(number)
            self._latest = latest
        return latest[1]

    def batches_in(self, epoch: int) -> int:
        """Batches of an epoch; the last one may have empty rows."""
        if epoch not in self._batches:
            rows = len(self.epoch(epoch).first) - 1
            self._batches[epoch] = -(-rows // self.rows_per_batch)
        return self._batches[epoch]

    def steps_in(self, epochs: float) -> int:
        """Batches of the first `epochs` epochs, rounded down."""
        whole = int(epochs)
        steps = sum(self.batches_in(epoch) for epoch in range(whole))
        if epochs > whole:
            steps += int((epochs - whole) * self.batches_in(whole))
        return steps

    def rows(self, step: int, first: int = 0, last: int | None = None) -> list[Examples]:
        """Examples of rows first..last-1 (all by default) of the batch of `step`, from 0.

        Fewer where the epoch ends before: the rest of the batch stays empty.
        """
        epoch = 0
        while step >= self.batches_in(epoch):
            step -= self.batches_in(epoch)
            epoch += 1
        laid = self.epoch(epoch)
        last = self.rows_per_batch if last is None else last
        begin = step * self.rows_per_batch
        edges = laid.first[begin + first : begin + last + 1].tolist()
        return [
            Examples(laid.examples.record[a:b], laid.examples.turn[a:b])
            for a, b in itertools.pairwise(edges)
        ]

    def fill(self, epoch: int = 0) -> tuple[float, float]:
        """Shares of the rows' slots and regions that an epoch fills."""
        slots, regions = self.epoch(epoch).loads[:2].mean(axis=1)
        return float(slots / self._capacity[0]), float(regions / self._capacity[1])

    def _plan(self, number: int) -> Epoch:
        examples = self._line(number)
        sizes = np.asarray(self._sizes(*examples), np.int32)
        if self._open_rows:
            row, rows = lay(sizes[:2], self._capacity, self._open_rows)
        else:
            row, rows = np.arange(sizes.shape[1]), sizes.shape[1]
        order = np.argsort(row, kind="stable")
        first = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))])
        loads = np.add.reduceat(sizes[:, order], first[:-1], axis=1, dtype=np.int64)
        return Epoch(Examples(examples.record[order], examples.turn[order]), first, loads)


def mixed(lengths: Sequence[int], weights: Sequence[float], seed: int) -> Callable[[int], Examples]:
    """Training: epoch -> one pass over the first set, the other sets mixed in by weight.

    Every set is shuffled anew at each of its own passes. The others run on over the epochs of
    the first. The mixture is even: with equal weights of two sets their examples alternate.

    Args:
      lengths: records of each set.
      weights: share of each set among the examples, relative to the others.
    """
    return functools.partial(_mixed, tuple(lengths), tuple(weights), seed)


def in_order(records: int) -> Callable[[int], Examples]:
    """Evaluation: every record once, in order, whatever the epoch."""
    return functools.partial(_in_order, records)


def lay(sizes: np.ndarray, capacity: Sequence[int], open_rows: int) -> tuple[np.ndarray, int]:
    """Lays a line of examples into rows.

    Each example goes into the fullest of the open rows that can take it (best fit). Where none
    can, the fullest of them is closed and an empty one opened. The line is cut into stretches
    that are laid side by side, so that NumPy does most of the loop: 200,000 examples take about
    0.1 s, and each stretch costs half a row.

    Args:
      sizes: [measures, n] of each example, the first measure at least 1; none exceeds a row.
      capacity: [measures] of a row.
      open_rows: at least 1.

    Returns:
      [n] int64 row of each example, number of rows.
    """
    measures, examples = sizes.shape
    stretches = -(-examples // STRETCH)
    length = -(-examples // stretches)
    line = np.zeros((measures, stretches * length), np.int32)  # the last stretch ends in zeros
    line[:, :examples] = sizes
    line = np.ascontiguousarray(line.reshape(measures, stretches, length).transpose(2, 0, 1))
    capacity = np.asarray(capacity, np.int32)[:, None]
    room = np.zeros((measures, stretches, open_rows), np.int32)
    number = np.zeros((stretches, open_rows), np.int64)  # of the row, within its stretch
    opened = np.zeros(stretches, np.int64)
    row = np.empty((length, stretches), np.int64)
    every = np.arange(stretches)
    for i, size in enumerate(line):  # [measures, stretches]
        fits = (room >= size[..., None]).all(axis=0)
        place = np.where(fits, room[0], np.iinfo(np.int32).max).argmin(axis=1)
        new = np.flatnonzero(~fits[every, place])
        if len(new):
            place[new] = closed = room[0, new].argmin(axis=1)
            room[:, new, closed] = capacity
            number[new, closed] = opened[new]
            opened[new] += 1
        room[:, every, place] -= size
        row[i] = number[every, place]
    row += np.cumsum(opened) - opened
    return row.T.reshape(-1)[:examples], int(opened.sum())


def _mixed(lengths: tuple[int, ...], weights: tuple[float, ...], seed: int, epoch: int) -> Examples:
    records, turns, times = [], [], []
    first_record = 0
    for source, (length, weight) in enumerate(zip(lengths, weights, strict=True)):
        # Time counts examples of the first set; those of the others come at a regular rate.
        rate = Fraction(weight) / Fraction(weights[0])
        begin, end = (math.ceil(e * lengths[0] * rate) for e in (epoch, epoch + 1))
        place = np.arange(begin, end)
        turn = place // length
        record = randomness.shuffled(place % length, length, seed, turn, source, randomness.ORDER)
        records.append(first_record + record)
        turns.append(turn)
        times.append(place / float(rate))
        first_record += length
    order = np.argsort(np.concatenate(times), kind="stable")
    return Examples(np.concatenate(records)[order], np.concatenate(turns)[order])


def _in_order(records: int, epoch: int) -> Examples:
    return Examples(np.arange(records), np.zeros(records, np.int64))
