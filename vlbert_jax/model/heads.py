"""The heads: words, region classes, image-text relation (SPEC.md "Heads").

Last part of the model. A head runs on the target slots of a term only.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vlbert_jax.model.layers import layer_norm, linear, wide_einsum


class WordHead(nn.Module):
    """Dense, GELU, LayerNorm, then the word table transposed plus a bias per word."""

    hidden: int
    vocabulary: int
    std: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, table: jax.Array) -> jax.Array:
        """[B, K, H], table [rows, H] -> [B, K, rows] float32, rows past the vocabulary at -1e9."""
        x = nn.gelu(linear(self.hidden, self.std, self.dtype, "transform")(x), approximate=False)
        x = layer_norm(self.dtype, "norm")(x)
        bias = self.param("bias", nn.initializers.zeros, (self.vocabulary,))
        logits = wide_einsum("bkh,vh->bkv", x, table.astype(self.dtype))
        beyond = (0, table.shape[0] - self.vocabulary)
        return logits + jnp.pad(bias, beyond, constant_values=-1e9)


class RegionHead(nn.Module):
    """Dense, GELU, dense to the detector's classes."""

    hidden: int
    classes: int
    std: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, K, H] -> [B, K, C] float32."""
        x = nn.gelu(linear(self.hidden, self.std, self.dtype, "transform")(x), approximate=False)
        return _widen(linear(self.classes, self.std, self.dtype, "classify")(x))


class RelationHead(nn.Module):
    """Pooler (dense, tanh) and a dense layer to "not together" / "together"."""

    hidden: int
    std: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[B, K, H], the first slots of sequences -> [B, K, 2] float32."""
        pooled = jnp.tanh(linear(self.hidden, self.std, self.dtype, "pooler")(x))
        self.sow("intermediates", "pooled", pooled)
        return _widen(linear(2, self.std, self.dtype, "classify")(pooled))


def _widen(logits: jax.Array) -> jax.Array:
    return logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
