"""metrics.jsonl is valid and has each step once; people get a table, and a bar on a terminal."""

import io
import json
import os
import pathlib
import pty
import struct
import subprocess
import sys

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

from vlbert_jax import metrics

VALUES = {
    "loss": np.float32(3.1),
    "loss/mlm_caption": np.float32(2.0),
    "accuracy/mlm_caption": np.float32(0.452),
    "count/mlm_caption": np.float32(120),
    "learning_rate": np.float32(2.56e-5),
    "examples_per_second": 512.4,
    "slots_filled": 0.981,
    "data_wait": 0.003,
    "seconds_per_step": 0.5,
}


def open_metrics(workdir, **options):
    return metrics.Metrics(
        workdir, total_steps=1200, out=io.StringIO(), err=io.StringIO(), **options
    )


def read(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def events(folder):
    """(step, tag, value) of TensorBoard's files, read record by record."""
    found = []
    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            found += [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            data = data[16 + length :]
    return found


def words(line):
    return " ".join(line.split())


def test_a_line_is_what_was_written_and_float32_stays_short(tmp_path):
    writer = open_metrics(tmp_path)
    writer.write(100, "train", VALUES)
    text = (tmp_path / "metrics.jsonl").read_text()  # before close: every line is flushed
    assert text.endswith("\n")
    assert read(tmp_path) == [
        {
            "step": 100,
            "split": "train",
            "loss": 3.1,
            "loss/mlm_caption": 2.0,
            "accuracy/mlm_caption": 0.452,
            "count/mlm_caption": 120.0,
            "learning_rate": 2.56e-5,
            "examples_per_second": 512.4,
            "slots_filled": 0.981,
            "data_wait": 0.003,
            "seconds_per_step": 0.5,
        }
    ]
    writer.close()


def test_numbers_that_are_not_finite_stay_valid_json(tmp_path):
    line = metrics.json_line(
        3, "train", {"loss": float("nan"), "grad_norm": float("inf"), "a": 1.5}
    )
    assert json.loads(line, parse_constant=pytest.fail) == {
        "step": 3,
        "split": "train",
        "loss": None,
        "grad_norm": None,
        "a": 1.5,
        "not_finite": {"loss": "nan", "grad_norm": "inf"},
    }
    writer = open_metrics(tmp_path)
    writer.write(3, "train", {"loss": np.float32("nan"), "seconds_per_step": float("nan")})
    writer.close()
    assert read(tmp_path)[0]["loss"] is None


def test_a_resumed_run_has_each_step_once(tmp_path):
    killed = open_metrics(tmp_path)
    for step in (10, 20, 30):
        killed.write(step, "train", {"loss": step})
    killed.write(30, "validation", {"loss": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "spl')  # cut short by the kill
    again = open_metrics(tmp_path, start_step=20)
    again.write(30, "train", {"loss": 31})
    again.close()
    assert [(line["step"], line["loss"]) for line in read(tmp_path)] == [
        (10, 10),
        (20, 20),
        (30, 31),
    ]
    killed.close()


def test_tensorboard_holds_the_same_numbers(tmp_path):
    writer = open_metrics(tmp_path)
    writer.write(10, "train", {"loss": 2.5, "loss/mlm_text": 1.25})
    writer.write(10, "validation", {"loss": 0.5})
    writer.close()
    assert events(tmp_path / "tensorboard" / "train") == [
        (10, "loss", 2.5),
        (10, "loss/mlm_text", 1.25),
    ]
    assert events(tmp_path / "tensorboard" / "validation") == [(10, "loss", 0.5)]


def test_the_table_is_aligned_and_says_when_it_ends(tmp_path):
    writer = open_metrics(tmp_path)
    writer.say("start")
    writer.write(200, "train", VALUES)
    writer.write(1200, "train", VALUES)
    writer.write(1200, "validation", {"loss": 2.0, "loss/mlm_caption": 2.0})
    writer.close()
    start, header, first, last, validation = (tmp_path / "train.log").read_text().splitlines()
    assert start == "start"
    assert words(header) == "step split loss mlm_caption rate ex/s fill wait left"
    assert words(first) == "200/1,200 train 3.100 2.000 45.2% 2.56e-05 512 98.1% 0.3% 8m20s"
    assert last.split()[0] == "1,200/1,200"
    for name in ("step", "split", "loss", "mlm_caption", "rate", "fill", "left"):
        end = header.index(name) + len(name)
        assert not header[end : end + 1].strip()
        assert first[end - 1] != " "
        assert not first[end : end + 1].strip()
    assert words(validation) == "1,200/1,200 validation 2.000 2.000"


def test_the_header_comes_again(tmp_path):
    writer = open_metrics(tmp_path)
    for step in range(60):
        writer.write(step, "train", {"loss": 1.0})
    writer.write(60, "other", {"loss": 1.0, "loss/vqa": 1.0})
    writer.close()
    lines = (tmp_path / "train.log").read_text().splitlines()
    headers = [i for i, line in enumerate(lines) if "step" in line]
    assert headers == [0, 26, 52, 63]


def test_a_bar_on_a_terminal_and_plain_lines_elsewhere(tmp_path):
    """Run in a terminal of its own: what the person sees, and what a file would get."""
    script = (
        "import sys; from vlbert_jax.metrics import Metrics\n"
        "m = Metrics(sys.argv[1], total_steps=4)\n"
        "m._bar and setattr(m._bar, '_REDRAW', -1)\n"
        "for step in (1, 2, 3, 4):\n"
        "    m.progress(step); m.write(step, 'train', {'loss': step})\n"
        "m.close()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    root = pathlib.Path(__file__).parent.parent
    plain = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    assert plain.stderr == ""
    assert len(plain.stdout.splitlines()) == 5

    terminal, inside = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=inside, cwd=root) as run:
        lines = run.stdout.read().decode()
    drawn = os.read(terminal, 100_000).decode()
    assert lines == plain.stdout
    assert "[" + "=" * 20 + " " * 20 + "] 2/4  50%" in drawn
    assert "left" in drawn
    assert "\n" not in drawn
    assert drawn.endswith("\r\x1b[2K")  # nothing is left behind


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0s"), (59.6, "1m00s"), (75, "1m15s"), (4020, "1h07m"), (200_000, "2d07h")],
)
def test_duration(seconds, text):
    assert metrics.duration(seconds) == text


def test_other_processes_write_nothing(tmp_path, capsys):
    writer = metrics.Metrics(tmp_path, total_steps=3, process=1)
    writer.say("no")
    writer.progress(1)
    writer.write(1, "train", {"loss": 1.0})
    writer.close()
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""
