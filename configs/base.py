"""VL-BERT base, the released pre-training (SPEC.md "Pre-training").

python -m vlbert_jax.main --config=configs/base.py --workdir=runs/base           one example a row
python -m vlbert_jax.main --config=configs/base.py:packed --workdir=runs/base    packed rows

Hardware, time, result: not run yet.

The data are your own: prepare Conceptual Captions features and a text corpus into the two
directories below (python -m vlbert_jax.prepare --help). The released run starts from BERT;
without `init_from` this one starts from scratch.
"""

import ml_collections

from vlbert_jax import config as config_lib
from vlbert_jax.options import ConfigError


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """The released recipe; "packed" lays several examples into a row."""
    config = config_lib.default()
    config.data.train = (("data/conceptual_captions", 1.0), ("data/corpus", 1.0))
    config.data.validation = (("data/conceptual_captions", 1.0),)
    config.train.total_epochs = 10
    config.eval.every_steps = 25_000  # about one epoch
    if argument == "packed":
        # 32 rows of 448 slots hold about the 256 examples of the release, at the sizes that are
        # assumed for the real data: 48 slots a caption, 65 a text.
        config.data.rows_per_batch = 32
        config.data.row_slots = 448
    elif argument:
        raise ConfigError(f"argument {argument!r} of the config file: the only one is packed")
    else:
        config.data.packing = False
        config.data.rows_per_batch = 256  # 128 captions and 128 texts
        config.data.feature_dtype = "float32"
    return config
