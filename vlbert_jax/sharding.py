"""Where every array lives: the mesh, one rule table for parameters, one rule for batches.

Axes: `data` copies the parameters and splits the batch, `fsdp` splits both, `tensor` splits heads
and feed-forward. A moment of the optimizer lies where its parameter lies.
"""

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from vlbert_jax import config, state
from vlbert_jax.data import rows
from vlbert_jax.options import ConfigError

# The first rule whose pattern is found in a parameter's path holds. The first axis of a stacked
# layer's parameter is the layer. The token table is split by rows only: split by columns too, the
# gather would first collect the whole table.
RULES = (
    ("embeddings/tokens", P(("tensor", "fsdp"))),
    ("embeddings/(positions|segments)", P(None, "fsdp")),
    ("qkv/kernel", P(None, "fsdp", None, "tensor")),
    ("qkv/bias", P(None, None, "tensor")),
    ("attention_out/kernel", P(None, "tensor", None, "fsdp")),
    ("mlp_in/kernel", P(None, "fsdp", "tensor")),
    ("mlp_in/bias", P(None, "tensor")),
    ("mlp_out/kernel", P(None, "tensor", "fsdp")),
    ("kernel", P("fsdp")),
    ("", P()),
)

BATCH = P(("data", "fsdp"))


def make_mesh(sizes: config.Mesh) -> Mesh:
    """The mesh over all devices of all processes.

    Raises:
      ConfigError: the axes do not multiply to the number of devices.
    """
    devices = jax.device_count()
    others = sizes.fsdp * sizes.tensor
    data = devices // others if sizes.data == -1 else sizes.data
    if data * others != devices:
        raise ConfigError(
            f"config.mesh: data={sizes.data} x fsdp={sizes.fsdp} x tensor={sizes.tensor} needs"
            f" {max(data, 1) * others} devices, there are {devices};"
            f" config.mesh.data=-1 takes those that fsdp x tensor leave"
        )
    return jax.make_mesh(
        (data, sizes.fsdp, sizes.tensor),
        ("data", "fsdp", "tensor"),
        axis_types=(AxisType.Auto,) * 3,
    )


def abstract_state(mesh: Mesh, shapes: Any) -> Any:
    """Shapes of a train state (or of parameters), each with its sharding by `RULES`.

    An axis that does not divide its dimension is left out for that array.
    """

    def place(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        spec = next(spec for pattern, spec in RULES if re.search(pattern, name))
        return _abstract(leaf, NamedSharding(mesh, _fitting(mesh, spec, leaf.shape)))

    return jax.tree_util.tree_map_with_path(place, shapes)


def abstract_batch(mesh: Mesh, layout: rows.Layout, number: int) -> dict[str, Any]:
    """Shapes of a global batch of `number` rows, sharded over data and fsdp."""
    batch = jax.eval_shape(lambda: state.device_fields(rows.empty(layout, number)))
    return {name: _abstract(leaf, NamedSharding(mesh, BATCH)) for name, leaf in batch.items()}


def of(abstract: Any) -> Any:
    """The shardings of an abstract tree."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def put_batch(mesh: Mesh, batch: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """This host's rows of the global batch -> global arrays [B, ...] over the mesh."""
    return jax.make_array_from_process_local_data(NamedSharding(mesh, BATCH), batch)


def describe(mesh: Mesh) -> str:
    """Such as "8 cpu (data 4 x fsdp 2 x tensor 1)"."""
    axes = " x ".join(f"{name} {size}" for name, size in mesh.shape.items())
    return f"{mesh.size} {mesh.devices.flat[0].device_kind} ({axes})"


def check_rows(mesh: Mesh, settings: config.Config) -> None:
    """Refuses batches that do not divide over the devices.

    Raises:
      ConfigError: with both numbers and the nearest that would work.
    """
    shards = mesh.shape["data"] * mesh.shape["fsdp"]
    training = settings.data.rows_per_batch
    for key, number, factor in (
        ("data.rows_per_batch", training, shards * settings.train.accumulation),
        ("eval.rows_per_batch", settings.eval.rows_per_batch or training, shards),
    ):
        if number % factor:
            raise ConfigError(
                f"config.{key}={number} does not divide over config.mesh.data x config.mesh.fsdp"
                f" = {shards} devices x {factor // shards} micro-batches; the nearest that does:"
                f" {config.nearest_multiple(number, factor)}"
            )


def _abstract(leaf: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)


def _fitting(mesh: Mesh, spec: P, shape: tuple[int, ...]) -> P:
    """`spec` without the axes that do not divide their dimension."""
    if len(spec) > len(shape):
        return P()
    fitting = []
    for axes, size in zip(spec, shape, strict=False):
        names = axes if isinstance(axes, tuple) else (axes,)
        parts = np.prod([mesh.shape[name] for name in names if name], dtype=int)
        fitting.append(axes if size % parts == 0 else None)
    return P(*fitting)
