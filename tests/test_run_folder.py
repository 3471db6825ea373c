"""One run at a time in a folder, and never silently another config or other data."""

import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys

import jax
import pytest

from vlbert_jax import config as config_lib
from vlbert_jax import run_folder
from vlbert_jax.config import Config
from vlbert_jax.options import ConfigError, DataError


@contextlib.contextmanager
def started(workdir, config, **options):
    """A run in the folder, past its checks."""
    with run_folder.claim(workdir, config, **options) as changes:
        run_folder.record_config(workdir, config)
        yield changes


def changed(config, **sections):
    """`config` with options of sections replaced: changed(c, train={"total_steps": 3})."""
    return dataclasses.replace(
        config,
        **{
            name: dataclasses.replace(getattr(config, name), **options)
            for name, options in sections.items()
        },
    )


@pytest.fixture
def config():
    return changed(Config(), train={"total_steps": 100}, data={"train": (("a", 1.0), ("b", 2.0))})


def test_claim_makes_the_folder_and_writes_the_config(tmp_path, config):
    with started(tmp_path / "new" / "run", config) as changes:
        assert changes == []
    assert run_folder.read_config(tmp_path / "new" / "run") == config
    with pytest.raises(ConfigError, match=r"no run there, config\.json is missing"):
        run_folder.read_config(tmp_path)


def test_a_change_that_matters_is_refused_with_old_and_new(tmp_path, config):
    with started(tmp_path, config):
        pass
    new = changed(config, optimizer={"peak_lr": 1e-3}, model={"attention_dropout": 0.5})
    with (
        pytest.raises(ConfigError, match="--allow_change") as refusal,
        started(tmp_path, new),
    ):
        pass
    assert "optimizer.peak_lr: 2.56e-05 -> 0.001" in str(refusal.value)
    assert "model.attention_dropout: 0.1 -> 0.5" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert run_folder.read_config(tmp_path) == config
    with started(tmp_path, new, allow_change=True) as changes:
        assert len(changes) == 2
    assert run_folder.read_config(tmp_path) == new


@pytest.mark.parametrize(
    "sections",
    [
        {"checkpoint": {"every_steps": 7}, "eval": {"every_steps": 9}},
        {"mesh": {"fsdp": 2}, "model": {"attention": "plain", "remat": "full", "unroll": 2}},
        {"train": {"log_every_steps": 3}, "data": {"workers": 2}},
        {"data": {"train": (("moved/a", 1.0), ("moved/b", 2.0))}},
    ],
)
def test_a_change_that_does_not_matter_is_accepted(tmp_path, config, sections):
    with started(tmp_path, config):
        pass
    with started(tmp_path, changed(config, **sections)) as changes:
        assert changes == []


def test_another_weight_of_a_source_matters(tmp_path, config):
    with started(tmp_path, config):
        pass
    new = changed(config, data={"train": (("a", 1.0), ("b", 3.0))})
    with pytest.raises(ConfigError, match=r"data\.train: "), started(tmp_path, new):
        pass


def test_a_config_of_another_version_of_the_package(tmp_path, config):
    old = json.loads(config_lib.to_json(config))
    del old["optimizer"]["clip_norm"]  # did not exist then: was at its default
    (tmp_path / "config.json").write_text(json.dumps(old))
    with started(tmp_path, config) as changes:
        assert changes == []
    (tmp_path / "config.json").write_text(json.dumps(old))
    with (
        pytest.raises(ConfigError, match=r"optimizer\.clip_norm: 10\.0 -> 1\.0"),
        started(tmp_path, changed(config, optimizer={"clip_norm": 1.0})),
    ):
        pass
    old["optimizer"]["nesterov"] = True
    (tmp_path / "config.json").write_text(json.dumps(old))
    with (
        pytest.raises(ConfigError, match=r"optimizer\.nesterov: True -> 'no such option now'"),
        started(tmp_path, config),
    ):
        pass


def test_the_second_run_is_told_who_holds_the_folder(tmp_path, config):
    script = (
        "import sys; from vlbert_jax import run_folder; from vlbert_jax.config import Config\n"
        "with run_folder.claim(sys.argv[1], Config()): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=pathlib.Path(__file__).parent.parent, **pipes) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            match = rf"in use by process {holder.pid} on .+ since 20"
            with pytest.raises(ConfigError, match=match), started(tmp_path, Config()):
                pass
            with run_folder.claim(tmp_path, Config(), process=1):
                pass  # other processes of one run do not lock
        finally:
            holder.kill()
    with started(tmp_path, Config()):
        pass  # a killed run holds nothing


def test_a_folder_that_cannot_be_written(tmp_path, config):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(ConfigError, match="cannot be written: Not a directory"),
        started(tmp_path / "file" / "run", config),
    ):
        pass


def test_environment_tells_what_a_second_run_needs(tmp_path, config):
    run_folder.record_environment(tmp_path, config, {"data/a": "11"})
    run_folder.record_environment(tmp_path, config, {"moved/a": "11"}, step=40)
    facts = json.loads((tmp_path / "environment.json").read_text())
    assert facts["packages"]["jax"] == jax.__version__
    assert facts["devices"] == "8 x cpu"
    assert facts["seed"] == config.seed
    assert facts["data"] == {"moved/a": "11"}
    assert facts["code"] == run_folder.code_hash()
    assert [start["step"] for start in facts["starts"]] == [0, 40]
    assert facts["starts"][0]["command"] == sys.argv


def test_other_data_is_refused(tmp_path, config):
    run_folder.record_environment(tmp_path, config, {"a": "11", "b": "22"})
    with pytest.raises(DataError, match=r"\{'a': '11', 'b': '22'\} -> \{'a': '11', 'b': '33'\}"):
        run_folder.record_environment(tmp_path, config, {"a": "11", "b": "33"})
    accepted = run_folder.record_environment(
        tmp_path, config, {"a": "11", "b": "33"}, allow_change=True
    )
    assert len(accepted) == 1
    assert run_folder.record_environment(tmp_path, config, {"a": "11", "b": "33"}) == []


def test_a_start_that_failed_leaves_no_run(tmp_path, config):
    with pytest.raises(RuntimeError, match="no data"), run_folder.claim(tmp_path, config):
        raise RuntimeError("no data")
    other = changed(config, optimizer={"peak_lr": 0.5})
    with run_folder.claim(tmp_path, other) as changes:
        assert changes == []
    with pytest.raises(ConfigError, match="no run there"):
        run_folder.read_config(tmp_path)
