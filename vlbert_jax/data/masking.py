"""Which words and regions become targets, and what the model sees in their place.

Used by tasks that pre-train, before the cut (SPEC.md "Pre-training").
"""

from typing import NamedTuple

import numpy as np

MASK_SHARE, RANDOM_SHARE = 0.8, 0.1  # of the target words; the others stay as they are


class Vocabulary(NamedTuple):
    """What masking and items need of a tokenizer: its size and the ids of special pieces."""

    size: int
    pad: int
    cls: int
    sep: int
    mask: int


def mask_words(
    pieces: np.ndarray,
    word: np.ndarray,
    probability: float,
    vocabulary: Vocabulary,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Masks whole words.

    Args:
      pieces: [T] int32.
      word: [T] int32, number of the word of each piece: 0, 1, ... without a gap.
      probability: of each word to become a target.

    Returns:
      tokens [T] int32 as the model sees them, is_target [T] bool.
    """
    if not len(pieces):
        return pieces, np.zeros(0, bool)
    fate = rng.random(word[-1] + 1)[word]
    is_target = fate < probability
    is_masked = fate < probability * MASK_SHARE
    is_changed = fate < probability * (MASK_SHARE + RANDOM_SHARE)
    tokens = np.where(is_masked, np.int32(vocabulary.mask), pieces)
    random = np.flatnonzero(is_changed & ~is_masked)
    if len(random):  # all entries but [PAD], specials too
        entry = rng.integers(0, vocabulary.size - 1, len(random), np.int32)
        tokens[random] = entry + (entry >= vocabulary.pad)
    return tokens, is_target


def mask_regions(
    regions: int, probability: float, replaced_share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """is_target [regions] bool, is_replaced [regions] bool; the whole image is never asked for."""
    fate = rng.random(regions)
    return fate < probability, fate < probability * replaced_share
