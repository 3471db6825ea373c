"""Every option of a run, declared once: default, meaning, unit.

First in the flow. `load` opens a file of `configs/` (which changes the locked ConfigDict that
`default` gives), applies `--config.section.key=value`, and `resolve` turns the result into the
frozen dataclasses below, which the rest of the package reads. All checks that need neither data
nor devices happen here, so that a wrong option costs seconds.
"""

import dataclasses
import json
import math
from collections.abc import Sequence
from typing import Any

import ml_collections

from vlbert_jax import config_file
from vlbert_jax.options import ConfigError, option
from vlbert_jax.tasks.pretraining import Options as Pretraining
from vlbert_jax.tasks.pretraining import terms


@dataclasses.dataclass(frozen=True)
class Model:
    """Sizes and switches of the network (SPEC.md; the defaults are the released base model)."""

    layers: int = option(12, "encoder layers", least=1)
    hidden: int = option(768, "width of a slot, H", least=1)
    heads: int = option(12, "attention heads; must divide hidden", least=1)
    mlp: int = option(3072, "width of the feed-forward layer", least=1)
    vocabulary: int = option(30522, "word pieces, V", least=1)
    positions: int = option(512, "rows of the position table", least=1)
    segments: int = option(3, "rows of the segment table: sentence A, B, regions", least=3)
    region_width: int = option(2048, "numbers in a region's appearance feature", least=1)
    region_vector: int = option(0, "width of the projected region vector; 0: hidden", least=0)
    region_classes: int = option(1601, "classes of the detector, background included", least=1)
    text_only: bool = option(True, 'the "no image" vector that text-only examples need')
    relation: bool = option(False, "pooler and image-text relation head, and their loss")
    dropout: float = option(0.1, "share dropped after embeddings and sublayers", least=0)
    attention_dropout: float = option(0.1, "share of attention weights dropped", least=0)
    region_dropout: float = option(
        0.1, "share of the region projection's inputs dropped (fixed in the release)", least=0
    )
    initial_std: float = option(0.02, "standard deviation of fresh weights", least=0)
    visual_scale_init: float = option(
        0.0, "first scale of the two visual LayerNorms; 0 starts as plain BERT"
    )
    dtype: str = option(
        "float32",
        "dtype of matrix products; parameters stay float32",
        choices=("float32", "bfloat16"),
    )
    attention: str = option(
        "auto",
        "plain: scores over the whole row; window: only over the slots that an example can reach;"
        " auto: the cheaper of the two",
        choices=("auto", "plain", "window"),
    )
    remat: str = option(
        "none",
        "what the backward pass computes again: nothing, all but matrix products, whole layers",
        choices=("none", "dots", "full"),
    )
    unroll: int = option(1, "layers laid out one after the other in the compiled scan", least=1)


