"""The release's own files: the recorded sample, archives and folders, and every kind of fault."""

import base64
import json
import shutil
import zipfile

import numpy as np
import pytest

from tests.prepare.records import FILES
from vlbert_jax.data.prepared import open_set
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.options import DataError
from vlbert_jax.prepare.raw import Bad, RawCaption
from vlbert_jax.prepare.readers.vlbert_conceptual_captions import read
from vlbert_jax.prepare.writer import write_set

SAMPLE = FILES / "vlbert_conceptual_captions"
CASES = FILES / "cases"


def raws(name, split="train"):
    return list(read([str(name)], split))


def write(tmp_path, name, records, on_bad="skip"):
    """The set of a case's good records, and its bad ones."""
    write_set(tmp_path / name, "captions", {"train": records}, "test", on_bad=on_bad)
    set_ = open_set(tmp_path / name)
    bad = (tmp_path / name / "bad_records-train.jsonl").read_text("utf-8").splitlines()
    return set_, [json.loads(line) for line in bad]


def assert_is_sample(found):
    expected = json.loads((SAMPLE / "expected.json").read_text())["captions"]
    assert [raw.image_id for raw in found] == list(expected)
    with np.load(SAMPLE / "expected.npz") as arrays:
        for raw in found:
            assert raw.caption == " ".join(expected[raw.image_id])
            assert [raw.width, raw.height] == arrays[f"{raw.image_id}/size"].tolist()
            for field in ("boxes", "features", "classes"):
                np.testing.assert_array_equal(
                    getattr(raw, field), arrays[f"{raw.image_id}/{field}"], strict=True
                )


def test_sample():
    assert_is_sample(raws(SAMPLE))
    assert_is_sample(raws(SAMPLE / "train_frcnn.json"))


@pytest.mark.parametrize("folder", ["train_frcnn", "train_frcnn.2"])
def test_sample_unpacked(tmp_path, folder):
    """Unpacked archives, also the parts of a split one."""
    text = (SAMPLE / "train_frcnn.json").read_text()
    (tmp_path / "train_frcnn.json").write_text(text.replace("train_frcnn.zip", f"{folder}.zip"))
    with zipfile.ZipFile(SAMPLE / "train_frcnn.zip") as archive:
        archive.extractall(tmp_path / folder)
    assert_is_sample(raws(tmp_path))
    if folder.endswith(".2"):  # all parts unpacked into one folder, as the release did
        (tmp_path / folder).rename(tmp_path / "train_frcnn")
        assert_is_sample(raws(tmp_path))


def test_validation_split(tmp_path):
    shutil.copy(SAMPLE / "train_frcnn.json", tmp_path / "val_frcnn.json")
    shutil.copy(SAMPLE / "train_frcnn.zip", tmp_path)
    assert_is_sample(raws(tmp_path, "validation"))
    with pytest.raises(
        DataError, match=r"no train_frcnn.json in this folder.*found val_frcnn.json"
    ):
        raws(tmp_path, "train")
    with pytest.raises(DataError, match="split 'test': the release has train, validation"):
        raws(tmp_path, "test")


def test_sample_prepared(tmp_path):
    set_, bad = write(tmp_path, "sample", raws(SAMPLE))
    assert (len(set_), bad) == (3, [])
    assert (set_.region_width, set_.region_classes) == (2048, 1601)
    assert set_.regions.tolist() == [3, 2, 1]
    with np.load(SAMPLE / "expected.npz") as arrays:
        np.testing.assert_array_equal(
            set_[1].features, arrays["00000007/features"].astype(np.float16)
        )


def test_h02_nonfinite(tmp_path, capsys):
    with pytest.raises(DataError) as error:
        write_set(tmp_path / "x", "captions", {"train": raws(CASES / "H02_nonfinite.json")}, "test")
    lines = str(error.value).splitlines()
    assert len(lines) == 5
    assert "001: features: region 1, element 5 is nan" in lines[1]
    assert "002: boxes: region 0, element 1 is inf" in lines[2]
    assert "003: classes: region 0, element 3 is nan" in lines[3]
    set_, _ = write(tmp_path, "H02", raws(CASES / "H02_nonfinite.json"))
    assert [set_[index].key for index in range(3)] == ["000", "004", "005"]
    assert "record 005: features reach 3e+38" in capsys.readouterr().err
    assert np.isfinite(set_[2].features).all()
    assert set_[2].features.max() == 65504


def test_h08_boxes(tmp_path):
    set_, bad = write(tmp_path, "H08", raws(CASES / "H08_boxes.json"))
    kept = {set_[index].key: set_[index].boxes.tolist() for index in range(len(set_))}
    assert list(kept) == ["onepixel_out", "zeroarea", "good"]
    assert kept["onepixel_out"] == [[0, 0, 639, 479], [0, 10, 100, 479]]
    assert set_.description["splits"]["train"]["counts"] == {
        "boxes_clamped": 1,
        "boxes_without_area": 1,
    }
    said = {each["key"]: f"{each['field']}: {each['reason']}" for each in bad}
    for key, words in {
        "norm01": "boxes look like fractions",
        "bigframe": "reach 1180×890 in a 640×480 picture; other frame?",
        "swapped": "x2 < x1",
        "outside": "reach 900×700 in a 640×480 picture",
        "xywh": "x2 < x1",
        "zerosize": "picture of 0×480 pixels",
    }.items():
        assert words in said.pop(key)
    assert not said


