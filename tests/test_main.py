"""The command: flags and config checks in a blink, one line of error, exit codes."""

import pathlib
import subprocess
import sys
import time

import pytest

from vlbert_jax import main as command
from vlbert_jax.options import DataError

ROOT = pathlib.Path(__file__).parent.parent
FILE = """
from vlbert_jax import config as config_lib

def get_config():
    config = config_lib.default()
    config.data.train = (("data/captions", 1.0),)
    config.train.total_epochs = 1
    return config
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "small.py"
    path.write_text(FILE)
    return str(path)


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "vlbert_jax.main", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--config is missing, such as --config=configs/demo.py"),
        (["--config=FILE"], "--workdir is missing, such as --workdir=runs/demo"),
        (["--confg=FILE", "--workdir=DIR"], "unknown argument --confg=FILE; did you mean --config?"),
        (["--config=no/such.py", "--workdir=DIR"], "there is no Python file no/such.py"),
        (["--config=FILE", "--workdir=DIR", "--config.optimzer.peak_lr=1"], "mean optimizer?"),
        (["--config=FILE", "--workdir=DIR", "--config.optimizer.peek_lr", "1"], "mean peak_lr?"),
        (["--config=FILE", "--workdir=DIR", "--config.data.packing", "--config.seed=1"],
         "--config.data.packing: the value is missing"),
        (["--config=FILE", "--workdir=DIR", "--config.train.total_steps=5"], "set exactly one"),
    ],
)  # fmt: skip
def test_a_wrong_command_is_one_line_and_leaves_no_trace(tmp_path, file, arguments, expected):
    started = time.monotonic()
    workdir = tmp_path / "run"
    result = run(*(a.replace("FILE", file).replace("DIR", str(workdir)) for a in arguments))
    assert result.returncode == command.BAD_INPUT == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert expected.replace("FILE", file) in result.stderr
    assert not workdir.exists()
    assert time.monotonic() - started < 10


def test_config_errors_come_before_jax_loads(file):
    script = (
        "import sys; from vlbert_jax import main\n"
        f"code = main.main(main.parse(['main', '--config={file}', '--workdir=x', '--config.x=1']))\n"
        "assert code == 2 and 'jax' not in sys.modules and 'grain' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True)


def test_help(file):
    text = run("--help").stdout
    for word in ("--config", "--workdir", "--allow_change", "--help_config", "75", "runs/demo"):
        assert word in text
    assert max(len(line) for line in text.splitlines()) <= 100
    listed = run(f"--config={file}", "--help_config", "--config.seed=5")
    assert listed.returncode == 0
    assert "seed = 5" in listed.stdout


@pytest.fixture
def trained(monkeypatch):
    """Calls of train.run and made_world.ensure, which do nothing."""
    from vlbert_jax import train
    from vlbert_jax.prepare import made_world

    calls = []
    monkeypatch.setattr(made_world, "ensure", lambda *a: calls.append(("ensure", *a)))

    def run(config, workdir, allow_change):
        calls.append((config, workdir, allow_change))
        return 75

    monkeypatch.setattr(train, "run", run)
    return calls


def test_config_goes_to_train_and_its_exit_code_comes_back(file, trained):
    arguments = command.parse(
        ["main", f"--config={file}", "--config.seed", "4", "--workdir", "w",
         "--config.mesh.data", "-1", "--config.data.made_world=world", "--allow_change"]
    )  # fmt: skip
    assert command.main(arguments) == 75
    ensure, (config, workdir, allow_change) = trained
    assert ensure == ("ensure", "world")
    assert (config.seed, config.mesh.data, workdir, allow_change) == (4, -1, "w", True)


def test_no_made_world_unless_asked(file, trained):
    assert command.main(command.parse(["main", f"--config={file}", "--workdir=w"])) == 75
    assert len(trained) == 1
    assert trained[0][2] is False


def test_bad_data_is_exit_code_2(file, monkeypatch, capsys):
    from vlbert_jax import train

    def run(*_, **__):
        raise DataError("data/captions: no prepared set there; python -m vlbert_jax.prepare --help")

    monkeypatch.setattr(train, "run", run, raising=False)
    assert command.main(command.parse(["main", f"--config={file}", "--workdir=w"])) == 2
    assert capsys.readouterr().err == (
        "error: data/captions: no prepared set there; python -m vlbert_jax.prepare --help\n"
    )
