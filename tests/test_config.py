"""Options are declared once; a wrong one is a single line that names the remedy."""

import dataclasses
import json

import pytest

from vlbert_jax import config as config_lib
from vlbert_jax.config import Config
from vlbert_jax.options import ConfigError

FILE = """
from vlbert_jax import config as config_lib

def get_config():
    config = config_lib.default()
    config.data.train = (("data/captions", 1.0), ("data/text", 1))
    config.train.total_steps = 100
    config.optimizer.warmup_steps = 10
"""


@pytest.fixture
def load(tmp_path):
    """Loads a small config file with lines added to get_config, and overrides."""

    def load(*overrides, lines=()):
        path = tmp_path / "small.py"
        path.write_text(FILE + "".join(f"    {line}\n" for line in lines) + "    return config\n")
        return config_lib.load(str(path), overrides)

    return load


def fields(kind, prefix=""):
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            yield from fields(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}", field


def message(load, *overrides, lines=()):
    with pytest.raises(ConfigError) as error:
        load(*overrides, lines=lines)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("key", "field"), list(fields(Config)), ids=lambda x: str(x)[:40])
def test_every_option_has_a_meaning_and_a_default_of_its_type(key, field):
    assert len(field.metadata["meaning"]) > 10
    assert type(field.default) is field.type
    choices = field.metadata["choices"]
    assert not choices or field.default in choices
    if field.metadata["least"] is not None:
        assert field.default >= field.metadata["least"]


def test_the_names_that_others_rely_on():
    rely_on = {
        "seed", "train.total_steps", "train.log_every_steps", "optimizer.peak_lr",
        "optimizer.warmup_steps", "data.rows_per_batch", "data.workers", "data.packing",
        "mesh.data", "mesh.fsdp", "mesh.tensor", "checkpoint.every_steps", "eval.every_steps",
        "model.layers", "model.region_width", "model.dtype",
    }  # fmt: skip
    assert rely_on <= set(config_lib.flat(Config()))


def test_describe_lists_every_option_with_value_and_meaning(load):
    text = config_lib.describe(load("optimizer.peak_lr=0.5"))
    assert len(text.splitlines()) == len(config_lib.flat(Config()))
    assert "optimizer.peak_lr = 0.5 " in text
    assert "learning rate at the end of the warm-up" in text


def test_json_round_trip(load):
    config = load("seed=7", "model.dtype=bfloat16")
    text = config_lib.to_json(config)
    assert config_lib.from_json(text) == config
    assert config_lib.to_json(config_lib.from_json(text)) == text
    assert json.loads(text)["data"]["train"] == [["data/captions", 1.0], ["data/text", 1]]
    with pytest.raises(ConfigError, match="layrs; did you mean layers"):
        config_lib.from_json('{"model": {"layrs": 3}}')
    with pytest.raises(ConfigError, match=r"config\.model: a section, found 3"):
        config_lib.from_json('{"model": 3}')


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("train.total_steps=1e4", "train.total_steps", 10_000),
        ("train.total_steps=100.0", "train.total_steps", 100),
        ("optimizer.peak_lr=1", "optimizer.peak_lr", 1.0),
        ("mesh.data=-1", "mesh.data", -1),
        ("data.packing=false", "data.packing", False),
        ("data.packing=True", "data.packing", True),
        ("model.dtype=bfloat16", "model.dtype", "bfloat16"),
        ("init_from=runs/a=b", "init_from", "runs/a=b"),
        ("data.train=[['x', 2]]", "data.train", (("x", 2),)),
        ("data.train=(('x', 0.5), ('y', 1))", "data.train", (("x", 0.5), ("y", 1))),
    ],
)
def test_overrides_take_the_type_of_the_option(load, override, key, value):
    found = config_lib.flat(load(override))[key]
    assert found == value
    assert type(found) is type(value)


