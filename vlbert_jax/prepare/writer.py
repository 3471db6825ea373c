"""Raw records -> a prepared set on disk (layout: `data/prepared.py`).

Everything is written into a directory beside the output and moved when it is complete; set.json
comes last, so that a half set is never taken for a whole one. The same records give the same
bytes.
"""

import collections
import hashlib
import json
import os
import pathlib
import re
import shutil
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module
from tensorflow_datasets.core import dataset_info, naming, splits

from vlbert_jax.data import prepared
from vlbert_jax.data.record import Caption, Form, Text, to_bytes
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.options import DataError
from vlbert_jax.prepare import checks
from vlbert_jax.prepare.raw import Bad, RawCaption, RawText, Records

SHARD_BYTES = 2**31  # three million pictures make some hundred files, few enough to hold open
LISTED = 1000  # bad records after which a stopped run looks no further
STORED = "group_size:1,uncompressed"  # random access; features hardly shrink, reading is 3x faster


def write_set(
    output: str | os.PathLike,
    kind: str,
    records: Mapping[str, Records],
    reader: str,
    vocabulary: str = "",
    feature_dtype: str = "",
    on_bad: str = "stop",
    progress: bool = False,
) -> dict[str, Any]:
    """Writes the splits of `records` into the prepared set `output`, which is made if missing.

    Args:
      output: directory of the set; if it holds one, the new splits must fit to it.
      kind: "captions" (of RawCaption) or "text" (of RawText).
      records: split -> its raw records in order; all splits appear together or not at all.
      reader: name of the format that the records come from.
      vocabulary: WordPiece file; empty: the shipped one.
      feature_dtype: "float16" or "float32", of features and class scores; empty: as the set has
        it, float16 for a new one.
      on_bad: "stop" lists all bad records and writes nothing; "skip" leaves them out.
      progress: say on stderr how far it is.

    Returns:
      The content of set.json.

    Raises:
      DataError: bad records, no record at all, or the splits do not fit to the set that is there.
    """
    output = pathlib.Path(output)
    there = _existing(output, records)
    tokenizer = Tokenizer(vocabulary)
    set_ = {
        "kind": kind,
        "feature_dtype": feature_dtype or (there["feature_dtype"] if there else "float16"),
        "region_width": there["region_width"] if there else None,
        "region_classes": there["region_classes"] if there else None,
        "vocabulary_fingerprint": tokenizer.fingerprint,
        "vocabulary_size": tokenizer.size,
        "splits": dict(there["splits"]) if there else {},
    }
    if there:
        _same_set(output, there, set_)
    temporary = output.with_name(output.name + ".incomplete")
    shutil.rmtree(temporary, ignore_errors=True)  # left by a run that was killed
    temporary.mkdir(parents=True)
    try:
        for split, raws in records.items():
            writer = _Split(temporary, split, set_, tokenizer, on_bad, progress)
            set_["splits"][split] = {"reader": reader, **writer.write(raws)}
        set_["region_width"] = set_["region_width"] or 0
        set_["region_classes"] = set_["region_classes"] or 0
        _write_catalogue(temporary, set_)
        text = json.dumps(set_, indent=2) + "\n"
        (temporary / prepared.SET_FILE).write_text(text, "utf-8")
        _publish(temporary, output)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return set_


def _existing(output: pathlib.Path, records: Mapping[str, Records]) -> dict[str, Any] | None:
    """What set.json of `output` says, None where nothing is there."""
    for split in records:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", split):
            raise DataError(
                f"split {split!r}: expected small letters, digits and _, such as train, validation"
            )
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    if not (output / prepared.SET_FILE).is_file():
        raise DataError(f"{output}: exists and is no prepared set; name another output")
    there = prepared.describe(output)
    if taken := [split for split in records if split in there["splits"]]:
        raise DataError(
            f"{output}: has the split {', '.join(taken)} already; remove the set, or name another"
            " output or split"
        )
    return there


def _same_set(output: pathlib.Path, there: dict[str, Any], set_: dict[str, Any]) -> None:
    for key in ("kind", "feature_dtype", "vocabulary_fingerprint"):
        if there[key] != set_[key]:
            raise DataError(
                f"{output}: its {key} is {there[key]}, the new split's is {set_[key]}; all splits"
                " of a set share it, so name another output or prepare the split alike"
            )


