"""SIGKILL at every point of a restore: it has happened as a whole, or not at all, and everything goes on from there."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fault.crash_zygote import Zygote, zygote
from tests.fault.restore_cases import copied

CASES = "tests.fault.restore_cases"
STEP = 1 if os.environ.get("AGENTOS_SOAK") else 2


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(CASES) as started:
        yield started


def run(kernels: Zygote, what: str, folder: Path, *args: Any, crash_at: str = "") -> Any:
    return kernels.run(f"{CASES}:{what}", str(folder), *args, crash_at=crash_at)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("parked", [False, True], ids=["resident", "parked"])
def test_a_kill_at_any_point_of_a_restore_leaves_it_whole_or_undone(kernels: Zygote, tmp_path: Path, parked: bool) -> None:
    """INVARIANT committed-survives: the append is the restore."""
    whole = tmp_path / "whole"
    run(kernels, "build", whole, parked)
    before = run(kernels, "described", copied(whole, tmp_path / "before"))
    assert run(kernels, "go_back", copied(whole, tmp_path / "after"), "replace")
    after = run(kernels, "described", tmp_path / "after")
    expected = run(kernels, "finish", tmp_path / "after")
    assert expected == {"value": [["one"], "task"], "before": 1, "keys": 1, "chain": True}
    assert [before["processes"][1][1], after["processes"][1][1]] == [0, 1], "the clerk lives again"
    seen = set()
    for number in itertools.count(1, STEP):
        folder = copied(whole, tmp_path / str(number))
        if run(kernels, "go_back", folder, "replace", crash_at=f"*:{number}") is not None:
            break
        found = run(kernels, "described", folder)
        was_restored = found["processes"][0][2]
        seen.add(was_restored)
        assert found == (after if was_restored else before)
        assert run(kernels, "finish", folder) == expected
    assert seen == {False, True}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_kill_at_any_point_of_a_copy_leaves_the_family_alone(kernels: Zygote, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    run(kernels, "build", whole, False)
    before = run(kernels, "described", copied(whole, tmp_path / "before"))
    for number in itertools.count(1, STEP):
        folder = copied(whole, tmp_path / str(number))
        is_over = run(kernels, "go_back", folder, "new", crash_at=f"*:{number}") is not None
        found = run(kernels, "described", folder)
        own = [process for process in found["processes"] if process[0] <= 3]
        assert own == before["processes"]
        assert len(found["processes"]) in (3, 5)
        if is_over:
            return