# Overrides that stop, and what the one line of error must name.
STOPS = [
    ("optimzer.peak_lr=1", "did you mean optimizer?"),
    ("optimizer.peek_lr=1", "section optimizer has no peek_lr; did you mean peak_lr?"),
    ("optimizer.zzz=1", "section optimizer has no zzz; it has"),
    ("sed=1", "the config has no sed; did you mean seed?"),
    ("optimizer=1", "this is a section; it has optimizer.b1"),
    ("seed.x=1", "seed is an option, not a section"),
    ("seed", "write --config.seed=VALUE"),
    ("train.total_steps=abc", "--config.train.total_steps=abc: expected a whole number"),
    ("train.total_steps=10.5", "expected a whole number, found 10.5"),
    ("train.total_steps=True", "expected a whole number, found True"),
    ("train.total_steps=1e400", "expected a whole number, found inf"),
    ("optimizer.peak_lr=fast", "expected a finite number, found 'fast'"),
    ("optimizer.peak_lr=1e400", "expected a finite number, found inf"),
    ("optimizer.peak_lr=-1", "config.optimizer.peak_lr=-1.0: must be at least 0"),
    ("data.packing=1", "expected True or False, found 1"),
    ("data.train=3", "expected a tuple such as"),
    ("data.train=()", "config.data.train is empty"),
    ("data.train=('x', 1.0)", "expected (directory, weight above 0) for each source"),
    ("data.train=(('x', 0),)", "found ('x', 0)"),
    ("data.train=(('x', True),)", "found ('x', True)"),
    ("data.validation=(('x', 'y'),)", "config.data.validation: expected"),
    ("data.rows_per_batch=0", "must be at least 1"),
    ("data.rows_per_batch=-1", "must be at least 1"),
    ("train.total_steps=-1", "must be at least 0"),
    ("train.total_steps=0", "set exactly one of them above 0"),
    ("train.total_epochs=2", "total_steps=100 and config.train.total_epochs=2.0: set exactly one"),
    ("optimizer.warmup_steps=100", "warmup_steps=100 leaves none of the run's 100 updates"),
    ("optimizer.b1=1.5", "a share, must be at most 1"),
    ("model.dropout=1.1", "a share, must be at most 1"),
    ("pretraining.word_probability=2", "a share, must be at most 1"),
    ("model.dtype=float8", "must be one of float32, bfloat16"),
    ("task=vaq", "must be one of"),
    ("model.heads=7", "heads=7 does not divide config.model.hidden=768; the nearest that does: 6"),
    ("model.unroll=5", "model.layers=12; the nearest that does: 4"),
    ("mesh.tensor=5", "mesh.tensor=5 does not divide config.model.heads=12; the nearest that does: 4"),
    ("mesh.data=0", "config.mesh.data=0"),
    ("mesh.fsdp=3", "rows_per_batch=32 does not divide by"),
    ("train.accumulation=5", "x config.train.accumulation = 5; the nearest that does: 30"),
    ("eval.every_steps=5", "config.data.validation is empty"),
    ("checkpoint.best_metric=loss", "the highest value is kept, so it must be an accuracy"),
    ("checkpoint.best_metric=accuracy/relation", "accuracy/mlm_caption, accuracy/mlm_text"),
    ("data.row_slots=32", "raise row_slots to 65 or more"),
    ("data.text_slots=511", "511 needs 513 positions, config.model.positions=512"),
]  # fmt: skip


@pytest.mark.parametrize(("override", "expected"), STOPS, ids=[stop[0] for stop in STOPS])
def test_a_wrong_override_stops_with_one_line(load, override, expected):
    assert expected in message(load, override)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("config.optimzer.peak_lr = 1", "there is no optimzer; did you mean optimizer?"),
        ("config.optimizer.peek_lr = 1", "there is no peek_lr; did you mean peak_lr?"),
        ("config.optimizer.zzz = 1", "there is no zzz; every option is listed by --help_config"),
        ("config['optimizr']", "there is no optimizr; did you mean optimizer?"),
        ("config.train.total_steps = 'abc'", "total_steps expects int, found abc"),
        ("config.model = 3", "model expects ConfigDict, found 3"),
        ("config.model.layers = True", "config.model.layers: expected a whole number, found True"),
        ("nonsense", "NameError: name 'nonsense' is not defined"),
    ],
)
def test_a_wrong_line_of_a_config_file_stops_with_one_line(load, line, expected):
    text = message(load, lines=[line])
    assert expected in text
    if "layers" not in line:  # that one is seen when the file is through
        assert "line 9 of small.py" in text


def test_a_wrong_config_file_is_told(tmp_path):
    for text, argument, expected in [
        ("def get_config(:", "", "SyntaxError"),
        ("x = 1", "", "has no function get_config"),
        ("def get_config(): return 3", "", "get_config returns no ConfigDict"),
        ("def get_config(): return 3", ":fast", "takes no argument, found 'fast'"),
    ]:
        (tmp_path / "wrong.py").write_text(text)
        with pytest.raises(ConfigError) as error:
            config_lib.load(f"{tmp_path}/wrong.py{argument}")
        assert expected in str(error.value)
    with pytest.raises(
        ConfigError, match=r"no Python file .*/wrung\.py; did you mean .*/wrong\.py"
    ):
        config_lib.load(f"{tmp_path}/wrung.py")
    with pytest.raises(ConfigError, match=r"there is no Python file does/not/exist\.py$"):
        config_lib.load("does/not/exist.py")


def test_sizes_that_only_packing_asks_for(load):
    assert load("data.row_slots=32", "data.packing=False").data.row_slots == 32


def test_nearest_numbers():
    assert [config_lib.nearest_multiple(n, 8) for n in (1, 11, 13, 16)] == [8, 8, 16, 16]
    assert [config_lib.nearest_divisor(12, n) for n in (5, 7, 12, 100)] == [4, 6, 12, 12]
