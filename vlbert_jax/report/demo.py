"""Command: what the demo has learned, measured on held-out scenes of the made world.

  python -m vlbert_jax.report.demo runs/demo

One word (or one region) at a time is hidden, everything else is shown, and the model names it:
with the picture that belongs to the caption, with the regions of another scene, and beside them
the best guess that anyone could make without the picture, worked out from the world's own
statistics for just these words (`data/synthetic.py`). Reads the run folder and its prepared sets;
nothing imports it.
"""

import argparse
import collections
import dataclasses
import itertools
import json
import pathlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np

from vlbert_jax import checkpoint, run_folder, state
from vlbert_jax.config import Config
from vlbert_jax.data import prepared, regions, rows, synthetic
from vlbert_jax.data.masking import Vocabulary
from vlbert_jax.data.sources import Sources
from vlbert_jax.data.synthetic import Scene
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.options import ConfigError, DataError
from vlbert_jax.prepare import made_world
from vlbert_jax.report import speed
from vlbert_jax.tasks.pretraining import Pretraining
from vlbert_jax.terms import Term

BAR = 0.40  # by which the right picture should beat the best blind guess

WORD, REGION = "mlm_caption", "region_class"  # the terms that are asked
KIND, DETECTOR = "its kind", "the detector's first choice"  # what a region's answer is held against
ALL = "all"
GROUPS = (*synthetic.SORTS, ALL)  # of words

_ROWS = 256  # of a batch, one item a row
_FILE = pathlib.Path("eval", "demo", "measured.json")  # in the run folder

Predict = Callable[[rows.Batch], Mapping[str, np.ndarray]]


class Shown(NamedTuple):
    """A held-out scene.

    Attributes:
      item: its record as the model sees it, nothing hidden.
      scene: with all that the record does not tell.
      order: [n] the thing that each region of the item shows, after the whole image.
    """

    item: rows.Item
    scene: Scene
    order: np.ndarray


class Question(NamedTuple):
    """An item with one target, and the right answers: group of questions -> word piece or class."""

    item: rows.Item
    answers: Mapping[str, int]


class Score(NamedTuple):
    """Shares of right answers in one group of questions.

    Attributes:
      shown: picture and caption belong together.
      other: a word with another scene's regions; a region with no word of the caption.
      blind: the best guess by the world's statistics, without what `other` lacks.
      count: questions.
    """

    shown: float
    other: float
    blind: float
    count: int


Table = dict[str, Score]


def measure_words(predict: Predict, shown: Sequence[Shown], mask: int) -> Table:
    """Asks for every kind, colour, size and place in the captions, one at a time.

    Args:
      predict: batch as `layout` describes it -> term -> logits [B, 1, classes].
      shown: the scenes.
      mask: id of [MASK].

    Returns:
      Scores of each sort of words, and of "all".
    """
    swapped = [
        each._replace(item=joined(each.item, other.item))
        for each, other in zip(shown, [*shown[1:], *shown[:1]], strict=True)
    ]
    blind = collections.defaultdict(list)
    for scene in (each.scene for each in shown):
        for at, sort in enumerate(scene.sorts):
            if sort:
                chance = synthetic.best_guess(scene.caption.split(), at)[1]
                blind[sort].append(chance)
                blind[ALL].append(chance)
    right = [
        ask(predict, WORD, word_questions(each, mask), layout(shown)) for each in (shown, swapped)
    ]
    return {group: _score(*(each[group] for each in (*right, blind))) for group in GROUPS}


def measure_regions(predict: Predict, shown: Sequence[Shown]) -> Table:
    """Asks for every thing that a caption names, its region hidden, one at a time.

    Returns:
      Scores against the thing's true kind, and against the detector's most probable class.
    """
    silent = [each._replace(item=joined(without_words(each.item), each.item)) for each in shown]
    blind = [synthetic.best_kind_guess(len(s.scene.kinds)) for s in shown for _ in s.scene.named]
    right = [
        ask(predict, REGION, region_questions(each), layout(shown)) for each in (shown, silent)
    ]
    return {group: _score(*(each[group] for each in right), blind) for group in (KIND, DETECTOR)}


def word_questions(shown: Iterable[Shown], mask: int) -> Iterator[Question]:
    """Every word that can be known by looking, hidden behind [MASK]."""
    for item, scene, _ in shown:
        for at, sort in enumerate(scene.sorts):
            if not sort:
                continue
            slot = at + 1  # after [CLS]; every word of the world is one piece
            tokens = item.tokens.copy()
            answer = int(tokens[slot])
            tokens[slot] = mask
            target = rows.Target(np.array([slot]), np.array([answer]), np.ones(1))
            hidden = dataclasses.replace(item, tokens=tokens, targets={WORD: target})
            yield Question(hidden, {sort: answer, ALL: answer})


