"""Packing: what goes into a row comes out of it, item by item."""

import dataclasses

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from vlbert_jax.data import rows
from vlbert_jax.terms import Term

WIDTH, CLASSES = 3, 4
LAYOUT = rows.Layout(
    slots=64,
    regions=24,
    items=6,
    region_width=WIDTH,
    region_classes=CLASSES,
    feature_dtype="float16",
    terms={
        "words": Term("words", "label", 1.0, 12),
        "regions": Term("regions", "distribution", 1.0, 8),
    },
)


def make_item(rng, record, sequences, slots, regions) -> rows.Item:
    """`sequences` sequences of `slots` slots over one set of regions, targets anywhere."""
    total = sequences * slots

    def target(value_of):
        slot = np.flatnonzero(rng.random(total) < 0.2)
        return rows.Target(slot, value_of(len(slot)), rng.integers(1, 3, len(slot)) / 2)

    return rows.Item(
        record=record,
        tokens=rng.integers(0, 99, total, np.int32),
        segments=rng.integers(0, 3, total, np.int32),
        positions=rng.integers(0, 40, total, np.int32),
        visual=rng.integers(0, rows.FIRST_REGION + regions, total, np.int32),
        sequence=np.repeat(np.arange(1, sequences + 1, dtype=np.int32), slots),
        region_features=rng.random((regions, WIDTH)).astype(np.float16),
        region_boxes=rng.random((regions, 4)).astype(np.float32),
        region_replaced=rng.random(regions) < 0.3,
        targets={
            "words": target(lambda k: rng.integers(0, 99, k)),
            "regions": target(lambda k: rng.random((k, CLASSES)).astype(np.float16)),
        },
    )


sizes = st.lists(
    st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(0, 4)), min_size=0, max_size=4
)


@hypothesis.given(sizes=sizes, seed=st.integers(0, 2**32 - 1))
def test_unpacking_gives_back_each_item(sizes, seed):
    """Each item read from the row by `sequence` and ids alone, its indices shifted back."""
    rng = np.random.default_rng(seed)
    items = [make_item(rng, 100 + n, *size) for n, size in enumerate(sizes)]
    batch = rows.empty(LAYOUT, rows=3)
    before = {name: array.copy() for name, array in batch.items()}
    left_out = rows.pack(items, batch, row=1)
    for name, array in batch.items():  # other rows stay empty, dtypes stay
        assert array.dtype == before[name].dtype
        np.testing.assert_array_equal(array[[0, 2]], before[name][[0, 2]])
    row = {name: array[1] for name, array in batch.items()}

    first_sequence, first_region = 1, 0
    taken = dict.fromkeys(LAYOUT.terms, 0)
    for place, item in enumerate(items):
        assert row["item_id"][place] == item.record
        last_sequence = first_sequence + item.sequence.max()
        slots = np.flatnonzero(
            (row["sequence"] >= first_sequence) & (row["sequence"] < last_sequence)
        )
        np.testing.assert_array_equal(np.diff(slots), 1)
        np.testing.assert_array_equal(row["sequence"][slots] - first_sequence + 1, item.sequence)
        for name in ("tokens", "segments", "positions"):
            np.testing.assert_array_equal(row[name][slots], getattr(item, name))
        regions = slice(first_region, first_region + len(item.region_boxes))
        for name in ("region_features", "region_boxes", "region_replaced"):
            np.testing.assert_array_equal(row[name][regions], getattr(item, name))
        assert row["region_valid"][regions].all()
        # A slot speaks of the same vector as before: looked up, not counted.
        for visual, own in zip(row["visual"][slots], item.visual, strict=True):
            if own < rows.FIRST_REGION:
                assert visual == own
            else:
                np.testing.assert_array_equal(
                    row["region_boxes"][visual - rows.FIRST_REGION],
                    item.region_boxes[own - rows.FIRST_REGION],
                )
        for name, target in item.targets.items():
            start = taken[name]
            end = min(start + len(target.slot), LAYOUT.terms[name].capacity)
            kept = end - start
            np.testing.assert_array_equal(row[f"{name}_slot"][start:end], slots[target.slot[:kept]])
            value = "words_label" if name == "words" else "regions_target"
            np.testing.assert_array_equal(row[value][start:end], target.value[:kept])
            np.testing.assert_array_equal(row[f"{name}_weight"][start:end], target.weight[:kept])
            taken[name] = end
        first_sequence, first_region = last_sequence, regions.stop
    assert (row["item_id"][len(items) :] == -1).all()
    assert not row["region_valid"][first_region:].any()
    assert (row["sequence"] >= first_sequence).sum() == 0
    for name in LAYOUT.terms:
        assert not row[f"{name}_weight"][taken[name] :].any()
        wished = sum(len(item.targets[name].slot) for item in items)
        left_out -= wished - taken[name]
    assert left_out == 0


def test_capacities():
    rng = np.random.default_rng(0)

    def pack(*sizes):
        rows.pack(
            [make_item(rng, n, *size) for n, size in enumerate(sizes)], rows.empty(LAYOUT, 1), 0
        )

    pack((1, 60, 4), (1, 4, 20))
    with pytest.raises(ValueError, match="65 slots"):
        pack((1, 60, 4), (1, 5, 20))
    with pytest.raises(ValueError, match="25 regions"):
        pack((1, 60, 4), (1, 4, 21))
    with pytest.raises(ValueError, match="7 items in a row of 6"):
        pack(*[(1, 2, 0)] * 7)


def test_surplus_targets_are_left_out_and_counted():
    rng = np.random.default_rng(1)
    item = make_item(rng, 0, 1, 20, 2)
    target = rows.Target(np.arange(20), np.arange(20), np.ones(20))
    many = dataclasses.replace(item, targets={"words": target})
    batch = rows.empty(LAYOUT, 1)
    assert rows.pack([many, many], batch, 0) == 28
    assert batch["words_weight"].sum() == 12
    np.testing.assert_array_equal(batch["words_label"][0], np.arange(12))


def test_filled():
    rng = np.random.default_rng(2)
    batch = rows.empty(LAYOUT, 2)
    rows.pack([make_item(rng, 0, 2, 16, 6)], batch, 0)
    assert rows.filled(batch) == (32 / 128, 6 / 48)
