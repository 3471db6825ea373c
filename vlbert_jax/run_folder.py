"""The run folder: one run at a time, always told apart from a changed one.

`claim` is the first thing that train.py does, before devices and data: it makes the folder, locks
it and compares the config with that of the run that is there. `record_config` and
`record_environment` follow once devices and data are open, so that a start that failed leaves no
run behind.
"""

import contextlib
import datetime
import fcntl
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from vlbert_jax import config as config_lib
from vlbert_jax.config import Config
from vlbert_jax.options import ConfigError, DataError

CONFIG, ENVIRONMENT, LOCK = "config.json", "environment.json", "lock"

# A change of these sections and options leaves what is learned as it is, up to rounding.
_NO_MATTER = {
    "init_from",  # of the start only
    "checkpoint",
    "eval",
    "mesh",
    "data.validation",
    "data.made_world",
    "data.workers",
    "train.log_every_steps",
    "train.stop_after_nonfinite",
    "model.attention",
    "model.remat",
    "model.unroll",
}

_PACKAGES = (
    "vlbert_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "array_record",
    "tensorflow-datasets", "tokenizers", "ml_collections", "numpy",
)  # fmt: skip


@contextlib.contextmanager
def claim(
    workdir: str | pathlib.Path, config: Config, allow_change: bool = False, process: int = 0
) -> Iterator[list[str]]:
    """Holds the run folder while the block runs; yields the accepted changes, `key: old -> new`.

    Args:
      workdir: made if it is not there.
      allow_change: go on although the config differs from that of the run in the folder.
      process: number of this process; only process 0 locks and writes.

    Raises:
      ConfigError: another run holds the folder, the config has changed in a way that matters, or
        the folder cannot be written.
    """
    workdir = pathlib.Path(workdir)
    with _lock(workdir) if process == 0 else contextlib.nullcontext():
        changes = _changes(workdir / CONFIG, config)
        if changes and not allow_change:
            raise ConfigError(
                f"{workdir} holds a run with another config: {'; '.join(changes)}. Continue it"
                " with the new config by --allow_change, or choose another --workdir"
            )
        yield changes


def record_config(workdir: str | pathlib.Path, config: Config) -> None:
    """Writes config.json; from then on the folder holds a run."""
    _write(pathlib.Path(workdir) / CONFIG, config_lib.to_json(config))


def read_config(workdir: str | pathlib.Path) -> Config:
    """The resolved config of a run.

    Raises:
      ConfigError: the folder holds no run.
    """
    path = pathlib.Path(workdir) / CONFIG
    if not path.is_file():
        raise ConfigError(f"{workdir}: no run there, {CONFIG} is missing")
    return config_lib.from_json(path.read_text())


def record_environment(
    workdir: str | pathlib.Path,
    config: Config,
    data: Mapping[str, str],
    step: int = 0,
    allow_change: bool = False,
    process: int = 0,
) -> list[str]:
    """Writes environment.json: what a second run needs to be the same one.

    Args:
      data: prepared set -> fingerprint of its content.
      step: updates done before this start.

    Returns:
      Accepted changes of the data.

    Raises:
      DataError: the run in the folder read other data, and `allow_change` is False.
    """
    path = pathlib.Path(workdir) / ENVIRONMENT
    before = json.loads(path.read_text()) if path.is_file() else {}
    changes = []
    if sorted(before.get("data", data).values()) != sorted(data.values()):
        changes = [f"data: {before['data']} -> {dict(data)}"]
        if not allow_change:
            raise DataError(
                f"{workdir} holds a run on other data: {changes[0]}. Continue it on the new data"
                " by --allow_change, or choose another --workdir"
            )
    if process == 0:
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        start = {"time": now, "step": step, "host": platform.node(), "command": sys.argv}
        environment = {
            **environment_facts(),
            "seed": config.seed,
            "data": dict(data),
            "starts": [*before.get("starts", []), start],
        }
        _write(path, json.dumps(environment, indent=2) + "\n")
    return changes


def environment_facts() -> dict[str, Any]:
    """Versions, code and devices of this process; starts jax's backend."""
    import jax

    devices = jax.devices()
    return {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in _installed()},
        "code": code_hash(),
        "platform": platform.platform(),
        "cpu_cores": os.cpu_count(),
        "devices": f"{len(devices)} x {devices[0].device_kind}",
        "processes": jax.process_count(),
    }


def code_hash() -> str:
    """SHA-256 over the package's Python files, names and contents; 16 hex digits."""
    root = pathlib.Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _installed() -> list[str]:
    found = {
        d.metadata["Name"].lower().replace("-", "_") for d in importlib.metadata.distributions()
    }
    return [name for name in _PACKAGES if name.replace("-", "_") in found]


def _changes(path: pathlib.Path, config: Config) -> list[str]:
    """`key: old -> new` of every option that matters and is not what it was."""
    if not path.is_file():
        return []
    new = _flat(json.loads(config_lib.to_json(config)))
    # An option that the run's version of the package did not have was at its default.
    old = _flat(json.loads(config_lib.to_json(Config()))) | _flat(json.loads(path.read_text()))
    changes = []
    for key, was in old.items():
        if {key, key.partition(".")[0]} & _NO_MATTER:
            continue
        now = new.get(key, "no such option now")
        if _comparable(key, was) != _comparable(key, now):
            changes.append(f"{key}: {was!r} -> {now!r}")
    return changes


def _flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    options = {}
    for name, value in section.items():
        inner = isinstance(value, dict)
        options |= _flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return options


def _comparable(key: str, value: Any) -> Any:
    """Prepared sets may move: their content is compared, by fingerprint, not their path."""
    return [weight for _, weight in value] if key == "data.train" else value


@contextlib.contextmanager
def _lock(workdir: pathlib.Path) -> Iterator[None]:
    """The operating system lets go of the lock however the process ends."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / LOCK).open("a+")
    except OSError as error:
        raise ConfigError(f"--workdir={workdir} cannot be written: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"{workdir} is in use by {_holder(file)}; wait for it or choose another --workdir"
            ) from error
        now = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {platform.node()} since {now}\n")
        file.flush()
        yield


def _holder(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "another process"


def _write(path: pathlib.Path, text: str) -> None:
    """All or nothing, also where the process is killed in between."""
    temporary = path.with_name(f"{path.name}.new")
    temporary.write_text(text)
    os.replace(temporary, path)
