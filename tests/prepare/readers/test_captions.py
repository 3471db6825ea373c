"""Captions that name their pictures: the recorded samples, columns, and what is wrong with them."""

import json

import pytest

from tests.prepare.readers.samples import SAMPLES
from tests.prepare.records import FILES
from vlbert_jax.options import DataError
from vlbert_jax.prepare.raw import Bad
from vlbert_jax.prepare.readers import (
    captions_csv,
    captions_tsv,
    coco_captions,
    karpathy_json,
    lxmert_json,
)

COCO = SAMPLES / "coco_captions"
KARPATHY = SAMPLES / "karpathy_json"


def pairs(reader, file, split="train"):
    return [(raw.image_id, raw.text) for raw in reader.read([str(file)], split)]


def dump(file, stored):
    file.write_text(json.dumps(stored))
    return file


@pytest.mark.parametrize("name", ["", "annotations", "annotations/captions_train2017.json"])
def test_coco_captions(name):
    expected = json.loads((COCO / "expected.json").read_text())["images"]
    found = pairs(coco_captions, COCO / name)
    for image in expected:
        of_image = [caption for image_id, caption in found if image_id == f"{image['id']}"]
        assert of_image == image["captions"]
    assert [image_id for image_id, _ in found] == ["25", "9", "9", "391895"]


def test_a_bare_list_of_annotations():
    """Oscar's captioning files."""
    found = pairs(coco_captions, SAMPLES / "oscar_caption_tsv" / "train_caption.json")
    assert found[1] == ("25", "two people talk in a kitchen")
    assert len(found) == 3


@pytest.mark.parametrize("split", ["train", "test"])
def test_karpathy(split):
    expected = json.loads((KARPATHY / "expected.json").read_text())["pairs"][split]
    found = pairs(karpathy_json, KARPATHY / "dataset_coco.json", split)
    assert found == [(f"{image_id}", caption) for image_id, caption in expected]


def test_vilberts_lines():
    expected = json.loads((KARPATHY / "expected.json").read_text())["pairs"]["train"]
    file = KARPATHY / "all_data_final_train_2014.jsonline"
    assert pairs(karpathy_json, file) == [(f"{image_id}", text) for image_id, text in expected]


def test_flickr_images_have_a_file_name_alone(tmp_path):
    image = {"filename": "1000092795.jpg", "split": "val", "sentences": [{"raw": "A dog."}]}
    file = dump(tmp_path / "dataset_flickr30k.json", {"images": [image]})
    assert pairs(karpathy_json, file, "validation") == [("1000092795.jpg", "A dog.")]
    with pytest.raises(DataError, match=r"no image of split train .train or restval.; found val"):
        pairs(karpathy_json, file)


def test_lxmert():
    """Captions; "is it a dog ?" of the source vqa is none."""
    name = "COCO_train2014_000000000009"
    found = pairs(lxmert_json, SAMPLES / "lxmert_tsv" / "mscoco_train.json")
    assert found == [(name, "a dog ."), (name, "a boat .")]


def test_faults_of_lxmerts_entries(tmp_path):
    fine = {"img_id": "9", "sentf": {"vg": ["a dog"]}}
    wrong = [fine | {"sentf": []}, fine | {"sentf": {"vg": "a"}}, {"sentf": {}}, 7]
    file = dump(tmp_path / "vg.json", [fine, *wrong, fine | {"img_id": None}])
    good, *bad = lxmert_json.read([str(file)], "train")
    assert (good.key, good.text) == ("9#vg-0", "a dog")
    assert [each.field for each in bad] == ["sentf", "sentf", "entry", "entry", "image_id"]
    with pytest.raises(DataError, match="expected a list of pictures with sentf"):
        pairs(lxmert_json, dump(tmp_path / "vg.json", {}))


def test_faults_of_entries(tmp_path):
    fine = {"id": 1, "image_id": 9, "caption": "A dog."}
    wrong = [fine | {"caption": None}, fine | {"image_id": [9]}, {"id": 1}, 7]
    file = dump(tmp_path / "captions_a.json", [fine, *wrong])
    _, *bad = coco_captions.read([str(file)], "train")
    assert [(each.key, each.field) for each in bad] == [
        ("1", "caption"),
        ("2", "image_id"),
        ("3", "annotation"),
        ("4", "annotation"),
    ]
    fine = {"split": "train", "sentences": [{"raw": "A dog."}], "cocoid": 9}
    wrong = [fine | {"sentences": 7}, fine | {"sentences": [7]}, {"split": "train"}, {}]
    file = dump(tmp_path / "dataset.json", {"images": [fine, *wrong]})
    _, *bad = karpathy_json.read([str(file)], "train")
    assert [each.field for each in bad] == ["sentences", "caption", "image", "image"]
    (tmp_path / "a.jsonl").write_text('{"sentences": ["A dog."], "id": 9}\n\n{"id": 9}\n{"id": 9\n')
    good, *bad = karpathy_json.read([str(tmp_path / "a.jsonl")], "train")
    assert (good.image_id, good.text) == ("9", "A dog.")
    assert [(type(each), each.where) for each in bad] == [
        (Bad, "a.jsonl line 3"),
        (Bad, "a.jsonl line 4"),
    ]


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        (coco_captions, '{"images": [], "info": 1}', "no list 'annotations' in it; found images"),
        (karpathy_json, '{"annotations": []}', "no list 'images' in it; found annotations"),
        (coco_captions, '{"annotations": [', "no JSON .* is the download complete?"),
        (karpathy_json, "7", "JSON holds a int; expected captions"),
    ],
)
def test_files_of_another_format(tmp_path, reader, content, message):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=message):
        pairs(reader, tmp_path / "a.json")
    with pytest.raises(DataError, match="no such file"):
        pairs(reader, tmp_path / "b.json")
    with pytest.raises(DataError, match=r"captions_val\*.json, found none|no such file"):
        pairs(reader, tmp_path, "validation")


def test_a_line_number_is_the_number_of_its_picture(tmp_path):
    """Conceptual Captions; an empty line has a number too."""
    (tmp_path / "a.tsv").write_text("a dog\thttp://1\n\na cat\thttp://2\n")
    assert pairs(captions_tsv, tmp_path) == [("0", "a dog"), ("2", "a cat")]
    assert len(pairs(captions_tsv, FILES / "cases" / "H26_captions.tsv")) == 30


def test_columns_that_name_the_picture(tmp_path):
    (tmp_path / "a.tsv").write_text("image_id\tcaption\n9.jpg\ta dog\n7.jpg\n")
    assert pairs(captions_tsv, tmp_path / "a.tsv") == [("9.jpg", "a dog"), ("7.jpg", "")]
    (tmp_path / "a.csv").write_text('filename,caption\n9.jpg,"a dog, a cat"\n,b\n')
    assert pairs(captions_csv, tmp_path / "a.csv") == [("9.jpg", "a dog, a cat"), ("", "b")]
    (tmp_path / "b.csv").write_text("text,caption\nx,a dog\n")
    assert pairs(captions_csv, tmp_path / "b.csv") == [("", "a dog")]
