"""A prepared set gives back what was put in, in any order and in any process."""

import json
import os
import pathlib
import pickle
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.prepare import records
from vlbert_jax.data.prepared import open_set
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.options import DataError
from vlbert_jax.prepare import split as split_writer
from vlbert_jax.prepare.raw import RawCaption
from vlbert_jax.prepare.verify import verify
from vlbert_jax.prepare.writer import write_set


def assert_same(record, raw, dtype):
    pieces, word = Tokenizer().encode(raw.caption)
    assert (record.key, record.image_id, record.caption) == (raw.key, raw.image_id, raw.caption)
    assert (record.width, record.height) == (raw.width, raw.height)
    for found, expected in (
        (record.pieces, pieces),
        (record.word, word),
        (record.boxes, raw.boxes),
        (record.features, raw.features.astype(dtype)),
    ):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    if raw.classes is None:
        assert record.classes is None
    else:
        np.testing.assert_array_equal(record.classes, raw.classes.astype(dtype), strict=True)


@pytest.fixture(scope="module")
def raws():
    return records.captions(40)


@pytest.fixture(scope="module")
def directory(raws, tmp_path_factory):
    """A set of several files."""
    directory = tmp_path_factory.mktemp("sets") / "captions"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(split_writer, "SHARD_BYTES", 2000)
        write_set(directory, "captions", {"train": raws, "validation": raws[:3]}, "made")
    return directory


def test_every_record_in_any_order(raws, directory):
    set_ = open_set(directory)
    assert len(list(directory.glob("vlbert-train.array_record-*"))) > 3
    assert len(set_) == 40
    assert (set_.kind, set_.region_width, set_.region_classes) == ("captions", 16, 5)
    for index in np.random.default_rng(0).permutation(40):
        assert_same(set_[index], raws[index], "float16")


@pytest.mark.parametrize(("dtype", "classes"), [("float32", 5), ("float16", 0), ("float32", 0)])
def test_dtypes_and_no_class_scores(tmp_path, dtype, classes):
    raws = records.captions(6, classes=classes)
    write_set(tmp_path / "set", "captions", {"train": raws}, "made", feature_dtype=dtype)
    set_ = open_set(tmp_path / "set")
    assert (set_.feature_dtype, set_.region_classes) == (dtype, classes)
    for index, raw in enumerate(raws):
        assert_same(set_[index], raw, dtype)


def test_lengths_index(raws, directory):
    set_ = open_set(directory)
    encoded = [Tokenizer().encode(raw.caption) for raw in raws]
    assert set_.pieces.tolist() == [len(pieces) for pieces, _ in encoded]
    assert set_.words.tolist() == [len(set(word.tolist())) for _, word in encoded]
    assert set_.regions.tolist() == [len(raw.boxes) for raw in raws]
    assert 0 in set_.regions
    assert set_.pieces.dtype == np.int32


def test_text(tmp_path):
    write_set(tmp_path / "set", "text", {"train": records.lines("Hello, dog", "the end")}, "made")
    set_ = open_set(tmp_path / "set")
    assert (set_.kind, len(set_)) == ("text", 2)
    record = set_[0]
    assert record.key == "made:1"
    assert Tokenizer().decode(record.pieces) == "hello , dog"
    assert record.word.tolist() == [0, 1, 2]
    assert (set_.words.tolist(), set_.regions.tolist()) == ([3, 2], [0, 0])


def test_vocabulary_of_the_set(directory):
    set_ = open_set(directory)
    assert set_.vocabulary_fingerprint == Tokenizer().fingerprint
    assert set_.vocabulary_size == 30522


def test_tensorflow_datasets_reads_it(raws, directory):
    source = tfds.builder_from_directory(directory).as_data_source("train")
    assert len(source) == 40
    for index in (0, 7, 39):
        example, raw = source[index], raws[index]
        assert list(example["caption"]) == [raw.caption.encode()]
        assert example["size"].tolist() == [raw.width, raw.height]
        np.testing.assert_array_equal(example["boxes"], raw.boxes)
        np.testing.assert_array_equal(example["features"], raw.features.astype("f2"))
        np.testing.assert_array_equal(example["classes"], raw.classes.astype("f2"))
    assert len(tfds.builder_from_directory(directory).as_data_source("validation")) == 3


