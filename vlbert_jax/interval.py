"""The numbers between two logged lines: means over all targets and steps since the last one.

Kept by the loop of train.py. The sums are saved with a checkpoint, so that a resumed run writes
the lines that the run without a stop would have written.
"""

import collections
import json
import pathlib
import time
from collections.abc import Callable, Mapping

import jax

from vlbert_jax.data import rows
from vlbert_jax.metrics import Metrics
from vlbert_jax.options import RunError

NOT_FINITE = "not_finite.jsonl"  # steps that were skipped, with the keys of their records


class Interval:
    """Collects metrics one step late, so that fetching them does not stop the device.

    Args:
      log: where lines go.
      workdir: the run folder.
      records_of: step -> keys of the records in its global batch.
      stop_after: updates in a row without a finite loss or gradient that end the run.
      sums: of the interval that a checkpoint was saved in, or None.
    """

    def __init__(
        self,
        log: Metrics,
        workdir: str,
        records_of: Callable[[int], list[str]],
        stop_after: int,
        sums: Mapping[str, float] | None = None,
    ):
        self._log = log
        self._skipped = pathlib.Path(workdir) / NOT_FINITE
        self._records_of = records_of
        self._stop_after = stop_after
        self._pending = None
        self._clock = time.perf_counter()
        self._timed = collections.Counter()  # times differ from run to run, and are not saved
        self.sums = collections.Counter(sums or {})

    def add(
        self, step: int, metrics: Mapping[str, jax.Array], batch: rows.Batch, waited: float
    ) -> None:
        """Takes the metrics of `step`, which still runs, and fetches those of the step before.

        Args:
          step: number of the update, from 1.
          metrics: device scalars.
          batch: this host's rows.
          waited: seconds that the loop waited for the batch.

        Raises:
          RunError: too many updates in a row were not finite.
        """
        self.settle()
        self._pending = step, metrics
        self._tick()
        self._timed["waited"] += waited
        self._timed["steps"] += 1
        self._timed["examples"] += int((batch[rows.ITEM_ID] >= 0).sum()) * jax.process_count()

    def settle(self) -> None:
        """Waits for the step that was added last, and adds its metrics up.

        Raises:
          RunError: too many updates in a row were not finite.
        """
        if self._pending is None:
            return
        step, metrics = self._pending
        self._pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        self._tick()
        if not values.pop("finite"):
            self._skip(step, values)
            return
        self.sums["skipped_in_a_row"] = 0
        self.sums["finite"] += 1
        for name, value in values.items():
            kind, slash, term = name.partition("/")
            is_mean = slash and kind in _MEANS
            self.sums[name] += value * values[f"count/{term}"] if is_mean else value
        self.sums["learning_rate"] = values["learning_rate"]

    def write(self, step: int) -> None:
        """The line of `step`; the next interval begins."""
        self.settle()
        finite = max(self.sums["finite"], 1)
        values = {"loss": self.sums["loss"] / finite}
        terms = [name.removeprefix("count/") for name in self.sums if name.startswith("count/")]
        for kind in _MEANS:
            for term in terms:
                count = max(self.sums[f"count/{term}"], 1)
                values[f"{kind}/{term}"] = self.sums[f"{kind}/{term}"] / count
        values |= {f"count/{term}": self.sums[f"count/{term}"] for term in terms}
        seconds = max(self._timed["seconds"], 1e-9)
        values |= {
            "learning_rate": self.sums["learning_rate"],
            "grad_norm": self.sums["grad_norm"] / finite,
            "skipped": self.sums["skipped"],
            "slots_filled": self.sums["slots_filled"] / finite,
            "examples_per_second": self._timed["examples"] / seconds,
            "seconds_per_step": seconds / max(self._timed["steps"], 1),
            "data_wait": self._timed["waited"] / seconds,
        }
        self._log.write(step, "train", values)
        in_a_row = self.sums["skipped_in_a_row"]
        self.sums = collections.Counter({"skipped_in_a_row": in_a_row})
        self._timed.clear()

    def restart_clock(self) -> None:
        """Leaves the time since the last step (evaluation, a save) out of the rates."""
        self._clock = time.perf_counter()

    def _tick(self) -> None:
        now = time.perf_counter()
        self._timed["seconds"] += now - self._clock
        self._clock = now

    def _skip(self, step: int, values: Mapping[str, float]) -> None:
        self.sums["skipped"] += 1
        self.sums["skipped_in_a_row"] += 1
        records = self._records_of(step)
        what = f"step {step:,}: loss {values['loss']}, gradient norm {values['grad_norm']}"
        with self._skipped.open("a") as file:
            file.write(json.dumps({"step": step, "records": records}) + "\n")
        self._log.say(
            f"{what}: not finite, update skipped; records {', '.join(records[:4])}, ..."
            f" ({len(records)} in {NOT_FINITE})"
        )
        if self.sums["skipped_in_a_row"] >= self._stop_after:
            raise RunError(
                f"{what}; {self._stop_after} updates in a row were skipped"
                " (config.train.stop_after_nonfinite). The newest checkpoint is from before them:"
                f" look at the records in {self._skipped}, or lower config.optimizer.peak_lr"
            )


_MEANS = ("loss", "accuracy")  # kinds that are means over a term's targets
