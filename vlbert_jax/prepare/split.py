"""The records of one split on their way to disk: checked, tokenized, written in order.

`writer.py` calls `write` once a split and puts what it returns into set.json.
"""

import collections
import hashlib
import json
import os
import pathlib
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_record.python import array_record_module

from vlbert_jax.data import prepared
from vlbert_jax.data.record import Caption, Form, Text, to_bytes
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.options import DataError
from vlbert_jax.prepare import checks
from vlbert_jax.prepare.raw import Bad, Counted, RawCaption, RawPicture, RawText, Records

SHARD_BYTES = 2**31  # three million pictures make some hundred files, few enough to hold open
LISTED = 1000  # bad records after which a stopped run looks no further
WARNED = 20  # warnings printed; all are counted
STORED = "group_size:1,uncompressed"  # one record a read; reading zstd is three times slower


class SplitWriter:
    """One split.

    Attributes:
      form: of the set; region_width and region_classes are None until a record shows them.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        split: str,
        form: Form,
        tokenizer: Tokenizer,
        on_bad: str,
        progress: bool,
    ):
        self.folder, self.split, self.form, self.tokenizer = folder, split, form, tokenizer
        self.stop, self.progress = on_bad == "stop", progress
        self._bad: list[Bad] = []
        self._bad_records = self._warnings = 0
        self._counts: collections.Counter[str] = collections.Counter()
        self._keys: set[str] = set()

    def write(self, raws: Records) -> dict[str, Any]:
        """Writes all records; returns the split's part of set.json.

        Raises:
          DataError: bad records that are not to be skipped, or no usable record.
        """
        shards, meter = _Shards(self.folder, self.split), _Meter(self.split, self.progress)
        lengths, told = [], {}
        for raw in raws:
            if isinstance(raw, Counted):
                told[raw.name] = raw.count
                continue
            meter.step(shards.bytes, self._bad_records)
            record = self._record(raw)
            if record is None or (self._bad and self.stop):  # a stopped run only looks on
                continue
            lengths += _lengths(record, shards.records)
            shards.write(to_bytes(record))
        meter.end(shards.bytes, self._bad_records)
        if self._bad and self.stop:
            raise DataError(self._list_of_bad(f"of {meter.records:,}"))
        if not lengths:
            raise DataError(
                f"split {self.split}: no usable record among the {meter.records:,} of the input"
                f" ({self._bad_records:,} bad, {self._counts['without_words']:,} without a word)"
            )
        files = shards.close()
        index = np.array(lengths, np.int32).T
        np.save(self.folder / prepared.lengths_name(self.split), index)
        self._write_list_of_bad()
        hashes = [file["sha256"] for file in files]
        return {
            "records": shards.records,
            **totals(index),
            "bytes": shards.bytes,
            "bad_records": self._bad_records,
            "counts": {name: n for name, n in sorted(self._counts.items()) if n} | told,
            "fingerprint": fingerprint(self.form.kind, self.tokenizer.fingerprint, hashes),
            "shard_lengths": [file["records"] for file in files],
            "shard_sha256": hashes,
        }

    def _record(self, raw: RawCaption | RawPicture | RawText | Bad) -> list[Caption] | Text | None:
        """The record to store; None where there is none."""
        if isinstance(raw, Bad):
            self._found_bad([raw])
            return None
        if isinstance(raw, RawText):
            pieces, word = self.tokenizer.encode(raw.text)
            if not len(pieces):
                self._counts["without_words"] += 1
                return None
            return Text(raw.key, pieces, word)
        found = checks.picture(raw, self.form.region_width, self.form.region_classes)
        if found.problems:
            self._found_bad([Bad(_key(raw), *problem, raw.where) for problem in found.problems])
            return None
        self._note(raw, found)
        if len(raw.boxes):
            classes = 0 if raw.classes is None else raw.classes.shape[1]
            self.form = self.form._replace(
                region_width=raw.features.shape[1], region_classes=classes
            )
        dtype = self.form.feature_dtype
        picture = dict(
            image_id=raw.image_id,
            width=raw.width,
            height=raw.height,
            boxes=checks.clamped(raw),
            features=checks.stored(raw.features, dtype),
            classes=None if raw.classes is None else checks.stored(raw.classes, dtype),
        )
        return [self._caption(each, picture) for each in _captions(raw)]

    def _caption(self, raw: RawText, picture: dict[str, Any]) -> Caption:
        pieces, word = self.tokenizer.encode(raw.text)
        if self.form.kind == "captions":
            self._counts["without_words"] += not len(pieces)
            self._counts["repeated_keys"] += raw.key in self._keys
            self._keys.add(raw.key)
        return Caption(key=raw.key, caption=raw.text, pieces=pieces, word=word, **picture)

    def _note(self, raw: RawCaption | RawPicture, found: checks.Findings) -> None:
        self._counts.update(found.notes)
        for warning in found.warnings:
            self._warnings += 1
            if self._warnings <= WARNED:
                more = "; further warnings are only counted" * (self._warnings == WARNED)
                print(f"warning: {_name(raw)}: {warning}{more}", file=sys.stderr)

    def _found_bad(self, bad: list[Bad]) -> None:
        self._bad += bad
        self._bad_records += 1
        if self.stop and self._bad_records >= LISTED:
            raise DataError(self._list_of_bad("so far, looked no further"))

    def _list_of_bad(self, of: str) -> str:
        lines = [f"  {_name(each)}: {each.field}: {each.reason}" for each in self._bad]
        return "\n".join(
            [
                f"split {self.split}: nothing written, bad records: {self._bad_records:,} {of}",
                *lines,
                "mend them, or leave them out with --on_bad=skip",
            ]
        )

    def _write_list_of_bad(self) -> None:
        if self.stop:
            return
        lines = [json.dumps(vars(bad), ensure_ascii=False) + "\n" for bad in self._bad]
        file = self.folder / prepared.bad_records_name(self.split)
        file.write_text("".join(lines), "utf-8")


def totals(index: np.ndarray) -> dict[str, int]:
    """Sums of a split's lengths index, as set.json has them; regions that are shared count once."""
    examples, pieces, words = index.shape[1], index[0].sum(), index[1].sum()
    regions = index[2] if len(index) == 3 else index[2, index[4] == 0]
    sums = {"pieces": pieces, "words": words, "regions": regions.sum()}
    return {"examples": examples, **{name: int(number) for name, number in sums.items()}}


