"""Opens the data of a run: prepared sets -> the task -> batches.

Called by train.py and evaluate.py. A task is one file of this folder; it is named here once.
"""

from typing import Any

from vlbert_jax.data import plan, prepared
from vlbert_jax.data.masking import Vocabulary
from vlbert_jax.data.pipeline import Batches
from vlbert_jax.data.sources import Sources
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.options import DataError
from vlbert_jax.tasks import pretraining

TASKS = {"pretraining": pretraining.Pretraining}
TRAIN, VALIDATION = "train", "validation"  # splits of the prepared sets

Config = Any  # vlbert_jax.config.Config, which imports the options of the tasks


def open_training(config: Config, host: int = 0, hosts: int = 1) -> Batches:
    """The batches of `config.data.train`, endless; this host's rows of each.

    Raises:
      ConfigError, DataError: the sets are missing, do not fit the config or each other.
    """
    data = config.data
    directories, weights = zip(*data.train, strict=True)
    sources = _open(config, directories, TRAIN)
    task = TASKS[config.task](config, sources, _vocabulary(config, sources), training=True)
    return Batches(
        task,
        plan.mixed(sources.lengths, weights, config.seed),
        rows_per_batch=data.rows_per_batch,
        open_rows=data.open_rows if data.packing else 0,
        workers=data.workers,
        host=host,
        hosts=hosts,
    )


def open_validation(config: Config, host: int = 0, hosts: int = 1) -> Batches | None:
    """Each record of `config.data.validation` once, in order; None where there is no such set.

    Raises:
      ConfigError, DataError: as for training.
    """
    data = config.data
    if not data.validation:
        return None
    sources = _open(config, [directory for directory, _ in data.validation], VALIDATION)
    task = TASKS[config.task](config, sources, _vocabulary(config, sources), training=False)
    micro_batch = data.rows_per_batch // config.train.accumulation
    return Batches(
        task,
        plan.in_order(len(sources)),
        rows_per_batch=config.eval.rows_per_batch or micro_batch,
        open_rows=data.open_rows if data.packing else 0,
        workers=data.workers,
        host=host,
        hosts=hosts,
    )


def _open(config: Config, directories: list[str], split: str) -> Sources:
    return Sources([prepared.open_set(directory, split) for directory in directories])


def _vocabulary(config: Config, sources: Sources) -> Vocabulary:
    """What the tasks need of the tokenizer; all sets must have been prepared with it."""
    tokenizer = Tokenizer(config.data.vocabulary)
    for each in sources.sets:
        if each.vocabulary_size != config.model.vocabulary:
            raise DataError(
                f"{each.directory}: prepared with {each.vocabulary_size} word pieces, but"
                f" config.model.vocabulary={config.model.vocabulary}; set it to"
                f" {each.vocabulary_size}, or prepare the set with the vocabulary of the model"
            )
        if each.vocabulary_fingerprint != tokenizer.fingerprint:
            raise DataError(
                f"{each.directory}: prepared with the vocabulary {each.vocabulary_fingerprint},"
                f" but config.data.vocabulary={config.data.vocabulary!r} is"
                f" {tokenizer.fingerprint}; name the file that the set was prepared with"
            )
    return Vocabulary(tokenizer.size, tokenizer.pad, tokenizer.cls, tokenizer.sep, tokenizer.mask)
