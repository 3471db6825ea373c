"""Two real processes train as one process with as many devices does."""

import socket
import subprocess

import jax
import numpy as np

from tests import tiny
from vlbert_jax import checkpoint

OVERRIDES = ("train.total_steps=4", "checkpoint.every_steps=2", "mesh.fsdp=2")


def run_two(config, workdir, *overrides: str) -> list[str]:
    """The output of both processes, one device each; both must end well."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [
                *tiny.command(config, workdir, *overrides),
                f"--distributed=localhost:{port},2,{number}",
            ],
            env=tiny.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    return outputs


def test_two_processes_equal_two_devices(tmp_path):
    """Losses bit-equal; a run of two processes goes on with one, from the same parameters."""
    config = tiny.make_world(tmp_path / "world")
    tiny.run(config, tmp_path / "one", *OVERRIDES, devices=2)
    outputs = run_two(config, tmp_path / "two", *OVERRIDES)
    assert "finished" in outputs[0]
    assert "finished" not in outputs[1]  # process 0 speaks for all
    for split in ("train", "validation"):
        assert tiny.metrics(tmp_path / "two", split) == tiny.metrics(tmp_path / "one", split)
    ours, expected = (checkpoint.restore_params(tmp_path / name)[0] for name in ("two", "one"))
    jax.tree.map(np.testing.assert_array_equal, ours, expected)

    longer = ("train.total_steps=6", "checkpoint.every_steps=2", "mesh.fsdp=1")
    out = subprocess.run(
        [*tiny.command(config, tmp_path / "two", *longer), "--allow_change"],
        env=tiny.environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert out.returncode == 0, out.stderr
    assert [line["step"] for line in tiny.metrics(tmp_path / "two")] == [1, 2, 3, 4, 5, 6]
