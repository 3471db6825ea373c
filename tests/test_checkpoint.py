"""Saves are exact, complete or absent, and their failures are heard."""

import os
import pathlib
import random
import resource
import signal
import subprocess
import sys
import time

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from vlbert_jax import checkpoint
from vlbert_jax.options import ConfigError

META = {"config": {"seed": 3}, "data": "abc"}


@flax.struct.dataclass
class State:
    step: jax.Array
    params: dict
    opt_state: tuple


def make_state(mesh_shape=(2, 2, 2), width=64, seed=0):
    """Random numbers in several dtypes, sharded in several ways; the optimizer has an empty part."""
    mesh = jax.make_mesh(mesh_shape, ("data", "fsdp", "tensor"), axis_types=(AxisType.Auto,) * 3)
    random_numbers = np.random.default_rng(seed)

    def put(shape, spec, dtype=np.float32):
        values = random_numbers.normal(size=shape).astype(dtype)
        return jax.device_put(values, NamedSharding(mesh, spec))

    params = {
        "layers": {"kernel": put((3, width, 16), P(None, "fsdp", "tensor"))},
        "bias": put((16,), P(), jnp.bfloat16),
    }
    moments = jax.tree.map(lambda x: x * 2, params)
    step = jax.device_put(np.int32(0), NamedSharding(mesh, P()))
    return State(step, params, (moments, (), {"count": step + 7}))


def abstract(state):
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def assert_equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x), np.asarray(y))


@pytest.fixture
def open_checkpointer(tmp_path):
    """Makes checkpointers on one run folder and closes them."""
    opened = []

    def make(keep=2, workdir=tmp_path):
        opened.append(checkpoint.Checkpointer(workdir, keep=keep))
        return opened[-1]

    yield make
    for checkpointer in opened:
        checkpointer.close()


def test_round_trip_keeps_every_bit_although_the_state_is_donated(open_checkpointer):
    state = make_state()
    expected = jax.tree.map(np.asarray, state)
    train = jax.jit(lambda s: jax.tree.map(lambda x: x + x.dtype.type(1), s), donate_argnums=0)
    checkpointer = open_checkpointer()
    checkpointer.save(5, state, META)
    for _ in range(4):
        state = train(state)
    checkpointer.wait()
    restored, meta = open_checkpointer().restore(abstract(state))
    assert_equal(restored, expected)
    assert meta == {"step": 5, **META}


@pytest.mark.parametrize("mesh_shape", [(1, 8, 1), (8, 1, 1), (1, 1, 4)])
def test_restores_onto_another_mesh(open_checkpointer, mesh_shape):
    state = make_state((2, 2, 2))
    checkpointer = open_checkpointer()
    checkpointer.save(1, state, META)
    checkpointer.wait()
    wanted = abstract(make_state(mesh_shape, seed=1))
    restored, _ = checkpointer.restore(wanted)
    assert_equal(restored, state)
    shardings = jax.tree.map(lambda x: x.sharding, restored)
    assert shardings == jax.tree.map(lambda x: x.sharding, wanted)


def test_keeps_the_newest(open_checkpointer, tmp_path):
    checkpointer = open_checkpointer(keep=2)
    for step in (3, 6, 9):
        checkpointer.save(step, make_state(seed=step), META)
    checkpointer.save(9, make_state(seed=1), META)  # again: stays as it is
    checkpointer.wait()
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["6", "9"]
    assert checkpoint.latest_step(tmp_path) == 9
    assert_equal(checkpointer.restore(abstract(make_state()))[0], make_state(seed=9))
    assert_equal(checkpointer.restore(abstract(make_state()), step=6)[0], make_state(seed=6))


