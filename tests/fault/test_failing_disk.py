"""The n-th write, sync or truncation of the store's files fails, for every n: fail-stop, nothing acknowledged is lost, nothing half-done.

AGENTOS_SOAK=1 lets every change fail; otherwise it is one in STORE_STRIDE of a store's changes and one in STRIDE of a kernel's,
and a kernel or an operation meets one kind of failure instead of two.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fault.crash_zygote import Zygote, zygote
from tests.fault.failing_disk import BATCHES
from tests.fault.operation_cases import OPERATIONS, copied
from tests.fault.test_crash_matrix import check

MODULE = "tests.fault.failing_disk"
SOAK = bool(os.environ.get("AGENTOS_SOAK"))
STORE_STRIDE, STRIDE = (1, 1) if SOAK else (23, 59)
FAULTS = {"full": (errno.ENOSPC, True), "full for a moment": (errno.ENOSPC, False), "broken for a moment": (errno.EIO, False)}
REASONS = {"full", "io", "readonly"}
CASES = [("once", "running"), ("keyed", "approval"), ("object", "fork")]
NAMES = ["restore", "undo", "archive", "erase", "tidy", "backup"]


def met(what: list[Any]) -> list[tuple[str, Any]]:
    """Every fault with each of these, or only every other such pair."""
    pairs = [(fault, each) for each in what for fault in ("full", "broken for a moment")]
    return pairs if SOAK else [pair for at, pair in enumerate(pairs) if at % 4 in (0, 3)]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler for the library that lets writes fail")
    library = tmp_path_factory.mktemp("shim") / "failing_disk.so"
    source = Path(__file__).with_name("failing_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    with zygote(MODULE, preload=str(library)) as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(900 if SOAK else 120)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_disk_that_fails_at_any_change_stops_the_store_and_loses_nothing(kernels: Zygote, tmp_path: Path, fault: str) -> None:
    failed = 0
    for number in itertools.count(1, STORE_STRIDE):
        where = str(tmp_path / str(number))
        Path(where).mkdir()
        told = kernels.run(f"{MODULE}:commit", where, number, *FAULTS[fault])
        assert told["reason"] in REASONS or not told["reason"]
        assert not told["went_on"], "a store that has failed took a row"
        failed += bool(told["reason"])
        found = kernels.run(f"{MODULE}:look", where)
        assert found["ok"]
        assert found["head"] >= told["acknowledged"]
        assert found["head"] == found["processes"] * 2, "a batch is there as a whole or not at all"
        if told["changes"] < number:
            break
    assert (told["reason"], told["acknowledged"]) == ("", 4 * BATCHES)
    assert failed > 8


@pytest.mark.slow
@pytest.mark.timeout(3600 if SOAK else 120)
@pytest.mark.parametrize(("fault", "case"), met(CASES), ids=str)
def test_a_kernel_on_a_disk_that_fails_stops_and_goes_on_later_as_if_nothing_had_happened(
    kernels: Zygote, tmp_path: Path, fault: str, case: tuple[str, str]
) -> None:
    """INVARIANT intent-before-effect: no effect begins on a store that has failed."""
    whole = kernels.run(f"{MODULE}:live", str(tmp_path / "whole"), *case, 0, 0, False)
    stopped = 0
    for number in range(1 + len(fault) % STRIDE, whole["changes"], STRIDE):
        where = str(tmp_path / str(number))
        told = kernels.run(f"{MODULE}:live", where, *case, number, *FAULTS[fault])
        assert told["late"] == [], "an effect began after the store had failed"
        assert {code.partition(" ")[0] for code in told.get("failed", ())} <= {"invalid.store"}
        stopped += "failed" in told
        again = kernels.run(f"{MODULE}:live", where, *case, 0, 0, False)
        check(case[0], again["found"], whole["found"])
    assert stopped > 2


@pytest.mark.slow
@pytest.mark.timeout(900 if SOAK else 120)
@pytest.mark.parametrize(("fault", "name"), met(NAMES))
def test_an_operation_on_a_disk_that_fails_can_be_done_again(kernels: Zygote, tmp_path: Path, name: str, fault: str) -> None:
    """It fails as a whole store fails, or as an operation that says so; what it left is ended by doing it again."""
    world, cases = tmp_path / "world", "tests.fault.operation_cases"
    assert name in OPERATIONS
    kernels.run(f"{cases}:build", str(world))
    whole = kernels.run(f"{MODULE}:operate", str(copied(world, tmp_path / "after")), name, 0, 0, False)
    after = kernels.run(f"{cases}:described", str(tmp_path / "after"))
    stopped = 0
    for number in range(1, whole["changes"] + 1, max(1, whole["changes"] // (200 if SOAK else 4))):
        where = str(copied(world, tmp_path / str(number)))
        told = kernels.run(f"{MODULE}:operate", where, name, number, *FAULTS[fault])
        assert {code.partition(" ")[0] for code in told["failed"]} <= {"invalid.store", "unavailable.overloaded"}
        stopped += bool(told["failed"])
        assert kernels.run(f"{MODULE}:operate", where, name, 0, 0, False)["failed"] == []
        assert kernels.run(f"{cases}:described", where) == after
    assert stopped > 0
