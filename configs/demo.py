"""A small VL-BERT on a made world, from scratch: words and regions that only a look can tell.

python -m vlbert_jax.main --config=configs/demo.py --workdir=runs/demo

Hardware, time, result: not run yet.
"""

import ml_collections

from vlbert_jax import config as config_lib
from vlbert_jax.data import synthetic


def get_config() -> ml_collections.ConfigDict:
    config = config_lib.default()
    world = "runs/made_world"
    config.data.made_world = world
    config.data.train = ((f"{world}/scenes", 1.0), (f"{world}/prose", 1.0))
    config.data.validation = config.data.train
    config.data.vocabulary = f"{world}/vocabulary.txt"
    config.data.mirror = False  # mirrored boxes would make left and right a lie
    config.data.text_slots = 32
    config.data.row_slots = 128
    config.data.rows_per_batch = 28

    config.model.layers = 4
    config.model.hidden = 128
    config.model.heads = 4
    config.model.mlp = 512
    config.model.vocabulary = 4096
    config.model.region_classes = synthetic.REGION_CLASSES
    config.model.visual_scale_init = 0.5  # from scratch there is no BERT to protect

    config.optimizer.peak_lr = 2e-3
    config.optimizer.warmup_steps = 200
    config.train.total_steps = 2000
    config.train.log_every_steps = 100
    config.eval.every_steps = 500
    config.checkpoint.every_steps = 500
    return config