class _Split:
    """One split on its way to disk."""

    def __init__(
        self,
        folder: pathlib.Path,
        split: str,
        set_: dict[str, Any],
        tokenizer: Tokenizer,
        on_bad: str,
        progress: bool,
    ):
        self.folder, self.split, self.set, self.tokenizer = folder, split, set_, tokenizer
        self.on_bad, self.progress = on_bad, progress
        self.bad: list[Bad] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.lengths: list[tuple[int, int, int]] = []
        self.shards: list[dict[str, Any]] = []

    def write(self, raws: Records) -> dict[str, Any]:
        """All records; returns the split's part of set.json."""
        shards = _Shards(self.folder, self.split)
        meter = _Meter(self.split, self.progress)
        for raw in raws:
            meter.step(shards.bytes, len(self.bad))
            record = self._record(raw)
            if record is None:
                continue
            if self.bad and self.on_bad == "stop":  # nothing will be kept: only look on
                continue
            regions = len(record.boxes) if isinstance(record, Caption) else 0
            words = int(record.word[-1]) + 1 if len(record.word) else 0
            self.lengths.append((len(record.pieces), words, regions))
            shards.write(to_bytes(record))
        meter.end(shards.bytes, len(self.bad))
        if self.bad and self.on_bad == "stop":
            raise DataError(_list_of_bad(self.bad, meter.records))
        if not self.lengths:
            raise DataError(f"split {self.split}: no usable record among {meter.records}")
        files = shards.close()
        lengths = np.array(self.lengths, np.int32).T
        np.save(self.folder / prepared.lengths_name(self.split), lengths)
        self._write_bad_records()
        hashes = "".join(file["sha256"] for file in files)
        form = json.dumps([self.set["kind"], self.set["vocabulary_fingerprint"], hashes])
        totals = lengths.sum(axis=1, dtype=np.int64).tolist()
        return {
            "records": lengths.shape[1],
            **dict(zip(("pieces", "words", "regions"), totals, strict=True)),
            "bytes": shards.bytes,
            "bad_records": len(self.bad),
            "counts": dict(sorted(self.counts.items())),
            "fingerprint": hashlib.sha256(form.encode()).hexdigest()[:16],
            "shard_lengths": [file["records"] for file in files],
            "shard_sha256": [file["sha256"] for file in files],
        }

    def _record(self, raw: RawCaption | RawText | Bad) -> Caption | Text | None:
        if isinstance(raw, Bad):
            self._found_bad([raw])
            return None
        if isinstance(raw, RawText):
            pieces, word = self.tokenizer.encode(raw.text)
            if not len(pieces):
                self.counts["without_words"] += 1
                return None
            return Text(raw.key, pieces, word)
        found = checks.caption(raw, self.set["region_width"], self.set["region_classes"])
        if found.problems:
            self._found_bad([Bad(raw.key, *problem, raw.where) for problem in found.problems])
            return None
        self.counts.update(found.notes)
        for warning in found.warnings:
            print(f"warning: {_name(raw)}: {warning}", file=sys.stderr)
        if len(raw.boxes):
            self.set["region_width"] = raw.features.shape[1]
            self.set["region_classes"] = 0 if raw.classes is None else raw.classes.shape[1]
        pieces, word = self.tokenizer.encode(raw.caption)
        if not len(pieces):
            self.counts["without_words"] += 1
        return Caption(
            key=raw.key,
            image_id=raw.image_id,
            caption=raw.caption,
            pieces=pieces,
            word=word,
            width=raw.width,
            height=raw.height,
            boxes=checks.clamped(raw),
            features=self._stored(raw.features),
            classes=None if raw.classes is None else self._stored(raw.classes),
        )

    def _stored(self, numbers: np.ndarray) -> np.ndarray:
        dtype = np.dtype(self.set["feature_dtype"])
        if dtype == np.float16:  # an infinity must not come from the rounding
            numbers = np.clip(numbers, -checks.LARGEST, checks.LARGEST)
        return numbers.astype(dtype)

    def _found_bad(self, bad: list[Bad]) -> None:
        self.bad += bad
        if self.on_bad == "stop" and len(self.bad) >= LISTED:
            raise DataError(_list_of_bad(self.bad, None))

    def _write_bad_records(self) -> None:
        if self.on_bad != "skip":
            return
        with open(
            self.folder / prepared.bad_records_name(self.split), "w", encoding="utf-8"
        ) as file:
            for bad in self.bad:
                line = {
                    "key": bad.key,
                    "where": bad.where,
                    "field": bad.field,
                    "reason": bad.reason,
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


class _Shards:
    """Records -> ArrayRecord files of at most `SHARD_BYTES` or one record."""

    def __init__(self, folder: pathlib.Path, split: str):
        self.folder, self.split, self.bytes = folder, split, 0
        self._files: list[dict[str, Any]] = []
        self._writer = None

    def write(self, data: bytes) -> None:
        if self._writer and self._size + len(data) > SHARD_BYTES:
            self._end_file()
        if not self._writer:
            name = str(self.folder / f"{self.split}-{len(self._files)}")
            self._writer = array_record_module.ArrayRecordWriter(name, STORED)
            self._size, self._records, self._hash = 0, 0, hashlib.sha256()
        self._writer.write(data)
        self._hash.update(len(data).to_bytes(8, "little") + data)
        self._size += len(data)
        self._records += 1
        self.bytes += len(data)

    def close(self) -> list[dict[str, Any]]:
        """Ends the last file and gives all their final names; {"records", "sha256"} of each."""
        self._end_file()
        for i in range(len(self._files)):
            name = prepared.shard_name(self.split, i, len(self._files))
            os.rename(self.folder / f"{self.split}-{i}", self.folder / name)
        return self._files

    def _end_file(self) -> None:
        self._writer.close()
        self._writer = None
        self._files.append({"records": self._records, "sha256": self._hash.hexdigest()})


class _Meter:
    """A line on stderr: records, records per second, bytes."""

    def __init__(self, split: str, on: bool):
        self.split, self.on, self.records = split, on, 0
        self.start = self.last = time.monotonic()
        self.pause = 0.5 if sys.stderr.isatty() else 10.0

    def step(self, size: int, bad: int) -> None:
        self.records += 1
        if self.on and time.monotonic() - self.last > self.pause:
            self._say(size, bad, end="\r" if sys.stderr.isatty() else "\n")

    def end(self, size: int, bad: int) -> None:
        if self.on:
            self._say(size, bad, end="\n")

    def _say(self, size: int, bad: int, end: str) -> None:
        self.last = time.monotonic()
        rate = self.records / max(self.last - self.start, 1e-9)
        print(
            f"{self.split}: {self.records:,} records, {rate:,.0f}/s, {size / 1e9:.2f} GB, {bad} bad",
            file=sys.stderr,
            end=end,
            flush=True,
        )


def _name(raw: RawCaption | RawText | Bad) -> str:
    return f"{raw.where}, record {raw.key}" if raw.where else f"record {raw.key}"


def _list_of_bad(bad: list[Bad], records: int | None) -> str:
    lines = [f"  {_name(each)}: {each.field}: {each.reason}" for each in bad]
    seen = "more may follow" if records is None else f"{records:,} records read"
    return "\n".join(
        [
            f"{len({_name(each) for each in bad}):,} bad records ({seen}), nothing written:",
            *lines,
            "mend them, or leave them out with --on_bad=skip",
        ]
    )


def _write_catalogue(folder: pathlib.Path, set_: dict[str, Any]) -> None:
    """dataset_info.json and features.json, from which tensorflow-datasets reads the set."""
    form = Form(*(set_[key] for key in ("kind", "feature_dtype", "region_width", "region_classes")))
    identity = dataset_info.DatasetIdentity(
        name="vlbert", version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""
    )
    info = tfds.core.DatasetInfo(
        builder=identity,
        description=f"Prepared set of vlbert_jax, {form.kind}.",
        features=_features(form),
        disable_shuffling=True,
    )
    template = naming.ShardedFileTemplate(
        data_dir=folder, dataset_name="vlbert", filetype_suffix="array_record"
    )
    info.set_file_format("array_record")
    info.set_splits(
        splits.SplitDict(
            [
                splits.SplitInfo(
                    name=name,
                    shard_lengths=split["shard_lengths"],
                    num_bytes=split["bytes"],
                    filename_template=template,
                )
                for name, split in set_["splits"].items()
            ]
        )
    )
    info.write_to_directory(folder)


def _features(form: Form) -> tfds.features.FeaturesDict:
    def tensor(dtype: str, *shape: int | None) -> tfds.features.Tensor:
        return tfds.features.Tensor(shape=shape, dtype=np.dtype(dtype), encoding="bytes")

    features = {
        "key": tfds.features.Text(),
        "pieces": tensor("int32", None),
        "word": tensor("int32", None),
    }
    if form.kind == "captions":
        features |= {
            "image_id": tfds.features.Text(),
            "caption": tfds.features.Text(),
            "size": tensor("int32", 2),
            "boxes": tensor("float32", None, 4),
            "features": tensor(form.feature_dtype, None, form.region_width),
        }
        if form.region_classes:
            features["classes"] = tensor(form.feature_dtype, None, form.region_classes)
    return tfds.features.FeaturesDict(features)


def _publish(temporary: pathlib.Path, output: pathlib.Path) -> None:
    """Makes the complete set visible: one rename, or file by file into a set that is there.

    Then set.json goes last, and until it does the set is what it was before.
    """
    if not (output / prepared.SET_FILE).is_file():
        os.rename(temporary, output)
        return
    last = ("features.json", "dataset_info.json", prepared.SET_FILE)
    names = [name for name in sorted(os.listdir(temporary)) if name not in last]
    for name in [*names, *last]:
        os.replace(temporary / name, output / name)
