"""A made world for demo and tests: scenes, captions of what is in them, a noisy detector's view.

`prepare/made_world.py` writes it as a prepared set; `report/demo.py` asks what can be known by
looking and what can be guessed blind. Everything is made up, and a scene is a pure function of
(seed, number).

A scene has 2 or 3 things of different kinds and colours, each of some size, each in another of
five places. The caption names one or two of them in one of the sentences of `FORMS`. As no two
things of a scene share kind, colour or place, each kind, colour, size and place in a caption can
be told from the picture and the rest of the caption. Without the picture there is nothing but the
world's statistics, from which `best_guess` makes the most.
"""

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

KINDS = (  # in pairs that the detector confuses
    *("cup", "bowl", "ball", "balloon", "car", "truck"),
    *("chair", "bench", "book", "box", "hat", "cap"),
)
COLOURS = ("red", "green", "blue", "yellow", "black", "white")
SIZES = ("small", "medium", "large")
PLACES = ("left", "right", "top", "bottom", "center")
SORTS = ("kind", "colour", "size", "place")  # of the words that can be known by looking

# Sentence and weight. kind0 and kind1 are two different things; a relation is one of "left of",
# "right of", "above" and "below".
FORMS = (
    ("a size0 colour0 kind0 relation a size1 colour1 kind1", 2),
    ("the colour0 kind0 is relation the colour1 kind1", 1),
    ("there is a size0 colour0 kind0 relation the colour1 kind1", 1),
    ("relation the colour1 kind1 is a size0 colour0 kind0", 1),
    ("at the place0 is a size0 colour0 kind0", 1),
    ("a colour0 kind0 at the place0 and a size1 colour1 kind1 at the place1", 1),
    ("the size0 kind0 is colour0 and the size1 kind1 is colour1", 1),
)

REGION_WIDTH = 2048
REGION_CLASSES = 1 + len(KINDS)  # background is column 0

_FIELDS = {  # what stands for a word of a sentence -> its sort, its choices
    "kind": ("kind", KINDS),
    "colour": ("colour", COLOURS),
    "size": ("size", SIZES),
    "place": ("place", PLACES),
    "across": ("place", ("left", "right")),
    "upright": ("place", ("above", "below")),
}
_REPEATED = ("size",)  # the only field in which the things of a scene can agree

_BLOCK = 256  # scenes that are made together
_THINGS = (2, 3)  # least and most of a scene
_X = np.array([0.18, 0.82, 0.5, 0.5, 0.5])  # of the five places, shares of the picture
_Y = np.array([0.5, 0.5, 0.18, 0.82, 0.5])
_JITTER = 0.07
_SIDES = np.array([0.1, 0.2, 0.36])  # of the three sizes, shares of the picture's shorter side
_PIXELS = (300, 640)  # least and most of a picture's sides
_COLOUR_SHARE, _SIZE_SHARE = 0.7, 0.5  # in the appearance, where the kind has 1
_NOISE = 0.3
_CONFUSION = 0.55  # the most that a thing looks like the other kind of its pair


class Token(NamedTuple):
    """A word of a sentence, or what stands for one.

    Attributes:
      text: the word; of a field its name.
      sort: "kind", "colour", "size", "place"; "" of a word that is always there.
      choices: the words that can stand here.
      thing: 0 or 1, of which the field speaks.
    """

    text: str
    sort: str
    choices: tuple[str, ...]
    thing: int


@dataclasses.dataclass(frozen=True)
class Scene:
    """A picture and its caption; n things in no special order.

    Attributes:
      number: of the scene; with the seed it decides everything.
      caption: words with single blanks, small letters.
      sorts: for each word "kind", "colour", "size" or "place", "" where no look is needed.
      named: the things that the caption speaks of, in the order of the sentence's numbers.
      kinds, colours, sizes, places: [n] int64, places in `KINDS`, `COLOURS`, `SIZES`, `PLACES`.
      width, height: of the picture, pixels.
      boxes: [n, 4] float32 x1, y1, x2, y2, pixels.
      features: [n, 2048] float32, not negative.
      classes: [n, 13] float32 that sum to 1.
    """

    number: int
    caption: str
    sorts: tuple[str, ...]
    named: tuple[int, ...]
    kinds: np.ndarray
    colours: np.ndarray
    sizes: np.ndarray
    places: np.ndarray
    width: int
    height: int
    boxes: np.ndarray
    features: np.ndarray
    classes: np.ndarray


