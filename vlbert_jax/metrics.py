"""What a run says: metrics.jsonl for machines, train.log and the terminal for people, TensorBoard.

Written by the loop of train.py, one call a logged step. A line of metrics.jsonl is one JSON
object: step, split ("train" or an eval's name) and numbers. A number that is not finite is null
there, and `not_finite` names it: {"loss": null, "not_finite": {"loss": "nan"}}.
"""

import json
import math
import os
import pathlib
import shutil
import sys
import time
from collections.abc import Mapping
from typing import TextIO

import numpy as np
import tensorboardX

METRICS, LOG, TENSORBOARD = "metrics.jsonl", "train.log", "tensorboard"
_HEADER_EVERY = 25  # lines of the table


class Metrics:
    """Writes the numbers of one run; only process 0 writes anything.

    Args:
      workdir: the run folder, which exists.
      total_steps: updates of the whole run.
      start_step: updates done before this start. What a killed run wrote about later steps is
        dropped, so that every step stands in metrics.jsonl once.
      process: number of this process.
    """

    def __init__(
        self,
        workdir: str | pathlib.Path,
        total_steps: int,
        start_step: int = 0,
        process: int = 0,
        out: TextIO | None = None,
        err: TextIO | None = None,
    ):
        self._total_steps = total_steps
        self._active = process == 0
        if not self._active:
            return
        workdir = pathlib.Path(workdir)
        self._tensorboard = workdir / TENSORBOARD
        self._start_step = start_step
        self._boards: dict[str, tensorboardX.SummaryWriter] = {}
        _drop_later_steps(workdir / METRICS, start_step)
        self._jsonl = (workdir / METRICS).open("a")
        self._log = (workdir / LOG).open("a")
        self._table = _Table(total_steps)
        self._out = sys.stdout if out is None else out
        err = sys.stderr if err is None else err
        self._bar = _Bar(total_steps, start_step, err) if err.isatty() else None

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """One line of numbers about `step`, everywhere.

        Args:
          split: "train", or the name of an eval.
          values: as in metrics.jsonl; Python or NumPy scalars, already on the host.
        """
        if not self._active:
            return
        values = {name: _number(value) for name, value in values.items()}
        self._jsonl.write(json_line(step, split, values) + "\n")
        self._jsonl.flush()
        if split not in self._boards:
            self._boards[split] = tensorboardX.SummaryWriter(
                str(self._tensorboard / split), purge_step=self._start_step + 1
            )
        for name, value in values.items():
            self._boards[split].add_scalar(name, value, step)
        self._boards[split].flush()
        for line in self._table.lines(step, split, values):
            self.say(line)

    def say(self, text: str) -> None:
        """A line for people: train.log and the terminal."""
        if not self._active:
            return
        self._log.write(text + "\n")
        self._log.flush()
        if self._bar:
            self._bar.hide()
        print(text, file=self._out, flush=True)
        if self._bar:
            self._bar.show()

    def progress(self, step: int) -> None:
        """`step` updates are done; moves the bar, where there is a terminal."""
        if self._active and self._bar:
            self._bar.move(step)

    def close(self) -> None:
        """Writes what is left and removes the bar."""
        if not self._active:
            return
        if self._bar:
            self._bar.hide()
        for board in self._boards.values():
            board.close()
        self._jsonl.close()
        self._log.close()


def json_line(step: int, split: str, values: Mapping[str, float]) -> str:
    """The line of metrics.jsonl; valid JSON whatever the numbers are."""
    not_finite = {name: str(value) for name, value in values.items() if not math.isfinite(value)}
    line = {"step": step, "split": split, **values, **dict.fromkeys(not_finite)}
    if not_finite:
        line["not_finite"] = not_finite
    return json.dumps(line, allow_nan=False)