def test_h09_counts(tmp_path):
    set_, bad = write(tmp_path, "H09", raws(CASES / "H09_counts.json"))
    assert [set_[index].key for index in range(len(set_))] == ["none", "one", "hundred"]
    assert set_.regions.tolist() == [0, 1, 100]
    none = set_[0]
    assert none.features.shape == (0, 2048)
    assert none.classes.shape == (0, 1601)
    assert set_.description["splits"]["train"]["counts"] == {"without_regions": 1}
    assert [each["reason"] for each in bad] == [
        "32 bytes = 2 rows of 4 float32; num_boxes is 5",
        "24,576 bytes = 3 rows of 2048 float32; num_boxes is 2",
    ]


def test_h12_archive(tmp_path):
    set_, (bad,) = write(tmp_path, "H12", raws(CASES / "H12_archive.json"))
    assert [set_[index].key for index in range(len(set_))] == ["00000001", "a.1.b.0", "00000003"]
    assert bad["reason"] == "archive H12_archive.zip has no member 00000009.json"
    assert bad["where"] == "H12_archive.json line 4"


def test_h12_archive_unpacked(tmp_path):
    shutil.copy(CASES / "H12_archive.json", tmp_path)
    with zipfile.ZipFile(CASES / "H12_archive.zip") as archive:
        archive.extractall(tmp_path / "H12_archive")
    *good, bad = raws(tmp_path / "H12_archive.json")
    assert [raw.key for raw in good] == ["00000001", "a.1.b.0", "00000003"]
    assert bad.reason.startswith("file H12_archive/00000009.json cannot be read (No such file")


def test_h12_truncated():
    with pytest.raises(DataError, match=r"H12_truncated.zip: not a complete zip archive"):
        raws(CASES / "H12_truncated.json")


def test_h12_flipped():
    """The member whose bytes are damaged is named; the others can be read."""
    first, bad, last = raws(CASES / "H12_flipped.json")
    assert (first.key, last.key) == ("00000001", "00000003")
    assert bad.key == "a.1.b.0"
    assert bad.reason.startswith("member a.1.b.0.json of archive H12_flipped.zip is damaged")


def test_neither_archive_nor_folder(tmp_path):
    shutil.copy(SAMPLE / "train_frcnn.json", tmp_path)
    with pytest.raises(DataError, match=r"neither the archive train_frcnn.zip nor the unpacked"):
        raws(tmp_path)
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        raws(tmp_path / "nowhere")


def b64(*shape):
    return base64.b64encode(np.full(shape, 5, "<f4").tobytes()).decode()


@pytest.fixture
def example(tmp_path):
    """Writes one example with changes and reads it."""

    def read_one(entry=None, lacks="", **stored):
        entry = {"caption": ["a", "dog"], "frcnn": "one.json", **(entry or {})}
        default = dict(image_w=40, image_h=30, num_boxes=1, boxes=b64(1, 4), features=b64(1, 2048))
        stored = {**default, "classes": b64(1, 1601), **stored}
        stored.pop(lacks, None)
        (tmp_path / "one.json").write_text(json.dumps(stored))
        (tmp_path / "train_frcnn.json").write_text(json.dumps(entry) + "\n\n")
        (found,) = raws(tmp_path)
        return found

    return read_one


def test_caption_as_words_or_as_one_string(example):
    assert example().caption == example({"caption": "a dog"}).caption == "a dog"


def test_features_without_class_scores(example):
    found = example(lacks="classes")
    assert isinstance(found, RawCaption)
    assert found.classes is None


@pytest.mark.parametrize(
    ("arguments", "field", "reason"),
    [
        (dict(entry={"caption": [1, 2]}), "caption", "expected a list of words"),
        (dict(entry={"frcnn": 7}), "frcnn", "expected the name of a feature file"),
        (dict(entry={"frcnn": "two.json"}), "frcnn", "file two.json cannot be read"),
        (dict(lacks="boxes"), "frcnn", "has no 'boxes'; found image_w"),
        (dict(image_w="40"), "image_w", "expected a number"),
        (dict(num_boxes=-1), "num_boxes", "expected a number of at least 0"),
        (dict(boxes="not base64!"), "boxes", "no base64"),
        (dict(boxes=b64(1, 4)[:-3]), "boxes", "no base64"),
        (dict(boxes=b64(1, 4)[:8] + "!" + b64(1, 4)[8:]), "boxes", "no base64"),
        (dict(boxes=7), "boxes", "no base64"),
        (dict(features=b64(1, 1024)), "features", "0 rows of 2048 float32 and a bit"),
        (dict(classes=b64(2, 1601)), "classes", "2 rows of 1601 float32; num_boxes is 1"),
    ],
)
def test_faults_of_an_example(example, arguments, field, reason):
    found = example(**arguments)
    assert isinstance(found, Bad)
    assert found.field == field
    assert reason in found.reason
    assert found.where == "train_frcnn.json line 1"


def test_lines_that_are_no_examples(tmp_path):
    (tmp_path / "train_frcnn.json").write_text('{"caption": []}\n[1]\n{"capt\n')
    reasons = [bad.reason for bad in raws(tmp_path)]
    assert reasons[0] == "has no 'frcnn'; found caption"
    assert reasons[1] == "JSON holds a list; expected an object"
    assert reasons[2].startswith("no JSON (")


def test_half_a_surrogate_pair(example, tmp_path):
    """JSON can say it, UTF-8 cannot."""
    raw = example({"caption": "a \ud83d dog"})
    write_set(tmp_path / "set", "captions", {"train": [raw]}, "test")
    assert open_set(tmp_path / "set")[0].caption == "a ? dog"


def test_pieces_are_those_of_the_tokenizer(tmp_path):
    set_, _ = write(tmp_path, "sample", raws(SAMPLE))
    tokenizer = Tokenizer()
    assert tokenizer.decode(set_[0].pieces) == "a dog runs , near the old boat ."
