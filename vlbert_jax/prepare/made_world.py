"""The made world of the demo as prepared sets: captioned scenes, and prose for text-only examples.

`python -m vlbert_jax.prepare synthetic --output=DIR` and, for a config with `data.made_world`,
the training command call this. It writes through `writer.py` like every other reader:

  DIR/scenes          captions, splits train and validation (`data/synthetic.py`)
  DIR/prose           text, splits train and validation (`prose.py`)
  DIR/vocabulary.txt  the pieces of BERT's vocabulary that occur in them, and some more: a word
                      head over all 30,522 would be most of a small model's work
"""

import itertools
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vlbert_jax.data import prepared, synthetic
from vlbert_jax.data.tokenizer import SPECIAL, Tokenizer
from vlbert_jax.options import DataError
from vlbert_jax.prepare import prose, writer
from vlbert_jax.prepare.raw import RawCaption, RawText, Records

SCENES, PROSE, VOCABULARY = "scenes", "prose", "vocabulary.txt"
VOCABULARY_SIZE = 4096
TRAIN, VALIDATION = 40_000, 1_000  # scenes
_SEED = 0
_READER = "synthetic"


def prepare(output: str) -> None:
    """Writes both sets into the directory `output`, made if missing; takes below a minute.

    Raises:
      DataError: one of them is there already.
    """
    _write(pathlib.Path(output), (SCENES, PROSE))


def ensure(output: str) -> None:
    """As `prepare`, for those sets that are not there; complete ones stay as they are.

    Raises:
      DataError: the scenes that are there come from another version of this program.
    """
    output = pathlib.Path(output)
    missing = [
        name for name in (SCENES, PROSE) if not (output / name / prepared.SET_FILE).is_file()
    ]
    if SCENES not in missing:
        _check_version(output / SCENES)
    if missing:
        print(f"making the world of the demo in {output}, once", file=sys.stderr)
        _write(output, missing)


def held_out() -> Iterator[synthetic.Scene]:
    """The scenes behind split validation of DIR/scenes, with all that a record does not tell."""
    return synthetic.scenes(_SEED, TRAIN, TRAIN + VALIDATION)


def _write(output: pathlib.Path, names: Sequence[str]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    vocabulary = output / VOCABULARY
    vocabulary.write_text("".join(f"{piece}\n" for piece in pieces()))
    if SCENES in names:
        scenes = {
            "train": _captions(synthetic.scenes(_SEED, 0, TRAIN)),
            "validation": _captions(held_out()),
        }
        _write_set(output / SCENES, "captions", scenes, vocabulary)
    if PROSE in names:
        passages = dict(zip(("train", "validation"), prose.passages(), strict=True))
        texts = {split: _texts(split, lines) for split, lines in passages.items()}
        _write_set(output / PROSE, "text", texts, vocabulary)


def _write_set(
    output: pathlib.Path, kind: str, splits: dict[str, Records], vocabulary: pathlib.Path
) -> None:
    writer.write_set(output, kind, splits, _READER, vocabulary=str(vocabulary), progress=True)


def pieces() -> list[str]:
    """The vocabulary: special pieces, those of the world's texts, the first others of BERT's.

    Texts are cut into the same pieces with it as with the whole of BERT's.
    """
    bert = Tokenizer()
    texts = [*synthetic.words(), *itertools.chain(*prose.passages())]
    kept = {*SPECIAL, *(bert.vocabulary[i] for text in texts for i in bert.encode(text)[0])}
    others = (
        piece for piece in bert.vocabulary if piece not in kept and not piece.startswith("[unused")
    )
    kept.update(itertools.islice(others, VOCABULARY_SIZE - len(kept)))
    return [piece for piece in bert.vocabulary if piece in kept]


def _captions(scenes: Iterable[synthetic.Scene]) -> Iterator[RawCaption]:
    for scene in scenes:
        name = f"scene-{scene.number}"
        yield RawCaption(
            key=name,
            image_id=name,
            caption=scene.caption,
            width=scene.width,
            height=scene.height,
            boxes=scene.boxes,
            features=scene.features,
            classes=scene.classes,
        )


def _texts(split: str, lines: list[str]) -> Iterator[RawText]:
    for number, line in enumerate(lines):
        yield RawText(f"{split}-{number}", line)


def _check_version(directory: pathlib.Path) -> None:
    record = prepared.open_set(directory, "validation")[0]
    scene = next(held_out())
    same = record.caption == scene.caption and record.features.shape == scene.features.shape
    if not (same and np.allclose(record.features, scene.features, atol=0.01)):
        raise DataError(
            f"{directory}: the made world of another version of this program; remove"
            f" {directory.parent} and run again"
        )
