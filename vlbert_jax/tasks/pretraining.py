"""Pre-training: masked words with and without a picture, masked regions, image-text relation.

A task file (see task.py): options, terms, and how a record becomes an item. Host only, NumPy
only; the recipe is SPEC.md "Pre-training".
"""

import dataclasses

from vlbert_jax.options import option


@dataclasses.dataclass(frozen=True)
class Options:
    """What is masked, and how much each term counts."""

    word_probability: float = option(0.15, "share of words that become targets", least=0)
    region_probability: float = option(0.15, "share of regions that become targets", least=0)
    region_replaced: float = option(0.9, "share of target regions hidden from the model", least=0)
    caption_weight: float = option(1.0, "weight of the masked words of captions", least=0)
    text_weight: float = option(1.0, "weight of the masked words of text-only examples", least=0)
    region_weight: float = option(1.0, "weight of the masked regions; 0: none masked", least=0)
    relation_weight: float = option(1.0, "weight of image-text relation (model.relation)", least=0)
