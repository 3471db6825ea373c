"""How a record becomes an item: SPEC.md "One example" and "Pre-training", and the original's data."""

import dataclasses
import json
import math
import pathlib

import numpy as np
import pytest

from tests import made_sets
from vlbert_jax.data import regions, rows
from vlbert_jax.data.record import Text
from vlbert_jax.data.sources import Sources
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.options import ConfigError, DataError
from vlbert_jax.tasks import pretraining
from vlbert_jax.tasks.pretraining import Options

GOLDEN = json.loads((pathlib.Path(__file__).parent.parent / "files/data_recipe.json").read_text())
IDS = {piece: number for number, piece in enumerate(GOLDEN["vocab"])}
V = made_sets.VOCABULARY.size
IMG, END = V, V + 2
CLS, SEP, MASK = (getattr(made_sets.VOCABULARY, name) for name in ("cls", "sep", "mask"))

NO_MASKS = Options(word_probability=0.0, region_probability=0.0)
ALL_MASKED = Options(word_probability=1.0, region_probability=1.0)


def one_caption(words=5, regions=3, dtype="float32", changes=None, **sections):
    """A set of two captions, the first of that size, and its task."""
    rng = np.random.default_rng(0)
    record = made_sets.caption(rng, "first", words, regions, dtype)
    record = dataclasses.replace(record, **(changes or {}))
    other = made_sets.caption(rng, "second", 4, 2, dtype)
    return record, made_sets.make_task(made_sets.MadeSet([record, other]), **sections)


@pytest.mark.parametrize("as_arrays", [False, True])
def test_data_recipe_truncation(as_arrays):
    golden = GOLDEN["truncation"]
    table = np.array(golden["rows"])
    limit = golden["max_slots_without_end"]
    if as_arrays:
        found = np.stack(pretraining.cut(table[:, 0], table[:, 1], limit), axis=1)
    else:
        found = [pretraining.cut(text, region, limit) for text, region, *_ in table.tolist()]
    np.testing.assert_array_equal(found, table[:, 2:])


@pytest.mark.parametrize("limit", [3, 4, 7, 64, 65])
def test_cut_equals_the_loop(limit):
    for text in range(2, 80):
        for region in range(1, 80):
            t, r = text, region
            while t + r > limit:
                if (r > t and r > 1) or t == 2:
                    r -= 1
                else:
                    t -= 1
            assert pretraining.cut(text, region, limit) == (t, r)


def test_a_caption_as_slots():
    """Every field of the layout, by hand (SPEC.md "One example")."""
    record, task = one_caption(words=4, regions=2, pretraining=NO_MASKS, data=dict(mirror=False))
    item = task.item(0, 0)
    p = len(record.pieces)
    t = p + 2
    assert item.tokens.tolist() == [CLS, *record.pieces, SEP, IMG, IMG, IMG, END]
    assert item.segments.tolist() == [0] * t + [2] * 4
    assert item.positions.tolist() == [*range(t), t, t, t, t + 1]
    assert item.visual.tolist() == [2] * t + [2, 3, 4] + [rows.NOTHING]
    assert item.sequence.tolist() == [1] * (t + 4)
    assert item.record == 0
    order = np.argsort(record.classes.max(axis=1), kind="stable")[::-1]
    np.testing.assert_array_equal(item.region_features[1:], record.features[order])
    expected = record.features.sum(axis=0) / (2 + 1e-5)
    np.testing.assert_allclose(item.region_features[0], expected, rtol=1e-6)
    # 640 x 480 becomes 800 x 600; the whole image is (0, 0, 798.75, 598.75).
    np.testing.assert_allclose(
        item.region_boxes[0],
        [798.75 / 2 / 800, 598.75 / 2 / 600, 798.75 / 800, 598.75 / 600],
        rtol=1e-6,
    )
    x1, y1, x2, y2 = record.boxes[order].astype(np.float64).T
    expected = [(x1 + x2) / 2 / 640, (y1 + y2) / 2 / 480, (x2 - x1) / 640, (y2 - y1) / 480]
    np.testing.assert_allclose(item.region_boxes[1:], np.stack(expected, 1), atol=3e-7)
    assert not item.region_replaced.any()
    assert {name: len(target.slot) for name, target in item.targets.items()} == {
        "mlm_caption": 0,
        "region_class": 0,
    }


