"""VL-BERT base without the text-only half, as released: 256 captions a batch (SPEC.md).

python -m vlbert_jax.main --config=configs/base_captions_only.py --workdir=runs/captions
python -m vlbert_jax.main --config=configs/base_captions_only.py:packed --workdir=runs/captions

Hardware, time, result: not run yet.
"""

import ml_collections

from configs import base


def get_config(argument: str = "") -> ml_collections.ConfigDict:
    """As base, from captions alone and with half the warm-up."""
    config = base.get_config(argument)
    config.model.text_only = False
    config.data.train = (("data/conceptual_captions", 1.0),)
    config.optimizer.warmup_steps = 8000
    if argument == "packed":
        config.data.row_slots = 384  # 48 slots a caption: about 256 captions in 32 rows
    return config
