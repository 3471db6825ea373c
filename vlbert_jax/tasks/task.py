"""What every task is made of: the terms of its loss.

A task is one file beside this one. It turns a record into a `rows.Item` on the host, and lists
its terms; the model runs each term's head on that term's target slots only, and the loss of a
term is the sum over the global batch divided by the global count (SPEC.md "Pre-training").
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
