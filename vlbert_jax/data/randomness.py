"""Chance that depends on nothing but numbers: who asks, for which record, in which pass.

Used by plan, masking and tasks. All randomness of the data path comes from here, keyed by (seed,
turn, record, purpose), so that it does not depend on workers, hosts or the order of reading.
"turn" is the number of the pass over the record's own set: a corpus that is shorter than the
captions gets other masks each time that it comes round within an epoch.
"""

import numpy as np
from numpy.random.bit_generator import ISeedSequence

# Purposes: the last number of a key.
ORDER, WORDS, REGIONS, MIRROR, RELATION, PARTNER = range(6)

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2**64 / golden ratio: steps that spread evenly
_ROUNDS = 6

Numbers = int | np.ndarray  # Python integers or int64 / uint64 arrays, which broadcast


def mix(*numbers: Numbers) -> Numbers:
    """A hash of the numbers: an int below 2**64, or uint64 [n] where one of them is an array.

    Keys that differ in one number never collide: each round of SplitMix64 is a bijection.
    """
    state = 0
    for number in numbers:
        number = number.astype(np.uint64) if isinstance(number, np.ndarray) else number & _MASK
        state = _scramble(((state ^ number) + _GOLDEN) & _MASK)
    return state


def uniform(*numbers: Numbers) -> float | np.ndarray:
    """One number of [0, 1) for the key, float64; an array where one of the numbers is an array."""
    return (mix(*numbers) >> 11) * 2.0**-53


def generator(*numbers: int) -> np.random.Generator:
    """NumPy's PCG64 with a stream of its own for the key; 4 microseconds."""
    return np.random.Generator(np.random.PCG64(_Seed(mix(*numbers))))


def shuffled(place: np.ndarray, size: int, *numbers: Numbers) -> np.ndarray:
    """Which of 0..size-1 the shuffle of the key puts at `place` (int64 [n], each below `size`).

    A permutation with random access (a Feistel network that walks on while it is outside), so
    that a corpus of any length is shuffled anew at each pass without a table in memory.
    """
    half = max(4, ((size - 1).bit_length() + 1) // 2)  # fewer bits would mix too little
    low = (1 << half) - 1

    def permute(x: np.ndarray, key: np.ndarray) -> np.ndarray:  # of 0..4**half - 1
        left, right = x >> half, x & low
        for turn in range(1, _ROUNDS + 1):
            left, right = right, left ^ (_scramble((right ^ key) + turn * _GOLDEN % 2**64) & low)
        return left << half | right

    key = np.broadcast_to(np.asarray(mix(*numbers), np.uint64), place.shape)
    found = permute(place.astype(np.uint64), key)
    outside = np.flatnonzero(found >= size)
    while len(outside):
        found[outside] = permute(found[outside], key[outside])
        outside = outside[found[outside] >= size]
    return found.astype(np.int64)


def _scramble(x: Numbers) -> Numbers:
    """The finaliser of SplitMix64."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _MASK
    return x ^ (x >> 31)


class _Seed(ISeedSequence):
    """Hashed words as the seed of a bit generator; NumPy's own way of seeding takes longer."""

    def __init__(self, key: int):
        self.key = key

    def generate_state(self, n_words: int, dtype: type = np.uint32) -> np.ndarray:
        words = [_scramble((self.key + i * _GOLDEN) & _MASK) for i in range(1, n_words + 1)]
        return np.array(words, np.uint64)
