"""What is saved of a run, and how it comes back: Orbax, asynchronously, never half a checkpoint.

Called by the loop of train.py; evaluation and inference use `restore_params`. A run folder has

  checkpoints/<step>/   the newest ones: parameters, optimizer state, step
  best/<step>/          the one with the highest value of the watched metric

each with a `meta` (JSON: config, data fingerprint, versions) beside the arrays. A checkpoint is
complete or it does not count: a killed save leaves a temporary folder, which the next start
removes, and an old checkpoint is deleted only after the new one is complete.
"""

import contextlib
import logging
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import LatestN

from vlbert_jax.options import ConfigError, RunError

PyTree = Any
Meta = dict[str, Any]

LATEST, BEST = "checkpoints", "best"
_VALUE = "best_value"  # in the meta of best/: what made it the best


class SaveError(RunError):
    """A checkpoint could not be written; the message names the place and the reason."""


class Checkpointer:
    """Saves and restores the state of one run; every process of the run makes one.

    As a context it is closed in any case, so that no save is left running in a folder that the
    next run may claim; where the block raises, its own error is the one that is seen.

    Args:
      workdir: the run folder.
      keep: number of newest checkpoints that stay.
    """

    def __init__(self, workdir: str | pathlib.Path, keep: int):
        workdir = pathlib.Path(workdir).resolve()
        self._latest = _writer(workdir / LATEST, keep)
        self._best = _writer(workdir / BEST, 1)
        values = [_meta(self._best, step)[_VALUE] for step in self._best.all_steps()]
        self._best_value = max(values, default=-np.inf)

    def __enter__(self) -> "Checkpointer":
        return self

    def __exit__(self, _, error: BaseException | None, __) -> None:
        with contextlib.suppress(SaveError) if error else contextlib.nullcontext():
            self.close()

    def save(self, step: int, state: PyTree, meta: Mapping[str, Any]) -> None:
        """Starts the save of `state` after `step` updates; returns once it is safe to donate.

        A step that is saved already is left as it is.

        Raises:
          SaveError: this save cannot start, or the previous one failed.
        """
        if step not in self._latest.all_steps():
            _let_finish(self._best)
            _save(self._latest, step, state, dict(meta))

    def save_best(self, step: int, state: PyTree, meta: Mapping[str, Any], value: float) -> bool:
        """As `save`, into best/, if `value` is higher than every one before; returns whether.

        Raises:
          SaveError: as in `save`.
        """
        if not value > self._best_value:
            return False
        _let_finish(self._latest)
        if step in self._best.all_steps():  # the same step of a run that was changed and continued
            self._best.delete(step)
        _save(self._best, step, state, {**meta, _VALUE: float(value)})
        self._best_value = float(value)
        return True

    def raise_if_failed(self) -> None:
        """Cheap; call it every step, so that a run never goes on for long without checkpoints.

        Raises:
          SaveError: a save in the background has failed.
        """
        for manager in (self._latest, self._best):
            if not manager.is_saving_in_progress():
                with _failure(manager):
                    manager.wait_until_finished()  # at once: only hands over what went wrong

    def latest_step(self) -> int | None:
        """Updates that the newest complete checkpoint has seen; None: there is none."""
        return self._latest.latest_step()

    def restore(self, abstract_state: PyTree, step: int | None = None) -> tuple[PyTree, Meta]:
        """The newest state (or that of `step`), each array on the sharding of `abstract_state`.

        Args:
          abstract_state: jax.ShapeDtypeStruct leaves that carry shardings; the mesh may differ
            from the one that saved.

        Raises:
          ConfigError: no such checkpoint, or its arrays have other names, shapes or dtypes.
        """
        step = self.latest_step() if step is None else step
        if step not in self._latest.all_steps():
            raise ConfigError(f"{self._latest.directory}: no complete checkpoint of step {step}")
        return _restore(self._latest, step, abstract_state), _meta(self._latest, step)

    def wait(self) -> None:
        """Returns when all saves are complete.

        Raises:
          SaveError: one of them failed.
        """
        for manager in (self._latest, self._best):
            with _failure(manager):
                manager.wait_until_finished()

    def close(self) -> None:
        """Waits, then ends the background threads.

        Raises:
          SaveError: a save failed.
        """
        self.wait()
        self._latest.close()
        self._best.close()


def latest_step(workdir: str | pathlib.Path) -> int | None:
    """Updates that the newest complete checkpoint of a run folder has seen; None: there is none."""
    directory = pathlib.Path(workdir).resolve() / LATEST
    if not directory.is_dir():
        return None
    with _reader(directory) as manager:
        return manager.latest_step()


