"""The made world: true captions, what a look tells, and what the best blind guess is worth."""

import collections
import itertools
import re

import numpy as np
import pytest

from vlbert_jax.data import synthetic
from vlbert_jax.data.tokenizer import SHIPPED

SEED = 3
WORDS = {
    "kind": synthetic.KINDS,
    "colour": synthetic.COLOURS,
    "size": synthetic.SIZES,
    "place": (*synthetic.PLACES, "above", "below"),
}


@pytest.fixture(scope="module")
def scenes():
    return list(synthetic.scenes(SEED, 0, 3000))


def test_a_scene_depends_on_seed_and_number_only(scenes):
    for scene in synthetic.scenes(SEED, 250, 520):
        same = scenes[scene.number]
        assert scene.caption == same.caption
        for name in ("kinds", "boxes", "features", "classes"):
            np.testing.assert_array_equal(getattr(scene, name), getattr(same, name))
    other = next(synthetic.scenes(SEED + 1, 250, 251))
    assert other.features.tobytes() != scenes[250].features.tobytes()


def test_things_differ_and_lie_in_the_picture(scenes):
    assert {len(scene.kinds) for scene in scenes} == {2, 3}
    for scene in scenes:
        n = len(scene.kinds)
        for numbers in (scene.kinds, scene.colours, scene.places):
            assert len(set(numbers.tolist())) == n
        assert scene.boxes.shape == (n, 4)
        assert scene.features.shape == (n, synthetic.REGION_WIDTH)
        assert scene.classes.shape == (n, 1 + len(synthetic.KINDS))
        assert (scene.boxes >= 0).all()
        assert (scene.boxes[:, 2:] <= [scene.width - 1, scene.height - 1]).all()
        assert (scene.boxes[:, 2:] - scene.boxes[:, :2] > 20).all()
        assert scene.features.min() >= 0
        assert scene.classes.min() >= 0
        np.testing.assert_allclose(scene.classes.sum(axis=1), 1, rtol=1e-6)


def test_every_word_is_one_piece_and_known_by_its_sort(scenes):
    vocabulary = set(SHIPPED.read_text("utf-8").splitlines())
    for scene in scenes:
        words = scene.caption.split()
        assert vocabulary.issuperset(words)
        sorts = [next((s for s, of in WORDS.items() if word in of), "") for word in words]
        assert list(scene.sorts) == sorts


THING = rf"((?:(?:{'|'.join(synthetic.SIZES)}) )?(?:(?:{'|'.join(synthetic.COLOURS)}) )?\w+)"
COLOUR = rf"({'|'.join(synthetic.COLOURS)})"
PLACE = rf"({'|'.join(synthetic.PLACES)})"
RELATION = r"(left of|right of|above|below)"


def things_and_claims(caption):
    """An independent reading: the things that a caption names, and what it says of them."""
    if m := re.fullmatch(
        rf"(?:there is )?(?:a|the) {THING} (?:is )?{RELATION} (?:a|the) {THING}", caption
    ):
        return [m[1], m[3]], [("relation", m[2])]
    if m := re.fullmatch(rf"{RELATION} the {THING} is a {THING}", caption):
        return [m[3], m[2]], [("relation", m[1])]
    if m := re.fullmatch(rf"at the {PLACE} is a {THING}", caption):
        return [m[2]], [(0, m[1])]
    if m := re.fullmatch(rf"a {THING} at the {PLACE} and a {THING} at the {PLACE}", caption):
        return [m[1], m[3]], [(0, m[2]), (1, m[4])]
    m = re.fullmatch(rf"the {THING} is {COLOUR} and the {THING} is {COLOUR}", caption)
    size, kind = m[1].split()
    other_size, other_kind = m[3].split()
    return [f"{size} {m[2]} {kind}", f"{other_size} {m[4]} {other_kind}"], []


def test_captions_are_true(scenes):
    for scene in scenes:
        phrases, claims = things_and_claims(scene.caption)
        things = []
        for phrase in phrases:
            (thing,) = [
                i
                for i, kind in enumerate(scene.kinds)
                if synthetic.KINDS[kind] == phrase.split()[-1]
            ]
            about = {synthetic.COLOURS[scene.colours[thing]], synthetic.SIZES[scene.sizes[thing]]}
            assert about.issuperset(phrase.split()[:-1])
            things.append(thing)
        assert sorted(things) == sorted(scene.named)
        centre = (scene.boxes[:, :2] + scene.boxes[:, 2:]) / 2 / [scene.width, scene.height]
        for about, claim in claims:
            if about == "relation":
                (x, y), (of_x, of_y) = centre[things]
                distance = {"left of": of_x - x, "right of": x - of_x, "above": of_y - y}
                distance["below"] = -distance["above"]
                assert distance[claim] > 0.1
            else:
                x, y = centre[things[about]]
                place = {"left": x < 0.35, "right": x > 0.65, "top": y < 0.35, "bottom": y > 0.65}
                place["center"] = not any(place.values())
                assert place[claim]


def test_the_size_of_a_box_tells_the_size(scenes):
    sides = collections.defaultdict(list)
    for scene in scenes:
        pixels = (scene.boxes[:, 2:] - scene.boxes[:, :2]).max(axis=1)
        for size, side in zip(scene.sizes.tolist(), pixels, strict=True):
            sides[size].append(side / min(scene.width, scene.height))
    assert max(sides[0]) < min(sides[1])
    assert max(sides[1]) < min(sides[2])


