"""The made world as prepared sets: what is written, what is left alone, what is refused."""

import pathlib

import numpy as np
import pytest

from vlbert_jax import config as config_lib
from vlbert_jax.data import prepared, synthetic
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.options import DataError
from vlbert_jax.prepare import made_world, prose, verify


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(made_world, "TRAIN", 30)
    monkeypatch.setattr(made_world, "VALIDATION", 7)


def state_of(directory):
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*")}


def test_sets_hold_the_scenes_and_the_prose(small, tmp_path):
    made_world.prepare(str(tmp_path / "world"))
    scenes = list(synthetic.scenes(0, 0, 37))
    tokenizer = Tokenizer(str(tmp_path / "world" / made_world.VOCABULARY))
    held_out = list(made_world.held_out())
    assert [scene.number for scene in held_out] == list(range(30, 37))
    for split, expected in (("train", scenes[:30]), ("validation", scenes[30:])):
        records = prepared.open_set(tmp_path / "world" / "scenes", split)
        assert (records.kind, records.region_width) == ("captions", synthetic.REGION_WIDTH)
        assert records.region_classes == synthetic.REGION_CLASSES
        assert len(records) == len(expected)
        for record, scene in zip(records, expected, strict=True):
            assert record.caption == scene.caption == tokenizer.decode(record.pieces)
            assert len(record.pieces) == len(scene.sorts)
            np.testing.assert_array_equal(record.features, scene.features.astype(np.float16))
            np.testing.assert_array_equal(record.boxes, scene.boxes)
            np.testing.assert_array_equal(record.classes, scene.classes.astype(np.float16))
    for split, expected in zip(("train", "validation"), prose.passages(), strict=True):
        records = prepared.open_set(tmp_path / "world" / "prose", split)
        assert records.kind == "text"
        assert len(records) == len(expected)
        np.testing.assert_array_equal(records[3].pieces, tokenizer.encode(expected[3])[0])
    for name in ("scenes", "prose"):
        assert verify.verify(str(tmp_path / "world" / name))[1] == []


def test_texts_are_cut_into_the_pieces_of_the_whole_vocabulary(small, tmp_path):
    made_world.prepare(str(tmp_path))
    ours, whole = Tokenizer(str(tmp_path / made_world.VOCABULARY)), Tokenizer()
    assert ours.size == made_world.VOCABULARY_SIZE
    captions = [scene.caption for scene in synthetic.scenes(0, 0, 500)]
    for text in [*captions, *(line for split in prose.passages() for line in split)]:
        pieces = [ours.vocabulary[piece] for piece in ours.encode(text)[0]]
        assert pieces == [whole.vocabulary[piece] for piece in whole.encode(text)[0]]


def test_ensure_makes_only_what_is_missing(small, tmp_path):
    world = tmp_path / "world"
    made_world.ensure(str(world))
    before = state_of(world)
    made_world.ensure(str(world))
    assert state_of(world) == before
    for path in (world / "prose").iterdir():
        path.unlink()
    (world / "prose").rmdir()
    made_world.ensure(str(world))
    assert state_of(world).keys() == before.keys()
    scenes = {path: time for path, time in before.items() if "scenes" in path.parts}
    assert scenes.items() <= state_of(world).items()
    with pytest.raises(DataError, match="has the split train, validation already"):
        made_world.prepare(str(world))


def test_the_config_of_the_demo_fits_the_world():
    config = config_lib.load(str(pathlib.Path(__file__).parents[2] / "configs" / "demo.py"))
    world = config.data.made_world
    assert config.data.vocabulary == f"{world}/{made_world.VOCABULARY}"
    assert config.model.vocabulary == made_world.VOCABULARY_SIZE
    assert config.model.region_classes == synthetic.REGION_CLASSES
    assert config.model.region_width == synthetic.REGION_WIDTH
    names = {f"{world}/{name}" for name in (made_world.SCENES, made_world.PROSE)}
    assert {directory for directory, _ in config.data.train} == names
    assert {directory for directory, _ in config.data.validation} == names
    assert not config.data.mirror  # left and right would be wrong in half of the pictures


def test_another_version_of_the_world_is_refused(small, tmp_path, monkeypatch):
    made_world.ensure(str(tmp_path))
    monkeypatch.setattr(made_world, "_SEED", 1)
    with pytest.raises(DataError, match="another version of this program; remove"):
        made_world.ensure(str(tmp_path))
