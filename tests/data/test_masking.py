"""Masking of words and regions against the probabilities of SPEC.md, within binomial limits."""

import json
import math
import pathlib

import numpy as np
import pytest

from vlbert_jax.data import masking

GOLDEN = json.loads((pathlib.Path(__file__).parent.parent / "files/data_recipe.json").read_text())
DRAWS = 20_000
IDS = {piece: number for number, piece in enumerate(GOLDEN["vocab"])}
VOCABULARY = masking.Vocabulary(
    len(IDS), *(IDS[piece] for piece in ("[PAD]", "[CLS]", "[SEP]", "[MASK]"))
)
WORDS = [[IDS[piece] for piece in word] for word in GOLDEN["word_masking"]["pieces"]]
PIECES = np.array([piece for word in WORDS for piece in word], np.int32)
WORD = np.repeat(np.arange(len(WORDS), dtype=np.int32), [len(word) for word in WORDS])


def assert_share(count: int, total: int, probability: float) -> None:
    limit = 5 * math.sqrt(total * probability * (1 - probability))
    assert abs(count - total * probability) < limit, f"{count / total} of {total}, {probability}"


@pytest.fixture(scope="module")
def masked():
    """tokens and is_target [DRAWS, T] of the golden's sentence."""
    rng = np.random.default_rng(0)
    results = [masking.mask_words(PIECES, WORD, 0.15, VOCABULARY, rng) for _ in range(DRAWS)]
    tokens, is_target = zip(*results, strict=True)
    return np.stack(tokens), np.stack(is_target)


def test_words_are_masked_as_a_whole(masked):
    tokens, is_target = masked
    first = np.searchsorted(WORD, np.arange(len(WORDS)))
    assert (is_target == is_target[:, first][:, WORD]).all()
    is_mask = tokens == VOCABULARY.mask
    # A random piece is [MASK] once in 106: a word may then look half masked.
    half = (is_mask != is_mask[:, first][:, WORD]).any(axis=1).mean()
    assert half < 0.01
    assert (tokens == PIECES)[~is_target].all()


def test_shares_of_words(masked):
    tokens, is_target = masked
    single = [w for w, word in enumerate(WORDS) if len(word) > 1]  # a kept word is told for sure
    first = np.searchsorted(WORD, single)
    target = is_target[:, first]
    assert_share(int(is_target[:, np.searchsorted(WORD, range(len(WORDS)))].sum()), 160_000, 0.15)
    size = VOCABULARY.size - 1
    for w, column in zip(single, target.T, strict=True):
        n = int(column.sum())
        pieces = tokens[column][:, w == WORD]
        all_mask = (pieces == VOCABULARY.mask).all(axis=1).sum()
        all_kept = (pieces == np.array(WORDS[w])).all(axis=1).sum()
        chance = 0.1 / size ** len(WORDS[w])
        assert_share(int(all_mask), n, 0.8 + chance)
        assert_share(int(all_kept), n, 0.1 + chance)


def test_random_pieces(masked):
    """One by one, uniform over all entries but [PAD], specials too."""
    tokens, is_target = masked
    changed = tokens[is_target & (tokens != VOCABULARY.mask) & (tokens != PIECES)]
    counts = np.bincount(changed, minlength=VOCABULARY.size)
    assert counts[VOCABULARY.pad] == 0
    absent = set(range(VOCABULARY.size)) - {VOCABULARY.pad, VOCABULARY.mask} - set(PIECES.tolist())
    absent = sorted(absent)
    expected = is_target.sum() * 0.1 / (VOCABULARY.size - 1)
    chi_square = ((counts[absent] - expected) ** 2 / expected).sum()
    assert chi_square < len(absent) + 6 * math.sqrt(2 * len(absent))
    assert counts[[VOCABULARY.cls, VOCABULARY.sep]].min() > 0
    two = is_target[:, WORD == 2] & (tokens[:, WORD == 2] != VOCABULARY.mask)
    pairs = tokens[:, WORD == 2][two.all(axis=1)]
    pairs = pairs[(pairs != PIECES[WORD == 2]).all(axis=1)]
    assert (pairs[:, 0] == pairs[:, 1]).mean() < 0.05


def test_as_the_original_masked(masked):
    """Shares of the original's own 20,000 draws, within both samples' limits."""
    tokens, is_target = masked
    counts = GOLDEN["word_masking"]["counts"]
    first = np.searchsorted(WORD, np.arange(len(WORDS)))
    ours = int(is_target[:, first].sum())
    deviation = math.sqrt(2 * 160_000 * 0.15 * 0.85)
    assert abs(ours - counts["target"]) < 5 * deviation
    all_mask = int((tokens[:, first] == VOCABULARY.mask)[is_target[:, first]].sum())
    assert abs(all_mask / ours - counts["mask"] / counts["target"]) < 5 * math.sqrt(
        2 * 0.16 / 24_000
    )


def test_pad_is_never_drawn_wherever_it_stands():
    rng = np.random.default_rng(1)
    vocabulary = masking.Vocabulary(size=8, pad=5, cls=1, sep=2, mask=3)
    pieces, word = np.full(50_000, 4, np.int32), np.arange(50_000, dtype=np.int32)
    tokens, is_target = masking.mask_words(pieces, word, 1.0, vocabulary, rng)
    assert is_target.all()
    counts = np.bincount(tokens, minlength=8)
    assert counts[5] == 0
    assert counts[[0, 1, 2, 6, 7]].min() > 0
    assert_share(int(counts[7]), 50_000, 0.1 / 7)


def test_nothing_to_mask():
    rng = np.random.default_rng(0)
    none = np.zeros(0, np.int32)
    tokens, is_target = masking.mask_words(none, none, 0.15, VOCABULARY, rng)
    assert (len(tokens), len(is_target)) == (0, 0)
    tokens, is_target = masking.mask_words(PIECES, WORD, 0.0, VOCABULARY, rng)
    assert not is_target.any()
    np.testing.assert_array_equal(tokens, PIECES)
    assert [len(part) for part in masking.mask_regions(0, 0.15, 0.9, rng)] == [0, 0]


def test_regions():
    rng = np.random.default_rng(2)
    results = [masking.mask_regions(10, 0.15, 0.9, rng) for _ in range(DRAWS)]
    is_target, is_replaced = (np.stack(part) for part in zip(*results, strict=True))
    assert not (is_replaced & ~is_target).any()
    assert_share(int(is_target.sum()), is_target.size, 0.15)
    assert_share(int(is_replaced.sum()), int(is_target.sum()), 0.9)
    by_place = is_target.sum(axis=0)
    assert np.abs(by_place - DRAWS * 0.15).max() < 5 * math.sqrt(DRAWS * 0.1275)
    golden = GOLDEN["region_masking"]
    ours = is_replaced.sum() / is_target.sum()
    limit = 5 * math.sqrt(0.09 * (1 / 30_000 + 1 / (0.15 * golden["draws"])))
    assert abs(ours - golden["replaced_of_targets"]) < limit
