"""A tiny run: two prepared sets, a config file and the command, for tests of the whole trainer."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np

from vlbert_jax.prepare import raw, writer

WIDTH, CLASSES = 16, 6
WORDS = [
    "a",
    "red",
    "cup",
    "left",
    "of",
    "the",
    "big",
    "blue",
    "ball",
    "on",
    "some",
    "green",
    "grass",
    "with",
    "two",
    "small",
    "dogs",
]

CONFIG = """
from vlbert_jax import config


def get_config(argument=""):
    c = config.default()
    c.model.update(layers=2, hidden=32, heads=4, mlp=64, region_width={width},
                   region_classes={classes}, visual_scale_init=0.5)
    c.data.update(train=(({captions!r}, 1.0), ({text!r}, 1.0)),
                  validation=(({captions!r}, 1.0), ({text!r}, 1.0)),
                  rows_per_batch=8, row_slots=128, text_slots=32, open_rows=8)
    c.optimizer.update(peak_lr=1e-3, warmup_steps=2)
    c.train.update(total_steps=12, log_every_steps=1)
    c.checkpoint.every_steps = 4
    return c
"""


def captions(number: int, seed: int = 0):
    """Raw captions with 1 to 5 regions each."""
    rng = np.random.default_rng(seed)
    for index in range(number):
        n = int(rng.integers(1, 6))
        corner = rng.uniform(0, 200, (n, 2))
        yield raw.RawCaption(
            key=f"picture{index:04d}",
            image_id=str(index),
            caption=" ".join(rng.choice(WORDS, rng.integers(3, 14))),
            width=400,
            height=300,
            boxes=np.concatenate([corner, corner + rng.uniform(1, 90, (n, 2))], 1).astype("f4"),
            features=np.maximum(rng.normal(size=(n, WIDTH)), 0).astype("f4"),
            classes=rng.dirichlet(np.ones(CLASSES), n).astype("f4"),
        )


def lines(number: int, seed: int = 0):
    """Raw lines of text."""
    rng = np.random.default_rng(seed)
    for index in range(number):
        yield raw.RawText(f"line{index}", " ".join(rng.choice(WORDS, rng.integers(5, 60))))


def make_world(folder: pathlib.Path, train: int = 150, validation: int = 13) -> pathlib.Path:
    """Writes both sets and the config file into `folder`; returns the config's path."""
    folder.mkdir(exist_ok=True)
    sets = {"captions": (captions, "captions"), "text": (lines, "text")}
    for name, (records, kind) in sets.items():
        splits = {"train": records(train), "validation": records(validation, seed=1)}
        writer.write_set(folder / name, kind, splits, reader="test")
    config = folder / "tiny.py"
    config.write_text(
        CONFIG.format(
            width=WIDTH,
            classes=CLASSES,
            captions=str(folder / "captions"),
            text=str(folder / "text"),
        )
    )
    return config


def command(config: pathlib.Path, workdir: pathlib.Path, *overrides: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "vlbert_jax.main",
        f"--config={config}",
        f"--workdir={workdir}",
        *[f"--config.{override}" for override in overrides],
    ]


def environment(devices: int = 1, **extra: str) -> dict[str, str]:
    """For a process of its own with that many simulated devices; what one compiles, all reuse."""
    return {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_COMPILATION_CACHE_DIR": os.environ["VLBERT_TESTS_COMPILED"],
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        **extra,
    }


def run(config, workdir, *overrides, devices: int = 1, code: int = 0) -> str:
    """Runs the command in a process of its own; returns its output."""
    done = subprocess.run(
        command(config, workdir, *overrides),
        env=environment(devices),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, done.stdout[-4000:]
    return done.stdout


def metrics(workdir: pathlib.Path, split: str = "train") -> list[dict]:
    """Lines of metrics.jsonl without what differs from run to run: times."""
    timed = {"examples_per_second", "seconds_per_step", "data_wait"}
    found = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in timed}
        for line in found
        if line["split"] == split
    ]