def test_a_worker_reads_what_we_read(directory):
    """Pickled with open files and a loaded index; the worker starts no jax to read."""
    set_ = open_set(directory)
    first = set_[5]
    assert len(set_.pieces) == 40
    pickled = pickle.dumps(set_)
    assert len(pickled) < 5000
    program = (
        "import sys, pickle; set_ = pickle.loads(bytes.fromhex(sys.argv[1]));"
        "print(set_[5].features.tobytes().hex(), set_.pieces.tolist(), 'jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, pickled.hex()],
        cwd=pathlib.Path(__file__).parent.parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = f"{first.features.tobytes().hex()} {set_.pieces.tolist()} False\n"
    assert done.stdout == expected


def test_a_fork_opens_its_own_files(directory, monkeypatch):
    set_ = open_set(directory)
    first, mine = set_[0].features, set_._reader(0)
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork
    np.testing.assert_array_equal(set_[0].features, first)
    assert set_._reader(0) is not mine


def test_what_is_not_there(directory, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: no prepared set .no such directory.*--output="):
        open_set(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"it holds no set.json"):
        open_set(tmp_path)
    with pytest.raises(DataError, match="no split 'test', found train, validation; add it with"):
        open_set(directory, "test")
    for index in (40, -1):
        with pytest.raises(IndexError, match="of 40 in"):
            open_set(directory)[index]
        with pytest.raises(IndexError, match="of 40 in"):
            open_set(directory).read(index)


def test_a_set_of_another_version(tmp_path):
    write_set(tmp_path / "set", "text", {"train": records.lines("a dog")}, "made")
    description = json.loads((tmp_path / "set" / "set.json").read_text())
    description.pop("format")
    (tmp_path / "set" / "set.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="set of format 1, this version reads format 2; remove it"):
        open_set(tmp_path / "set")


def test_missing_file_is_named(tmp_path):
    write_set(tmp_path / "set", "captions", {"train": records.captions(3)}, "made")
    (shard,) = (tmp_path / "set").glob("*array_record*")
    shard.unlink()
    with pytest.raises(DataError, match=f"{shard.name}: record 1 of split train cannot be read"):
        open_set(tmp_path / "set")[1]


def test_fingerprint_is_of_the_content(tmp_path):
    """Not of the place, the other splits or the reader's name."""

    def fingerprint(name, raws, splits=("train",)):
        write_set(tmp_path / name, "captions", dict.fromkeys(splits, raws), reader=name)
        return open_set(tmp_path / name).fingerprint

    raws = records.captions(4)
    one = fingerprint("one", raws)
    assert fingerprint("two", raws, ("train", "validation")) == one
    assert fingerprint("turned", [raws[0], *raws[:0:-1]]) != one
    raws[2].features[:1, 0] += 1
    raws[3].features[:1, 0] += 1
    assert fingerprint("changed", raws) != one


def test_set_file_is_for_people_too(directory):
    description = json.loads((directory / "set.json").read_text())
    train = description["splits"]["train"]
    assert (train["records"], train["reader"]) == (40, "made")
    assert sum(train["shard_lengths"]) == 40


def test_captions_of_a_picture_share_its_regions(tmp_path, monkeypatch):
    """An example each, in order; the regions are on disk once, and tfds sees pictures."""
    monkeypatch.setattr(split_writer, "SHARD_BYTES", 2000)  # several files
    raws = records.pictures(9)
    write_set(tmp_path / "set", "captions", {"train": raws}, "made")
    set_ = open_set(tmp_path / "set")
    pairs = [(raw, caption) for raw in raws for caption in raw.captions]
    counts = [len(raw.captions) for raw in raws]
    assert max(counts) > 2
    assert (len(set_), set_.records) == (len(pairs), 9)
    assert set_.regions.tolist() == np.repeat([len(raw.boxes) for raw in raws], counts).tolist()
    for index in np.random.default_rng(0).permutation(len(pairs)):
        raw, caption = pairs[index]
        found = set_[index]
        alone = RawCaption(
            caption.key, raw.image_id, caption.text, raw.width, raw.height, raw.boxes,
            raw.features, raw.classes,
        )  # fmt: skip
        assert_same(found, alone, "float16")
        assert set_.pieces[index] == len(found.pieces)
        assert set_.words[index] == len(set(found.word.tolist()))
    part = set_.description["splits"]["train"]
    assert part["regions"] == sum(len(raw.boxes) for raw in raws)
    assert part["pieces"] == set_.pieces.sum()
    source = tfds.builder_from_directory(tmp_path / "set").as_data_source("train")
    assert [len(picture["caption"]) for picture in source] == counts
    assert verify(tmp_path / "set")[1] == []


def test_pictures_without_captions(tmp_path):
    raws = records.pictures(5, several=0)
    write_set(tmp_path / "set", "pictures", {"train": raws}, "made")
    set_ = open_set(tmp_path / "set")
    assert (set_.kind, len(set_)) == ("pictures", 5)
    assert [set_[index].key for index in range(5)] == [raw.image_id for raw in raws]
    np.testing.assert_array_equal(set_[3].boxes, raws[3].boxes)
    assert (len(set_[3].pieces), set_.regions.tolist()) == (0, [len(raw.boxes) for raw in raws])
    assert verify(tmp_path / "set")[1] == []