def region_questions(shown: Iterable[Shown]) -> Iterator[Question]:
    """Every named thing, its appearance hidden from its region and from the whole image."""
    for item, scene, order in shown:
        whole_image = len(item.tokens) - 1 - len(item.region_boxes)  # its slot
        for thing in scene.named:
            region = 1 + order.tolist().index(thing)
            replaced = np.zeros(len(item.region_boxes), bool)
            replaced[region] = True
            features = item.region_features.copy()
            features[0] = regions.whole_image(features[1:], replaced[1:])
            classes = scene.classes[thing]
            target = rows.Target(np.array([whole_image + region]), classes[None], np.ones(1))
            hidden = dataclasses.replace(
                item,
                region_features=features,
                region_replaced=replaced,
                targets={REGION: target},
            )
            answers = {KIND: 1 + int(scene.kinds[thing]), DETECTOR: int(classes.argmax())}
            yield Question(hidden, answers)


def ask(
    predict: Predict, term: str, questions: Iterable[Question], layout: rows.Layout
) -> dict[str, list[bool]]:
    """Was the answer right, for the questions of each group in order."""
    right = collections.defaultdict(list)
    questions = iter(questions)
    while some := list(itertools.islice(questions, _ROWS)):
        batch = rows.empty(layout, _ROWS)
        for row, question in enumerate(some):
            rows.pack([question.item], batch, row)
        said = np.argmax(predict(batch)[term][:, 0], axis=-1)
        for question, answer in zip(some, said.tolist(), strict=False):  # the rest is empty rows
            for group, expected in question.answers.items():
                right[group].append(answer == expected)
    return right


def joined(text: rows.Item, picture: rows.Item) -> rows.Item:
    """The words of one item before the regions of another."""
    t, skipped = (np.count_nonzero(each.segments < 2) for each in (text, picture))
    moved = {
        name: np.concatenate([getattr(text, name)[:t], getattr(picture, name)[skipped:]])
        for name in ("tokens", "segments", "positions", "visual", "sequence")
    }
    moved["positions"][t:] += t - skipped
    return dataclasses.replace(picture, **moved, targets={})


def without_words(item: rows.Item) -> rows.Item:
    """[CLS] and [SEP], nothing between them."""
    ends = [0, np.count_nonzero(item.segments < 2) - 1]
    names = ("tokens", "segments", "visual", "sequence")
    kept = {name: getattr(item, name)[ends] for name in names}
    return dataclasses.replace(item, **kept, positions=np.arange(2, dtype=np.int32))


def layout(shown: Sequence[Shown]) -> rows.Layout:
    """One item a row, one target of each term; wide enough for any text before any regions."""
    items = [each.item for each in shown]
    longest = max(len(item.tokens) - len(item.region_boxes) for item in items)
    most = max(len(item.region_boxes) for item in items)
    return rows.Layout(
        slots=longest + most,
        regions=most,
        items=1,
        region_width=items[0].region_features.shape[1],
        region_classes=synthetic.REGION_CLASSES,
        feature_dtype=items[0].region_features.dtype.name,
        terms={
            WORD: Term("words", "label", 1.0, 1),
            REGION: Term("regions", "distribution", 1.0, 1),
        },
    )


def open_scenes(config: Config) -> tuple[list[Shown], Config, int]:
    """The held-out scenes that a run was evaluated on.

    Returns:
      The scenes, the config under which their items were made, the id of [MASK].

    Raises:
      DataError: the run did not use the made world, or another version of it.
    """
    # Nothing drawn at random: every item as its record has it.
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, relation=False),
        pretraining=dataclasses.replace(
            config.pretraining, word_probability=0.0, region_probability=0.0
        ),
    )
    directory = pathlib.Path(config.data.made_world, made_world.SCENES)
    if not config.data.made_world:
        raise DataError(
            "config.data.made_world is empty: the run did not train on the made world, which alone"
            " can tell what a blind guess is worth; train configs/demo.py"
        )
    set_ = prepared.open_set(directory, "validation")
    tokenizer = Tokenizer(config.data.vocabulary)
    vocabulary = Vocabulary(
        tokenizer.size, tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.mask
    )
    task = Pretraining(config, Sources([set_]), vocabulary, training=False)
    shown = []
    for number, scene in enumerate(made_world.held_out()):
        record = set_[number]
        if record.caption != scene.caption:
            raise DataError(
                f"{directory}: record {record.key} of split validation is not of this made world;"
                f" remove {config.data.made_world} and train again"
            )
        shown.append(Shown(task.item(number, turn=0), scene, regions.order(record.classes)))
    return shown, config, tokenizer.mask