def test_targets_point_at_what_was_there():
    record, task = one_caption(words=9, regions=6, pretraining=ALL_MASKED)
    item = task.item(0, 0)
    p = len(record.pieces)
    words, classes = item.targets["mlm_caption"], item.targets["region_class"]
    np.testing.assert_array_equal(words.slot, np.arange(1, p + 1))  # never [CLS], never [SEP]
    np.testing.assert_array_equal(words.value, record.pieces)
    assert (item.tokens[0], item.tokens[p + 1]) == (CLS, SEP)
    assert (item.tokens[1 : p + 1] == MASK).mean() > 0.4
    np.testing.assert_array_equal(classes.slot, p + 3 + np.arange(6))  # never the whole image
    order = regions.order(record.classes)
    np.testing.assert_array_equal(classes.value, record.classes[order])
    assert not item.region_replaced[0]
    assert (item.tokens[p + 2 : -1] == IMG).all()  # the model writes the masked [IMG]
    for target in (words, classes):
        assert (target.weight == 1).all()


def test_masked_regions_do_not_leak_into_the_whole_image():
    """Mean over the regions that are shown, those that the cut drops too."""
    record, task = one_caption(words=3, regions=100)
    record_of = task.sources.sets[0].records[0]
    for turn in range(20):
        item = task.item(0, turn)
        kept = len(item.region_boxes) - 1
        assert 0 < kept < 100
        _, replaced = task._mask_regions(record_of, 0, turn)
        order = regions.order(record.classes)
        np.testing.assert_array_equal(item.region_replaced[1:], replaced[order[:kept]])
        shown = record.features[~replaced]
        expected = shown.sum(axis=0) / (len(shown) + 1e-5)
        np.testing.assert_allclose(item.region_features[0], expected, rtol=2e-6)


def test_data_recipe_whole_image_counts_dropped_regions():
    golden = GOLDEN["whole_image_counts_dropped_regions"]
    detected = golden["regions_in"] - 1
    rng = np.random.default_rng(0)
    features = rng.random((detected, made_sets.WIDTH)).astype(np.float32)
    record, task = one_caption(10, detected, changes={"features": features}, pretraining=NO_MASKS)
    record = dataclasses.replace(record, pieces=record.pieces[:10], word=np.arange(10))
    task.sources.sets[0].records[0] = record
    item = task.item(0, 0)
    assert len(item.region_boxes) == golden["regions_kept"]
    np.testing.assert_allclose(item.region_features[0], features.mean(axis=0), rtol=1e-6)


def test_without_the_region_task_nothing_is_masked_and_the_mean_is_plain():
    record, task = one_caption(
        regions=7, pretraining=Options(region_weight=0.0), changes={"classes": None}
    )
    for turn in range(20):
        item = task.item(0, turn)
        assert set(item.targets) == {"mlm_caption"}
        assert not item.region_replaced.any()
        mean = record.features.mean(axis=0)
        np.testing.assert_allclose(item.region_features[0], mean, rtol=1e-6)
        np.testing.assert_array_equal(item.region_features[1:], record.features)  # file's order
    assert "region_class" not in task.layout(np.full((4, 9), 50)).terms


def test_all_regions_replaced_give_a_zero_whole_image():
    options = Options(region_probability=1.0, region_replaced=1.0)
    _, task = one_caption(regions=4, pretraining=options)
    assert task.item(0, 0).region_features[0].tolist() == [0] * made_sets.WIDTH


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_target_counts_where_its_scores_sum_to_one(dtype):
    classes = np.zeros((5, made_sets.CLASSES), dtype)
    classes[:, 0] = [0.5, 0.45, 0.4, 0.35, 0.3]  # the order of the regions
    classes[:, 1] = np.array([1.0, 0.92, 1.08, 0.88, 1.12]) - classes[:, 0].astype(float)
    classes = classes[:, ::-1].copy()
    record, task = one_caption(
        words=2, regions=5, dtype=dtype, changes={"classes": classes}, pretraining=ALL_MASKED
    )
    target = task.item(0, 0).targets["region_class"]
    sums = classes.astype(np.float64).sum(axis=1)
    order = regions.order(classes)
    t = len(record.pieces) + 2
    expected = [t + 1 + place for place, region in enumerate(order) if abs(sums[region] - 1) < 0.1]
    assert len(expected) == 3
    assert target.slot.tolist() == expected
    assert target.weight.tolist() == [1, 1, 1]


