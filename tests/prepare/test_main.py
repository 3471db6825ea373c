"""The command: exit codes, one clear message, and a set in the end."""

import pathlib
import subprocess
import sys

import pytest

from tests.prepare.records import FILES
from vlbert_jax.data.prepared import open_set
from vlbert_jax.prepare.__main__ import READERS, main

CAPTIONS = FILES / "vlbert_conceptual_captions"
REPOSITORY = pathlib.Path(__file__).parent.parent.parent


def test_captions_then_verify(tmp_path, capsys):
    output = str(tmp_path / "set")
    assert main(["vlbert_conceptual_captions", f"--input={CAPTIONS}", f"--output={output}"]) == 0
    said = capsys.readouterr()
    assert (
        "split train, captions, 3 records, 3 examples, 19 pieces, 19 words, 6 regions" in said.out
    )
    assert "train: 3 records" in said.err
    assert main(["verify", output]) == 0
    assert "good" in capsys.readouterr().out


def test_a_second_split_and_several_inputs(tmp_path):
    output = f"--output={tmp_path / 'set'}"
    corpus = FILES / "vlbert_corpus"
    assert main(["text", f"--input={FILES / 'cases' / 'H27_corpus.txt'}", output]) == 0
    inputs = [f"--input={corpus / 'bc1g.doc'}", f"--input={corpus / 'wiki.doc'}"]
    assert main(["vlbert_corpus", *inputs, output, "--split=validation"]) == 0
    assert len(open_set(tmp_path / "set")) == 5
    assert len(open_set(tmp_path / "set", "validation")) == 7


def test_features_option(tmp_path):
    output = f"--output={tmp_path / 'set'}"
    arguments = ["vlbert_conceptual_captions", f"--input={CAPTIONS}", output]
    assert main([*arguments, "--features=float32"]) == 0
    assert open_set(tmp_path / "set").feature_dtype == "float32"


def test_bad_records(tmp_path, capsys):
    output = f"--output={tmp_path / 'set'}"
    case = f"--input={FILES / 'cases' / 'H08_boxes.json'}"
    assert main(["vlbert_conceptual_captions", case, output]) == 2
    error = capsys.readouterr().err
    assert "error: split train: nothing written, bad records: 6 of 9" in error
    assert not list(tmp_path.iterdir())
    assert main(["vlbert_conceptual_captions", case, output, "--on_bad=skip"]) == 0
    assert "bad records left out: 6" in capsys.readouterr().out


def test_damaged_set(tmp_path, capsys):
    output = tmp_path / "set"
    assert main(["text", f"--input={FILES / 'vlbert_corpus'}", f"--output={output}"]) == 0
    next(output.glob("*array_record*")).unlink()
    assert main(["verify", str(output)]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_help_lists_every_reader(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    for name in (*READERS, "synthetic", "verify"):
        assert f"    {name}" in said


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["text", "--output=x"], ["text", "--input=a", "--on_bad=no"]]
)
def test_wrong_arguments(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2


def test_the_command_ends_without_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "vlbert_jax.prepare", "verify", str(tmp_path / "nowhere")],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "no prepared set (no such directory); prepare one with" in done.stderr
    assert "Traceback" not in done.stderr


def test_unwritable_output(tmp_path, capsys):
    (tmp_path / "file").touch()
    output = f"--output={tmp_path / 'file' / 'set'}"
    assert main(["text", f"--input={FILES / 'vlbert_corpus'}", output]) == 2
    assert "error: " in capsys.readouterr().err
