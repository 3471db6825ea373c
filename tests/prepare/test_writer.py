"""A set is written whole or not at all, and twice the same input is twice the same bytes."""

import fcntl
import json
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds

from tests.prepare import records
from vlbert_jax.data.prepared import open_set
from vlbert_jax.options import DataError
from vlbert_jax.prepare import split as split_writer
from vlbert_jax.prepare.raw import Bad
from vlbert_jax.prepare.writer import write_set

REPOSITORY = pathlib.Path(__file__).parent.parent.parent


def bytes_of(directory):
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def beside(directory):
    return sorted(file.name for file in directory.parent.iterdir())


def test_same_input_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(split_writer, "SHARD_BYTES", 2000)
    for name in ("one", "two"):
        write_set(tmp_path / name, "captions", {"train": records.captions(30)}, "made")
    one = bytes_of(tmp_path / "one")
    assert one == bytes_of(tmp_path / "two")
    assert {"set.json", "dataset_info.json", "features.json", "lengths-train.npy"} < one.keys()
    assert str(tmp_path).encode() not in b"".join(one.values())


def test_a_split_is_added(tmp_path):
    train, validation = records.captions(9), records.captions(4, seed=1)
    write_set(tmp_path / "set", "captions", {"train": train}, "made")
    before = bytes_of(tmp_path / "set")
    write_set(tmp_path / "set", "captions", {"validation": validation}, "made")
    write_set(tmp_path / "at_once", "captions", {"train": train, "validation": validation}, "made")
    after = bytes_of(tmp_path / "set")
    assert after == bytes_of(tmp_path / "at_once")
    changed = {name for name in before if after[name] != before[name]}
    assert changed <= {"set.json", "dataset_info.json"}
    builder = tfds.builder_from_directory(tmp_path / "set")
    assert {name: s.num_examples for name, s in builder.info.splits.items()} == {
        "train": 9,
        "validation": 4,
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(records={"train": records.captions(3)}), "has the split train already"),
        (dict(kind="text"), "its kind is captions, the new split's is text"),
        (dict(feature_dtype="float32"), "feature_dtype is float16, the new split's is float32"),
        (
            dict(records={"test": records.captions(3, width=8)}),
            "8 numbers a region; the set has 16",
        ),
        (dict(records={"test": records.captions(3, classes=0)}), "0 class scores .* set has 5"),
        (dict(records={"Test!": []}), "split 'Test!': expected small letters"),
    ],
)
def test_a_split_that_does_not_fit(tmp_path, changes, message):
    directory = tmp_path / "set"
    write_set(directory, "captions", {"train": records.captions(3)}, "made")
    before = bytes_of(directory)
    arguments = dict(kind="captions", records={"test": records.captions(3)}, reader="made")
    with pytest.raises(DataError, match=message):
        write_set(directory, **{**arguments, **changes})
    assert bytes_of(directory) == before
    assert beside(directory) == ["set"]


def test_another_vocabulary_does_not_fit(tmp_path):
    vocabulary = tmp_path / "small.txt"
    vocabulary.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\ndog\n")
    write_set(tmp_path / "set", "text", {"train": records.lines("a dog")}, "made")
    with pytest.raises(DataError, match="vocabulary_fingerprint"):
        write_set(
            tmp_path / "set",
            "text",
            {"test": records.lines("a dog")},
            "made",
            vocabulary=str(vocabulary),
        )


def test_the_sets_dtype_goes_on(tmp_path):
    raws = records.captions(3)
    write_set(tmp_path / "set", "captions", {"train": raws}, "made", feature_dtype="float32")
    write_set(tmp_path / "set", "captions", {"test": raws}, "made")
    assert open_set(tmp_path / "set", "test")[0].features.dtype == np.float32


def bad_and_good():
    good = records.captions(5)
    good[1].features[:1, 0] = 1.0
    good[0].features[2, 7] = np.nan
    good[4].boxes[:1, 0] = np.inf
    assert len(good[4].boxes)
    return [*good[:3], Bad("lost", "frcnn", "no such member", "list line 4"), *good[3:]]


def test_stop_lists_all_and_writes_nothing(tmp_path):
    with pytest.raises(DataError) as error:
        write_set(tmp_path / "set", "captions", {"train": bad_and_good()}, "made")
    assert str(error.value).splitlines() == [
        "split train: nothing written, bad records: 3 of 6",
        "  made line 1, record 00000000: features: region 2, element 7 is nan; expected finite"
        " numbers",
        "  list line 4, record lost: frcnn: no such member",
        "  made line 5, record 00000004: boxes: region 0, element 0 is inf; expected finite numbers",
        "mend them, or leave them out with --on_bad=skip",
    ]
    assert not list(tmp_path.iterdir())


