"""The two layers that everything is made of, with the release's initial values and eps."""

import flax.linen as nn
import jax
import jax.numpy as jnp

NORM_EPS = 1e-12


def linear(features: int | tuple[int, ...], std: float, dtype: jnp.dtype, name: str, axis=-1):
    """A dense layer over `axis`: weights normal with `std` (not truncated), bias 0."""
    return nn.DenseGeneral(
        features, axis=axis, dtype=dtype, kernel_init=nn.initializers.normal(std), name=name
    )


def layer_norm(dtype: jnp.dtype, name: str, scale: float = 1.0) -> nn.LayerNorm:
    """LayerNorm over the last axis with float32 statistics and a first scale of `scale`."""
    return nn.LayerNorm(
        epsilon=NORM_EPS,
        dtype=dtype,
        use_fast_variance=False,
        scale_init=nn.initializers.constant(scale),
        name=name,
    )


def uniform(bound: float) -> jax.nn.initializers.Initializer:
    """Initial values uniform in [-bound, bound), as PyTorch's linear layers have them."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(
        key, shape, dtype, -bound, bound
    )
