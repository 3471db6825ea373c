"""The demo's measurement: what is hidden, what is swapped, what is counted."""

import dataclasses
import json
import tempfile

import jax
import numpy as np
import pytest

from vlbert_jax import config as config_lib
from vlbert_jax import optimizer, run_folder, state
from vlbert_jax.checkpoint import Checkpointer
from vlbert_jax.data import prepared, rows, synthetic
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.prepare import made_world
from vlbert_jax.report import demo

SCENES = 60


def made_tokenizer() -> Tokenizer:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("".join(f"{piece}\n" for piece in made_world.pieces()))
        file.flush()
        return Tokenizer(file.name)


TOKENIZER = made_tokenizer()
MASK, IMG = TOKENIZER.mask, TOKENIZER.size


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A tiny model on a small made world."""
    world = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(made_world, "TRAIN", 5)
        patch.setattr(made_world, "VALIDATION", SCENES)
        made_world.prepare(str(world))
        yield config_lib.Config(
            model=config_lib.Model(
                layers=1,
                hidden=8,
                heads=2,
                mlp=8,
                vocabulary=made_world.VOCABULARY_SIZE,
                region_classes=synthetic.REGION_CLASSES,
            ),
            data=config_lib.Data(
                made_world=str(world),
                train=((str(world / "scenes"), 1.0), (str(world / "prose"), 1.0)),
                rows_per_batch=8,
                row_slots=64,
                vocabulary=str(world / made_world.VOCABULARY),
                text_slots=32,
            ),
        )


@pytest.fixture(scope="module")
def shown(config):
    return demo.open_scenes(config)[0]


def words_of(batch, row):
    """The caption as the model sees it, without [CLS] and [SEP]."""
    is_text = (batch["segments"][row] == 0) & (batch["sequence"][row] > 0)
    return TOKENIZER.decode(batch["tokens"][row][is_text][1:-1]).split()


def one_hot(answers, classes):
    logits = np.zeros((len(answers), 1, classes))
    logits[np.arange(len(answers)), 0, answers] = 1
    return logits


class Looker:
    """Knows the scene by its picture, and says what that scene's own caption has in the place."""

    def __init__(self, shown):
        self.scenes = {one.item.region_features[1].tobytes(): one.scene for one in shown}

    def __call__(self, batch):
        answers = np.zeros(len(batch["tokens"]), int)
        for row in np.flatnonzero(batch["mlm_caption_weight"][:, 0]):
            scene = self.scenes[batch["region_features"][row, 1].tobytes()]
            at = batch["mlm_caption_slot"][row, 0] - 1
            assert batch["tokens"][row, at + 1] == MASK
            own = TOKENIZER.encode(scene.caption)[0]
            answers[row] = own[at] if at < len(own) else 0
        return {"mlm_caption": one_hot(answers, TOKENIZER.size)}


def guesser(batch):
    """Sees the words only, and makes the best guess."""
    answers = np.zeros(len(batch["tokens"]), int)
    for row in np.flatnonzero(batch["mlm_caption_weight"][:, 0]):
        at = int(batch["mlm_caption_slot"][row, 0]) - 1
        guess = synthetic.best_guess(words_of(batch, row), at)[0]
        answers[row] = TOKENIZER.encode(guess)[0][0]
    return {"mlm_caption": one_hot(answers, TOKENIZER.size)}


def test_items_are_the_records_with_nothing_hidden(shown, config):
    records = prepared.open_set(f"{config.data.made_world}/scenes", "validation")
    assert len(shown) == len(records) == SCENES
    for one, record in zip(shown, records, strict=True):
        words = len(one.scene.sorts)
        assert TOKENIZER.decode(one.item.tokens[1 : words + 1]) == one.scene.caption
        assert not one.item.region_replaced.any()
        np.testing.assert_array_equal(one.item.region_features[1:], record.features[one.order])
        assert (np.diff(record.classes.max(axis=1)[one.order].astype(float)) <= 0).all()


def test_one_word_is_hidden_at_a_time(shown):
    questions = list(demo.word_questions(shown, MASK))
    asked = [(one, at) for one in shown for at, sort in enumerate(one.scene.sorts) if sort]
    assert len(questions) == len(asked)
    for question, (one, at) in zip(questions, asked, strict=True):
        (changed,) = np.flatnonzero(question.item.tokens != one.item.tokens)
        assert changed == at + 1
        assert question.item.tokens[changed] == MASK
        word = one.scene.caption.split()[at]
        assert {TOKENIZER.vocabulary[answer] for answer in question.answers.values()} == {word}
        assert set(question.answers) == {one.scene.sorts[at], "all"}


def test_a_region_is_hidden_from_the_whole_image_too(shown):
    questions = list(demo.region_questions(shown))
    asked = [(one, thing) for one in shown for thing in one.scene.named]
    assert len(questions) == len(asked)
    for question, (one, thing) in zip(questions, asked, strict=True):
        item = question.item
        (hidden,) = np.flatnonzero(item.region_replaced)
        stored = one.scene.features[thing].astype(np.float16)
        np.testing.assert_array_equal(item.region_features[hidden], stored)
        others = np.delete(one.scene.features, thing, axis=0)
        np.testing.assert_allclose(item.region_features[0], others.mean(axis=0), atol=0.01)
        (slot,) = item.targets["region_class"].slot
        assert item.tokens[slot] == IMG
        assert item.visual[slot] == rows.FIRST_REGION + hidden
        kind = synthetic.KINDS[question.answers[demo.KIND] - 1]
        assert kind == synthetic.KINDS[one.scene.kinds[thing]]
        assert kind in one.scene.caption.split()


