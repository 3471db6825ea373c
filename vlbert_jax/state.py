"""What training changes: step, parameters, optimizer state; and the model that they belong to."""

from typing import Any

import flax.struct
import flax.traverse_util
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vlbert_jax.config import Config, Model
from vlbert_jax.data import rows
from vlbert_jax.model.vlbert import EXTRA_TOKENS, VLBert, table_rows
from vlbert_jax.options import ConfigError


@flax.struct.dataclass
class TrainState:
    """`step` counts finished updates, skipped ones too; int32 scalar."""

    step: jax.Array
    params: Any
    opt_state: Any


def make_model(config: Config, layout: rows.Layout) -> VLBert:
    """The network with one head per term of the layout."""
    heads = {name: term.head for name, term in layout.terms.items()}
    return VLBert(config.model, heads=flax.core.freeze(heads), window=config.data.text_slots)


def init_params(model: VLBert, layout: rows.Layout, seed: int) -> Any:
    """Fresh float32 parameters (SPEC.md "Initial values"); traceable."""
    batch = device_fields(rows.empty(layout, rows=1))
    return model.init(jax.random.key(seed), batch, train=False)["params"]


def init(
    model: VLBert, layout: rows.Layout, optimizer: optax.GradientTransformation, seed: int
) -> TrainState:
    """The state before the first update; traceable, so that it can be created sharded."""
    params = init_params(model, layout, seed)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))


def device_fields(batch: rows.Batch) -> rows.Batch:
    """The fields of a batch that the device needs: all but the ids."""
    return {name: array for name, array in batch.items() if name != rows.ITEM_ID}


def count_params(params: Any, config: Model) -> int:
    """Parameters as the release counts them: without the padding of the token table."""
    padding = (table_rows(config) - config.vocabulary - EXTRA_TOKENS) * config.hidden
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params)) - padding


def with_weights(params: Any, given: Any, source: str) -> tuple[Any, str]:
    """Fresh parameters with those of another run put in by name.

    Args:
      params: fresh ones, on their devices.
      given: nested dicts of arrays; those that `params` lacks are left out.
      source: where `given` comes from, for messages.

    Returns:
      The parameters, and what was loaded, fresh and unused, for people.

    Raises:
      ConfigError: no name fits, or an array has another shape.
    """
    fresh = flax.traverse_util.flatten_dict(params, sep="/")
    given = flax.traverse_util.flatten_dict(given, sep="/")
    loaded = fresh.keys() & given.keys()
    if not loaded:
        raise ConfigError(f"config.init_from={source}: none of its parameters has a place here")
    for name in sorted(loaded):
        if given[name].shape != fresh[name].shape:
            raise ConfigError(
                f"config.init_from={source}: {name} is {given[name].shape} there and"
                f" {fresh[name].shape} here; make config.model the same, or start from scratch"
            )
        fresh[name] = jax.device_put(given[name], fresh[name].sharding)
    rest = {"fresh": fresh.keys() - loaded, "unused": given.keys() - loaded}
    report = f"{len(loaded)} arrays from {source}" + "".join(
        f"; {kind}: {', '.join(sorted(names))}" for kind, names in rest.items() if names
    )
    return flax.traverse_util.unflatten_dict(fresh, sep="/"), report
