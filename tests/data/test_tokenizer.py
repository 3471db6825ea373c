"""The tokenizer against recorded pieces, and against a second one on any text."""

import json
import pathlib
import unicodedata

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import example, given

from tests import wordpiece_oracle
from vlbert_jax.data import tokenizer
from vlbert_jax.data.tokenizer import Tokenizer, basic_words
from vlbert_jax.options import DataError

FILES = pathlib.Path(__file__).parent.parent / "files"
BERT = Tokenizer()
BERT_VOCABULARY = set(BERT.vocabulary)


def pieces_of(text, of=BERT):
    return [of.vocabulary[number] for number in of.encode(text)[0]]


@pytest.fixture(scope="module")
def data_recipe():
    return json.loads((FILES / "data_recipe.json").read_text("utf-8"))


def test_data_recipe_tokenizer(data_recipe, tmp_path):
    file = tmp_path / "vocabulary.txt"
    file.write_text("\n".join(data_recipe["vocab"]), "utf-8")
    small = Tokenizer(str(file))
    assert (small.pad, small.unk, small.cls, small.sep, small.mask) == (0, 3, 4, 5, 6)
    assert len(data_recipe["tokenizer"]) > 20
    for case in data_recipe["tokenizer"]:
        assert basic_words(case["text"]) == case["basic"]
        pieces, word = small.encode(case["text"])
        assert pieces.tolist() == case["ids"]
        assert len(set(word.tolist())) == len(case["basic"])


def test_data_recipe_tokenizer_full_vocabulary(data_recipe):
    for case in data_recipe["tokenizer_full_vocabulary"]:
        assert pieces_of(case["text"]) == case["pieces"]


def test_ids_of_bert():
    """Known from BERT's own vocabulary file."""
    assert BERT.size == 30522
    assert (BERT.pad, BERT.unk, BERT.cls, BERT.sep, BERT.mask) == (0, 100, 101, 102, 103)


def test_h26_captions():
    cases = json.loads((FILES / "cases" / "H26_captions_pieces.json").read_text("utf-8"))
    assert len(cases) == 30
    for case in cases:
        assert pieces_of(case["caption"]) == case["pieces"]


def test_word_numbers_every_piece():
    pieces, word = BERT.encode("unaffable, [MASK] umbrella-shaped 中文")
    assert [BERT.vocabulary[number] for number in pieces] == (
        ["una", "##ffa", "##ble", ",", "[MASK]", "umbrella", "-", "shaped", "中", "文"]
    )
    assert word.tolist() == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7]
    assert pieces.dtype == word.dtype == np.int32


def test_nothing_to_say():
    for text in ("", "  \t\n", "\x00\x01", "\u200b\ufeff", "\u0301"):
        pieces, word = BERT.encode(text)
        assert (len(pieces), len(word)) == (0, 0)
        assert pieces.dtype == word.dtype == np.int32


SALT = ["[MASK]", "[SEP]", "[UNK]", "[mask]", "Σ", "İ", "é", "e\u0301", "中", "\u2028", "\x85", "'"]
TEXTS = st.lists(st.sampled_from(SALT) | st.text(max_size=8) | st.sampled_from("aAbc .,-"))


@given(TEXTS.map("".join))
@example("ΟΔΟΣ ΣΑΣ a[MASK]b 中[MASK]中 [MA\x00SK]")
@example("x" * 100 + " " + "x" * 101)
@example("\ud83d half a pair")
def test_same_as_oracle(text):
    words = wordpiece_oracle.words(text)
    expected = [
        (piece, number)
        for number, word in enumerate(words)
        for piece in wordpiece_oracle.pieces(word, BERT_VOCABULARY)
    ]
    pieces, word = BERT.encode(text)
    found = [(BERT.vocabulary[piece], number) for piece, number in zip(pieces, word, strict=True)]
    assert found == expected


