"""The pieces that everything is made of, with the release's initial values and eps."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

NORM_EPS = 1e-12


def precision(dtype: jnp.dtype) -> jax.lax.Precision:
    """float32 products are float32 products: no TF32 on GPUs, no bfloat16 passes on TPUs."""
    narrow = jnp.dtype(dtype).itemsize < 4
    return jax.lax.Precision.DEFAULT if narrow else jax.lax.Precision.HIGHEST


def linear(features: int | tuple[int, ...], std: float, dtype: jnp.dtype, name: str, axis=-1):
    """A dense layer over `axis`: weights normal with `std` (not truncated), bias 0."""
    return nn.DenseGeneral(
        features,
        axis=axis,
        dtype=dtype,
        precision=precision(dtype),
        kernel_init=nn.initializers.normal(std),
        name=name,
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


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def wide_einsum(subscripts: str, a: jax.Array, b: jax.Array) -> jax.Array:
    """Einsum of narrow operands whose result keeps float32, as softmax and losses need it.

    Its backward pass multiplies in the operands' dtype; einsum's own would multiply in float32.
    """
    wide = jnp.promote_types(a.dtype, jnp.float32)
    return jnp.einsum(subscripts, a, b, precision=precision(a.dtype), preferred_element_type=wide)


def _wide_einsum_forward(subscripts, a, b):
    return wide_einsum(subscripts, a, b), (a, b)


def _wide_einsum_backward(subscripts, operands, cotangent):
    dtype = operands[0].dtype
    product = functools.partial(jnp.einsum, subscripts, precision=precision(dtype))
    _, vjp = jax.vjp(product, *operands)
    return vjp(cotangent.astype(dtype))


wide_einsum.defvjp(_wide_einsum_forward, _wide_einsum_backward)
