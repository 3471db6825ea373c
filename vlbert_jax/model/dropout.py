"""Dropout whose bits come from an integer hash of the element's index.

Used by every part of the model. A hash is cheap enough to be computed again in the backward pass
(nothing is stored), and an element's fate depends on the key and its global index only, so it is
the same however the array is sharded.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np


def dropout(x: jax.Array, rate: float, key: jax.Array | None) -> jax.Array:
    """`x` with a share `rate` of its elements set to 0 and the others scaled by 1 / (1 - rate).

    Args:
      x: any shape, floating dtype.
      rate: share dropped, 0 <= rate < 1.
      key: random key, or None for no dropout (evaluation).
    """
    if key is None or rate == 0:
        return x
    return jnp.where(keep_mask(key, rate, x.shape), x / (1 - rate), jnp.zeros((), x.dtype))


def keep_mask(key: jax.Array, rate: float, shape: tuple[int, ...]) -> jax.Array:
    """Independent bits of the given shape, True with probability 1 - rate (to 2^-32)."""
    strides = [math.prod(shape[axis + 1 :]) % 2**32 for axis in range(len(shape))]
    index = sum(
        jax.lax.broadcasted_iota(jnp.uint32, shape, axis) * np.uint32(stride)
        for axis, stride in enumerate(strides)
    )
    first, second = jax.random.bits(key, (2,), jnp.uint32)
    bits = _mix(_mix(index * np.uint32(0x9E3779B9) ^ first) + second)
    return bits >= np.uint32(round(rate * 2**32))


def _mix(x: jax.Array) -> jax.Array:
    """A bijection of 32-bit words in which every input bit moves every output bit (murmur3)."""
    x = (x ^ (x >> 16)) * np.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * np.uint32(0xC2B2AE35)
    return x ^ (x >> 16)
