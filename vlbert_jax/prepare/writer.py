"""Raw records -> a prepared set on disk (layout: `data/prepared.py`).

Everything is written into a directory beside the output and moved when it is complete; set.json
comes last, so that a half set is never taken for a whole one. The same records give the same
bytes.
"""

import contextlib
import fcntl
import json
import os
import pathlib
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from vlbert_jax.data import prepared
from vlbert_jax.data.record import Form
from vlbert_jax.data.tokenizer import Tokenizer
from vlbert_jax.options import DataError
from vlbert_jax.prepare import catalogue
from vlbert_jax.prepare.raw import Records
from vlbert_jax.prepare.split import SplitWriter

LOCK = "lock"  # held while a set is being prepared


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
      kind: "captions" (of RawCaption, or RawPicture with captions), "pictures" (of RawPicture
        without) or "text" (of RawText).
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
    there = _existing(output, list(records))
    tokenizer = Tokenizer(vocabulary)
    if there:
        form = Form(kind, feature_dtype or there["feature_dtype"])
        _check_same(output, there, form, tokenizer)
        form = Form(**{key: there[key] for key in Form._fields})
    else:
        form = Form(kind, feature_dtype or "float16", region_width=None, region_classes=None)
    parts = dict(there["splits"]) if there else {}
    with _beside(output) as temporary:
        for split, raws in records.items():
            writer = SplitWriter(temporary, split, form, tokenizer, on_bad, progress)
            parts[split] = {"reader": reader, **writer.write(raws)}
            form = writer.form
        form = form._replace(
            region_width=form.region_width or 0, region_classes=form.region_classes or 0
        )
        catalogue.write(temporary, form, parts)
        description = {
            "format": prepared.FORMAT,
            **form._asdict(),
            "vocabulary_fingerprint": tokenizer.fingerprint,
            "vocabulary_size": tokenizer.size,
            "splits": parts,
        }
        text = json.dumps(description, indent=2) + "\n"
        (temporary / prepared.SET_FILE).write_text(text, "utf-8")
        _publish(temporary, output)
    return description


@contextlib.contextmanager
def _beside(output: pathlib.Path) -> Iterator[pathlib.Path]:
    """A fresh directory beside `output`; what is left in it goes in the end.

    A killed run leaves its directory behind, without the lock: the next run starts clean.
    """
    temporary = output.resolve().with_name(output.resolve().name + ".incomplete")
    temporary.mkdir(parents=True, exist_ok=True)
    with open(temporary / LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"{output}: another process is preparing it now; wait for its end, splits of one"
                " set are prepared one after the other"
            ) from error
        for left in set(temporary.iterdir()) - {temporary / LOCK}:
            left.unlink()
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _existing(output: pathlib.Path, splits: list[str]) -> dict[str, Any] | None:
    """What set.json of `output` says, None where nothing is there."""
    for split in splits:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", split):
            raise DataError(
                f"split {split!r}: expected small letters, digits and _, such as train, validation"
            )
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    if not (output / prepared.SET_FILE).is_file():
        raise DataError(f"{output}: exists and is no prepared set; name another output")
    there = prepared.describe(output)
    if taken := [split for split in splits if split in there["splits"]]:
        raise DataError(
            f"{output}: has the split {', '.join(taken)} already; remove the set, or name another"
            " output or split"
        )
    return there


def _check_same(
    output: pathlib.Path, there: dict[str, Any], form: Form, tokenizer: Tokenizer
) -> None:
    wanted = {
        "kind": form.kind,
        "feature_dtype": form.feature_dtype,
        "vocabulary_fingerprint": tokenizer.fingerprint,
    }
    for key, value in wanted.items():
        if there[key] != value:
            raise DataError(
                f"{output}: its {key} is {there[key]}, the new split's is {value}; the splits of a"
                " set share it: prepare the split alike, or name another output"
            )


def _publish(temporary: pathlib.Path, output: pathlib.Path) -> None:
    """Makes the complete set visible: by one rename, or file by file into the set that is there.

    In the second case the set is what it was before until set.json, the last one, is replaced.
    """
    (temporary / LOCK).unlink()
    if not (output / prepared.SET_FILE).is_file():
        os.rename(temporary, output)
        return
    last = ("features.json", "dataset_info.json", prepared.SET_FILE)
    names = [name for name in sorted(os.listdir(temporary)) if name not in last]
    for name in [*names, *last]:
        os.replace(temporary / name, output / name)
