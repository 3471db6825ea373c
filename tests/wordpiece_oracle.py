"""BERT's uncased tokenizer once more, one character at a time, in plain Python.

The oracle of tests/data/test_tokenizer.py: written from SPEC.md "Pre-training" and the rules of
BERT's basic tokenizer, it shares nothing with the package. A text is read by a small machine that
holds the token under way; a piece is found by trying every prefix, the longest first.
"""

import unicodedata

SPECIAL = {"[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"}
IDEOGRAPHS = (
    "\u3400-\u4dbf \u4e00-\u9fff \uf900-\ufaff \U00020000-\U0002a6df \U0002a700-\U0002b73f"
    " \U0002b740-\U0002b81f \U0002b820-\U0002ceaf \U0002f800-\U0002fa1f"
)
PUNCTUATION = set("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")


def words(text: str) -> list[str]:
    """Basic words of a text."""
    found, token = [], ""
    for character in text + " ":
        if is_removed(character):
            continue
        if is_blank(character) or is_ideograph(character):
            found += split_token(token)
            token = ""
            if is_ideograph(character):
                found += split_token(character)
        else:
            token += character
    return found


def split_token(token: str) -> list[str]:
    """The words of what stands between two blanks."""
    if token in SPECIAL:
        return [token]
    found = [""]
    for character in unicodedata.normalize("NFD", token.lower()):
        category = unicodedata.category(character)
        if category == "Mn":
            continue
        if character in PUNCTUATION or category[0] == "P":
            found += [character, ""]
        else:
            found[-1] += character
    return [word for word in found if word]


def pieces(word: str, vocabulary: set[str]) -> list[str]:
    """The longest piece that begins the word, then the longest that begins the rest, ..."""
    if len(word) > 100:
        return ["[UNK]"]
    found, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            if prefix + word[start:end] in vocabulary:
                found.append(prefix + word[start:end])
                start = end
                break
        else:
            return ["[UNK]"]
    return found


def is_removed(character: str) -> bool:
    if character in "\t\n\r":
        return False
    return character == "\ufffd" or unicodedata.category(character)[0] == "C"


def is_blank(character: str) -> bool:
    line_ends = "\t\n\r\u2028\u2029"
    return character in line_ends or unicodedata.category(character) == "Zs"


def is_ideograph(character: str) -> bool:
    return any(block[0] <= character <= block[2] for block in IDEOGRAPHS.split())