def restore_params(
    path: str | pathlib.Path, abstract_params: PyTree | None = None
) -> tuple[PyTree, Meta]:
    """Parameters alone, without the optimizer's state.

    Args:
      path: a run folder (its newest checkpoint), its checkpoints/ or best/, or one checkpoint.
      abstract_params: ShapeDtypeStruct leaves with shardings; None: NumPy arrays as they were
        saved, in nested dicts.

    Returns:
      The parameters and the meta of their checkpoint.

    Raises:
      ConfigError: there is no complete checkpoint, or it does not fit `abstract_params`.
    """
    directory, step = _locate(pathlib.Path(path).resolve())
    with _reader(directory) as manager:
        wanted = None if abstract_params is None else {"params": abstract_params}
        if wanted is None:
            saved = manager.item_metadata(step)["state"].tree["params"]
            wanted = {"params": jax.tree.map(lambda a: np.empty(a.shape, a.dtype), saved)}
        return _restore(manager, step, wanted, partial=True)["params"], _meta(manager, step)


def _locate(path: pathlib.Path) -> tuple[pathlib.Path, int]:
    """The folder of steps and the step that `path` speaks of."""
    if path.name.isdigit():
        directory, wanted = path.parent, int(path.name)
    else:
        directory, wanted = (path / LATEST if (path / LATEST).is_dir() else path), None
    if directory.is_dir():
        with _reader(directory) as manager:
            steps = manager.all_steps()
        if steps and wanted is None:
            return directory, max(steps)
        if wanted in steps:
            return directory, wanted
    raise ConfigError(
        f"{path}: no complete checkpoint there; expected a run folder, its checkpoints/ or best/,"
        " or one checkpoint such as checkpoints/1000"
    )


def _writer(directory: pathlib.Path, keep: int) -> ocp.CheckpointManager:
    options = ocp.CheckpointManagerOptions(
        preservation_policy=LatestN(keep), cleanup_tmp_directories=True
    )
    try:
        directory.mkdir(parents=True, exist_ok=True)
        return ocp.CheckpointManager(directory, options=options, item_handlers=_handlers())
    except OSError as error:
        raise SaveError(f"{directory}: checkpoints cannot be written there: {error}") from error


@contextlib.contextmanager
def _reader(directory: pathlib.Path) -> Iterator[ocp.CheckpointManager]:
    options = ocp.CheckpointManagerOptions(create=False)
    manager = ocp.CheckpointManager(directory, options=options, item_handlers=_handlers())
    try:
        yield manager
    finally:
        manager.close()


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    return {"state": ocp.PyTreeCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()}


def _save(manager: ocp.CheckpointManager, step: int, state: PyTree, meta: Meta) -> None:
    args = ocp.args.Composite(
        state=ocp.args.PyTreeSave(state), meta=ocp.args.JsonSave({"step": step, **meta})
    )
    with _failure(manager):
        manager.save(step, args=args, force=True)


def _let_finish(manager: ocp.CheckpointManager) -> None:
    """Saves into two folders at once would mix up the barriers between several processes."""
    if jax.process_count() > 1:
        with _failure(manager):
            manager.wait_until_finished()


@contextlib.contextmanager
def _failure(manager: ocp.CheckpointManager) -> Iterator[None]:
    """Whatever the storage says becomes a SaveError that names the place."""
    try:
        yield
    except Exception as error:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # or it adds one traceback an array
        reason = str(error).strip() or type(error).__name__
        raise SaveError(f"{manager.directory}: a checkpoint was not written: {reason}") from error


def _meta(manager: ocp.CheckpointManager, step: int) -> Meta:
    return manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]


def _restore(
    manager: ocp.CheckpointManager, step: int, wanted: PyTree, partial: bool = False
) -> PyTree:
    """The arrays of `wanted`; partial: the checkpoint may hold more."""
    _check_fit(manager, step, wanted, partial)
    restore = ocp.args.PyTreeRestore(
        item=wanted,
        restore_args=ocp.checkpoint_utils.construct_restore_args(wanted),
        partial_restore=partial,
    )
    state = manager.restore(step, args=ocp.args.Composite(state=restore))["state"]
    # Orbax hands back the wish where it has nothing to give.
    missing = [name for name, leaf in _named(state) if isinstance(leaf, jax.ShapeDtypeStruct)]
    if missing:
        raise ConfigError(f"{manager.directory / str(step)}: nothing restored for {missing}")
    return state


def _check_fit(manager: ocp.CheckpointManager, step: int, wanted: PyTree, partial: bool) -> None:
    """Names, shapes and dtypes of the checkpoint against those of `wanted`.

    Raises:
      ConfigError: they differ; the message shows the first few.
    """
    saved = ocp.tree.to_flat_dict(manager.item_metadata(step)["state"].tree, sep="/")
    saved = {name: _kind(leaf) for name, leaf in saved.items() if hasattr(leaf, "shape")}
    here = {name: _kind(leaf) for name, leaf in _named(wanted)}
    wrong = [
        f"{name} is {saved.get(name, 'missing')} there and {kind} here"
        for name, kind in here.items()
        if saved.get(name) != kind
    ]
    if not partial:
        wrong += [
            f"{name} {kind} is only there" for name, kind in saved.items() if name not in here
        ]
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ConfigError(
            f"{manager.directory / str(step)} does not fit this config: {'; '.join(wrong[:3])}{more}"
        )


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


def _kind(leaf: Any) -> str:
    return f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