def fingerprint(kind: str, vocabulary: str, shard_hashes: list[str]) -> str:
    """Hash of a split's content: same records, same fingerprint, wherever they lie."""
    return hashlib.sha256(json.dumps([kind, vocabulary, shard_hashes]).encode()).hexdigest()[:16]


def hash_record(shard: Any, data: bytes) -> None:
    """Adds one stored record to the running hash of its shard."""
    shard.update(len(data).to_bytes(8, "little"))
    shard.update(data)


class _Shards:
    """Records -> ArrayRecord files of at most `SHARD_BYTES` each."""

    def __init__(self, folder: pathlib.Path, split: str):
        self.folder, self.split, self.bytes, self.records = folder, split, 0, 0
        self._files: list[dict[str, Any]] = []
        self._writer: array_record_module.ArrayRecordWriter | None = None

    def write(self, data: bytes) -> None:
        if self._writer and self._size + len(data) > SHARD_BYTES:
            self._end_file()
        if not self._writer:
            file = str(self.folder / f"{self.split}-{len(self._files)}")
            self._writer = array_record_module.ArrayRecordWriter(file, STORED)
            self._size, self._first, self._hash = 0, self.records, hashlib.sha256()
        self._writer.write(data)
        hash_record(self._hash, data)
        self._size += len(data)
        self.records += 1
        self.bytes += len(data)

    def close(self) -> list[dict[str, Any]]:
        """Ends the last file, gives all their final names; {"records", "sha256"} of each."""
        self._end_file()
        for number in range(len(self._files)):
            name = prepared.shard_name(self.split, number, len(self._files))
            os.rename(self.folder / f"{self.split}-{number}", self.folder / name)
        return self._files

    def _end_file(self) -> None:
        self._writer.close()
        self._writer = None
        records = self.records - self._first
        self._files.append({"records": records, "sha256": self._hash.hexdigest()})


class _Meter:
    """A line on stderr, rewritten on a terminal: records, records per second, bytes."""

    def __init__(self, split: str, on: bool):
        self.split, self.on, self.records = split, on, 0
        self.start = self.last = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def step(self, size: int, bad: int) -> None:
        self.records += 1
        if self.on and time.monotonic() - self.last > (0.5 if self.terminal else 10):
            self._say(size, bad, end="\r" if self.terminal else "\n")

    def end(self, size: int, bad: int) -> None:
        if self.on:
            self._say(size, bad, end="\n")

    def _say(self, size: int, bad: int, end: str) -> None:
        self.last = time.monotonic()
        rate = self.records / max(self.last - self.start, 1e-9)
        line = f"{self.split}: {self.records:,} records, {rate:,.0f}/s, {size / 1e9:.2f} GB"
        print(f"{line}, {bad:,} bad" if bad else line, file=sys.stderr, end=end, flush=True)


def _captions(raw: RawCaption | RawPicture) -> Sequence[RawText]:
    """Its captions; a picture without any stands for itself."""
    if isinstance(raw, RawCaption):
        return [RawText(raw.key, raw.caption)]
    return raw.captions or [RawText(raw.image_id, "")]


def _lengths(record: list[Caption] | Text, number: int) -> list[tuple[int, ...]]:
    """Columns of the lengths index for the record of that number."""
    if isinstance(record, Text):
        return [(*_words(record), 0)]
    return [
        (*_words(caption), len(caption.boxes), number, place)
        for place, caption in enumerate(record)
    ]


def _words(record: Caption | Text) -> tuple[int, int]:
    return len(record.pieces), int(record.word[-1]) + 1 if len(record.word) else 0


def _key(raw: RawCaption | RawPicture | RawText | Bad) -> str:
    return raw.image_id if isinstance(raw, RawPicture) else raw.key


def _name(raw: RawCaption | RawPicture | RawText | Bad) -> str:
    return f"{raw.where}, record {_key(raw)}" if raw.where else f"record {_key(raw)}"
