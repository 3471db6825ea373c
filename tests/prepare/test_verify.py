"""A good set verifies; each kind of damage is found and named."""

import json
import shutil

import numpy as np
import pytest
from array_record.python import array_record_module

from tests.prepare import records
from vlbert_jax.data.prepared import lengths_name, open_set, shard_name
from vlbert_jax.data.record import to_bytes
from vlbert_jax.options import DataError
from vlbert_jax.prepare import split as split_writer
from vlbert_jax.prepare.verify import verify
from vlbert_jax.prepare.writer import write_set

RECORDS = 12


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    directory = tmp_path_factory.mktemp("verify") / "good"
    splits = {"train": records.captions(RECORDS), "validation": records.captions(2, seed=1)}
    write_set(directory, "captions", splits, "made")
    return directory


@pytest.fixture
def directory(good, tmp_path):
    return shutil.copytree(good, tmp_path / "set")


def rewrite(directory, change):
    """The train split's file with its records changed, the hashes untouched."""
    set_ = open_set(directory)
    changed = [to_bytes([change(set_[index], index)]) for index in range(len(set_))]
    write_records(directory, changed)


def write_records(directory, changed):
    writer = array_record_module.ArrayRecordWriter(
        str(directory / shard_name("train", 0, 1)), split_writer.STORED
    )
    for data in changed:
        writer.write(data)
    writer.close()


def replaced(record, **changes):
    return type(record)(**{**vars(record), **changes})


def test_good(good):
    table, problems = verify(good)
    assert problems == []
    head, train, *_ = table.splitlines()[1:]
    assert head.split()[:4] == ["split", "records", "examples", "pieces"]
    assert train.split()[:3] == ["train", str(RECORDS), str(RECORDS)]
    assert train.endswith("good")


def test_good_text(tmp_path):
    write_set(tmp_path / "set", "text", {"train": records.lines("a dog", "unaffable")}, "made")
    assert verify(tmp_path / "set")[1] == []


def test_rewriting_alone_changes_nothing(directory):
    rewrite(directory, lambda record, index: record)
    assert verify(directory)[1] == []


def test_a_changed_number_is_found_by_the_fingerprint(directory):
    def change(record, index):
        features = record.features.copy()
        features[:1, 0] += index == 0
        return replaced(record, features=features)

    rewrite(directory, change)
    (problem,) = verify(directory)[1]
    assert "content has the fingerprint" in problem


@pytest.mark.parametrize(
    ("field", "make", "message"),
    [
        ("features", lambda old: np.full_like(old, np.nan), "features: region 0, element 0 is nan"),
        ("boxes", lambda old: old * 9, "other frame"),
        ("pieces", lambda old: old + 30522, "the vocabulary has 30522"),
        ("pieces", lambda old: old[1:], "the index says"),
        ("word", lambda old: old * 2 + 1, "does not number the words"),
    ],
)
def test_a_wrong_record_is_named(directory, field, make, message):
    def change(record, index):
        wrong = index == 3
        return replaced(record, **{field: make(getattr(record, field))}) if wrong else record

    record = open_set(directory)[3]
    assert len(record.boxes)
    assert len(record.pieces)
    rewrite(directory, change)
    problems = verify(directory)[1]
    assert any("record 3 (00000003)" in problem and message in problem for problem in problems)
    assert not any("record 2" in problem for problem in problems)


def test_flipped_bytes(directory):
    """Damage in the middle of the file: the format's own checks or ours see it."""
    file = directory / shard_name("train", 0, 1)
    data = bytearray(file.read_bytes())
    middle = data.find(b"features") + 40
    data[middle : middle + 8] = bytes(8 * [255])
    file.write_bytes(data)
    assert verify(directory)[1]


def test_a_file_that_ends_early(directory):
    file = directory / shard_name("train", 0, 1)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    problems = verify(directory)[1]
    assert problems
    assert file.name in problems[0]


def test_a_missing_file(directory):
    (directory / shard_name("train", 0, 1)).unlink()
    assert shard_name("train", 0, 1) in verify(directory)[1][0]


def test_a_missing_or_wrong_index(directory):
    file = directory / lengths_name("train")
    index = np.load(file)
    np.save(file, index[:, :-1])
    assert f"the lengths index has the shape (5, {RECORDS - 1})" in verify(directory)[1][0]
    for row in (3, 4):
        wrong = index.copy()
        wrong[row, 5] += 1
        np.save(file, wrong)
        assert "does not number the records" in verify(directory)[1][0]
    index[0, 5] += 1
    np.save(file, index)
    problems = verify(directory)[1]
    assert "record 5" in problems[0]
    assert "pieces by the lengths index" in problems[1]
    file.unlink()
    assert "lengths index cannot be read" in verify(directory)[1][0]


def test_a_caption_too_many(directory):
    """The record has two captions, its index one."""
    set_ = open_set(directory)
    changed = [to_bytes([set_[index]] * (1 + (index == 3))) for index in range(len(set_))]
    write_records(directory, changed)
    assert any("record 3 (00000003): key: 2 captions" in each for each in verify(directory)[1])


def test_a_wrong_total(directory):
    description = json.loads((directory / "set.json").read_text())
    description["splits"]["train"]["regions"] += 1
    (directory / "set.json").write_text(json.dumps(description))
    (problem,) = verify(directory)[1]
    assert "regions by the lengths index" in problem


def test_many_problems_are_cut(directory, monkeypatch):
    rewrite(directory, lambda record, index: replaced(record, width=0))
    monkeypatch.setattr("vlbert_jax.prepare.verify.LISTED", 4)
    problems = verify(directory)[1]
    assert len(problems) == 5
    assert "problems more" in problems[-1]


def test_no_set(tmp_path):
    with pytest.raises(DataError, match="no prepared set"):
        verify(tmp_path / "nowhere")
