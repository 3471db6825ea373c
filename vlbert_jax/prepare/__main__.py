"""Command: other people's files -> a prepared set, and its verification.

First in the flow, once for each set: reader -> `join.py` where captions come from another file
-> `writer.py`. Training reads what this leaves.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from typing import Any

from vlbert_jax.options import DataError
from vlbert_jax.prepare import join, verify, writer
from vlbert_jax.prepare.raw import Records
from vlbert_jax.prepare.readers import (
    bottom_up_attention_tsv,
    conceptual_captions_dataflow_lmdb,
    hdf5_adaptive_boxes,
    hdf5_fixed_boxes,
    lxmert_tsv,
    mmf_lmdb,
    mmf_npy,
    oscar_caption_tsv,
    scene_graph_benchmark_tsv,
    text,
    uniter_lmdb,
    uniter_npz,
    vilbert_lmdb,
    vinvl_tsv,
    vlbert_conceptual_captions,
    vlbert_corpus,
    vlp_h5,
    volta_h5,
    volta_lmdb,
)

READERS = {
    "vlbert_conceptual_captions": vlbert_conceptual_captions,
    "bottom_up_attention_tsv": bottom_up_attention_tsv,
    "lxmert_tsv": lxmert_tsv,
    "vinvl_tsv": vinvl_tsv,
    "oscar_caption_tsv": oscar_caption_tsv,
    "scene_graph_benchmark_tsv": scene_graph_benchmark_tsv,
    "vilbert_lmdb": vilbert_lmdb,
    "volta_lmdb": volta_lmdb,
    "mmf_lmdb": mmf_lmdb,
    "mmf_npy": mmf_npy,
    "conceptual_captions_dataflow_lmdb": conceptual_captions_dataflow_lmdb,
    "uniter_npz": uniter_npz,
    "uniter_lmdb": uniter_lmdb,
    "hdf5_fixed_boxes": hdf5_fixed_boxes,
    "hdf5_adaptive_boxes": hdf5_adaptive_boxes,
    "volta_h5": volta_h5,
    "vlp_h5": vlp_h5,
    **join.CAPTIONS,
    "vlbert_corpus": vlbert_corpus,
    "text": text,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code: 0 done, 2 wrong data or arguments."""
    options = _parser().parse_args(arguments)
    try:
        if options.command == "verify":
            return _verify(options)
        if options.command == "synthetic":
            return _synthetic(options)
        return _prepare(options)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m vlbert_jax.prepare",
        description="Prepare a data set once: read, check, tokenize, write.",
    )
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="READER", title="readers and other commands"
    )
    for name, reader in READERS.items():
        summary = reader.__doc__.splitlines()[0]
        command = commands.add_parser(name, help=summary, description=summary)
        command.add_argument(
            "--input",
            required=True,
            action="extend",
            nargs="+",
            help="file or folder; several are joined in the order given",
        )
        if reader.KIND == "pictures":
            command.add_argument(
                "--captions",
                default=[],
                action="extend",
                nargs="+",
                help="file of the pictures' captions; without, a set of pictures alone",
            )
            command.add_argument(
                "--captions_format",
                choices=tuple(join.CAPTIONS),
                help="format of the captions, where the file's name does not tell",
            )
        command.add_argument("--output", required=True, help="directory of the prepared set")
        command.add_argument(
            "--split",
            default="train",
            help="split that the records become; a set that is there gets it added (train)",
        )
        command.add_argument(
            "--on_bad",
            choices=("stop", "skip"),
            default="stop",
            help="bad records: list them all and write nothing, or leave them out (stop)",
        )
        command.add_argument(
            "--features",
            choices=("float16", "float32"),
            default="",
            help="dtype of stored features and class scores (float16)",
        )
        command.add_argument(
            "--vocabulary", default="", help="WordPiece vocabulary, one piece a line (BERT uncased)"
        )
    command = commands.add_parser("synthetic", help="the made world of demo and tests")
    command.add_argument("--output", required=True, help="directory of the made world")
    command = commands.add_parser("verify", help="read a prepared set whole and check it")
    command.add_argument("directory", help="directory of the prepared set")
    return parser


def _prepare(options: argparse.Namespace) -> int:
    kind, records = _records(options)
    set_ = writer.write_set(
        options.output,
        kind,
        {options.split: records},
        reader=options.command,
        vocabulary=options.vocabulary,
        feature_dtype=options.features,
        on_bad=options.on_bad,
        progress=True,
    )
    print(_summary(options.output, options.split, set_))
    return 0


def _records(options: argparse.Namespace) -> tuple[str, Records]:
    """Kind of the set, and what is written into it."""
    reader = READERS[options.command]
    records = reader.read(options.input, options.split)
    if reader.KIND != "pictures":
        return reader.KIND, records
    if not options.captions:
        return "pictures", join.once(records)
    formats = [options.captions_format or join.format_of(file) for file in options.captions]
    captions = [
        join.CAPTIONS[name].read([file], options.split)
        for name, file in zip(formats, options.captions, strict=True)
    ]
    return "captions", join.captioned(records, itertools.chain.from_iterable(captions))


def _synthetic(options: argparse.Namespace) -> int:
    from vlbert_jax.prepare import made_world

    made_world.prepare(options.output)
    return 0


def _verify(options: argparse.Namespace) -> int:
    table, problems = verify.verify(options.directory)
    print(table)
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 2 if problems else 0


def _summary(output: str, split: str, set_: dict[str, Any]) -> str:
    part = set_["splits"][split]
    names = ["records", "examples", "pieces", "words", "regions"]
    numbers = [f"{part[name]:,} {name}" for name in names]
    left_out = [f"bad records left out: {part['bad_records']:,}"] if part["bad_records"] else []
    counts = [f"{name} {count:,}" for name, count in part["counts"].items()]
    lines = [
        f"{output}: split {split}, {set_['kind']}, {', '.join(numbers)},"
        f" {part['bytes'] / 1e6:,.1f} MB",
        *left_out,
        *([f"counted: {', '.join(counts)}"] if counts else []),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
