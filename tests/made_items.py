"""Random items of the goldens' small model, for tests of packing, sharding and accumulation."""

import numpy as np

from tests import goldens
from vlbert_jax.data import rows


def random_item(rng: np.random.Generator, record: int, words: int, regions: int) -> rows.Item:
    """Image-text with `regions` > 0, else text-only; targets anywhere."""
    t, r, model = words, regions, goldens.small_model("float32")
    distributions = rng.dirichlet(np.ones(21), size=r)
    word = np.flatnonzero(rng.random(t) < 0.3)
    region = np.flatnonzero(rng.random(r) < 0.3)
    label = rng.integers(0, model.vocabulary, len(word))
    targets = {
        "mlm_caption" if r else "mlm_text": rows.Target(word, label, np.ones(len(word))),
    }
    if r:
        targets["region_class"] = rows.Target(
            t + region, distributions[region], np.ones(len(region))
        )
        targets["relation"] = rows.Target(np.zeros(1, int), rng.integers(0, 2, 1), np.ones(1))
    return rows.Item(
        record=record,
        tokens=np.r_[rng.integers(1, model.vocabulary, t), [61] * r, 63].astype(np.int32),
        segments=np.r_[[0] * t, [2] * (r + 1)].astype(np.int32),
        positions=np.r_[np.arange(t), [t] * r, t + 1].astype(np.int32),
        visual=np.r_[[2 if r else 1] * t, 2 + np.arange(r), 0].astype(np.int32),
        sequence=np.ones(t + r + 1, np.int32),
        region_features=rng.normal(size=(r, 2048)).astype(np.float32),
        region_boxes=rng.random((r, 4)),
        region_replaced=rng.random(r) < 0.3,
        targets=targets,
    )
