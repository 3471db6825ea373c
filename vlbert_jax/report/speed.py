"""How much packing is worth here: examples/s of the training step, packed and one example a row.

Called by `report/demo.py`; reads a run's config and its prepared sets, trains nothing that stays.
"""

import dataclasses
import statistics
import time
from typing import NamedTuple

import jax
import numpy as np

from vlbert_jax import config as config_lib
from vlbert_jax import optimizer as optimizers
from vlbert_jax import sharding, state, train
from vlbert_jax.config import Config
from vlbert_jax.data import rows
from vlbert_jax.tasks import task


class Speed(NamedTuple):
    """Of one layout: rows x slots of a batch, share of slots filled, examples, seconds a step."""

    rows: int
    slots: int
    filled: float
    examples: float
    seconds: float

    @property
    def examples_per_second(self) -> float:
        return self.examples / self.seconds


def packed_and_unpacked(config: Config, steps: int = 12) -> tuple[Speed, Speed]:
    """Median step times of a run's config as it is, and with one example a row.

    Both have about as many examples a batch. The two take turns step by step, so that a machine
    whose speed drifts is fair to both.
    """
    packed = _Stepper(config)
    examples = max(1, round(packed.examples))
    unpacked = _Stepper(
        dataclasses.replace(
            config,
            data=dataclasses.replace(
                config.data,
                packing=False,
                rows_per_batch=config_lib.nearest_multiple(
                    examples, jax.device_count() * config.train.accumulation
                ),
            ),
        )
    )
    for _ in range(steps):
        packed.step()
        unpacked.step()
    return packed.speed(), unpacked.speed()


class _Stepper:
    """The compiled step of one layout, on the same batch again and again."""

    def __init__(self, config: Config):
        data = task.open_training(config)
        mesh = sharding.make_mesh(config.mesh)
        model = state.make_model(config, data.layout)
        optimizer = optimizers.make(config.optimizer)
        shapes = jax.eval_shape(lambda: state.init(model, data.layout, optimizer, config.seed))
        shardings = sharding.of(sharding.abstract_state(mesh, shapes))
        self._state = jax.jit(
            lambda: state.init(model, data.layout, optimizer, config.seed), out_shardings=shardings
        )()
        step = train.make_step(config, model, optimizer, data.layout.terms, total_steps=2**30)
        self._step = jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))
        batch = data[0]
        self.examples = int((batch[rows.ITEM_ID] >= 0).sum())
        self._filled = float(np.mean(batch["sequence"] > 0))
        self._shape = batch["tokens"].shape
        self._batch = sharding.put_batch(mesh, state.device_fields(batch))
        self._times = []
        self.step()  # compiles
        self._times.clear()

    def step(self) -> None:
        began = time.perf_counter()
        self._state, metrics = self._step(self._state, self._batch)
        jax.block_until_ready(metrics)
        self._times.append(time.perf_counter() - began)

    def speed(self) -> Speed:
        seconds = statistics.median(self._times)
        return Speed(*self._shape, self._filled, self.examples, seconds)


def describe(packed: Speed, unpacked: Speed) -> str:
    """Both as lines of a table, and how they compare."""
    lines = [f"{'The training step:':24}  {'rows x slots':>14}  {'filled':>8}  {'examples/s':>10}"]
    for name, speed in (("one example a row", unpacked), ("packed rows", packed)):
        shape = f"{speed.rows} x {speed.slots}"
        rate = speed.examples_per_second
        lines.append(f"  {name:22}  {shape:>14}  {100 * speed.filled:6.1f} %  {rate:10,.0f}")
    gain = packed.examples_per_second / unpacked.examples_per_second
    lines.append(f"Packing makes it {gain:.2f} times as fast.")
    return "\n".join(lines)