def test_same_as_oracle_for_every_character():
    """Between letters and between blanks; unassigned and private planes are left out."""
    characters = [chr(code) for code in (*range(0x33480), *range(0xE0000, 0xE0200))]
    for first in range(0, len(characters), 4096):
        text = " ".join(f"A{each}b {each}" for each in characters[first : first + 4096])
        assert basic_words(text) == wordpiece_oracle.words(text)


def test_differs_from_hugging_face_where_the_docstring_says():
    """If this fails, their normalizer has changed and may take the place of `basic_words`."""
    import tokenizers

    theirs = tokenizers.normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    assert theirs.normalize_str("ΟΔΟΣ") == "οδοσ"
    assert basic_words("ΟΔΟΣ") == ["οδος"]
    new_mark = "a\u0898b"  # an accent since Unicode 14
    assert unicodedata.category(new_mark[1]) == "Mn"
    assert theirs.normalize_str(new_mark) == new_mark
    assert basic_words(new_mark) == ["ab"]


def test_decode_reads_like_text():
    assert (
        BERT.decode(BERT.encode("Unaffable players, [MASK] !")[0]) == "unaffable players , [MASK] !"
    )


def write_vocabulary(tmp_path, text):
    file = tmp_path / "vocabulary.txt"
    file.write_bytes(text.encode())
    return str(file)


def test_fingerprint_is_of_the_pieces(tmp_path):
    text = tokenizer.SHIPPED.read_text("utf-8")
    windows = Tokenizer(write_vocabulary(tmp_path, text.replace("\n", "\r\n")))
    assert windows.vocabulary == BERT.vocabulary
    assert windows.fingerprint == BERT.fingerprint
    other = Tokenizer(write_vocabulary(tmp_path, text.replace("\ndog\n", "\ndoge\n")))
    assert other.fingerprint != BERT.fingerprint


def test_wrong_vocabularies(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.txt: no such file"):
        Tokenizer("nowhere.txt")
    special = "\n".join(tokenizer.SPECIAL)
    with pytest.raises(DataError, match=r"lacks \[MASK\]"):
        Tokenizer(write_vocabulary(tmp_path, special.replace("[MASK]", "dog")))
    with pytest.raises(DataError, match=r"'dog' stands in it twice"):
        Tokenizer(write_vocabulary(tmp_path, f"{special}\ndog\ncat\ndog\n"))


@pytest.mark.public_files
def test_real_captions(public_files):
    """Numbers known from elsewhere: pieces, none unknown, the longest caption."""
    file = public_files / "text" / "conceptual_captions_val_head3000.tsv"
    captions = [line.split("\t")[0] for line in file.read_text("utf-8").split("\n") if line]
    encoded = [BERT.encode(caption)[0] for caption in captions]
    assert len(encoded) == 3000
    assert sum(map(len, encoded)) == 32102
    assert max(map(len, encoded)) == 38
    assert not any(BERT.unk in pieces for pieces in encoded)


@pytest.mark.public_files
def test_real_captions_that_are_not_ascii(public_files):
    file = public_files / "text" / "conceptual_captions_val_nonascii.tsv"
    captions = [line.split("\t")[0] for line in file.read_text("utf-8").split("\n") if line]
    assert len(captions) == 29
    for caption in captions:
        assert not caption.isascii()
        assert basic_words(caption) == wordpiece_oracle.words(caption)


@pytest.mark.public_files
def test_real_prose(public_files):
    file = public_files / "text" / "wikitext2_valid_head400.txt"
    lines = [line for line in file.read_text("utf-8").split("\n") if line.strip()]
    assert len(lines) == 271
    assert sum(len(BERT.encode(line)[0]) for line in lines) == 24977


@pytest.mark.public_files
def test_the_shipped_vocabulary_is_the_public_one(public_files):
    public = public_files / "vocab" / "bert_base_uncased_vocab.txt"
    assert tokenizer.SHIPPED.read_bytes() == public.read_bytes()
