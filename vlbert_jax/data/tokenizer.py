"""Text -> BERT's uncased word pieces, with the word that each piece belongs to.

Runs when data is prepared (`prepare/split.py`) and where a text is given by hand. Words are those
of BERT's basic tokenizer (SPEC.md "Pre-training"): text cleaned, lower case, accents off,
punctuation and CJK characters apart. They are made here and not by Hugging Face's normalizer,
which differs: it splits [MASK] and its like, lower-cases a final Σ to σ instead of ς, and does not
know marks, signs and ideographs newer than its tables. Pieces by greedy longest match are its own.
"""

import hashlib
import pathlib
import unicodedata
from collections.abc import Callable

import numpy as np
import tokenizers

from vlbert_jax.options import DataError

SHIPPED = pathlib.Path(__file__).parent / "vocabulary" / "bert_base_uncased.txt"
SPECIAL = ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")  # whole where they stand alone
LONGEST_WORD = 100  # characters; a longer word is [UNK]


class Tokenizer:
    """BERT uncased with any vocabulary.

    Attributes:
      vocabulary: the word pieces; the place is the id.
      size: their number.
      pad, unk, cls, sep, mask: ids of the special pieces.
      fingerprint: hash of the vocabulary's content, whatever the file's line ends.
    """

    def __init__(self, vocabulary_file: str = ""):
        """Reads one piece a line; empty name: the shipped vocabulary of BERT base uncased.

        Raises:
          DataError: no such file, a piece twice, a special piece missing.
        """
        path = pathlib.Path(vocabulary_file) if vocabulary_file else SHIPPED
        if not path.is_file():
            raise DataError(
                f"vocabulary {path}: no such file; give a file with one word piece a line, or"
                " leave it empty for BERT's uncased one"
            )
        lines = path.read_bytes().decode("utf-8").removesuffix("\n").split("\n")
        self.vocabulary = [line.removesuffix("\r") for line in lines]
        self.size = len(self.vocabulary)
        ids = {piece: number for number, piece in enumerate(self.vocabulary)}
        if len(ids) < self.size:
            twice = next(piece for n, piece in enumerate(self.vocabulary) if ids[piece] != n)
            raise DataError(f"vocabulary {path}: {twice!r} stands in it twice; ids would shift")
        if missing := [piece for piece in SPECIAL if piece not in ids]:
            raise DataError(f"vocabulary {path}: lacks {', '.join(missing)}")
        self.unk, self.sep, self.pad, self.cls, self.mask = (ids[piece] for piece in SPECIAL)
        self.fingerprint = hashlib.sha256("\n".join(self.vocabulary).encode()).hexdigest()[:16]
        self._pieces = tokenizers.Tokenizer(
            tokenizers.models.WordPiece(
                ids, unk_token="[UNK]", max_input_chars_per_word=LONGEST_WORD
            )
        )

    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """(pieces [T] int32 without [CLS] and [SEP], word [T] int32: 0, 1, ... of each piece)."""
        words = basic_words(text)
        encoding = self._pieces.encode(words, is_pretokenized=True, add_special_tokens=False)
        return np.array(encoding.ids, np.int32), np.array(encoding.word_ids, np.int32)

    def decode(self, ids: np.ndarray) -> str:
        """The pieces of `ids` as readable text: words apart by blanks, pieces of a word joined."""
        return " ".join(self.vocabulary[i] for i in ids).replace(" ##", "")


def basic_words(text: str) -> list[str]:
    """The words of BERT's uncased basic tokenizer; a special piece is one where it stands alone."""
    words = []
    for token in text.translate(_CLEAN).split():
        if token in SPECIAL:
            words.append(token)
        else:
            words += unicodedata.normalize("NFD", token.lower()).translate(_APART).split()
    return words


class _Table(dict):
    """A table for `str.translate` that asks `rule` once for each character that it meets."""

    def __init__(self, rule: Callable[[str], str]):
        self.rule = rule

    def __missing__(self, code: int) -> str:
        self[code] = made = self.rule(chr(code))
        return made


def _clean(character: str) -> str:
    category = unicodedata.category(character)
    if character in "\t\n\r" or category == "Zs":
        return " "
    if category.startswith("C") or character == "\ufffd":
        return ""
    return f" {character} " if _is_cjk(character) else character


def _apart(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Mn":  # the accents, after the decomposition
        return ""
    # All ASCII signs count as punctuation, also those that Unicode calls symbols ($, +, ^, ...).
    sign = character.isascii() and not character.isalnum()
    return f" {character} " if sign or category.startswith("P") else character


def _is_cjk(character: str) -> bool:
    return any(first <= ord(character) <= last for first, last in _CJK)


_CJK = (  # the blocks of CJK ideographs that BERT splits by character
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2B73F),
    (0x2B740, 0x2B81F),
    (0x2B820, 0x2CEAF),
    (0x2F800, 0x2FA1F),
)
_CLEAN, _APART = _Table(_clean), _Table(_apart)
