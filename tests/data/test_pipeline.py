"""A batch depends on data, config, seed and step alone: not on workers, hosts or what came before."""

import os
import pathlib

import jax
import jax._src.xla_bridge
import numpy as np
import pytest

from tests import made_sets, tiny
from vlbert_jax import config
from vlbert_jax.data import pipeline, prepared, rows
from vlbert_jax.data import plan as plans
from vlbert_jax.data.sources import Sources
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.options import ConfigError, DataError
from vlbert_jax.prepare import writer
from vlbert_jax.tasks import task as tasks
from vlbert_jax.tasks.pretraining import Pretraining

ROWS, SEED = 8, 11
DAMAGED = "pictures.array_record: record 5 is damaged; prepare it anew"


class Spy(Pretraining):
    """Notes in files who makes items, and whether a jax backend has started there."""

    notes: pathlib.Path
    damaged = -1

    def item(self, record, turn):
        note = self.notes / str(os.getpid())
        if not note.exists():
            note.write_text(str(len(jax._src.xla_bridge._backends)))
        if record == self.damaged:
            raise DataError(DAMAGED)
        return super().item(record, turn)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Prepared sets on disk: 60 captions, 25 lines; 13 captions to validate."""
    folder = tmp_path_factory.mktemp("world")
    splits = {"train": tiny.captions(60), "validation": tiny.captions(13, seed=1)}
    writer.write_set(folder / "captions", "captions", splits, reader="test")
    writer.write_set(folder / "text", "text", {"train": tiny.lines(25)}, reader="test")
    return folder


def make_config(folder, **data):
    sets = (str(folder / "captions"), 1.0), (str(folder / "text"), 1.0)
    model = config.Model(region_width=tiny.WIDTH, region_classes=tiny.CLASSES)
    options = dict(train=sets, validation=sets[:1], rows_per_batch=ROWS, row_slots=160)
    return config.Config(seed=SEED, model=model, data=config.Data(**{**options, **data}))


def spied(folder, notes, workers=0, host=0, hosts=1, damaged=-1):
    """As `tasks.open_training`, with the spy for a task."""
    settings = make_config(folder)
    sources = Sources([prepared.open_set(folder / name) for name in ("captions", "text")])
    tokenizer = Tokenizer()
    vocabulary = made_sets.Vocabulary(
        *(getattr(tokenizer, name) for name in ("size", "pad", "cls", "sep", "mask"))
    )
    spy = Spy(settings, sources, vocabulary, training=True)
    spy.notes, spy.damaged = notes, damaged
    line = plans.mixed(sources.lengths, (1.0, 1.0), SEED)
    return pipeline.Batches(spy, line, ROWS, 64, workers, host, hosts)


def assert_same(batch, expected):
    assert batch.keys() == expected.keys()
    for name, array in batch.items():
        assert array.dtype == expected[name].dtype
        assert array.tobytes() == expected[name].tobytes(), name


@pytest.fixture(scope="module")
def expected(world):
    """The first batches, each asked for by itself."""
    data = tasks.open_training(make_config(world))
    return [data[step] for step in range(7)]


def test_seven_batches_are_no_special_case(world, expected):
    data = tasks.open_training(make_config(world))
    assert data.steps_in(1) < 6  # the next epoch begins among them
    assert len({batch["tokens"].tobytes() for batch in expected}) == 7
    assert min(rows.filled(batch)[0] for batch in expected) > 0.3


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers(world, expected, tmp_path, capfd, workers):
    """Equal bytes for any number of workers, from any step on; no jax backend in them (H21)."""
    assert jax.jit(lambda x: x + 1)(np.ones(3)).sum() == 6  # this process's backend has started
    data = spied(world, tmp_path, workers)
    (tmp_path / str(os.getpid())).unlink(missing_ok=True)  # made by nobody yet
    found = list(data.batches(2, 7))
    assert len(found) == 5
    for batch, same in zip(found, expected[2:], strict=True):
        assert_same(batch, same)
    backends = {note.name: note.read_text() for note in tmp_path.iterdir()}
    makers = backends.keys() - {str(os.getpid())}
    assert len(makers) == workers
    assert all(backends[maker] == "0" for maker in makers)
    assert (str(os.getpid()) in backends) == (workers == 0)
    noise = capfd.readouterr().err
    assert "fork" not in noise
    assert "deadlock" not in noise


@pytest.mark.parametrize("hosts", [1, 2, 4])
def test_hosts(world, expected, hosts):
    """The shares of all hosts, one after the other, are the global batch."""
    shares = [tasks.open_training(make_config(world), host, hosts) for host in range(hosts)]
    for step in (0, 3, 6):
        parts = [share[step] for share in shares]
        assert {len(part["tokens"]) for part in parts} == {ROWS // hosts}
        whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        assert_same(whole, expected[step])


@pytest.mark.parametrize("step", [6, 4, 0])
def test_a_jump_straight_to_a_step(world, expected, step):
    assert_same(tasks.open_training(make_config(world))[step], expected[step])


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_names_its_cause_wherever_it_happens(world, tmp_path, workers):
    data = spied(world, tmp_path, workers, damaged=5)
    with pytest.raises(DataError) as error:
        list(data.batches(0, 10))
    assert str(error.value) == DAMAGED


def test_records_of_a_step(world, expected):
    """ "Which pictures were in step 3?", step counted as in metrics.jsonl."""
    data = tasks.open_training(make_config(world))
    ids = expected[2]["item_id"]
    ids = ids[ids >= 0].tolist()
    keys = [f"picture{n:04d}" if n < 60 else f"line{n - 60}" for n in ids]
    assert data.records_of(3) == keys
    assert len(keys) > ROWS


@pytest.mark.parametrize("packing", [True, False])
def test_validation_takes_each_record_once(world, packing):
    settings = make_config(world, packing=packing)
    found = list(tasks.open_validation(settings).batches())
    again = list(tasks.open_validation(settings).batches())
    ids = np.concatenate([batch["item_id"].ravel() for batch in found])
    assert sorted(ids[ids >= 0].tolist()) == list(range(13))
    assert all(len(batch["tokens"]) == ROWS for batch in found)
    for batch, same in zip(found, again, strict=True):
        assert_same(batch, same)
    assert len(found) == (1 if packing else 2)
    none = make_config(world, validation=())
    assert tasks.open_validation(none) is None


def test_an_empty_row_has_no_sequence_and_no_weight(world):
    data = tasks.open_validation(make_config(world, packing=False))
    last = data[1]
    empty = last["item_id"].max(axis=1) < 0
    assert empty.tolist() == [False] * 5 + [True] * 3
    assert not last["sequence"][empty].any()
    for name in data.layout.terms:
        assert not last[f"{name}_weight"][empty].any()


def test_fingerprints(world):
    data = tasks.open_training(make_config(world))
    names = [f"{world / name}:train" for name in ("captions", "text")]
    assert list(data.fingerprints) == names
    sets = [prepared.open_set(world / name) for name in ("captions", "text")]
    assert list(data.fingerprints.values()) == [each.fingerprint for each in sets]


def test_rows_that_do_not_divide(world):
    with pytest.raises(ConfigError, match="8 rows does not divide over 3 processes"):
        tasks.open_training(make_config(world), 0, 3)


def test_sets_that_are_not_there_or_do_not_fit(world, tmp_path):
    with pytest.raises(DataError, match="nowhere: no prepared set"):
        tasks.open_training(make_config(world, train=((str(tmp_path / "nowhere"), 1.0),)))
    (tmp_path / "vocabulary.txt").write_text("\n".join(reversed(Tokenizer().vocabulary)) + "\n")
    other = make_config(world, vocabulary=str(tmp_path / "vocabulary.txt"))
    with pytest.raises(DataError, match=r"captions: prepared with the vocabulary .* name the file"):
        tasks.open_training(other)
    settings = make_config(world)
    model = config.Model(region_width=tiny.WIDTH, region_classes=tiny.CLASSES, vocabulary=99)
    small = config.Config(model=model, data=settings.data)
    with pytest.raises(DataError, match=r"30522 word pieces.*config.model.vocabulary=99"):
        tasks.open_training(small)


def test_surplus_targets_are_told(caplog):
    """The layout is made for the rows of the first epoch; here every word becomes a target."""
    task = made_sets.make_task(made_sets.captions(30), data=dict(row_regions=120))
    data = pipeline.Batches(task, plans.mixed([30], [1.0], 0), 4, 8, workers=0)
    task.options = config.Pretraining(word_probability=1.0)
    with caplog.at_level("WARNING", logger="absl"):
        data[0]
    assert "targets left out" in caplog.text
