"""Command that trains: flags -> config -> train; nothing else.

First in the flow. A wrong option or data set is one line on stderr and exit code 2.
"""

import argparse
import difflib
import re
import sys
from collections.abc import Sequence

from absl import app, flags, logging
from absl.flags import argparse_flags

from vlbert_jax import config as config_lib
from vlbert_jax.options import ConfigError, DataError, RunError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130  # exit codes

_DESCRIPTION = """\
Trains VL-BERT. The same command again continues from the newest checkpoint; a finished run
ends at once.

  python -m vlbert_jax.main --config=configs/demo.py --workdir=runs/demo
  python -m vlbert_jax.main --config=configs/base.py:packed --workdir=runs/base \\
      --config.optimizer.peak_lr=1e-4 --config.train.total_epochs=5
"""
_EPILOG = (
    "exit codes: 0 done, 1 failed, 2 wrong config or data, 75 pre-empted and saved, 130 Ctrl-C"
)


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Flags of the command line; absl's own (--helpfull) are parsed too, as Grain's workers need.

    Returns:
      config, workdir, allow_change, help_config, overrides ("section.key=value") and unknown.
    """
    overrides, rest = _split_overrides(argv[1:])
    parser = argparse_flags.ArgumentParser(
        prog="python -m vlbert_jax.main",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE.py[:ARGUMENT]", help="a file of configs/")
    parser.add_argument(
        "--config.SECTION.KEY", metavar="VALUE", help="changes one option; may be repeated"
    )
    parser.add_argument("--workdir", metavar="DIR", help="run folder, made if it is not there")
    parser.add_argument(
        "--allow_change",
        action="store_true",
        help="continue the run in DIR although its config has changed",
    )
    parser.add_argument(
        "--distributed",
        nargs="?",
        const="",
        metavar="HOST:PORT,N,I",
        help="join the other processes of this run: alone on TPU pods and Slurm, which tell the"
        " rest; else address of process 0, number of processes, number of this one",
    )
    parser.add_argument(
        "--help_config",
        action="store_true",
        help="list every option with its value and meaning, and end",
    )
    arguments, unknown = parser.parse_known_args(rest)
    arguments.overrides = overrides
    arguments.unknown = unknown
    if flags.FLAGS["verbosity"].using_default_value:
        flags.FLAGS.verbosity = logging.ERROR  # libraries chat at INFO, absl's default
    return arguments


def main(arguments: argparse.Namespace) -> int:
    """Trains what the flags ask for; returns the exit code."""
    try:
        _check(arguments)
        config = config_lib.load(arguments.config, arguments.overrides)
        if arguments.help_config:
            print(config_lib.describe(config))
            return 0
        # Imported here so that a wrong option is told before jax and the data libraries load.
        from vlbert_jax import train

        if arguments.distributed is not None:
            _join(arguments.distributed)
        if config.data.made_world:
            from vlbert_jax.prepare import made_world

            made_world.ensure(config.data.made_world)
        return train.run(config, arguments.workdir, allow_change=arguments.allow_change)
    except (ConfigError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("interrupted; the same command continues from the newest checkpoint", file=sys.stderr)
        return INTERRUPTED


def _join(where: str) -> None:
    """Makes this process one of several that train together."""
    import jax

    parts = re.fullmatch(r"([^:,]+:\d+),(\d+),(\d+)", where)
    if where and not (parts and int(parts[3]) < int(parts[2])):
        raise ConfigError(
            f"--distributed={where}: expected HOST:PORT,N,I with I below N, such as"
            " localhost:5000,2,0"
        )
    try:
        if parts:
            jax.distributed.initialize(parts[1], int(parts[2]), int(parts[3]))
        else:
            jax.distributed.initialize()
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"--distributed={where}: {str(error).splitlines()[0]}") from error


def _split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """--config.a.b=v and --config.a.b v -> ["a.b=v", ...]; the other arguments."""
    overrides, rest = [], []
    waiting = None  # an override whose value is the next argument
    for argument in arguments:
        if waiting is not None and not argument.startswith("--"):
            overrides[-1] = f"{waiting}={argument}"
            waiting = None
        elif argument.startswith("--config."):
            overrides.append(argument.removeprefix("--config."))
            waiting = None if "=" in argument else overrides[-1]
        else:
            rest.append(argument)
            waiting = None
    return overrides, rest


_FLAGS = (
    "--config", "--workdir", "--allow_change", "--distributed", "--help_config", "--help"
)  # fmt: skip


def _check(arguments: argparse.Namespace) -> None:
    for flag in arguments.unknown:
        near = difflib.get_close_matches(flag.partition("=")[0], _FLAGS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_FLAGS)}"
        raise ConfigError(f"unknown argument {flag}; {hint}")
    if not arguments.config:
        raise ConfigError("--config is missing, such as --config=configs/demo.py")
    if not arguments.workdir and not arguments.help_config:
        raise ConfigError("--workdir is missing, such as --workdir=runs/demo")


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
