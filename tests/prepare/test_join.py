"""Captions find their pictures, however either side spells the id; what is left is counted."""

import json

import numpy as np
import pytest

from tests.prepare.readers.samples import SAMPLES
from tests.prepare.records import FILES
from vlbert_jax.data.prepared import open_set
from vlbert_jax.options import DataError
from vlbert_jax.prepare import join
from vlbert_jax.prepare.__main__ import main
from vlbert_jax.prepare.raw import Bad, Counted, RawPicture, RawText


def picture(image_id, value=0.0, where=""):
    features = np.full((1, 4), value, np.float32)
    return RawPicture(image_id, 9, 9, np.float32([[0, 0, 5, 5]]), features, None, where)


def caption(image_id, text="a dog"):
    return RawText(f"{text} of {image_id}", text, "made", image_id)


def joined(pictures, captions):
    """(image id, texts) of each picture; the counts; the bad ones."""
    found = list(join.captioned(pictures, captions))
    counts = {each.name: each.count for each in found if isinstance(each, Counted)}
    bad = [each for each in found if isinstance(each, Bad)]
    whole = [each for each in found if isinstance(each, RawPicture)]
    return [(each.image_id, [raw.text for raw in each.captions]) for each in whole], counts, bad


@pytest.mark.parametrize(
    "name",
    [
        "9",
        " 9",
        "COCO_train2014_000000000009",
        "COCO_val2014_000000000009.jpg",
        "coco_train2014_000000000009.npz",
        "9.json",
        "00000009.npz",
        "train_frcnn.zip@/00000009.json",
        "train2014/COCO_train2014_000000000009",
        "gcc_00000009.npz",
        "flickr30k_000000000009",
    ],
)
def test_spellings_of_nine(name):
    assert join.canonical(name) == "9"


@pytest.mark.parametrize("name", ["a.1.b.0", "dev-9-1-img0", "COCO_train2014_x", "9a", "90", "n9"])
def test_other_names_stay(name):
    assert join.canonical(name) == name


def test_zero_is_a_number():
    assert join.canonical("00000000.jpg") == "0"


def test_left_overs_of_both_sides_are_counted():
    pictures = [picture("1"), picture("0002"), Bad("3", "features", "torn"), picture("4")]
    captions = [caption("2.jpg", "two"), caption("3"), caption("5"), caption("5"), caption("4")]
    found, counts, bad = joined(pictures, [*captions, caption("2", "deux"), Bad("?", "line", "no")])
    assert found == [("0002", ["two", "deux"]), ("4", ["a dog"])]
    assert counts == {
        "captions_of_bad_pictures": 1,
        "captions_without_picture": 2,
        "pictures_without_caption": 1,
    }
    assert {each.key for each in bad} == {"3", "?"}


def test_a_torn_row_before_the_good_one():
    """The picture's second row, a good one, gets the captions."""
    found, counts, _ = joined([Bad("1", "features", "torn"), picture("1")], [caption("1")])
    assert found == [("1", ["a dog"])]
    assert counts == {"captions_without_picture": 0, "pictures_without_caption": 0}


def test_repeated_pictures():
    """The first one counts; another content under the same id is counted apart."""
    pictures = [picture("1", 1), picture("01", 1), picture("2", 2), picture("2.json", 3)]
    kept = list(join.once(pictures))
    assert [each.image_id for each in kept[:2]] == ["1", "2"]
    assert kept[2:] == [
        Counted("repeated_pictures", 2),
        Counted("repeated_pictures_that_differ", 1),
    ]
    empty = RawPicture("7", 9, 9, np.zeros((0, 4)), np.zeros((0, 0)), None)
    assert list(join.once([empty, empty]))[1:] == [Counted("repeated_pictures", 1)]


def test_files_of_other_pictures():
    message = "2 pictures such as 'a', captions of 1 others such as 'x.jpg'; are the files of"
    with pytest.raises(DataError, match=message):
        joined([picture("a"), picture("b")], [caption("x.jpg"), caption("x.png")])