def test_half_precision_on_the_way():
    """Features stored wide travel narrow, without turning into infinities."""
    features = np.array([[3e38, 1, 0, 0, 0, 0, 0, 0]] * 3, np.float32)
    changes = {"features": features}
    _, task = one_caption(changes=changes, data=dict(feature_dtype="float16"))
    item = task.item(0, 0)
    assert item.region_features.dtype == np.float16
    assert np.isfinite(item.region_features).all()
    _, same = one_caption(dtype="float16", data=dict(feature_dtype="float16"))
    assert same.item(0, 0).region_features.dtype == np.float16


@pytest.mark.parametrize(
    ("pieces", "detected", "kept"),
    [(5, 0, (7, 1)), (5, 1, (7, 2)), (5, 100, (7, 57)), (400, 100, (32, 32)), (0, 3, (2, 4))],
)
def test_counts_of_regions(pieces, detected, kept):
    """No region, one, a hundred; no word, four hundred (cases H09, H26)."""
    rng = np.random.default_rng(0)
    record = made_sets.caption(rng, "x", max(pieces, 1), detected)
    record = dataclasses.replace(
        record,
        pieces=np.arange(10, 10 + pieces, dtype=np.int32) % 190,
        word=np.arange(pieces, dtype=np.int32),
    )
    task = made_sets.make_task(made_sets.MadeSet([record, made_sets.caption(rng)]))
    item = task.item(0, 0)
    text = int((item.segments == 0).sum())
    assert (text, len(item.region_boxes)) == kept
    assert item.tokens[text - 1] == SEP
    assert len(item.tokens) == text + kept[1] + 1
    assert np.isfinite(item.region_features).all()
    assert np.isfinite(item.region_boxes).all()
    sizes = task.sizes(np.array([0]), np.array([0]))[:, 0]
    assert sizes.tolist() == [len(item.tokens), kept[1], text - 2, 0]
    if not detected:
        assert item.region_features.tolist() == [[0] * made_sets.WIDTH]
        assert len(item.targets["region_class"].slot) == 0


def test_masking_comes_before_the_cut():
    """The kept words of a long caption have the masks that they have without the cut."""
    _, long = one_caption(words=80, regions=40)
    _, same = one_caption(words=80, regions=40, data=dict(text_slots=300, row_slots=301))
    for turn in range(10):
        item, whole = long.item(0, turn), same.item(0, turn)
        kept = int((item.segments == 0).sum()) - 1
        assert kept < int((whole.segments == 0).sum()) - 1
        np.testing.assert_array_equal(item.tokens[:kept], whole.tokens[:kept])
        words = whole.targets["mlm_caption"]
        inside = words.slot < kept
        np.testing.assert_array_equal(item.targets["mlm_caption"].slot, words.slot[inside])


def test_mirroring():
    """Half the training turns; the boxes only; never in evaluation or where it is off."""
    _, task = one_caption(regions=5, pretraining=NO_MASKS)
    plain = one_caption(regions=5, pretraining=NO_MASKS, data=dict(mirror=False))[1].item(0, 0)
    flips = 0
    for turn in range(400):
        item = task.item(0, turn)
        np.testing.assert_array_equal(item.region_features, plain.region_features)
        np.testing.assert_array_equal(item.region_boxes[:, 1:], plain.region_boxes[:, 1:])
        if np.array_equal(item.region_boxes, plain.region_boxes):
            continue
        flips += 1
        mirrored = 1 - 1 / 800 - plain.region_boxes[:, 0]
        np.testing.assert_allclose(item.region_boxes[:, 0], mirrored, atol=1e-6)
    assert abs(flips - 200) < 5 * math.sqrt(100)
    _, validation = one_caption(regions=5, pretraining=NO_MASKS, training=False)
    for turn in range(20):
        np.testing.assert_array_equal(validation.item(0, turn).region_boxes, plain.region_boxes)


