"""Reads a prepared set whole and compares it with what its index and set.json say."""

import collections
import hashlib
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from vlbert_jax.data import prepared
from vlbert_jax.data.record import Caption, Form, Text, all_of
from vlbert_jax.options import DataError
from vlbert_jax.prepare import checks
from vlbert_jax.prepare.raw import RawPicture
from vlbert_jax.prepare.split import fingerprint, hash_record, totals

TOTALS = ("records", "examples", "pieces", "words", "regions")
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
        index = set_.index()
    except (OSError, ValueError, IndexError) as error:
        return [f"lengths index cannot be read ({error})"], counts
    if index.shape != (3 if set_.kind == "text" else 5, part["examples"]):
        return [
            f"{part['examples']:,} examples by set.json, the lengths index has the shape"
            f" {index.shape}"
        ], counts
    if set_.records != part["records"]:
        return [f"{part['records']:,} records by set.json, {set_.records:,} by the files"], counts
    places = _places(set_, index)
    if (places[: len(index) - 3] != index[3:]).any():
        return ["the lengths index does not number the records and their captions"], counts
    first_of = np.searchsorted(places[0], np.arange(set_.records + 1))
    form = Form(set_.kind, set_.feature_dtype, set_.region_width, set_.region_classes)
    first = 0
    for shard, length in enumerate(part["shard_lengths"]):
        shard_hash = hashlib.sha256()
        for number in range(first, first + length):
            try:
                data = set_.read(number)
                examples = all_of(data, form)
            except (DataError, ValueError, KeyError, IndexError) as error:
                problems.append(str(error) or f"record {number} cannot be decoded")
                continue
            hash_record(shard_hash, data)
            found = _record(examples, index[:, slice(*first_of[number : number + 2])], set_)
            counts.update(found.notes)
            problems += [
                f"record {number} ({examples[0].key}): {field}: {reason}"
                for field, reason in found.problems
            ]
        if set_.shard_records(shard) != length:
            problems.append(
                f"file {shard} holds {set_.shard_records(shard):,} records, {length:,} expected"
            )
        hashes.append(shard_hash.hexdigest())
        first += length
    problems += [
        f"{total:,} {name} by the lengths index, {part[name]:,} by set.json"
        for name, total in totals(index).items()
        if total != part[name]
    ]
    actual = fingerprint(set_.kind, set_.vocabulary_fingerprint, hashes)
    if actual != part["fingerprint"]:
        problems.append(
            f"content has the fingerprint {actual}, set.json says {part['fingerprint']}: some"
            " record is not what was written; prepare the set anew"
        )
    return problems, counts


def _places(set_: prepared.PreparedSet, index: np.ndarray) -> np.ndarray:
    """[2, N] each example's record and number in it, as the lengths index must say."""
    if set_.kind == "text":
        return np.stack([np.arange(set_.records), np.zeros(set_.records, int)])
    captions = np.bincount(np.clip(index[3], 0, set_.records - 1), minlength=set_.records)
    record = np.repeat(np.arange(set_.records), captions)
    return np.stack([record, np.arange(len(record)) - np.searchsorted(record, record)])


def _record(
    examples: Sequence[Caption | Text], lengths: np.ndarray, set_: prepared.PreparedSet
) -> checks.Findings:
    """Checks one record, given its columns of the lengths index."""
    found = checks.Findings()
    if isinstance(examples[0], Caption):
        shared = ("image_id", "width", "height", "boxes", "features", "classes")
        picture = RawPicture(**{name: getattr(examples[0], name) for name in shared})
        found = checks.picture(picture, set_.region_width, set_.region_classes)
    if len(examples) != lengths.shape[1]:
        found.problems.append(
            ("key", f"{len(examples)} captions; the lengths index says {lengths.shape[1]}")
        )
        return found
    for example, expected in zip(examples, lengths[:3].T.tolist(), strict=True):
        _words(example, expected, set_, found)
    return found


def _words(
    example: Caption | Text,
    lengths: list[int],
    set_: prepared.PreparedSet,
    found: checks.Findings,
) -> None:
    pieces, word = example.pieces, example.word
    regions = len(example.boxes) if isinstance(example, Caption) else 0
    words = int(word[-1]) + 1 if len(word) else 0
    if [len(pieces), words, regions] != lengths:
        found.problems.append(
            (
                "lengths",
                f"{len(pieces)} pieces, {words} words, {regions} regions; the index says"
                f" {', '.join(map(str, lengths))}",
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


def _table(rows: list[list[str]]) -> str:
    full = [row for row in rows if len(row) == len(rows[0])]
    widths = [max(len(row[column]) for row in full) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    )