def test_captions_without_names_of_pictures():
    with pytest.raises(DataError, match="made: does not name the caption's picture; name it in"):
        joined([picture("a")], [caption("")])


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a/b.tsv", "captions_tsv"),
        ("b.csv", "captions_csv"),
        ("all_data_final_train_2014.jsonline", "karpathy_json"),
        ("dataset_flickr30k.json", "karpathy_json"),
        ("captions_val2017.json", "coco_captions"),
    ],
)
def test_format_by_name(file, name):
    assert join.format_of(file) == name


def test_format_that_the_name_does_not_tell():
    with pytest.raises(DataError, match="add --captions_format, one of coco_captions, karpathy"):
        join.format_of("train_caption.json")


def run(tmp_path, *arguments):
    return main([*map(str, arguments), f"--output={tmp_path / 'set'}"])


def test_command(tmp_path, capsys):
    """LXMERT's names of pictures, COCO's numbers."""
    folder = SAMPLES / "coco_captions" / "annotations" / "captions_train2017.json"
    inputs = ["lxmert_tsv", "--input", SAMPLES / "lxmert_tsv" / "train2014_obj36.tsv"]
    assert run(tmp_path, *inputs, "--captions", folder) == 0
    said = capsys.readouterr().out
    assert "captions, 3 records, 4 examples, 19 pieces, 18 words, 6 regions" in said
    assert "captions_without_picture 0, pictures_without_caption 0" in said
    set_ = open_set(tmp_path / "set")
    assert [set_[index].caption for index in range(4)] == [
        "Some Dogs in a park",
        "second caption of nine ",
        "A man and his dog.",
        "no object here",
    ]
    assert [set_[index].key for index in range(4)] == ["102", "103", "101", "104"]
    assert set_[1].image_id == "COCO_train2014_000000000009"
    np.testing.assert_array_equal(set_[0].features, set_[1].features)
    part = json.loads((tmp_path / "set" / "set.json").read_text())["splits"]["train"]
    assert part["counts"] == {"captions_without_picture": 0, "pictures_without_caption": 0}


def test_command_with_a_named_format_and_several_files(tmp_path, capsys):
    folder = SAMPLES / "oscar_caption_tsv"
    captions = ["--captions", folder / "train_caption.json", folder / "train_caption.json"]
    arguments = ["oscar_caption_tsv", "--input", folder, *captions]
    assert run(tmp_path, *arguments) == 2
    assert "add --captions_format" in capsys.readouterr().err
    assert run(tmp_path, *arguments, "--captions_format=coco_captions") == 0
    assert "3 records, 6 examples" in capsys.readouterr().out


def test_h01(tmp_path, capsys):
    """Pictures alone: all bad rows at once, or three good ones and the report."""
    arguments = ["bottom_up_attention_tsv", "--input", FILES / "cases" / "H01_regions.tsv"]
    assert run(tmp_path, *arguments) == 2
    error = capsys.readouterr().err
    assert "nothing written, bad records: 4 of 7" in error
    for line, name in ((2, "300002"), (5, "300004"), (6, "300005"), (7, "300006")):
        assert f"H01_regions.tsv line {line}, record {name}: " in error
    assert not list(tmp_path.iterdir())
    assert run(tmp_path, *arguments, "--on_bad=skip") == 0
    said = capsys.readouterr().out
    assert "pictures, 3 records, 3 examples" in said
    assert "bad records left out: 4\ncounted: repeated_pictures 1" in said
    set_ = open_set(tmp_path / "set")
    sums = [float(set_[index].features.astype("f4").sum()) for index in range(3)]
    assert sums == [21.0, 48.5625, 28.125]
    bad = (tmp_path / "set" / "bad_records-train.jsonl").read_text().splitlines()
    assert [json.loads(each)["key"] for each in bad] == ["300002", "300004", "300005", "300006"]
