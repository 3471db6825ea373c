"""Steps whose loss or gradient is not finite never reach the parameters (case H03)."""

import json

import jax
import numpy as np
import pytest

from tests import tiny
from vlbert_jax import checkpoint, train
from vlbert_jax import config as config_lib
from vlbert_jax.data.pipeline import Batches
from vlbert_jax.options import RunError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return tiny.make_world(tmp_path_factory.mktemp("world"))


def run_poisoned(world, workdir, monkeypatch, bad_steps, *overrides: str) -> int:
    """Trains with a NaN in the features of the given steps (from 1)."""
    built = Batches.__getitem__

    def poisoned(self, step):
        batch = built(self, step)
        if step + 1 in bad_steps:
            batch["region_features"][0, 0, 0] = np.nan
        return batch

    monkeypatch.setattr(Batches, "__getitem__", poisoned)
    rhythm = ["train.total_steps=9", "checkpoint.every_steps=1", "checkpoint.keep=9"]
    config = config_lib.load(str(world), [*rhythm, "data.validation=()", *overrides])
    return train.run(config, str(workdir))


def test_a_step_is_skipped_named_and_counted(world, tmp_path, monkeypatch):
    assert run_poisoned(world, tmp_path, monkeypatch, {7}) == train.DONE
    before, after, later = (
        checkpoint.restore_params(tmp_path / "checkpoints" / str(step))[0] for step in (6, 7, 8)
    )
    jax.tree.map(np.testing.assert_array_equal, before, after)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(later))
    moved = [
        not np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (after, later)), strict=True)
    ]
    assert any(moved)
    skipped = {line["step"]: line["skipped"] for line in tiny.metrics(tmp_path)}
    assert skipped == {step: int(step == 7) for step in range(1, 10)}
    (line,) = (tmp_path / "not_finite.jsonl").read_text().splitlines()
    entry = json.loads(line)
    assert entry["step"] == 7
    assert any(record.startswith("picture") for record in entry["records"])
    assert "step 7: loss nan" in (tmp_path / "train.log").read_text()


def test_many_in_a_row_stop_the_run(world, tmp_path, monkeypatch):
    stop = "train.stop_after_nonfinite=3"
    with pytest.raises(RunError, match=r"step 6: loss nan.*3 updates in a row"):
        run_poisoned(world, tmp_path, monkeypatch, {2, 4, 5, 6, 7}, stop)
    params, meta = checkpoint.restore_params(tmp_path)
    assert meta["step"] <= 6
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_a_resumed_run_still_counts_those_in_a_row(world, tmp_path, monkeypatch):
    stop = "train.stop_after_nonfinite=4"
    with pytest.raises(RunError, match="step 7"):
        run_poisoned(world, tmp_path, monkeypatch, {4, 5, 6, 7, 8}, stop)
    with pytest.raises(RunError, match="step 7"):
        run_poisoned(world, tmp_path, monkeypatch, {4, 5, 6, 7, 8}, stop)