@dataclasses.dataclass(frozen=True)
class Data:
    """Prepared sets, and how their examples are laid into rows."""

    train: tuple = option(
        (), "((directory, weight), ...): prepared sets and their share of examples"
    )
    validation: tuple = option((), "the same for evaluation, read in order, each record once")
    made_world: str = option("", "directory of the made world of demo and tests; made if missing")
    vocabulary: str = option("", "WordPiece vocabulary, one piece a line; empty: BERT uncased")
    rows_per_batch: int = option(32, "rows of the global batch of one update", least=1)
    packing: bool = option(True, "several examples share a row; False: one example a row")
    row_slots: int = option(512, "slots of a packed row, L", least=8)
    row_regions: int = option(0, "regions of a row, R; 0: what 99 % of the rows need", least=0)
    open_rows: int = option(64, "rows that packing keeps open for examples that fit", least=1)
    text_slots: int = option(
        64,
        "an example's text + regions, and a text-only example's pieces, are cut to this",
        least=3,
    )
    mirror: bool = option(True, "mirror the boxes of half the training images (features stay)")
    feature_dtype: str = option(
        "float16", "dtype in which features travel to the device", choices=("float16", "float32")
    )
    workers: int = option(0, "processes that build batches; 0: a thread of this process", least=0)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The update (SPEC.md "Pre-training")."""

    peak_lr: float = option(2.56e-5, "learning rate at the end of the warm-up", least=0)
    warmup_steps: int = option(16000, "updates of linear warm-up", least=0)
    b1: float = option(0.9, "decay of the first moment", least=0)
    b2: float = option(0.999, "decay of the second moment", least=0)
    eps: float = option(1e-6, "added to sqrt(v) before the bias correction", least=0)
    weight_decay: float = option(1e-4, "decay per update as a share of the rate", least=0)
    clip_norm: float = option(
        10.0, "global gradient norm above which gradients are scaled", least=0
    )


@dataclasses.dataclass(frozen=True)
class Train:
    """Length and rhythm of the run."""

    total_steps: int = option(0, "updates of the whole run; 0: from total_epochs", least=0)
    total_epochs: float = option(0.0, "passes over the first training set; 0: total_steps", least=0)
    accumulation: int = option(1, "micro-batches that one update sums over", least=1)
    log_every_steps: int = option(100, "updates between two lines of metrics", least=1)
    stop_after_nonfinite: int = option(
        10, "skipped updates in a row (loss or gradient not finite) that end the run", least=1
    )


@dataclasses.dataclass(frozen=True)
class Mesh:
    """Devices along each axis; -1 for data takes the devices that the others leave."""

    data: int = option(-1, "copies of the parameters' shards; splits the batch", least=-1)
    fsdp: int = option(1, "splits parameters and the batch", least=1)
    tensor: int = option(1, "splits heads and feed-forward", least=1)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What is kept of a run."""

    every_steps: int = option(1000, "updates between two checkpoints", least=1)
    keep: int = option(2, "newest checkpoints kept", least=1)
    best_metric: str = option(
        "accuracy/mlm_caption", "validation metric whose highest value is kept in best/"
    )


@dataclasses.dataclass(frozen=True)
class Eval:
    """Evaluation during training."""

    every_steps: int = option(0, "updates between two evaluations; 0: only at the end", least=0)
    rows_per_batch: int = option(0, "rows of an evaluation batch; 0: as in training", least=0)


@dataclasses.dataclass(frozen=True)
class Config:
    """A run. Sections as above; the task's own options stand in its file under `tasks/`."""

    task: str = option("pretraining", "which file of tasks/ trains", choices=("pretraining",))
    seed: int = option(0, "of weights, order, masks and dropout", least=0)
    init_from: str = option("", "run folder or checkpoint whose weights start this run")
    model: Model = dataclasses.field(default_factory=Model)
    data: Data = dataclasses.field(default_factory=Data)
    pretraining: Pretraining = dataclasses.field(default_factory=Pretraining)
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    train: Train = dataclasses.field(default_factory=Train)
    mesh: Mesh = dataclasses.field(default_factory=Mesh)
    checkpoint: Checkpoint = dataclasses.field(default_factory=Checkpoint)
    eval: Eval = dataclasses.field(default_factory=Eval)


def default() -> ml_collections.ConfigDict:
    """The locked ConfigDict that a config file starts from: every option at its default."""
    return ml_collections.ConfigDict(dataclasses.asdict(Config())).lock()


def load(file: str, overrides: Sequence[str] = ()) -> Config:
    """The checked config of `file.py[:argument]` with `section.key=value` overrides applied.

    Raises:
      ConfigError: no such file, an unknown key, a wrong type or value, a contradiction.
    """
    config = config_file.run(file)
    for override in overrides:
        config_file.override(config, override)
    return resolve(config)


def resolve(config: ml_collections.ConfigDict) -> Config:
    """ConfigDict -> Config, every value checked.

    Raises:
      ConfigError: a value outside its range or two values that contradict each other.
    """
    resolved = _build(Config, config.to_dict(), prefix="")
    _check_together(resolved)
    return resolved


