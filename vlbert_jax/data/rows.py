"""The one input layout: rows of slots, filled with one item or with many.

An item is what a task makes of one record; `pack` lays items side by side into a row by shifting
their indices, and `empty` makes the arrays of a batch. Host only, NumPy only. The picture of a
row stands in the README; the meaning of the fields is below.

  tokens           [B, L] int32  word-piece id, or V for a region ([IMG]), V + 2 for [END].
                                 V + 1 is the masked [IMG]: the model writes it where a slot's
                                 region is replaced, so that `region_replaced` alone decides.
  segments         [B, L] int32  0 / 1 first / second sentence, 2 regions and [END]
  positions        [B, L] int32  SPEC.md "One example"
  visual           [B, L] int32  0 nothing, 1 the "no image" vector, 2 + r region r of the row
  sequence         [B, L] int32  1, 2, ... the sequence that a slot belongs to; 0 padding
  region_features  [B, R, width] appearance of each region, as stored (not masked)
  region_boxes     [B, R, 4]     centre x, centre y, width, height as shares of the image's size
  region_valid     [B, R] bool   is there a region
  region_replaced  [B, R] bool   is its appearance hidden from the model
  item_id          [B, I] int64  the record of each item, -1 none; stays on the host
  <term>_slot      [B, K] int32  the slots that the term's head reads
  <term>_label     [B, K] int32, or <term>_target [B, K, C], floats as they travel
  <term>_weight    [B, K] float32  0 where there is no target
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vlbert_jax.terms import Term

NOTHING, NO_IMAGE, FIRST_REGION = 0, 1, 2
ITEM_ID = "item_id"

Batch = dict[str, np.ndarray]


class Target(NamedTuple):
    """What one term wants of an item: slots [k], labels [k] or distributions [k, C], weights [k]."""

    slot: np.ndarray
    value: np.ndarray
    weight: np.ndarray


@dataclasses.dataclass(frozen=True)
class Item:
    """One record as slots; all indices count from the item's own first slot, region, sequence.

    Attributes:
      record: number of the record, for the way back.
      tokens, segments, positions, visual, sequence: [S] int32, as in the row.
      region_features: [r, width]; region_boxes: [r, 4]; region_replaced: [r] bool.
      targets: term -> Target.
    """

    record: int
    tokens: np.ndarray
    segments: np.ndarray
    positions: np.ndarray
    visual: np.ndarray
    sequence: np.ndarray
    region_features: np.ndarray
    region_boxes: np.ndarray
    region_replaced: np.ndarray
    targets: Mapping[str, Target]


@dataclasses.dataclass(frozen=True)
class Layout:
    """The static shape of a row.

    Attributes:
      slots, regions, items: L, R and I.
      region_width, region_classes: numbers of a region's appearance, of its distribution.
      feature_dtype: "float16" or "float32", of features and distributions.
      terms: the task's terms, each with its capacity K.
    """

    slots: int
    regions: int
    items: int
    region_width: int
    region_classes: int
    feature_dtype: str
    terms: Mapping[str, Term]


def empty(layout: Layout, rows: int) -> Batch:
    """A batch of `rows` rows of nothing but padding; shapes and dtypes as in the module's table."""
    slots, regions = (rows, layout.slots), (rows, layout.regions)
    batch = {
        name: np.zeros(slots, np.int32)
        for name in ("tokens", "segments", "positions", "visual", "sequence")
    }
    batch["region_features"] = np.zeros((*regions, layout.region_width), layout.feature_dtype)
    batch["region_boxes"] = np.zeros((*regions, 4), np.float32)
    batch["region_valid"] = np.zeros(regions, bool)
    batch["region_replaced"] = np.zeros(regions, bool)
    batch[ITEM_ID] = np.full((rows, layout.items), -1, np.int64)
    for name, term in layout.terms.items():
        targets = (rows, term.capacity)
        batch[f"{name}_slot"] = np.zeros(targets, np.int32)
        if term.loss == "distribution":
            target = (*targets, layout.region_classes)
            batch[f"{name}_target"] = np.zeros(target, layout.feature_dtype)
        else:
            batch[f"{name}_label"] = np.zeros(targets, np.int32)
        batch[f"{name}_weight"] = np.zeros(targets, np.float32)
    return batch


def pack(items: Sequence[Item], batch: Batch, row: int) -> int:
    """Lays `items` side by side into one empty row of `batch`; returns the targets left out.

    Slots, regions and items must fit (the plan sees to it). Targets are drawn at random, so a
    row can hold more of a term than its capacity; the surplus loses its place in the loss.

    Raises:
      ValueError: the items need more slots, regions or places than the row has.
    """
    slot = region = sequence = left_out = 0
    filled = dict.fromkeys((name[: -len("_slot")] for name in batch if name.endswith("_slot")), 0)
    if len(items) > batch[ITEM_ID].shape[1]:
        raise ValueError(f"{len(items)} items in a row of {batch[ITEM_ID].shape[1]} places")
    for place, item in enumerate(items):
        end, region_end = slot + len(item.tokens), region + len(item.region_boxes)
        if end > batch["tokens"].shape[1] or region_end > batch["region_valid"].shape[1]:
            raise ValueError(
                f"items need {end} slots and {region_end} regions, the row has"
                f" {batch['tokens'].shape[1]} and {batch['region_valid'].shape[1]}"
            )
        here, regions_here = slice(slot, end), slice(region, region_end)
        batch[ITEM_ID][row, place] = item.record
        batch["tokens"][row, here] = item.tokens
        batch["segments"][row, here] = item.segments
        batch["positions"][row, here] = item.positions
        speaks_of_region = item.visual >= FIRST_REGION
        batch["visual"][row, here] = item.visual + region * speaks_of_region
        batch["sequence"][row, here] = item.sequence + sequence
        batch["region_features"][row, regions_here] = item.region_features
        batch["region_boxes"][row, regions_here] = item.region_boxes
        batch["region_valid"][row, regions_here] = True
        batch["region_replaced"][row, regions_here] = item.region_replaced
        for name, target in item.targets.items():
            value = batch[f"{name}_target" if f"{name}_target" in batch else f"{name}_label"]
            first = filled[name]
            last = min(first + len(target.slot), value.shape[1])
            kept = last - first
            left_out += len(target.slot) - kept
            batch[f"{name}_slot"][row, first:last] = target.slot[:kept] + slot
            value[row, first:last] = target.value[:kept]
            batch[f"{name}_weight"][row, first:last] = target.weight[:kept]
            filled[name] = last
        slot, region, sequence = end, region_end, sequence + int(item.sequence.max())
    return left_out


def filled(batch: Batch) -> tuple[float, float]:
    """Shares of a batch's slots and regions that are in use."""
    return float(np.mean(batch["sequence"] > 0)), float(np.mean(batch["region_valid"]))
