"""What a term of the loss is.

Below everything: tasks list their terms, rows keep places for their targets, the model runs their
heads, losses sum them. The loss of a term is the sum over the global batch divided by the global
count (SPEC.md "Pre-training").
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Term:
    """One part of the loss.

    Attributes:
      head: "words" (logits over the vocabulary), "regions" (over the detector's classes) or
        "relation" (over two classes, from the pooled slot).
      loss: "label" (cross entropy with one right class) or "distribution" (with a soft target).
      weight: factor of the term's mean in the loss.
      capacity: target slots of a row, K.
    """

    head: str
    loss: str
    weight: float
    capacity: int