def test_the_detector_mostly_sees_right_and_confuses_pairs(scenes):
    kinds = np.concatenate([scene.kinds for scene in scenes])
    seen = np.concatenate([scene.classes.argmax(axis=1) for scene in scenes]) - 1
    wrong = seen != kinds
    assert 0.02 < wrong.mean() < 0.08
    np.testing.assert_array_equal(seen[wrong] // 2, kinds[wrong] // 2)


def test_features_tell_kind_colour_and_size(scenes):
    """A linear reading, fitted on some regions, names those of others."""
    features = np.concatenate([scene.features for scene in scenes])[:4000, ::8]
    fit, held_out = slice(0, 3000), slice(3000, 4000)
    for name, least in (("kinds", 0.9), ("colours", 0.95), ("sizes", 0.9)):
        truth = np.concatenate([getattr(scene, name) for scene in scenes])[:4000]
        wanted = features[fit].T @ np.eye(truth.max() + 1, dtype=np.float32)[truth[fit]]
        weights = np.linalg.solve(features[fit].T @ features[fit], wanted)
        said = (features[held_out] @ weights).argmax(axis=1)
        assert (said == truth[held_out]).mean() > least


def probability(caption):
    return synthetic.probability(caption.split())


def best_guess(caption, at):
    return synthetic.best_guess(caption.split(), at)


def test_probability_is_that_of_the_world():
    """Every caption of the one sentence with a single thing: together 1 of 8, each as often."""
    captions = [
        f"at the {place} is a {size} {colour} {kind}".split()
        for place, size, colour, kind in itertools.product(
            synthetic.PLACES, synthetic.SIZES, synthetic.COLOURS, synthetic.KINDS
        )
    ]
    chances = [synthetic.probability(words) for words in captions]
    assert sum(chances) == pytest.approx(1 / 8)
    assert min(chances) == pytest.approx(max(chances))
    assert probability("the red cup is left of the red box") == 0
    assert probability("the red cup is left of the blue cup") == 0
    assert probability("the red cup is above of the blue box") == 0
    assert probability("the red cup is above the blue box") == pytest.approx(
        1 / 8 / 2 / 2 / (12 * 11) / (6 * 5)
    )


def test_sentences_come_as_often_as_their_probability_says(scenes):
    """Sentence and word of place are counted; kinds, colours and sizes are summed over."""
    counts, expected = collections.Counter(), {}
    ways = {"kind": (12, 11), "colour": (6, 5), "size": (3, 3)}
    for scene in scenes:
        words = scene.caption.split()
        shape = tuple(
            sort if sort in ways else word for word, sort in zip(words, scene.sorts, strict=True)
        )
        captions = 1  # that have this shape
        for sort, numbers in ways.items():
            captions *= np.prod(numbers[: scene.sorts.count(sort)])
        counts[shape] += 1
        expected[shape] = len(scenes) * captions * synthetic.probability(words)
    assert sum(expected.values()) == pytest.approx(len(scenes))
    spread = sum((counts[shape] - number) ** 2 / number for shape, number in expected.items())
    freedom = len(expected) - 1
    assert spread < freedom + 5 * np.sqrt(2 * freedom)


def test_best_guess_by_hand():
    """No two things share kind, colour or place; the guess knows it, and what words tell."""
    caption = "a small red cup left of a large blue box"
    worth = {1: 3, 2: 5, 3: 11, 4: 2, 7: 3, 8: 5, 9: 11}
    for at, choices in worth.items():
        guess, chance = best_guess(caption, at)
        assert chance == pytest.approx(1 / choices)
        others = {word for place, word in enumerate(caption.split()) if place != at}
        assert guess not in others - set(synthetic.SIZES)
    caption = "at the left is a small red cup"
    for at, choices in {2: 5, 5: 3, 6: 6, 7: 12}.items():
        assert best_guess(caption, at)[1] == pytest.approx(1 / choices)
    caption = "a red cup at the top and a large blue box at the left"
    for at in (5, 13):
        assert best_guess(caption, at)[1] == pytest.approx(1 / 4)
    with pytest.raises(ValueError, match="no caption"):
        best_guess("the red cup is left of the red box", 2)


def test_best_guess_is_right_as_often_as_it_says(scenes):
    right, chances = collections.defaultdict(list), collections.defaultdict(list)
    for scene in scenes:
        words = scene.caption.split()
        for at, sort in enumerate(scene.sorts):
            if sort:
                guess, chance = synthetic.best_guess(words, at)
                right[sort].append(guess == words[at])
                chances[sort].append(chance)
    for sort in synthetic.SORTS:
        mean = np.mean(chances[sort])
        error = np.sqrt(mean * (1 - mean) / len(chances[sort]))
        assert abs(np.mean(right[sort]) - mean) < 4.5 * error


def test_no_guess_is_better(scenes):
    """What stands in the place of a word is even among all that may: no word comes more often."""
    seen, captions = collections.Counter(), 0
    for scene in scenes:
        if len(scene.named) == 2:
            first, second = (int(scene.kinds[thing]) for thing in scene.named)
            seen[(second - first) % 12] += 1  # the other kind is known
            captions += 1
    assert set(seen) == set(range(1, 12))
    expected = captions / 11
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < 10 + 5 * np.sqrt(20)


def test_best_kind_guess(scenes):
    """The kinds of the others are known, so that 12 - (n - 1) are left."""
    assert synthetic.best_kind_guess(2) == pytest.approx(1 / 11)
    assert synthetic.best_kind_guess(4) == pytest.approx(1 / 9)