def duration(seconds: float) -> str:
    """75 -> "1m15s", 4000 -> "1h07m", 200000 -> "2d08h"."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86400:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"
    return f"{seconds // 86400}d{seconds % 86400 // 3600:02}h"


def _number(value: float) -> float | int:
    """A Python number; a float32 as the shortest decimal that means the same float32."""
    if isinstance(value, np.ndarray) and value.shape == ():
        value = value[()]
    if isinstance(value, np.float32):
        return float(str(value))
    return int(value) if isinstance(value, int | np.integer) else float(value)


def _drop_later_steps(path: pathlib.Path, start_step: int) -> None:
    """Removes lines about steps after `start_step`, and a last line that was cut short."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text().splitlines(keepends=True):
        if line.endswith("\n") and json.loads(line)["step"] <= start_step:
            kept.append(line)
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text("".join(kept))
    os.replace(temporary, path)


class _Table:
    """Lines that a person likes to read: columns under a header that comes again now and then."""

    def __init__(self, total_steps: int):
        self._total = total_steps
        self._steps = len(f"{total_steps:,}") * 2 + 1
        self._header = ""
        self._lines = 0

    def lines(self, step: int, split: str, values: Mapping[str, float]) -> list[str]:
        """The line of `values`, after a header where one is due."""
        terms = [name.removeprefix("loss/") for name in values if name.startswith("loss/")]
        columns = [
            (f"{step:,}/{self._total:,}", "step", self._steps),
            (split, "split", 10),
            (_loss(values.get("loss")), "loss", 6),
        ]
        for term in terms:
            both = f"{_loss(values[f'loss/{term}'])} {_percent(values.get(f'accuracy/{term}')):>6}"
            has_targets = values.get(f"count/{term}") != 0
            columns.append((both if has_targets else "-", term, 13))
        rate = values.get("learning_rate")
        speed = values.get("examples_per_second")
        left = values.get("seconds_per_step", math.nan) * (self._total - step)
        columns += [
            ("" if rate is None else f"{rate:.2e}", "rate", 8),
            ("" if speed is None else f"{speed:,.0f}", "ex/s", 6),
            (_percent(values.get("slots_filled")), "fill", 6),
            (_percent(values.get("data_wait")), "wait", 6),
            (duration(left) if math.isfinite(left) else "", "left", 6),
        ]
        line = "  ".join(f"{text:>{width}}" for text, _, width in columns).rstrip()
        header = "  ".join(f"{name:>{width}}" for _, name, width in columns)
        self._lines += 1
        if header == self._header and self._lines % _HEADER_EVERY:
            return [line]
        self._header, self._lines = header, 0
        return [header, line]


class _Bar:
    """One line at the bottom of a terminal that is drawn over itself."""

    _REDRAW = 0.2  # seconds between two drawings

    def __init__(self, total_steps: int, step: int, stream: TextIO):
        self._total = total_steps
        self._step = step
        self._stream = stream
        self._drawn = 0.0
        self._first: tuple[int, float] | None = None  # step and time from which the rate counts

    def move(self, step: int) -> None:
        if self._first is None:  # the first step compiles, and does not count
            self._first = step, time.monotonic()
        self._step = step
        if time.monotonic() - self._drawn > self._REDRAW:
            self.show()

    def show(self) -> None:
        self._drawn = time.monotonic()
        share = self._step / max(self._total, 1)
        text = f" {self._step:,}/{self._total:,} {share:4.0%}"
        if self._first is not None and self._step > self._first[0]:
            seconds = (time.monotonic() - self._first[1]) / (self._step - self._first[0])
            rate = f"{1 / seconds:.1f} steps/s" if seconds < 1 else f"{seconds:.1f} s/step"
            text += f"  {rate}  {duration(seconds * (self._total - self._step))} left"
        room = min(40, shutil.get_terminal_size().columns - len(text) - 4)
        full = round(room * min(share, 1.0))
        bar = f"[{'=' * full}{' ' * (room - full)}]" if room >= 10 else ""
        self._stream.write(f"\r\x1b[2K{bar}{text}")
        self._stream.flush()

    def hide(self) -> None:
        self._stream.write("\r\x1b[2K")
        self._stream.flush()


def _loss(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}" if abs(value) >= 100 else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