def scenes(seed: int, start: int, stop: int) -> Iterator[Scene]:
    """Scenes start..stop-1 of the endless row of them."""
    for block in range(start // _BLOCK, -(-stop // _BLOCK)):
        first = block * _BLOCK
        yield from _block(seed, block)[max(start - first, 0) : stop - first]


def words() -> set[str]:
    """All words that captions have."""
    return {word for pattern, _ in PATTERNS for token in pattern for word in token.choices}


def probability(words: Sequence[str]) -> float:
    """How probable it is that a scene has exactly this caption."""
    return sum(weight * _probability(words, pattern) for pattern, weight in PATTERNS)


def best_guess(words: Sequence[str], at: int) -> tuple[str, float]:
    """The best that can be said of word `at` when all others of the caption are seen, no picture.

    Returns:
      The most probable word, and the probability that it is right: by Bayes' rule over all
      captions of the world that differ from this one in that word only.

    Raises:
      ValueError: no caption of this world.
    """
    chances: dict[str, float] = {}
    for pattern, weight in PATTERNS:
        if len(pattern) == len(words):
            for word in pattern[at].choices:
                whole = [*words[:at], word, *words[at + 1 :]]
                chance = weight * _probability(whole, pattern)
                chances[word] = chances.get(word, 0.0) + chance
    if not any(chances.values()):
        raise ValueError(f"{' '.join(words)!r}: no caption of the made world")
    best = max(chances, key=chances.get)
    return best, chances[best] / sum(chances.values())


def best_kind_guess(things: int) -> float:
    """The chance to name the kind of one thing when the kinds of the scene's others are known."""
    return 1 / (len(KINDS) - (things - 1))


def _probability(words: Sequence[str], pattern: Sequence[Token]) -> float:
    """Of a caption, given its pattern: kinds, colours and places are drawn without repeat."""
    if len(words) != len(pattern):
        return 0.0
    chance, taken = 1.0, {}
    for word, token in zip(words, pattern, strict=True):
        seen = taken.setdefault(token.text, []) if token.sort else []
        if word not in token.choices or word in seen:
            return 0.0
        chance /= len(token.choices) - len(seen)
        if token.text not in _REPEATED:
            seen.append(word)
    return chance


def _parse(sentence: str) -> tuple[Token, ...]:
    tokens = []
    for text in sentence.split():
        field, thing = (text[:-1], int(text[-1])) if text[-1] in "01" else (text, 0)
        tokens.append(Token(field, *_FIELDS.get(field, ("", (text,))), thing))
    return tuple(tokens)


# Of each form the sentence for things side by side and the one for things on top of each other.
_VARIANTS = [
    [_parse(form.replace("relation", relation)) for relation in ("across of", "upright")]
    for form, _ in FORMS
]
_WEIGHTS = np.array([weight for _, weight in FORMS]) / sum(weight for _, weight in FORMS)
# Of the ten pairs of places three differ only across and three only upright; in the other four a
# coin decides. So both are equally probable, as are their two directions.
PATTERNS = [
    (variant, weight / 2)
    for variants, weight in zip(_VARIANTS, _WEIGHTS.tolist(), strict=True)
    for variant in variants
]


def _block(seed: int, block: int) -> list[Scene]:
    rng = np.random.Generator(np.random.Philox(key=np.array([seed, block], np.uint64)))
    least, most = _THINGS
    number = rng.integers(least, most + 1, _BLOCK)
    kinds, colours, places = (_different(rng, each) for each in (KINDS, COLOURS, PLACES))
    sizes = rng.integers(0, len(SIZES), (_BLOCK, most))
    absent = np.arange(most) >= number[:, None]
    named = (rng.random((_BLOCK, most)) + absent).argsort(axis=1)[:, :2]
    form = rng.choice(len(FORMS), _BLOCK, p=_WEIGHTS)
    pixels = rng.integers(_PIXELS[0], _PIXELS[1] + 1, (_BLOCK, 2))
    boxes = _boxes(rng, pixels, sizes, places)
    features, classes = _detect(rng, kinds[~absent], colours[~absent], sizes[~absent])
    end = number.cumsum()

    x, y = (np.take_along_axis(axis[places], named, axis=1) for axis in (_X, _Y))
    same_x, same_y = x[:, 0] == x[:, 1], y[:, 0] == y[:, 1]
    upright = same_x | (~same_y & (rng.random(_BLOCK) < 0.5))
    directions = {"across": x[:, 0] > x[:, 1], "upright": y[:, 0] > y[:, 1]}
    things = {"kind": kinds, "colour": colours, "size": sizes, "place": places}
    things = {field: np.take_along_axis(of, named, axis=1) for field, of in things.items()}

    made = []
    for i, n in enumerate(number.tolist()):
        pattern = _VARIANTS[form[i]][int(upright[i])]
        caption = []
        for token in pattern:
            choice = 0
            if token.text in things:
                choice = things[token.text][i, token.thing]
            elif token.text in directions:
                choice = directions[token.text][i]
            caption.append(token.choices[int(choice)])
        mentioned = 1 + max(token.thing for token in pattern)
        made.append(
            Scene(
                number=block * _BLOCK + i,
                caption=" ".join(caption),
                sorts=tuple(token.sort for token in pattern),
                named=tuple(named[i, :mentioned].tolist()),
                kinds=kinds[i, :n],
                colours=colours[i, :n],
                sizes=sizes[i, :n],
                places=places[i, :n],
                width=int(pixels[i, 0]),
                height=int(pixels[i, 1]),
                boxes=boxes[i, :n],
                features=features[end[i] - n : end[i]],
                classes=classes[end[i] - n : end[i]],
            )
        )
    return made


def _different(rng: np.random.Generator, choices: Sequence[str]) -> np.ndarray:
    """[block, most] int64: for each scene numbers of `choices` without repeat."""
    return rng.random((_BLOCK, len(choices))).argsort(axis=1)[:, : _THINGS[1]]


def _boxes(
    rng: np.random.Generator, pixels: np.ndarray, sizes: np.ndarray, places: np.ndarray
) -> np.ndarray:
    """[block, most, 4] float32 pixels, inside the picture."""
    shape = sizes.shape
    centre = np.stack([_X[places], _Y[places]], axis=-1)  # [block, most, 2]
    centre += rng.uniform(-_JITTER, _JITTER, (*shape, 2))
    side = _SIDES[sizes][..., None] * rng.uniform(0.85, 1.15, (*shape, 2))
    side *= pixels.min(axis=1)[:, None, None]
    middle, last = centre * pixels[:, None], pixels[:, None] - 1
    corners = [np.clip(middle + sign * side / 2, 0, last) for sign in (-1, 1)]
    return np.concatenate(corners, axis=-1).astype(np.float32)


def _detect(
    rng: np.random.Generator, kinds: np.ndarray, colours: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Appearance [n, 2048] and class distribution [n, 13] of n things, both float32.

    Both come from one look: where a thing resembles the other kind of its pair, it does in both.
    """
    n = len(kinds)
    likeness = _CONFUSION * rng.random(n) ** 2
    looks = np.zeros((n, len(KINDS)))
    looks[np.arange(n), kinds] = 1 - likeness
    looks[np.arange(n), kinds ^ 1] = likeness

    of_kind, of_colour, of_size = _codes()
    features = rng.standard_normal((n, REGION_WIDTH), np.float32)
    features *= _NOISE
    features += looks.astype(np.float32) @ of_kind
    features += of_colour[colours]
    features += of_size[sizes]
    np.maximum(features, 0, out=features)

    background = rng.uniform(0.01, 0.08, (n, 1))
    scattered = rng.dirichlet(np.ones(len(KINDS)), n)
    of_kinds = (1 - background) * (0.95 * looks + 0.05 * scattered)
    return features, np.concatenate([background, of_kinds], axis=1).astype(np.float32)


@functools.cache
def _codes() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How kinds, colours and sizes look: the same in every scene, whatever the seed."""
    rng = np.random.Generator(np.random.Philox(key=0))
    shares = ((KINDS, 1.0), (COLOURS, _COLOUR_SHARE), (SIZES, _SIZE_SHARE))
    return tuple(
        rng.standard_normal((len(choices), REGION_WIDTH), np.float32) * np.float32(share)
        for choices, share in shares
    )