def open_model(workdir: str, config: Config, layout: rows.Layout) -> tuple[Predict, int]:
    """The newest checkpoint of a run, as a function of batches; and its step.

    Raises:
      ConfigError: there is none.
    """
    params, meta = checkpoint.restore_params(workdir)
    params = jax.device_put(params)
    model = state.make_model(config, layout)
    apply = jax.jit(lambda params, batch: model.apply({"params": params}, batch, train=False))
    return lambda batch: jax.device_get(apply(params, state.device_fields(batch))), meta["step"]


def describe(words: Table, of_regions: Table) -> str:
    """Both tables, for people."""
    ahead = words[ALL].shown - words[ALL].blind
    bar = "more" if ahead >= BAR else "LESS"
    return "\n".join(
        [
            "One word of a caption hidden, all else shown; named right:",
            *_lines(("its picture", "another picture", "best blind guess", "words"), words),
            f"Its picture is worth {100 * ahead:.1f} points over the best blind guess"
            f" ({bar} than the {100 * BAR:.0f} that the demo promises).",
            "",
            "A thing that the caption names hidden from its region, all else shown; named right:",
            *_lines(("its caption", "no caption", "best blind guess", "regions"), of_regions),
        ]
    )


def advice(workdir: str) -> str:
    """Where the run is, and what to type next."""
    python = pathlib.Path(sys.executable)
    here = pathlib.Path.cwd()
    python = python.relative_to(here) if python.is_relative_to(here) else "python"
    run = f"{python} -m vlbert_jax.main --config=configs/demo.py"
    prepare = f"{python} -m vlbert_jax.prepare vlbert_conceptual_captions"
    mine = '"data/mine", 1.0'
    return f"""\
The run is in {workdir}: train.log, metrics.jsonl, tensorboard/, checkpoints/, best/, eval/.
Continue it where it was stopped (a finished run ends at once):
  {run} --workdir={workdir}
Change a rate:
  {run} --workdir={workdir}_slow --config.optimizer.peak_lr=5e-4
Train on your own features, here files as the VL-BERT release has them ({python} -m
vlbert_jax.prepare --help lists other formats):
  {prepare} --input=train_frcnn.json --output=data/mine
  {prepare} --input=val_frcnn.json --output=data/mine --split=validation
  {run} --workdir=runs/mine --config.data.made_world= \\
    --config.data.train='(({mine}),)' --config.data.validation='(({mine}),)' \\
    --config.data.vocabulary= --config.model.vocabulary=30522 --config.model.region_classes=1601"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 done, 2 wrong folder or data."""
    parser = argparse.ArgumentParser(
        prog="python -m vlbert_jax.report.demo",
        description="Measures on held-out scenes what the demo has learned.",
    )
    parser.add_argument("workdir", help="run folder of the demo, such as runs/demo")
    workdir = parser.parse_args(arguments).workdir
    try:
        run_config = run_folder.read_config(workdir)
        shown, config, mask = open_scenes(run_config)
        predict, step = open_model(workdir, config, layout(shown))
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    steps = f"step {step:,} of {run_config.train.total_steps:,}"
    print(f"measuring {workdir} at {steps} on {len(shown):,} held-out scenes\n", flush=True)
    tables = measure_words(predict, shown, mask), measure_regions(predict, shown)
    print(f"{describe(*tables)}\n", flush=True)
    speeds = speed.packed_and_unpacked(run_config)
    print(f"{speed.describe(*speeds)}\n\n{advice(workdir)}")
    words, of_regions = ({group: s._asdict() for group, s in t.items()} for t in tables)
    file = pathlib.Path(workdir) / _FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    rates = dict(zip(("packed", "unpacked"), (s.examples_per_second for s in speeds), strict=True))
    found = {"step": step, "words": words, "regions": of_regions, "examples_per_second": rates}
    file.write_text(json.dumps(found, indent=2))
    return 0


def _score(shown: list[bool], other: list[bool], blind: list[float]) -> Score:
    return Score(*(float(np.mean(each)) for each in (shown, other, blind)), count=len(blind))


def _lines(columns: Sequence[str], table: Table) -> Iterator[str]:
    first = max(map(len, table))
    yield "  ".join([" " * (2 + first), *(f"{column:>16}" for column in columns)])
    for group, score in table.items():
        shares = [f"{100 * share:14.1f} %" for share in score[:3]]
        yield "  ".join([f"  {group:{first}}", *shares, f"{score.count:16,}"])


if __name__ == "__main__":
    sys.exit(main())