def test_masks_hang_on_seed_turn_and_record_alone():
    def tokens(seed, turn, training=True):
        task = made_sets.make_task(
            made_sets.captions(20), made_sets.texts(20), training=training, seed=seed
        )
        # In another order each time: nothing may depend on what was asked before.
        order = np.random.default_rng(turn).permutation(40).tolist()
        items = {record: task.item(record, turn).tokens for record in order}
        return np.concatenate([items[record] for record in range(40)])

    np.testing.assert_array_equal(tokens(1, 2), tokens(1, 2))
    assert not np.array_equal(tokens(1, 2), tokens(1, 3))
    assert not np.array_equal(tokens(1, 2), tokens(2, 2))
    np.testing.assert_array_equal(tokens(1, 0, training=False), tokens(2, 0, training=False))


# Text without a picture


def test_data_recipe_corpus(tmp_path):
    golden = GOLDEN["corpus"]
    (tmp_path / "vocabulary.txt").write_text("\n".join(GOLDEN["vocab"]) + "\n")
    tokenizer = Tokenizer(str(tmp_path / "vocabulary.txt"))
    lines = [Text(line, *tokenizer.encode(line)) for line in golden["lines"]]
    sources = Sources([made_sets.MadeSet(lines)])
    for number, item in enumerate(golden["items"]):
        pieces, _ = pretraining.joined(sources, number, golden["min_seq_len"])
        pieces = pieces[: golden["seq_len"]]
        assert [GOLDEN["vocab"][piece] for piece in pieces] == item["pieces"]
    lengths = [min(64, len(pretraining.joined(sources, n, 64)[0])) for n in range(6)]
    assert lengths == golden["lengths_at_64"]
    unjoined = [len(pretraining.joined(sources, n, 1)[0]) for n in range(6)]
    assert unjoined == golden["lengths_at_64_min_0"]


def test_words_are_numbered_through_joined_lines():
    rng = np.random.default_rng(0)
    lines = [made_sets.text(rng, str(n), words) for n, words in enumerate((3, 4, 2))]
    sources = Sources([made_sets.captions(5), made_sets.MadeSet(lines)])
    pieces, word = pretraining.joined(sources, 6, 8)  # the second line, then 2, 3 words
    assert word.tolist() == list(range(9))
    np.testing.assert_array_equal(pieces, np.concatenate([lines[n].pieces for n in (1, 2, 0)]))


def test_a_text_as_slots():
    task = made_sets.make_task(made_sets.texts(30), pretraining=NO_MASKS)
    for record in range(30):
        item = task.item(record, 0)
        pieces, _ = pretraining.joined(task.sources, record, 64)
        assert item.tokens.tolist() == [*pieces[:64], END]
        assert item.segments.tolist() == [0] * 64 + [2]
        assert item.positions.tolist() == [*range(64), 65]
        assert item.visual.tolist() == [rows.NO_IMAGE] * 64 + [rows.NOTHING]
        assert item.sequence.tolist() == [1] * 65
        assert item.region_features.shape == (0, made_sets.WIDTH)
        assert item.region_boxes.shape == (0, 4)
        assert set(item.targets) == {"mlm_text"}
    sizes = task.sizes(np.arange(30), np.zeros(30, int))
    assert (sizes == [[65], [0], [0], [64]]).all()


def test_text_targets():
    task = made_sets.make_task(made_sets.texts(30), pretraining=ALL_MASKED)
    target = task.item(3, 0).targets["mlm_text"]
    pieces, _ = pretraining.joined(task.sources, 3, 64)
    np.testing.assert_array_equal(target.slot, np.arange(64))
    np.testing.assert_array_equal(target.value, pieces[:64])


# Image-text relation


