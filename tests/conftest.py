"""What all tests share: simulated devices, strict arrays, public files, and what was left out."""

import atexit
import collections
import os
import pathlib
import shutil
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # before anything imports jax; children inherit it
if "VLBERT_TESTS_COMPILED" not in os.environ:  # workers of pytest-xdist share their parent's
    os.environ["VLBERT_TESTS_COMPILED"] = tempfile.mkdtemp(prefix="vlbert-compiled-")
    atexit.register(shutil.rmtree, os.environ["VLBERT_TESTS_COMPILED"], ignore_errors=True)

import hypothesis
import jax
import pytest

DEVICES = 8
REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
PUBLIC_FILES = pathlib.Path(
    os.environ.get("VLBERT_PUBLIC_FILES", REPOSITORY.parent / "shared" / "samples" / "real")
)

SLOW = "slow; run by `make test-slow`"
NOT_THERE = f"public files are not at {PUBLIC_FILES} (VLBERT_PUBLIC_FILES names another place)"

jax.config.update("jax_num_cpu_devices", DEVICES)
hypothesis.settings.register_profile("shared", deadline=None, print_blob=True)
hypothesis.settings.load_profile("shared")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out slow tests unless `-m` speaks of them, and tests whose public files are absent."""
    for item in items:
        if item.get_closest_marker("slow") and "slow" not in config.option.markexpr:
            item.add_marker(pytest.mark.skip(reason=SLOW))
        elif item.get_closest_marker("public_files") and not PUBLIC_FILES.is_dir():
            item.add_marker(pytest.mark.skip(reason=NOT_THERE))


def pytest_terminal_summary(terminalreporter) -> None:
    """Says how many tests were left out, and why."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = collections.Counter(
        report.longrepr[2].removeprefix("Skipped: ") for report in skipped
    )
    for reason, count in reasons.most_common():
        tests = "1 test" if count == 1 else f"{count} tests"
        terminalreporter.write_line(f"left out: {tests}, {reason}", yellow=True)


@pytest.fixture
def public_files() -> pathlib.Path:
    """The folder of public data; tests that ask for it carry the mark `public_files`."""
    if not PUBLIC_FILES.is_dir():
        pytest.skip(NOT_THERE)
    return PUBLIC_FILES


@pytest.fixture
def strict():
    """No implicit rank promotion and no implicit transfer between host and device."""
    with jax.numpy_rank_promotion("raise"), jax.transfer_guard("disallow"):
        yield
