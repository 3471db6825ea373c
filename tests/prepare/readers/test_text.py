"""Corpus and caption text: what is a line, a row, a caption."""

import csv
import json
import shutil

import pytest

from tests.prepare.records import FILES
from vlbert_jax.data.tokenizer import Tokenizer, basic_words
from vlbert_jax.options import DataError
from vlbert_jax.prepare.raw import Bad
from vlbert_jax.prepare.readers import captions_csv, captions_tsv, text, vlbert_corpus

CASES = FILES / "cases"


def texts(reader, *inputs):
    return [raw.text for raw in reader.read([str(name) for name in inputs], "train")]


def test_vlbert_corpus_sample():
    expected = json.loads((FILES / "vlbert_corpus" / "expected.json").read_text("utf-8"))["lines"]
    corpus = FILES / "vlbert_corpus"
    for inputs in ([corpus / "bc1g.doc", corpus / "wiki.doc"], [corpus]):
        assert [line.strip() for line in texts(vlbert_corpus, *inputs)] == expected


def test_files_are_joined_in_the_order_given():
    corpus = FILES / "vlbert_corpus"
    raws = list(vlbert_corpus.read([str(corpus / "wiki.doc"), str(corpus / "bc1g.doc")], "train"))
    assert [raw.key for raw in raws][:2] == ["wiki.doc:1", "wiki.doc:3"]  # line 2 is empty
    assert raws[-1].where == "bc1g.doc line 2"


def test_h27_corpus():
    lines = texts(text, CASES / "H27_corpus.txt")
    assert [len(basic_words(line)) for line in lines] == [6, 5, 6, 500, 0, 0, 5]
    assert not any("\r" in line or "\n" in line for line in lines)
    assert lines[-1] == "last line without an end"


def test_h26_captions_tsv():
    expected = json.loads((CASES / "H26_captions_pieces.json").read_text("utf-8"))
    captions = texts(captions_tsv, CASES / "H26_captions.tsv")
    assert captions == [case["caption"] for case in expected]
    bert = Tokenizer()
    for caption, case in zip(captions, expected, strict=True):
        assert [bert.vocabulary[piece] for piece in bert.encode(caption)[0]] == case["pieces"]


def test_h26_windows_file():
    captions = texts(captions_tsv, CASES / "H26_captions_crlf_bom.tsv")
    assert captions == [f"a picture number {number}" for number in range(4)]


def test_windows_ends_belong_to_the_line(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"caption without url\r\n\r\nlast\r")
    assert texts(captions_tsv, tmp_path) == ["caption without url", "last"]


def test_h26_captions_csv():
    captions = texts(captions_csv, CASES / "H26_captions.csv")
    assert captions == ["a dog, a cat", 'she said "hello"', "two\nlines", "plain", ""]


def test_csv_faults(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("image,text\n1.jpg,a dog\n")
    with pytest.raises(DataError, match=r"no column 'caption' .* found image, text"):
        texts(captions_csv, file)
    file.write_text("")
    with pytest.raises(DataError, match=r"no column 'caption' .* found nothing"):
        texts(captions_csv, file)
    file.write_bytes(b"caption\nfine\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"a.csv: after line .* can't decode byte 0xe9"):
        texts(captions_csv, file)


def test_a_long_csv_field(tmp_path):
    long = "a dog " * 50000
    csv.field_size_limit(131072)  # Python's own
    assert len(long) > 131072
    (tmp_path / "a.csv").write_text(f"caption\n{long}\n")
    assert texts(captions_csv, tmp_path) == [long]


def test_a_line_that_is_not_utf8(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"fine\ncaf\xe9 \nfine too\n")
    for reader, name in ((text, "a.txt"), (captions_tsv, "a.tsv")):
        if name == "a.tsv":
            shutil.copy(tmp_path / "a.txt", tmp_path / name)
        first, bad, last = reader.read([str(tmp_path / name)], "train")
        assert (first.text, last.text) == ("fine", "fine too")
        assert isinstance(bad, Bad)
        assert bad.where == f"{name} line 2"
        assert "byte 4 is 0xe9: not UTF-8" in bad.reason


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        texts(text, tmp_path / "nowhere")
    (tmp_path / "a.pdf").touch()
    with pytest.raises(DataError, match=r"no file ends in .doc or .txt; found a.pdf"):
        texts(text, tmp_path)


@pytest.mark.public_files
def test_real_files(public_files):
    folder = public_files / "text"
    assert len(texts(captions_tsv, folder / "conceptual_captions_val_head3000.tsv")) == 3000
    assert len(texts(captions_tsv, folder / "conceptual_captions_val_nonascii.tsv")) == 29
    assert len(texts(text, folder / "wikitext2_valid_head400.txt")) == 271
