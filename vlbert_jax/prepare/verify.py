"""Reads a prepared set whole and compares it with what its index and set.json say."""

import collections
import hashlib
import os
from typing import Any

import numpy as np

from vlbert_jax.data import prepared
from vlbert_jax.data.record import Caption, Form, Text, from_bytes
from vlbert_jax.options import DataError
from vlbert_jax.prepare import checks
from vlbert_jax.prepare.raw import RawCaption
from vlbert_jax.prepare.split import fingerprint, hash_record

TOTALS = ("records", "pieces", "words", "regions")
LISTED = 20  # problems of a split that are spelled out


def verify(directory: str | os.PathLike) -> tuple[str, list[str]]:
    """(a table of the splits, what is wrong with them) of the prepared set in `directory`.

    Checks every record: it can be read, fits the lengths index, has finite numbers and plausible
    boxes, its pieces lie in the vocabulary; and of every split the number of records, the totals
    and the fingerprint.

    Raises:
      DataError: no prepared set in `directory`.
    """
    description = prepared.describe(directory)
    rows, problems = [], []
    for split, part in description["splits"].items():
        found, counts = _split(directory, split, part)
        numbers = [part[name] for name in (*TOTALS, "bad_records")]
        row = [split, *(f"{number:,}" for number in numbers), f"{part['bytes'] / 1e6:,.1f}"]
        rows.append([*row, part["fingerprint"], f"{len(found)} problems" if found else "good"])
        rows += [["", f"{name} {count:,}"] for name, count in sorted(counts.items())]
        problems += [f"{directory}, split {split}: {problem}" for problem in found[:LISTED]]
        if len(found) > LISTED:
            problems.append(f"{directory}, split {split}: {len(found) - LISTED:,} problems more")
    head = ["split", *TOTALS, "left_out", "MB", "fingerprint", "result"]
    return f"{directory}: {description['kind']}\n{_table([head, *rows])}", problems


def _split(
    directory: str | os.PathLike, split: str, part: dict[str, Any]
) -> tuple[list[str], collections.Counter[str]]:
    """Problems of a split, and the notes that `checks` counts."""
    set_ = prepared.open_set(directory, split)
    problems, counts, hashes = [], collections.Counter(), []
    try:
        index = np.stack([set_.pieces, set_.words, set_.regions])
    except (OSError, ValueError, IndexError) as error:
        return [f"lengths index cannot be read ({error})"], counts
    if index.shape[1] != part["records"] or sum(part["shard_lengths"]) != part["records"]:
        return [
            f"{part['records']:,} records by set.json, {index.shape[1]:,} by the lengths index,"
            f" {sum(part['shard_lengths']):,} by the files"
        ], counts
    form = Form(set_.kind, set_.feature_dtype, set_.region_width, set_.region_classes)
    first = 0
    for shard, length in enumerate(part["shard_lengths"]):
        shard_hash = hashlib.sha256()
        for number in range(first, first + length):
            try:
                data = set_.read(number)
                record = from_bytes(data, form)
            except (DataError, ValueError, KeyError, IndexError) as error:
                problems.append(str(error) or f"record {number} cannot be decoded")
                continue
            hash_record(shard_hash, data)
            found = _record(record, index[:, number], set_)
            counts.update(found.notes)
            problems += [
                f"record {number} ({record.key}): {field}: {reason}"
                for field, reason in found.problems
            ]
        if set_.shard_records(shard) != length:
            problems.append(
                f"file {shard} holds {set_.shard_records(shard):,} records, {length:,} expected"
            )
        hashes.append(shard_hash.hexdigest())
        first += length
    totals = dict(zip(TOTALS[1:], index.sum(axis=1).tolist(), strict=True))
    problems += [
        f"{total:,} {name} by the lengths index, {part[name]:,} by set.json"
        for name, total in totals.items()
        if total != part[name]
    ]
    actual = fingerprint(set_.kind, set_.vocabulary_fingerprint, hashes)
    if actual != part["fingerprint"]:
        problems.append(
            f"content has the fingerprint {actual}, set.json says {part['fingerprint']}: some"
            " record is not what was written; prepare the set anew"
        )
    return problems, counts


def _record(
    record: Caption | Text, lengths: np.ndarray, set_: prepared.PreparedSet
) -> checks.Findings:
    found = checks.Findings()
    if isinstance(record, Caption):
        raw = RawCaption(
            key=record.key,
            image_id=record.image_id,
            caption=record.caption,
            width=record.width,
            height=record.height,
            boxes=record.boxes,
            features=record.features,
            classes=record.classes,
        )
        found = checks.caption(raw, set_.region_width, set_.region_classes)
    pieces, word = record.pieces, record.word
    regions = len(record.boxes) if isinstance(record, Caption) else 0
    words = int(word[-1]) + 1 if len(word) else 0
    if [len(pieces), words, regions] != lengths.tolist():
        found.problems.append(
            (
                "lengths",
                f"{len(pieces)} pieces, {words} words, {regions} regions; the index says"
                f" {', '.join(map(str, lengths.tolist()))}",
            )
        )
    if len(pieces) != len(word) or (np.diff(word, prepend=-1) > 1).any():
        found.problems.append(("word", "does not number the words of the pieces 0, 1, 2, ..."))
    if len(pieces) and not 0 <= pieces.min() <= pieces.max() < set_.vocabulary_size:
        found.problems.append(
            (
                "pieces",
                f"ids {pieces.min()} to {pieces.max()}; the vocabulary has {set_.vocabulary_size}",
            )
        )
    return found


def _table(rows: list[list[str]]) -> str:
    full = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(len(row[column]) for row in full) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    )
