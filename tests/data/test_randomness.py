"""Keys, streams and the shuffle without a table."""

import itertools
import math

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from vlbert_jax.data import randomness


def splitmix64(state: int):
    """The published generator, for its outputs at state + n * golden ratio."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) % 2**64
        z = state
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        yield z ^ (z >> 31)


def test_mix_of_one_number_is_splitmix64():
    # First outputs of SplitMix64 seeded with 1234567, as published with the algorithm.
    assert next(splitmix64(1234567)) == 6457827717110365317
    assert randomness.mix(1234567) == 6457827717110365317


def test_arrays_and_numbers_give_the_same():
    numbers = np.array([0, 1, 5, 2**40, 12345678901])
    expected = [randomness.mix(7, int(n), 3) for n in numbers]
    assert randomness.mix(7, numbers, 3).tolist() == expected
    uniforms = [randomness.uniform(7, int(n), 3) for n in numbers]
    assert randomness.uniform(7, numbers, 3).tolist() == uniforms
    assert randomness.mix(-1, 0) == randomness.mix(2**64 - 1, 0)


def test_each_number_of_a_key_counts():
    keys = list(itertools.product(range(3), range(3), range(50), range(4)))
    assert len({randomness.mix(*key) for key in keys}) == len(keys)
    draws = {randomness.generator(*key).random() for key in keys}
    assert len(draws) == len(keys)


def test_a_stream_depends_on_its_key_alone():
    first = randomness.generator(1, 2, 3, randomness.WORDS).random(5)
    randomness.generator(1, 2, 4, randomness.WORDS).random(99)
    again = randomness.generator(1, 2, 3, randomness.WORDS).random(5)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("kind", ["uniform", "generator"])
def test_neighbouring_keys_are_as_good_as_independent(kind):
    """First draws over neighbouring records: uniform, and no correlation with the next record."""
    if kind == "uniform":
        draws = randomness.uniform(0, 0, np.arange(20_000), randomness.MIRROR)
    else:
        draws = np.array([randomness.generator(0, 0, n, 1).random() for n in range(20_000)])
    counts = np.bincount((draws * 100).astype(int), minlength=100)
    assert len(counts) == 100
    assert ((counts - 200) ** 2 / 200).sum() < 99 + 6 * math.sqrt(2 * 99)  # chi-square
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 6 / math.sqrt(20_000)


@hypothesis.given(size=st.integers(1, 3000), seed=st.integers(0, 2**63), turn=st.integers(0, 9))
def test_shuffled_is_a_permutation(size, seed, turn):
    found = randomness.shuffled(np.arange(size), size, seed, turn)
    np.testing.assert_array_equal(np.sort(found), np.arange(size))


def test_shuffled_with_a_turn_for_each_place():
    place, turn = np.tile(np.arange(70), 3), np.repeat([4, 5, 6], 70)
    found = randomness.shuffled(place, 70, 1, turn)
    apart = [randomness.shuffled(np.arange(70), 70, 1, t) for t in (4, 5, 6)]
    np.testing.assert_array_equal(found, np.concatenate(apart))
    assert not np.array_equal(apart[0], apart[1])


@pytest.mark.parametrize("size", [3, 4, 5])
def test_all_orders_are_equally_likely(size):
    draws = 200 * math.factorial(size)
    turn = np.repeat(np.arange(draws), size)
    found = randomness.shuffled(np.tile(np.arange(size), draws), size, 0, turn)
    _, counts = np.unique(found.reshape(draws, size), axis=0, return_counts=True)
    assert len(counts) == math.factorial(size)
    free = len(counts) - 1
    assert ((counts - 200) ** 2 / 200).sum() < free + 6 * math.sqrt(2 * free)


def test_a_long_shuffle_leaves_nothing_near_its_place():
    size = 100_000
    found = randomness.shuffled(np.arange(size), size, 3, 0)
    assert abs(np.corrcoef(found, np.arange(size))[0, 1]) < 6 / math.sqrt(size)
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 6 / math.sqrt(size)
    steps = np.abs(np.diff(found))
    assert abs(steps.mean() / (size / 3) - 1) < 0.02
