"""What training changes: step, parameters, optimizer state; and the model that they belong to."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from vlbert_jax.config import Config, Model
from vlbert_jax.data import rows
from vlbert_jax.model.vlbert import EXTRA_TOKENS, VLBert, table_rows


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
