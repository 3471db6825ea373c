"""Attention between the slots of one sequence, in rows that hold many sequences.

Used by the encoder. Two ways with one result: `plain` scores every pair of slots of a row;
`window` only pairs that can belong to one sequence, since no sequence is longer than a window.
"""

import jax
import jax.numpy as jnp

from vlbert_jax.model.dropout import dropout
from vlbert_jax.model.layers import precision, wide_einsum


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    sequence: jax.Array,
    *,
    kind: str,
    window: int,
    rate: float,
    rng: jax.Array | None,
) -> tuple[jax.Array, jax.Array]:
    """Softmax attention within each sequence, with dropout on the weights.

    Args:
      query, key, value: [B, L, heads, d].
      sequence: [B, L] int32; slots attend to slots with the same number. Padding (0) attends to
        padding, so that its softmax is defined; nothing reads it.
      kind: "plain", "window", or "auto" for the one that scores fewer pairs.
      window: no sequence is longer than window + 1 slots.
      rate: dropout on the weights.
      rng: key of the dropout, or None.

    Returns:
      [B, L, heads, d] in the dtype of `value`, and the attention weights before dropout
      (float32 or wider): plain [B, heads, L, L], window [B, L / window, heads, window,
      3 * window].
    """
    length = query.shape[1]
    if kind == "plain" or (kind == "auto" and 3 * window >= length):
        return _weigh(query, key, value, sequence, sequence, rate, rng)
    return _attend_in_windows(query, key, value, sequence, window, rate, rng)


def _attend_in_windows(query, key, value, sequence, window, rate, rng):
    """Each block of `window` slots attends to itself and to the blocks beside it."""
    batch, length, heads, width = query.shape
    blocks = -(-length // window)
    pad = blocks * window - length

    def block(x):  # [B, L, ...] -> [B, blocks, window, ...]
        x = jnp.pad(x, [(0, 0), (0, pad)] + [(0, 0)] * (x.ndim - 2))
        return x.reshape(batch, blocks, window, *x.shape[2:])

    def neighbours(x):  # [B, blocks, window, ...] -> [B, blocks, 3 * window, ...]
        x = jnp.pad(x, [(0, 0), (1, 1)] + [(0, 0)] * (x.ndim - 2))
        return jnp.concatenate([x[:, :-2], x[:, 1:-1], x[:, 2:]], axis=2)

    sequence = block(sequence)
    mixed, weights = _weigh(
        block(query),
        neighbours(block(key)),
        neighbours(block(value)),
        sequence,
        neighbours(sequence),
        rate,
        rng,
    )
    return mixed.reshape(batch, blocks * window, heads, width)[:, :length], weights


def _weigh(query, key, value, query_sequence, key_sequence, rate, rng):
    """softmax(query . key / sqrt(d)) . value over key slots of the query's sequence."""
    scores = wide_einsum("...qhd,...khd->...hqk", query, key) * query.shape[-1] ** -0.5
    same = query_sequence[..., None, :, None] == key_sequence[..., None, None, :]
    weights = jax.nn.softmax(jnp.where(same, scores, jnp.finfo(scores.dtype).min), axis=-1)
    dropped = dropout(weights, rate, rng).astype(value.dtype)
    mixed = jnp.einsum("...hqk,...khd->...qhd", dropped, value, precision=precision(value.dtype))
    return mixed, weights
