"""A prepared set on disk: random access to its examples, and the lengths that the plan needs.

`prepare/writer.py` makes the directory; `plan.py` and `pipeline.py` read it in every run:

  set.json                                    what the set is; its splits. Written last
  dataset_info.json, features.json            the same set for tensorflow-datasets
  vlbert-<split>.array_record-00000-of-00002  the records, in the order of the source
  lengths-<split>.npy [3 or 5, N] int32       pieces, words and regions of each example; but for
                                              text also its record and its number in it
  bad_records-<split>.jsonl                   what was left out, and why; only with --on_bad=skip

A record of pictures holds a picture and all its captions; each of them is an example.
"""

import bisect
import itertools
import json
import os
import pathlib
from typing import Any

import numpy as np
from array_record.python import array_record_module

from vlbert_jax.data.record import Caption, Form, Text, from_bytes
from vlbert_jax.options import DataError

SET_FILE = "set.json"
FORMAT = 2  # of the files; raised when they change
PREPARE = "python -m vlbert_jax.prepare READER --input=... --output="


class PreparedSet:
    """One split of a prepared set. Picklable; opens its files in the process that reads them.

    Attributes:
      directory, split: where it lies.
      kind: "captions", "text", or "pictures" (without captions).
      records: number of records; len() is the number of examples.
      region_width, region_classes: numbers of a region's appearance and class scores (0: none).
      feature_dtype: "float16" or "float32".
      vocabulary_fingerprint, vocabulary_size: of the word pieces in it.
      fingerprint: hash of the split's content.
      description: all of set.json.
    """

    def __init__(self, directory: str, split: str, description: dict[str, Any]):
        self.directory, self.split, self.description = directory, split, description
        self.kind = description["kind"]
        self.feature_dtype = description["feature_dtype"]
        self.region_width = description["region_width"]
        self.region_classes = description["region_classes"]
        self.vocabulary_fingerprint = description["vocabulary_fingerprint"]
        self.vocabulary_size = description["vocabulary_size"]
        part = description["splits"][split]
        self.fingerprint = part["fingerprint"]
        self._form = Form(self.kind, self.feature_dtype, self.region_width, self.region_classes)
        self._first = [0, *itertools.accumulate(part["shard_lengths"])]  # of each shard, the end
        self.records, self._examples = self._first[-1], part["examples"]
        self._open()

    def _open(self) -> None:
        self._process = os.getpid()
        self._readers: dict[int, array_record_module.ArrayRecordReader] = {}
        self._lengths: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"args": (self.directory, self.split, self.description)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(*state["args"])

    def __len__(self) -> int:
        return self._examples

    def __getitem__(self, index: int) -> Caption | Text:
        """Example `index`, 0 <= index < len; its arrays are read-only.

        Raises:
          IndexError: no such example.
          DataError: its record cannot be read.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"example {index} of {len(self)} in {self.directory} {self.split}")
        record, number = self.place(index)
        return from_bytes(self.read(record), self._form, number)

    def place(self, index: int) -> tuple[int, int]:
        """The record of example `index`, and its number among the captions there."""
        if self.kind == "text":
            return index, 0
        return int(self.index()[3, index]), int(self.index()[4, index])

    def read(self, index: int) -> bytes:
        """Record `index`, 0 <= index < records, as stored.

        Raises:
          IndexError: no such record.
          DataError: it cannot be read.
        """
        if not 0 <= index < self.records:
            raise IndexError(f"record {index} of {self.records} in {self.directory} {self.split}")
        shard = bisect.bisect_right(self._first, index) - 1
        try:
            return self._reader(shard).read([int(index) - self._first[shard]])[0]
        except (OSError, RuntimeError, ValueError, IndexError) as error:
            raise DataError(
                f"{self._shard(shard)}: record {index} of split {self.split} cannot be read"
                f" ({error}); check the set with `python -m vlbert_jax.prepare verify"
                f" {self.directory}`, prepare it anew if it is damaged"
            ) from error

    def shard_records(self, shard: int) -> int:
        """Number of records that file `shard` really holds."""
        return self._reader(shard).num_records()

    def _reader(self, shard: int) -> array_record_module.ArrayRecordReader:
        if self._process != os.getpid():  # after a fork: a reader's threads stay behind
            self._open()
        if shard not in self._readers:
            self._readers[shard] = array_record_module.ArrayRecordReader(
                self._shard(shard),
                options="readahead_buffer_size:0",  # random access
                file_reader_buffer_size=32768,
            )
        return self._readers[shard]

    def _shard(self, shard: int) -> str:
        return os.path.join(self.directory, shard_name(self.split, shard, len(self._first) - 1))

    def index(self) -> np.ndarray:
        """[3 or 5, N] int32, all of the lengths index."""
        if self._lengths is None:
            file = os.path.join(self.directory, lengths_name(self.split))
            self._lengths = np.asarray(np.load(file, mmap_mode="r"))  # processes share its pages
        return self._lengths

    @property
    def pictures(self) -> np.ndarray:
        """[N] int32, the record of each example, never falling; not for text."""
        return self.index()[3]

    @property
    def pieces(self) -> np.ndarray:
        """[N] int32, word pieces of each example."""
        return self.index()[0]

    @property
    def words(self) -> np.ndarray:
        """[N] int32, basic-tokenizer words of each example."""
        return self.index()[1]

    @property
    def regions(self) -> np.ndarray:
        """[N] int32, regions of each example; 0 for text."""
        return self.index()[2]


def open_set(directory: str | os.PathLike, split: str = "train") -> PreparedSet:
    """One split of the prepared set in `directory`.

    Raises:
      DataError: no prepared set there, or no such split in it; the message says how to prepare it.
    """
    description = describe(directory)
    if split not in description["splits"]:
        raise DataError(
            f"{directory}: no split {split!r}, found {', '.join(description['splits'])}; add it"
            f" with `{PREPARE}{directory} --split={split}`"
        )
    return PreparedSet(os.fspath(directory), split, description)


def describe(directory: str | os.PathLike) -> dict[str, Any]:
    """The content of set.json.

    Raises:
      DataError: no prepared set in `directory`, or one that another version of this program made.
    """
    folder = pathlib.Path(directory)
    if not (folder / SET_FILE).is_file():
        found = "it holds no set.json" if folder.is_dir() else "no such directory"
        raise DataError(
            f"{directory}: no prepared set ({found}); prepare one with `{PREPARE}{directory}`"
        )
    description = json.loads((folder / SET_FILE).read_text("utf-8"))
    if description.get("format") != FORMAT:
        raise DataError(
            f"{directory}: a prepared set of format {description.get('format', 1)}, this version"
            f" reads format {FORMAT}; remove it and prepare it anew"
        )
    return description


def shard_name(split: str, shard: int, shards: int) -> str:
    """File name of a shard, as tensorflow-datasets expects it."""
    return f"vlbert-{split}.array_record-{shard:05d}-of-{shards:05d}"


def lengths_name(split: str) -> str:
    """File name of a split's lengths index."""
    return f"lengths-{split}.npy"


def bad_records_name(split: str) -> str:
    """File name of the list of a split's records that were left out."""
    return f"bad_records-{split}.jsonl"
