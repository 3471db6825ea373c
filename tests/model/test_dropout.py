"""The hash's bits: share kept, independence of index and key, expectation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vlbert_jax.model.dropout import dropout, keep_mask

SHAPE = (64, 48, 96)


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_share_kept(rate):
    kept = np.asarray(keep_mask(jax.random.key(0), rate, SHAPE))
    error = (rate * (1 - rate) / kept.size) ** 0.5
    assert abs(kept.mean() - (1 - rate)) < 5 * error
    for axis in range(3):  # rows, columns and planes, each for itself
        others = tuple(a for a in range(3) if a != axis)
        shares = kept.mean(axis=others)
        spread = (rate * (1 - rate) * SHAPE[axis] / kept.size) ** 0.5
        assert abs(shares - (1 - rate)).max() < 5 * spread


def test_neighbours_and_keys_are_independent():
    """Correlation with shifted copies and with other keys' bits is noise."""
    bits = [
        np.asarray(keep_mask(jax.random.key(seed), 0.5, SHAPE)).astype(float) - 0.5
        for seed in range(4)
    ]
    noise = 5 * 0.25 / bits[0].size ** 0.5
    for axis in range(3):
        for shift in (1, 2, 32):
            moved = np.roll(bits[0], shift, axis)
            assert abs((bits[0] * moved).mean()) < noise
    for a in range(4):
        for b in range(a):
            assert abs((bits[a] * bits[b]).mean()) < noise


def test_runs_of_equal_bits_have_the_lengths_of_coin_flips():
    bits = np.asarray(keep_mask(jax.random.key(7), 0.5, (2**20,)))
    edges = np.flatnonzero(np.diff(bits)) + 1
    lengths = np.diff(edges)
    for length in range(1, 10):
        expected = len(lengths) * 0.5**length
        assert abs((lengths == length).sum() - expected) < 5 * expected**0.5


def test_scales_what_stays():
    x = jnp.ones((1000, 100))
    out = np.asarray(dropout(x, 0.1, jax.random.key(0)))
    np.testing.assert_allclose(np.unique(out), [0, 1 / 0.9], rtol=1e-6)
    assert abs(out.mean() - 1) < 0.01
    assert dropout(x, 0.1, None) is x
    assert dropout(x, 0.0, jax.random.key(0)) is x


def test_same_bits_however_sharded():
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    x = jnp.ones((8, 16, 4))
    spread = jax.device_put(x, jax.NamedSharding(mesh, jax.P("a", "b")))
    drop = jax.jit(lambda x: dropout(x, 0.3, jax.random.key(3)))
    np.testing.assert_array_equal(drop(x), drop(spread))
