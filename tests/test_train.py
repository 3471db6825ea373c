"""The whole trainer on tiny sets: resume, preemption, kills, non-finite steps, repeatability."""

import json
import os
import random
import shutil
import signal
import subprocess
import time

import jax
import numpy as np
import pytest

from tests import tiny
from vlbert_jax import checkpoint


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny.make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def straight(world, tmp_path_factory):
    """A run of 12 steps without a stop."""
    workdir = tmp_path_factory.mktemp("straight")
    tiny.run(world, workdir)
    return workdir


def params(workdir):
    return checkpoint.restore_params(workdir)[0]


def assert_same_run(workdir, expected) -> None:
    """Every logged number and every parameter, bit for bit."""
    for split in ("train", "validation"):
        assert tiny.metrics(workdir, split) == tiny.metrics(expected, split)
    jax.tree.map(np.testing.assert_array_equal, params(workdir), params(expected))


def test_a_run_leaves_what_it_says(straight):
    lines = tiny.metrics(straight)
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [line["step"] for line in tiny.metrics(straight, "validation")] == [12]
    first = json.loads((straight / "metrics.jsonl").read_text().splitlines()[0])
    for key in ("loss", "loss/mlm_caption", "accuracy/mlm_text", "count/region_class", "grad_norm"):
        assert np.isfinite(first[key])
    for key in ("examples_per_second", "seconds_per_step", "slots_filled"):
        assert first[key] > 0
    assert lines[-1]["learning_rate"] == 0
    assert lines[0]["learning_rate"] == pytest.approx(5e-4)
    filled = [line["slots_filled"] for line in lines]
    assert filled.index(min(filled)) + 1 == 8  # the epoch's last batch, the tests below stop there
    assert checkpoint.latest_step(straight) == 12
    assert {"config.json", "environment.json", "train.log", "tensorboard", "best"} <= {
        path.name for path in straight.iterdir()
    }


def test_a_finished_run_ends_at_once(world, straight):
    before = params(straight)
    assert "finished" in tiny.run(world, straight)
    jax.tree.map(np.testing.assert_array_equal, params(straight), before)
    assert len(tiny.metrics(straight)) == 12


@pytest.mark.parametrize(("stop", "workers"), [(5, 0), (6, 2)])
def test_resume_is_bit_equal(world, straight, tmp_path, stop, workers):
    """Stop after `stop` steps, go on in a new process: nothing tells the runs apart (H13, H22)."""
    overrides = [f"data.workers={workers}", "checkpoint.every_steps=1"]
    process = subprocess.Popen(
        tiny.command(world, tmp_path, *overrides, "train.log_every_steps=1"),
        env=tiny.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_step(tmp_path, stop)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 75
    saved = checkpoint.latest_step(tmp_path)
    assert stop <= saved < 12
    tiny.run(world, tmp_path, *overrides)
    assert_same_run(tmp_path, straight)


def wait_for_step(workdir, step: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        path = workdir / "metrics.jsonl"
        if path.exists() and path.read_text().count('"split": "train"') >= step:
            return
        time.sleep(0.005)
    raise AssertionError(f"no step {step} within two minutes")


@pytest.fixture(scope="module")
def every_step_kept(world, tmp_path_factory):
    """A run that writes a line every six steps and has a checkpoint of each step."""
    workdir = tmp_path_factory.mktemp("kept")
    tiny.run(world, workdir, *RHYTHM)
    return workdir


RHYTHM = ("train.log_every_steps=6", "checkpoint.every_steps=1", "checkpoint.keep=12")


@pytest.mark.parametrize(
    ("stop", "workers"),
    [(1, 0), (8, 2), (9, 0), (11, 0)],  # an epoch has 8 batches
)
def test_resume_from_any_step(world, every_step_kept, tmp_path, stop, workers):
    """After the first step, an epoch's last batch, in the middle: the lines and parameters of the
    run without a stop; means over an interval that the stop has cut, too."""
    cut = tmp_path / "cut"
    shutil.copytree(every_step_kept, cut)
    for folder in (*(cut / "checkpoints").iterdir(), *(cut / "best").iterdir()):
        if int(folder.name) > stop:
            shutil.rmtree(folder)
    assert checkpoint.latest_step(cut) == stop
    tiny.run(world, cut, *RHYTHM, f"data.workers={workers}")
    assert_same_run(cut, every_step_kept)


def kill_at_random(world, workdir, expected, kills: int) -> None:
    """kill -9 at random moments, each time started again; in the end the straight run's result."""
    chance = random.Random(kills)
    newest = 0
    for _ in range(kills):
        process = subprocess.Popen(
            tiny.command(world, workdir, "checkpoint.every_steps=1"),
            env=tiny.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if newest < 10:
            wait_for_step(workdir, min(newest + 2, 11))
        time.sleep(chance.uniform(0, 0.3))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        saved = checkpoint.latest_step(workdir) or 0
        assert saved >= newest, "an older checkpoint than before is the newest"
        newest = saved
    tiny.run(world, workdir, "checkpoint.every_steps=1")
    assert_same_run(workdir, expected)


def test_kill_9(world, straight, tmp_path):
    kill_at_random(world, tmp_path, straight, kills=3)


@pytest.mark.slow
def test_kill_9_ten_times(world, straight, tmp_path):
    kill_at_random(world, tmp_path, straight, kills=10)


def test_same_seed_same_numbers_other_seed_others(world, straight, tmp_path):
    tiny.run(world, tmp_path / "same")
    assert_same_run(tmp_path / "same", straight)
    tiny.run(world, tmp_path / "other", "seed=1", "train.total_steps=2", "optimizer.warmup_steps=1")
    assert tiny.metrics(tmp_path / "other")[0] != tiny.metrics(straight)[0]


def test_packed_and_unpacked_train(world, tmp_path):
    out = tiny.run(world, tmp_path, "data.packing=False", "train.total_steps=3")
    assert "finished" in out
    assert tiny.metrics(tmp_path)[0]["slots_filled"] < 0.99


def test_a_changed_config_is_refused(world, straight):
    out = tiny.run(world, straight, "optimizer.peak_lr=1", code=2)
    assert "optimizer.peak_lr: 0.001 -> 1.0" in out
    assert "--allow_change" in out
