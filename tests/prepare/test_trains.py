"""What is prepared from other people's files trains, or training says why not: H06, H07."""

import base64
import json

import jax
import numpy as np
import pytest

from tests.prepare.records import FILES
from vlbert_jax import config, optimizer, state, train
from vlbert_jax.options import DataError
from vlbert_jax.prepare.__main__ import main
from vlbert_jax.tasks import task

CONFIG = """
from vlbert_jax import config


def get_config(argument=""):
    c = config.default()
    c.model.update(layers=1, hidden=32, heads=4, mlp=64, text_only=False, vocabulary={pieces})
    c.data.update(vocabulary={vocabulary!r}, train=(({directory!r}, 1.0),), rows_per_batch=8, row_slots=64, text_slots=32)
    c.optimizer.update(peak_lr=1e-3, warmup_steps=1)
    c.train.update(total_steps=2, log_every_steps=1)
    return c
"""
PIECES = "[PAD] [UNK] [CLS] [SEP] [MASK] a dog runs near boat 0 1"
WORDS_ALONE = "pretraining.region_weight=0"


def prepared(tmp_path, features, ids, *arguments):
    """The set of a bottom-up-attention file with two captions a picture, and a config of it."""
    annotations = [
        {"id": f"{image_id}-{k}", "image_id": image_id, "caption": f"a dog runs near boat {k}"}
        for image_id in ids
        for k in range(2)
    ]
    captions = tmp_path / "captions_all.json"
    captions.write_text(json.dumps({"annotations": annotations}))
    vocabulary = tmp_path / "vocabulary.txt"
    vocabulary.write_text(PIECES.replace(" ", "\n") + "\n")
    names = dict(
        directory=str(tmp_path / "set"), vocabulary=str(vocabulary), pieces=PIECES.count(" ") + 1
    )
    file = tmp_path / "tiny.py"
    file.write_text(CONFIG.format(**names))
    command = ["bottom_up_attention_tsv", "--input", str(features), "--captions", str(captions)]
    command += ["--output", str(tmp_path / "set"), "--vocabulary", str(vocabulary)]
    assert main([*command, *arguments]) == 0
    return file


def stopped(file, *overrides):
    """The error of a training run, from where it opens its data."""
    with pytest.raises(DataError) as error:
        task.open_training(config.load(str(file), overrides))
    return str(error.value)


def losses(file, *overrides):
    """Of two updates, as the trainer makes them."""
    settings = config.load(str(file), overrides)
    batches = task.open_training(settings)
    model = state.make_model(settings, batches.layout)
    adamw = optimizer.make(settings.optimizer)
    terms = batches.layout.terms
    quick = {"xla_backend_optimization_level": 0}  # compiling takes longer than two updates
    step = train.make_step(settings, model, adamw, terms, total_steps=2)
    step = jax.jit(step, compiler_options=quick)
    init = jax.jit(lambda: state.init(model, batches.layout, adamw, 0), compiler_options=quick)
    now = init()
    found = []
    for number in range(2):
        now, metrics = step(now, state.device_fields(batches[number]))
        found.append(float(metrics["loss"]))
        assert metrics["count/mlm_caption"] > 0
    return found


def test_h06(tmp_path, capsys):
    """Features without class scores: no masked regions, but masked words."""
    ids = ["300001", "300003", "300007", "300002"]
    file = prepared(tmp_path, FILES / "cases" / "H01_regions.tsv", ids, "--on_bad=skip")
    said = capsys.readouterr().out
    assert "captions, 3 records, 6 examples" in said
    assert "repeated_pictures 1, captions_of_bad_pictures 2, captions_without_picture 0" in said
    error = stopped(file)
    assert "no class scores; masked region classification needs them; set" in error
    assert "config.pretraining.region_weight=0, or prepare features with class scores" in error
    found = losses(file, WORDS_ALONE)
    assert len(found) == 2
    assert np.isfinite(found).all()


@pytest.mark.public_files
def test_h07(tmp_path, public_files, capsys):
    """Another detector's 1024 numbers a region; its boxes are in the resized picture's frame."""
    files = sorted((public_files / "regions").glob("*.npz"))
    as_they_are, scaled = tmp_path / "frame.tsv", tmp_path / "picture.tsv"
    write(as_they_are, files, lambda boxes, picture: boxes)
    write(scaled, files, in_picture)
    output = tmp_path / "frame"
    arguments = ["bottom_up_attention_tsv", f"--input={as_they_are}", f"--output={output}"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert f"bad records: {len(files)} of {len(files)}" in error
    assert error.count("other frame? expected pixels of the original picture") == len(files)
    file = prepared(tmp_path, scaled, [path.stem for path in files])
    assert f"captions, {len(files)} records, {2 * len(files)} examples" in capsys.readouterr().out
    error = stopped(file, WORDS_ALONE)
    assert "its regions have 1024 numbers, but config.model.region_width=2048; set it to" in error
    found = losses(file, WORDS_ALONE, "model.region_width=1024")
    assert len(found) == 2
    assert np.isfinite(found).all()


def in_picture(boxes, picture):
    width, height = (picture[f"image_{side}"] / picture[f"frame_{side}"] for side in "wh")
    return boxes * np.array([width, height] * 2, np.float32)


def write(file, sources, move):
    """A bottom-up-attention file of the pictures, their boxes moved."""
    lines = []
    for source in sources:
        with np.load(source) as picture:
            boxes, features = move(picture["boxes"], picture), picture["features"]
            cells = [source.stem, picture["image_w"], picture["image_h"], len(boxes)]
        arrays = [
            base64.b64encode(each.astype("<f4").tobytes()).decode() for each in (boxes, features)
        ]
        lines.append("\t".join(map(str, [*cells, *arrays])) + "\r\n")
    file.write_bytes("".join(lines).encode())
