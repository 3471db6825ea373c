"""Several prepared sets as one; their records are numbered through.

The number of a record is its name in plan, items and keys of chance, and the way back to its key.
"""

import bisect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # loads much, and config.py comes by here
    from vlbert_jax.data.prepared import PreparedSet


class Sources:
    """The sets of a run.

    Attributes:
      sets: in the order of the config.
      first: [sets + 1] numbers of each set's first record, and the end.
    """

    def __init__(self, sets: Sequence["PreparedSet"]):
        self.sets = list(sets)
        self.first = [0]
        for each in self.sets:
            self.first.append(self.first[-1] + len(each))

    def __len__(self) -> int:
        return self.first[-1]

    def __getitem__(self, number: int) -> Any:
        """The record of that number."""
        source = self.of(number)
        return self.sets[source][number - self.first[source]]

    def of(self, number: int) -> int:
        """The set that a record belongs to."""
        return bisect.bisect_right(self.first, number) - 1

    def split(self, numbers: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(set, places of its records in `numbers`) for each set that has some."""
        of = np.searchsorted(self.first, numbers, side="right") - 1
        places = [(source, np.flatnonzero(of == source)) for source in range(len(self.sets))]
        return [(source, place) for source, place in places if len(place)]

    @property
    def lengths(self) -> list[int]:
        """Records of each set."""
        return [len(each) for each in self.sets]

    @property
    def fingerprints(self) -> dict[str, str]:
        """ "directory:split" -> hash of the content."""
        return {f"{each.directory}:{each.split}": each.fingerprint for each in self.sets}