def to_json(config: Config) -> str:
    """The resolved config as the text of a run folder's config.json."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> Config:
    """The inverse of `to_json`; options that the text lacks have their default.

    Raises:
      ConfigError: an unknown key, a wrong type or value.
    """
    return _build(Config, json.loads(text), prefix="")


def flat(config: Config) -> dict[str, Any]:
    """{"model.layers": 12, ...}: every option by its full name, in the order of declaration."""
    options = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            options |= {f"{field.name}.{key}": each for key, each in flat(value).items()}
        else:
            options[field.name] = value
    return options


def describe(config: Config) -> str:
    """Every option with its value and meaning, one a line."""
    meanings = _meanings(Config)
    rows = [(f"{key} = {value!r}", meanings[key]) for key, value in flat(config).items()]
    width = max(len(setting) for setting, _ in rows if len(setting) < 50)
    return "\n".join(f"{setting:{width}}  {meaning}" for setting, meaning in rows)


def _meanings(kind: type) -> dict[str, str]:
    meanings = {}
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(field.type):
            inner = _meanings(field.type)
            meanings |= {f"{field.name}.{key}": meaning for key, meaning in inner.items()}
        else:
            meanings[field.name] = field.metadata["meaning"]
    return meanings


def _build(kind: type, values: Any, prefix: str) -> Any:
    """The dataclass `kind` from nested `values`, each of the declared type and in its range."""
    fields = {field.name: field for field in dataclasses.fields(kind)}
    if not isinstance(values, dict):
        raise ConfigError(f"config.{prefix.rstrip('.')}: a section, found {values!r}")
    built = {}
    for name, value in values.items():
        key = f"config.{prefix}{name}"
        if name not in fields:
            raise ConfigError(
                f"{key}: {config_file.unknown(name, list(fields), prefix.rstrip('.'))}"
            )
        field = fields[name]
        if dataclasses.is_dataclass(field.type):
            built[name] = _build(field.type, value, prefix=f"{prefix}{name}.")
            continue
        built[name] = value = config_file.typed(value, field.default, key)
        least, choices = field.metadata["least"], field.metadata["choices"]
        if least is not None and value < least:
            raise ConfigError(f"{key}={value}: must be at least {least}")
        if choices and value not in choices:
            raise ConfigError(f"{key}={value!r}: must be one of {', '.join(choices)}")
    return kind(**built)


_SHARES = (  # options that are a share of something
    "model.dropout",
    "model.attention_dropout",
    "model.region_dropout",
    "pretraining.word_probability",
    "pretraining.region_probability",
    "pretraining.region_replaced",
    "optimizer.b1",
    "optimizer.b2",
)


def _check_together(config: Config) -> None:
    """Contradictions between options; each message names both sides and the remedy."""
    options = flat(config)
    for key in _SHARES:
        if options[key] > 1:
            raise ConfigError(f"config.{key}={options[key]}: a share, must be at most 1")
    _check_model(config)
    _check_data(config)
    _check_rhythm(config)


def _check_model(config: Config) -> None:
    model, mesh = config.model, config.mesh
    if model.hidden % model.heads:
        raise ConfigError(
            f"config.model.heads={model.heads} does not divide config.model.hidden={model.hidden};"
            f" the nearest that does: {nearest_divisor(model.hidden, model.heads)}"
        )
    if model.heads % mesh.tensor:
        raise ConfigError(
            f"config.mesh.tensor={mesh.tensor} does not divide config.model.heads={model.heads};"
            f" the nearest that does: {nearest_divisor(model.heads, mesh.tensor)}"
        )
    if mesh.data == 0:
        raise ConfigError("config.mesh.data=0: give a number of devices, or -1 for all others")
    if model.layers % model.unroll:
        raise ConfigError(
            f"config.model.unroll={model.unroll} does not divide config.model.layers="
            f"{model.layers}; the nearest that does: {nearest_divisor(model.layers, model.unroll)}"
        )


def _check_data(config: Config) -> None:
    data, accumulation = config.data, config.train.accumulation
    for key, sources in (("train", data.train), ("validation", data.validation)):
        for source in sources:
            if not _is_source(source):
                raise ConfigError(
                    f"config.data.{key}: expected (directory, weight above 0) for each source,"
                    f' such as (("data/captions", 1.0),); found {source!r}'
                )
    if not data.train:
        raise ConfigError(
            'config.data.train is empty: name prepared sets, such as (("data/captions", 1.0),);'
            " python -m vlbert_jax.prepare --help tells how to make them"
        )
    shards = max(config.mesh.data, 1) * config.mesh.fsdp
    of_batch = "config.mesh.data x config.mesh.fsdp"
    for key, rows, parts, product in (
        (
            "data.rows_per_batch",
            data.rows_per_batch,
            shards * accumulation,
            f"{of_batch} x config.train.accumulation",
        ),
        ("eval.rows_per_batch", config.eval.rows_per_batch, shards, of_batch),
    ):
        if rows % parts:
            raise ConfigError(
                f"config.{key}={rows} does not divide by {product} = {parts};"
                f" the nearest that does: {nearest_multiple(rows, parts)}"
            )
    if data.packing and data.text_slots + 1 > data.row_slots:
        raise ConfigError(
            f"config.data.text_slots={data.text_slots} and [END] do not fit in"
            f" config.data.row_slots={data.row_slots}; raise row_slots to"
            f" {data.text_slots + 1} or more"
        )
    if data.text_slots + 2 > config.model.positions:
        raise ConfigError(
            f"config.data.text_slots={data.text_slots} needs {data.text_slots + 2} positions,"
            f" config.model.positions={config.model.positions}; raise positions or lower text_slots"
        )


def _is_source(source: Any) -> bool:
    if not (isinstance(source, tuple) and len(source) == 2):
        return False
    directory, weight = source
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    return isinstance(directory, str) and is_number and 0 < weight < math.inf


def _check_rhythm(config: Config) -> None:
    train, warmup = config.train, config.optimizer.warmup_steps
    if bool(train.total_steps) == bool(train.total_epochs):
        raise ConfigError(
            f"config.train.total_steps={train.total_steps} and config.train.total_epochs="
            f"{train.total_epochs}: set exactly one of them above 0, the other one to 0"
        )
    if train.total_steps:
        check_warmup(warmup, train.total_steps)
    if config.eval.every_steps and not config.data.validation:
        raise ConfigError(
            f"config.eval.every_steps={config.eval.every_steps}, but config.data.validation is"
            " empty: name a set to evaluate on, or set every_steps to 0"
        )
    metrics = [f"accuracy/{term}" for term in terms(config.pretraining, config.model, [0] * 4, 1)]
    if config.checkpoint.best_metric not in metrics:
        raise ConfigError(
            f"config.checkpoint.best_metric={config.checkpoint.best_metric!r}: the highest value"
            f" is kept, so it must be an accuracy of this run: {', '.join(metrics)}"
        )


def check_warmup(warmup: int, total: int) -> None:
    """For `total_epochs`, whose number of updates is known once the data are open.

    Raises:
      ConfigError: the warm-up leaves no update for the falling part of the schedule.
    """
    if warmup >= total:
        raise ConfigError(
            f"config.optimizer.warmup_steps={warmup} leaves none of the run's {total} updates for"
            " the falling part of the schedule; lower warmup_steps or lengthen the run"
        )


def nearest_multiple(number: int, factor: int) -> int:
    """The multiple of `factor` (at least one) that is nearest to `number`."""
    return max(1, round(number / factor)) * factor


def nearest_divisor(number: int, wish: int) -> int:
    """The divisor of `number` that is nearest to `wish`."""
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return min(divisors, key=lambda d: abs(d - wish))