def test_best_is_the_highest_value_also_after_a_restart(open_checkpointer, tmp_path):
    checkpointer = open_checkpointer()
    saved = [
        checkpointer.save_best(step, make_state(seed=step), META, value)
        for step, value in [(10, 0.5), (20, 0.4), (30, 0.7), (40, 0.7), (50, float("nan"))]
    ]
    assert saved == [True, False, True, False, False]
    checkpointer.wait()
    again = open_checkpointer()
    assert not again.save_best(60, make_state(seed=60), META, 0.6)
    assert again.save_best(20, make_state(seed=21), META, 0.8)  # lower step, better value
    again.wait()
    assert [p.name for p in (tmp_path / "best").iterdir()] == ["20"]
    params, meta = checkpoint.restore_params(tmp_path / "best")
    assert_equal(params, jax.tree.map(np.asarray, make_state(seed=21).params))
    assert meta["best_value"] == 0.8
    assert again.latest_step() is None


@pytest.mark.parametrize("place", ["", "checkpoints", "checkpoints/4"])
def test_parameters_alone(open_checkpointer, tmp_path, place):
    checkpointer = open_checkpointer()
    state = make_state(seed=4)
    checkpointer.save(4, state, META)
    checkpointer.wait()
    as_numpy, _ = checkpoint.restore_params(tmp_path / place)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(as_numpy))
    assert_equal(as_numpy, jax.tree.map(np.asarray, state.params))
    wanted = abstract(make_state((1, 8, 1)).params)
    sharded, meta = checkpoint.restore_params(tmp_path / place, wanted)
    assert_equal(sharded, state.params)
    assert sharded["layers"]["kernel"].sharding == wanted["layers"]["kernel"].sharding
    assert meta["step"] == 4


def test_another_model_is_refused_with_names_and_shapes(open_checkpointer, tmp_path):
    checkpointer = open_checkpointer()
    checkpointer.save(4, make_state(), META)
    checkpointer.wait()
    wide = abstract(make_state(width=32))
    match = r"params/layers/kernel is float32\[3, 64, 16\] there and float32\[3, 32, 16\] here"
    with pytest.raises(ConfigError, match=match):
        checkpointer.restore(wide)
    with pytest.raises(ConfigError, match=match):
        checkpoint.restore_params(tmp_path, wide.params)
    other = abstract(make_state())
    other.params["new"] = other.params.pop("bias")
    with pytest.raises(ConfigError, match=r"params/new is missing there and bfloat16\[16\] here"):
        checkpoint.restore_params(tmp_path, other.params)
    with pytest.raises(ConfigError, match=r"params/bias bfloat16\[16\] is only there"):
        checkpointer.restore(other)
    assert set(checkpoint.restore_params(tmp_path, {"bias": wide.params["bias"]})[0]) == {"bias"}


def test_as_a_context_it_waits_for_its_saves_and_shows_the_blocks_own_error(tmp_path):
    def fail_while_saving():
        with checkpoint.Checkpointer(tmp_path, keep=1) as checkpointer:
            checkpointer.save(1, make_state(width=4096), META)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_while_saving()
    assert [place.name for place in (tmp_path / "checkpoints").iterdir()] == ["1"]
    with checkpoint.Checkpointer(tmp_path, keep=1) as checkpointer:
        checkpointer.save(2, make_state(), META)
        checkpointer.close()  # twice does no harm
    assert checkpoint.latest_step(tmp_path) == 2


def test_no_checkpoint(open_checkpointer, tmp_path):
    assert checkpoint.latest_step(tmp_path) is None
    with pytest.raises(ConfigError, match="no complete checkpoint there"):
        checkpoint.restore_params(tmp_path)
    with pytest.raises(ConfigError, match="no complete checkpoint of step 3"):
        open_checkpointer().restore(abstract(make_state()), step=3)
    with pytest.raises(ConfigError, match="no complete checkpoint there"):
        checkpoint.restore_params(tmp_path / "checkpoints" / "3")