def test_words_of_one_before_the_regions_of_another(shown):
    for text, picture in zip(shown[1:], shown, strict=False):
        item = demo.joined(text.item, picture.item)
        words = len(text.scene.sorts) + 2
        np.testing.assert_array_equal(item.tokens[:words], text.item.tokens[:words])
        assert set(item.tokens[words:-1]) == {IMG}
        assert set(item.positions[words:-1]) == {words}
        assert item.positions[-1] == words + 1
        np.testing.assert_array_equal(item.region_boxes, picture.item.region_boxes)
        assert len(item.tokens) == words + len(item.region_boxes) + 1
    own = demo.joined(text.item, text.item)
    for name in ("tokens", "segments", "positions", "visual", "sequence", "region_features"):
        np.testing.assert_array_equal(getattr(own, name), getattr(text.item, name))


def test_who_looks_is_always_right_and_never_with_another_picture_by_right(shown):
    table = demo.measure_words(Looker(shown), shown, MASK)
    assert list(table) == ["kind", "colour", "size", "place", "all"]
    assert all(score.shown == 1 for score in table.values())
    right = []
    for one, other in zip(shown, [*shown[1:], shown[0]], strict=True):
        swapped = other.scene.caption.split()
        for at, (word, sort) in enumerate(
            zip(one.scene.caption.split(), one.scene.sorts, strict=True)
        ):
            if sort:
                right.append(at < len(swapped) and swapped[at] == word)
    assert table["all"].other == pytest.approx(np.mean(right))
    assert table["all"].count == len(right)


def test_who_guesses_is_as_good_with_any_picture(shown):
    table = demo.measure_words(guesser, shown, MASK)
    right = [
        synthetic.best_guess(one.scene.caption.split(), at)[0] == word
        for one in shown
        for at, word in enumerate(one.scene.caption.split())
        if one.scene.sorts[at]
    ]
    assert table["all"].shown == table["all"].other == pytest.approx(np.mean(right))
    error = np.sqrt(0.25 / len(right))
    assert abs(table["all"].blind - table["all"].shown) < 4 * error


def test_regions_with_and_without_words(shown):
    """Who names the first kind of the caption is right for one named thing of each scene."""

    def reader(batch):
        answers = np.zeros(len(batch["tokens"]), int)
        for row in np.flatnonzero(batch["region_class_weight"][:, 0]):
            kinds = [word for word in words_of(batch, row) if word in synthetic.KINDS]
            answers[row] = 1 + synthetic.KINDS.index(kinds[0]) if kinds else 0
        return {"region_class": one_hot(answers, synthetic.REGION_CLASSES)}

    table = demo.measure_regions(reader, shown)
    named = sum(len(one.scene.named) for one in shown)
    assert table[demo.KIND].count == named
    assert table[demo.KIND].shown == pytest.approx(len(shown) / named)
    assert 0 < abs(table[demo.DETECTOR].shown - table[demo.KIND].shown) < 0.2
    assert table[demo.KIND].other == table[demo.DETECTOR].other == 0
    assert 1 / 11 < table[demo.KIND].blind < 1 / 9


def test_command(shown, config, tmp_path, capsys):
    """On a checkpoint of a model that has learned nothing."""
    model = state.make_model(config, demo.layout(shown))
    fresh = jax.jit(
        lambda: state.init(model, demo.layout(shown), optimizer.make(config.optimizer), seed=0)
    )()
    checkpointer = Checkpointer(tmp_path, keep=1)
    checkpointer.save(7, fresh, {})
    checkpointer.close()
    (tmp_path / run_folder.CONFIG).write_text(config_lib.to_json(config))
    assert demo.main([str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "step 7" in printed
    assert "LESS than the 40 that the demo promises" in printed
    for row in ("kind", "colour", "size", "place", "all", "its kind", "first choice"):
        assert row in printed
    measured = json.loads((tmp_path / "eval/demo/measured.json").read_text())
    assert measured["words"]["all"]["shown"] < 0.1
    assert measured["words"]["all"]["count"] > 300
    rates = measured["examples_per_second"]
    gain = rates["packed"] / rates["unpacked"]
    assert f"Packing makes it {gain:.2f} times as fast" in printed


def test_a_run_without_the_made_world_is_refused(config, tmp_path, capsys):
    other = dataclasses.replace(config, data=config_lib.Data())
    (tmp_path / run_folder.CONFIG).write_text(config_lib.to_json(other))
    assert demo.main([str(tmp_path)]) == 2
    assert "config.data.made_world is empty" in capsys.readouterr().err
    assert demo.main([str(tmp_path / "nothing")]) == 2
    assert "no run there" in capsys.readouterr().err


def test_the_commands_that_it_advises_can_be_typed():
    """Every line of advice parses, and its config is one."""
    import shlex

    from vlbert_jax import main
    from vlbert_jax.prepare import __main__ as prepare

    text = demo.advice("runs/demo").replace("\\\n", " ")
    lines = [shlex.split(line) for line in text.splitlines() if line.startswith("  ")]
    assert len(lines) == 5
    for words in lines:
        arguments = words[words.index("-m") + 2 :]
        if "vlbert_jax.main" in words:
            parsed = main.parse(["main", *arguments])
            assert parsed.unknown == []
            assert parsed.workdir
            config_lib.load(parsed.config, parsed.overrides)
        else:
            prepare._parser().parse_args(arguments)