def test_relation():
    """Half keep their caption; the others get another record's, uniform (data_recipe relation)."""
    golden = GOLDEN["relation"]
    assert golden["label_1_always_own_caption"]
    assert golden["label_0_never_own_image"]
    sources = made_sets.texts(7), made_sets.captions(5, most_words=9)
    task = made_sets.make_task(*sources, model=dict(relation=True), pretraining=NO_MASKS)
    captions = [tuple(record.pieces) for record in sources[1].records]
    assert len(set(captions)) == 5
    related, drawn = 0, np.zeros((5, 5), int)
    for turn in range(320):
        for own in range(5):
            item = task.item(7 + own, turn)
            text = int((item.segments == 0).sum())
            other = captions.index(tuple(item.tokens[1 : text - 1]))
            label = item.targets["relation"]
            assert label.slot.tolist() == [0]
            assert label.weight.tolist() == [1]
            assert label.value.tolist() == [int(other == own)]
            related += other == own
            drawn[own, other] += 1
            sizes = task.sizes(np.array([7 + own]), np.array([turn]))[:, 0]
            assert sizes.tolist() == [len(item.tokens), len(item.region_boxes), text - 2, 0]
            record = sources[1].records[own]
            assert set(map(tuple, item.region_features[1:])) <= set(map(tuple, record.features))
    assert abs(related - 800) < 5 * math.sqrt(400)
    foreign = drawn[~np.eye(5, dtype=bool)]
    assert np.abs(foreign - 40).max() < 5 * math.sqrt(40)


