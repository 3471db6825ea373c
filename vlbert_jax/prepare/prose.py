"""English prose that every Python has: the language reference behind `help()`, without its markup.

The text-only side of the made world (`made_world.py`). The topics of `pydoc_data` are plain text
in which prose, code, grammar and tables stand between blank lines; what is no prose is left out.
Another Python gives a slightly different text.
"""

import re
from pydoc_data.topics import topics

_LEAST_WORDS = 8
_LEAST_PLAIN = 0.85  # share of tokens that are words or numbers, with the signs of a sentence
_RUN = 20  # passages that stay together when some are held out
_HELD_OUT = 10  # every tenth run

_NO_PROSE = re.compile(r"::=|>>>|^[+|]|^\.\. |^Source code:", re.MULTILINE)
_UNDERLINE = re.compile(r"([^\w\s])\1*")
_HISTORY = re.compile(
    r"(Changed|New|Added|Deprecated|Removed) (in|since) version [\d.]+(, (will be )?removed in"
    r" version [\d.]+)?: |CPython implementation detail: |Note: |See also: |\[\d+\] "
)
_PLAIN = re.compile(r"[(‘“'\"]*([A-Za-z][A-Za-z’'/-]*|\d+)[.,;:!?)’”'\"…]*|[–—-]")
_COMMON = re.compile(r"a|an|and|as|be|by|for|if|in|is|it|its|not|of|or|that|the|this|to")


def passages() -> tuple[list[str], list[str]]:
    """Prose for training and for validation, one paragraph a string, in order, none twice."""
    found = {}
    for name in sorted(topics):
        for block in re.split(r"\n\s*\n", topics[name]):
            if passage := _prose(block):
                found[passage] = True
    train, validation = [], []
    for number, passage in enumerate(found):
        held_out = number // _RUN % _HELD_OUT == _HELD_OUT - 1
        (validation if held_out else train).append(passage)
    return train, validation


def _prose(block: str) -> str:
    """A block between blank lines as one line of prose; empty where it is something else."""
    lines = [line.strip() for line in block.strip().splitlines()]
    if _NO_PROSE.search("\n".join(lines)) or any(map(_UNDERLINE.fullmatch, lines)):
        return ""
    text = ""
    for line in lines:  # a line may end within a word that has a hyphen
        text += line if re.search(r"\w-$", text) or not text else f" {line}"
    text = _without_markup(text)
    tokens = text.split()
    plain = sum(_PLAIN.fullmatch(token) is not None for token in tokens)
    common = sum(_COMMON.fullmatch(token.lower()) is not None for token in tokens)
    is_sentence = text[:1].isupper() and text[-1:] in ".:;)?!"
    if not is_sentence or len(tokens) < _LEAST_WORDS or common < 2:
        return ""
    return text if plain >= _LEAST_PLAIN * len(tokens) else ""


def _without_markup(text: str) -> str:
    text = re.sub(r"^([*•-]|\d+\.|\(?[a-z\d]\)) ", "", text)  # of a list
    text = re.sub(r":[a-z:]+:`([^`<]*)( <[^`]*>)?`", r"\1", text)  # :role:`text <target>`
    text = re.sub(r"(\*\*|``|`)(.+?)\1", r"\2", text)
    text = re.sub(r"(?<![\w*])\*([\w][^*]*?)\*(?!\w)", r"\1", text)
    text = re.sub(r"\"([^\"]+)\"", r"\1", text)  # code
    text = re.sub(r"(\w)\(\)", r"\1", text)  # name() -> name
    text = re.sub(r" \[\d+\]", "", text)  # of footnotes
    return _HISTORY.sub("", " ".join(text.split()))
