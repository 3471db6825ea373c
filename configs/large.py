"""VL-BERT large, the released pre-training: base with its own sizes (SPEC.md).

python -m vlbert_jax.main --config=configs/large.py --workdir=runs/large
python -m vlbert_jax.main --config=configs/large.py:packed --workdir=runs/large

Hardware, time, result: not run yet. The authors report 67.0 % (words of captions),
65.2 % (words of texts) and 70.1 % (regions) on the training data after 10 epochs.
"""

import ml_collections

from configs import base


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """As base, with the sizes of the large model and half-precision products as in the release."""
    config = base.get_config(argument)
    config.model.layers = 24
    config.model.hidden = 1024
    config.model.heads = 16
    config.model.mlp = 4096
    config.model.dtype = "bfloat16"
    return config