def test_foreign_captions_are_of_other_pictures():
    """Two captions a picture: each of the six of other pictures as often, its own two never."""
    records = [
        dataclasses.replace(record, image_id=str(number // 2))
        for number, record in enumerate(made_sets.captions(8, most_words=9).records)
    ]
    captions = [tuple(record.pieces) for record in records]
    assert len(set(captions)) == 8
    set_ = made_sets.MadeSet(records)
    task = made_sets.make_task(set_, model=dict(relation=True), pretraining=NO_MASKS)
    drawn = np.zeros((8, 8), int)
    for turn in range(480):
        for own in range(8):
            item = task.item(own, turn)
            text = int((item.segments == 0).sum())
            drawn[own, captions.index(tuple(item.tokens[1 : text - 1]))] += 1
    same_picture = np.arange(8) // 2 == np.arange(8)[:, None] // 2
    assert (drawn[same_picture & ~np.eye(8, dtype=bool)] == 0).all()
    assert np.abs(drawn[~same_picture] - 40).max() < 5 * math.sqrt(40)


def test_words_and_regions_of_a_foreign_caption_count():
    task = made_sets.make_task(
        made_sets.captions(5), model=dict(relation=True), pretraining=ALL_MASKED
    )
    for turn in range(10):
        targets = task.item(0, turn).targets
        assert len(targets["mlm_caption"].slot)
        assert len(targets["region_class"].slot)


# Terms and layout


def test_terms():
    def terms(model=None, **options):
        task = made_sets.make_task(
            made_sets.captions(9), model=model, pretraining=Options(**options)
        )
        found = task.layout(np.full((4, 9), 100)).terms
        return {name: (term.head, term.loss, term.weight) for name, term in found.items()}

    words, soft = ("words", "label", 1.0), ("regions", "distribution", 1.0)
    assert terms() == {"mlm_caption": words, "mlm_text": words, "region_class": soft}
    assert terms(dict(text_only=False, relation=True), region_weight=0.0, relation_weight=0.5) == {
        "mlm_caption": words,
        "relation": ("relation", "label", 0.5),
    }
    assert terms(caption_weight=2.0, text_weight=3.0, region_weight=4.0) == {
        "mlm_caption": ("words", "label", 2.0),
        "mlm_text": ("words", "label", 3.0),
        "region_class": ("regions", "distribution", 4.0),
    }


@pytest.mark.parametrize("fullest", [9, 64, 300])
@pytest.mark.parametrize("probability", [0.0, 0.15, 0.5, 1.0])
def test_places_suffice(fullest, probability):
    """A tenth of the words of two pieces: what 100,000 rows draw stays within the places."""
    candidates = np.tile([fullest, fullest // 3 * 2, fullest // 3], 33_334)
    places = pretraining.places(candidates, probability)
    rng = np.random.default_rng(0)
    double, single = candidates // 11, candidates - candidates // 11 * 2
    drawn = 2 * rng.binomial(double, probability) + rng.binomial(single, probability)
    assert drawn.max() <= places <= max(fullest, 8)
    assert places % 8 == 0 or places == fullest
    if probability == 0.15 and fullest == 300:
        assert drawn.max() + 24 > places  # and no more than needed


def test_rare_full_rows_cost_few_places():
    """A row in a hundred thousand does not decide, one in ten does."""
    usual = np.full(100_000, 100)
    rare, often = usual.copy(), usual.copy()
    rare[:1], often[:10_000] = 300, 300
    assert pretraining.places(usual, 0.15) == 40
    assert pretraining.places(rare, 0.15) < pretraining.places(often, 0.15)
    assert pretraining.places(often, 0.15) >= 80


def test_layout_of_packed_rows():
    task = made_sets.make_task(made_sets.captions(9), made_sets.texts(9), data=dict(row_slots=256))
    loads = np.zeros((4, 1000), int)
    loads[pretraining.REGIONS] = np.arange(1000) // 10
    loads[pretraining.CAPTION_WORDS] = 80
    loads[pretraining.TEXT_WORDS] = 190
    layout = task.layout(loads)
    assert (layout.slots, layout.items) == (256, 64)
    assert layout.regions == 104  # 99 % of the rows need 98, to a multiple of 8
    assert layout.terms["mlm_caption"].capacity == pretraining.places(np.array([80]), 0.15) == 32
    assert layout.terms["mlm_text"].capacity == pretraining.places(np.array([190]), 0.15) == 64
    assert (layout.region_width, layout.region_classes) == (made_sets.WIDTH, made_sets.CLASSES)
    few = task.layout(np.zeros((4, 10), int))
    assert few.regions == 1 + task.sources.sets[0].regions.max()


def test_layout_of_one_example_a_row():
    task = made_sets.make_task(
        made_sets.captions(9, most_regions=100), made_sets.texts(9), data=dict(packing=False)
    )
    loads = task.sizes(np.arange(18), np.zeros(18, int))
    layout = task.layout(loads)
    assert (layout.slots, layout.items) == (65, 1)
    assert layout.regions >= loads[1].max()


# What does not fit


def bad(error, match, *sets, **sections):
    with pytest.raises(error, match=match):
        made_sets.make_task(*(sets or (made_sets.captions(3),)), **sections)


def test_class_scores_are_missing():
    rng = np.random.default_rng(0)
    record = dataclasses.replace(made_sets.caption(rng), classes=None)
    set_ = made_sets.MadeSet([record, record], "data/vqa_features")
    bad(DataError, "data/vqa_features: no class scores.*config.pretraining.region_weight=0", set_)
    made_sets.make_task(set_, pretraining=Options(region_weight=0.0))


def test_widths():
    bad(DataError, "8 numbers.*config.model.region_width=9", model=dict(region_width=9))
    bad(DataError, "6 class scores.*config.model.region_classes=7", model=dict(region_classes=7))
    made_sets.make_task(
        made_sets.captions(3), model=dict(region_classes=7), pretraining=Options(region_weight=0.0)
    )


def test_other_sets():
    bad(DataError, "no record", made_sets.MadeSet([], "empty"))
    bad(DataError, "texts: .*text_only=False", made_sets.texts(3), model=dict(text_only=False))
    bad(DataError, "one picture.*relation", made_sets.captions(1), model=dict(relation=True))
    other = made_sets.captions(3)
    other.kind = "questions"
    bad(DataError, "questions; pre-training reads", other)


def test_row_regions_too_few():
    task = made_sets.make_task(made_sets.captions(9), data=dict(row_regions=5))
    largest = 1 + task.sources.sets[0].regions.max()
    with pytest.raises(ConfigError, match=f"row_regions=5.* {largest} regions"):
        task.layout(np.zeros((4, 10), int))
    task = made_sets.make_task(made_sets.captions(9), data=dict(row_regions=50))
    assert task.layout(np.zeros((4, 10), int)).regions == 50


def test_data_recipe_captions():
    """A list of words is joined by blanks and gets [CLS], [SEP]; the tokenizer's own test has
    the pieces."""
    for case in GOLDEN["captions"][:2]:
        pieces = [IDS[piece] for piece in case["pieces"]]
        inner = np.array(pieces[1:-1], np.int32)
        _, task = one_caption(
            changes={"pieces": inner, "word": np.arange(len(inner), dtype=np.int32)},
            pretraining=NO_MASKS,
        )
        assert task.item(0, 0).tokens[: len(pieces)].tolist() == pieces