def save_and_train_on(checkpointer):
    checkpointer.save(2, make_state(), META)
    for _ in range(1000):  # steps of training
        checkpointer.raise_if_failed()
        time.sleep(0.01)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_heard_at_the_next_step_check(tmp_path):
    """A limit on the size of files stands in for the disk; the last good checkpoint stays."""
    checkpointer = checkpoint.Checkpointer(tmp_path, keep=1)
    checkpointer.save(1, make_state(), META)
    checkpointer.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000, hard))
    try:
        with pytest.raises(checkpoint.SaveError, match=r"checkpoints: .*[Tt]oo large"):
            save_and_train_on(checkpointer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    checkpointer.close()
    assert checkpoint.latest_step(tmp_path) == 1
    assert_equal(
        checkpoint.restore_params(tmp_path)[0], jax.tree.map(np.asarray, make_state().params)
    )


def test_a_target_that_takes_no_files_is_heard(tmp_path):
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.raises(checkpoint.SaveError, match="checkpoints cannot be written there"):
        checkpoint.Checkpointer(tmp_path, keep=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_target_is_heard(tmp_path):
    checkpointer = checkpoint.Checkpointer(tmp_path, keep=1)
    (tmp_path / "checkpoints").chmod(0o500)
    try:
        with pytest.raises(checkpoint.SaveError, match=r"[Pp]ermission denied"):
            save_and_train_on(checkpointer)
    finally:
        (tmp_path / "checkpoints").chmod(0o700)


_ENDLESS = """
import sys
import jax, numpy as np
from vlbert_jax import checkpoint

def state_after(step):  # 4 MB that tell their step
    return {"params": {"w": np.full((16, 65536), step, np.float32)}, "step": np.int32(step)}

checkpointer = checkpoint.Checkpointer(sys.argv[1], keep=2)
step = checkpointer.latest_step() or 0
if step:
    wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), state_after(0))
    state, meta = checkpointer.restore(wanted)
    assert meta["step"] == step
    assert all((np.asarray(x) == step).all() for x in jax.tree.leaves(state))
print("start", step, flush=True)
while True:
    step += 1
    checkpointer.save(step, jax.device_put(state_after(step)), {})
    print("saving", step, flush=True)
    checkpointer.raise_if_failed()
"""


def kill_around_saves(workdir, times, seed):
    """Starts a run that saves without end, kills it at a random moment, and starts it again."""
    moments = random.Random(seed)
    saved = 0
    for _ in range(times):
        command = [sys.executable, "-c", _ENDLESS, str(workdir)]
        root = pathlib.Path(__file__).parent.parent
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as run:
            try:
                word, step = run.stdout.readline().split()
                assert word == "start", "the run did not come up again"
                assert int(step) >= saved
                for _ in range(moments.randint(1, 5)):
                    saving = int(run.stdout.readline().split()[1])
                time.sleep(moments.uniform(0, 0.05))
            finally:
                run.send_signal(signal.SIGKILL)
        saved = checkpoint.latest_step(workdir) or 0
        assert saved >= saving - 1, "the save before the last one was complete"
        if saved:
            assert (checkpoint.restore_params(workdir)[0]["w"] == saved).all()
    return saved


def test_kill_around_a_save(tmp_path):
    newest = kill_around_saves(tmp_path, times=5, seed=0)
    folder = tmp_path / "checkpoints"
    (folder / "99.orbax-checkpoint-tmp").mkdir()  # as a killed save leaves it
    assert checkpoint.latest_step(tmp_path) == newest
    checkpoint.Checkpointer(tmp_path, keep=2).close()  # the next start cleans up, in background
    for _ in range(1000):
        if all(place.name.isdigit() for place in folder.iterdir()):
            break
        time.sleep(0.01)
    assert all(place.name.isdigit() for place in folder.iterdir())
    assert (folder / str(newest)).is_dir()


@pytest.mark.slow
def test_kill_around_a_save_often(tmp_path):
    assert kill_around_saves(tmp_path, times=20, seed=1) > 0