def test_stop_gives_up_after_many(tmp_path, monkeypatch):
    monkeypatch.setattr(split_writer, "LISTED", 7)

    many = (Bad("key", "field", "reason") for _ in range(100))
    with pytest.raises(DataError, match="bad records: 7 so far, looked no further"):
        write_set(tmp_path / "set", "captions", {"train": many}, "made")


def test_skip_names_and_counts(tmp_path):
    write_set(tmp_path / "set", "captions", {"train": bad_and_good()}, "made", on_bad="skip")
    set_ = open_set(tmp_path / "set")
    assert [set_[index].key for index in range(len(set_))] == ["00000001", "00000002", "00000003"]
    assert set_.description["splits"]["train"]["bad_records"] == 3
    lines = (tmp_path / "set" / "bad_records-train.jsonl").read_text().splitlines()
    assert [json.loads(line)["key"] for line in lines] == ["00000000", "lost", "00000004"]
    assert json.loads(lines[1]) == {
        "key": "lost",
        "field": "frcnn",
        "reason": "no such member",
        "where": "list line 4",
    }


def test_lines_without_a_word_are_dropped_and_counted(tmp_path):
    raws = records.lines("one", "\x00\x01", "", "\u200b", "two words")
    write_set(tmp_path / "set", "text", {"train": raws}, "made")
    set_ = open_set(tmp_path / "set")
    assert [set_[index].key for index in range(len(set_))] == ["made:1", "made:5"]
    assert set_.description["splits"]["train"]["counts"] == {"without_words": 3}


def test_nothing_usable(tmp_path):
    for raws in ([], records.lines("", "\x00")):
        with pytest.raises(DataError, match="split train: no usable record among the"):
            write_set(tmp_path / "set", "text", {"train": raws}, "made")
    assert not list(tmp_path.iterdir())


def test_counts_of_odd_records(tmp_path):
    raws = records.captions(20)
    write_set(tmp_path / "set", "captions", {"train": [*raws, raws[0]]}, "made")
    counts = open_set(tmp_path / "set").description["splits"]["train"]["counts"]
    assert counts["repeated_keys"] == 1
    assert counts["without_regions"] == sum(not len(raw.boxes) for raw in raws) > 0
    assert counts["without_words"] == sum(not raw.caption for raw in raws) > 0


def test_a_set_without_any_region(tmp_path):
    raws = [raw for raw in records.captions(20) if not len(raw.boxes)]
    write_set(tmp_path / "set", "captions", {"train": raws}, "made")
    set_ = open_set(tmp_path / "set")
    assert set_[0].features.shape == (0, 0)
    assert set_.region_classes == 0


def test_what_is_in_the_way_stays(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="exists and is no prepared set"):
        write_set(tmp_path, "text", {"train": records.lines("a dog")}, "made")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_an_error_of_the_reader_leaves_nothing(tmp_path):
    def breaks():
        yield from records.captions(3)
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        write_set(tmp_path / "set", "captions", {"train": breaks()}, "made")
    assert not list(tmp_path.iterdir())


def test_killed_in_the_middle(tmp_path):
    """kill -9 leaves no set; the next run cleans up and gives what it would have given."""
    directory = tmp_path / "set"
    program = (
        "import sys; from tests.prepare import records; from vlbert_jax.prepare.writer import *\n"
        "def slow():\n"
        "    yield from records.captions(9)\n"
        "    print('ready', flush=True); sys.stdin.read()\n"
        "write_set(sys.argv[1], 'captions', {'train': slow()}, 'made')"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(directory)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"ready\n"
    with pytest.raises(DataError, match="another process is preparing it now"):
        write_set(directory, "captions", {"train": records.captions(2)}, "made")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert beside(directory) == ["set.incomplete"]
    with pytest.raises(DataError, match="no prepared set"):
        open_set(directory)
    write_set(directory, "captions", {"train": records.captions(4)}, "made")
    assert beside(directory) == ["set"]
    assert len(open_set(directory)) == 4


def test_the_lock_is_real(tmp_path):
    """The error of two at once comes from the lock, not from the directory that is there."""
    (tmp_path / "set.incomplete").mkdir()
    (tmp_path / "set.incomplete" / "train-7").touch()  # left by a run that was killed
    with open(tmp_path / "set.incomplete" / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"):
            write_set(tmp_path / "set", "text", {"train": records.lines("a")}, "made")
    write_set(tmp_path / "set", "text", {"train": records.lines("a")}, "made")
    assert beside(tmp_path / "set") == ["set"]
    assert not (tmp_path / "set" / "train-7").exists()
