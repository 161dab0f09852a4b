"""SIGKILL at every point, for every effect class, in every situation: the reopened store ends as if nothing had happened.

An anomaly loop: the n-th point kills, for n = 1, 2, 3 ... until a run gets through. By default the kill comes after each commit and each
effect, where what is on the disk has changed (every third of them where nobody has to be asked); AGENTOS_SOAK=1 kills at every point
there is, and once more while recovering.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fault.crash_programs import EFFECTS, SITUATIONS
from tests.fault.crash_zygote import Zygote, zygote

PROGRAMS = "tests.fault.crash_programs"
SOAK = bool(os.environ.get("AGENTOS_SOAK"))
CHANGES_OF_THE_DISK = "*.after"
EXACT = {"keyed", "probeable", "once"}
TESTED = [(effect, situation) for effect in EFFECTS for situation in SITUATIONS]
SHOWN = {
    "once": SITUATIONS, "keyed": ("gather", "approval", "fork"), "probeable": ("running",), "repeatable": ("parked",), "pure": ("running",),
    "object": ("question", "fork"), "message": ("parked", "spawn"),
}  # fmt: skip
REPRESENTATIVE = [case for case in TESTED if SOAK or case[1] in SHOWN[case[0]]]
UNWOUND = [
    situation for situation in SITUATIONS if situation != "running" and (SOAK or situation in ("gather", "parked", "approval"))
]


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(PROGRAMS) as started:
        yield started


def live(kernels: Zygote, folder: Path, case: tuple[str, str], *, resident: int = 512, crash_at: str = "") -> Any:
    return kernels.run(f"{PROGRAMS}:live", str(folder), *case, resident, crash_at=crash_at)


def check(effect: str, found: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare one recovered run with the one that was never killed."""
    assert (found["state"], found["value"], found["error"]) == (expected["state"], expected["value"], "")
    assert found["chain"]
    assert found["alive"] == []
    assert found["again"] == [], "a finished call was repeated"
    assert found["messages"] == expected["messages"]
    if effect in EXACT:
        assert found["ledger"] == expected["ledger"]
        assert set(found["keys"].values()) <= {1}
    else:
        assert found["ledger"].keys() == expected["ledger"].keys()


def crashed(kernels: Zygote, folder: Path, case: tuple[str, str], resident: int, point: str) -> Iterator[dict[str, Any]]:
    """Yield what came of each run that was killed at the n-th point, for every n."""
    again = random.Random(str(case))
    step = 1 if SOAK or case[0] == "once" else 3
    for number in itertools.count(1, step):
        where = folder / str(number)
        if live(kernels, where, case, resident=resident, crash_at=f"{point}:{number}") is not None:
            assert number > 3
            return
        if SOAK:
            live(kernels, where, case, resident=resident, crash_at=f"*:{again.randint(1, 60)}")
        yield live(kernels, where, case, resident=resident)


@pytest.mark.slow
@pytest.mark.timeout(1200 if SOAK else 60)
@pytest.mark.parametrize("case", REPRESENTATIVE, ids="-".join)
def test_a_kill_at_any_point_changes_nothing_in_the_end(kernels: Zygote, tmp_path: Path, case: tuple[str, str]) -> None:
    """INVARIANT intent-before-effect, resume-never-reruns, committed-survives, effect-is-a-line."""
    expected = live(kernels, tmp_path / "whole", case)
    assert expected["state"] == "exited"
    asked = 0
    for found in crashed(kernels, tmp_path, case, 512, "*" if SOAK else CHANGES_OF_THE_DISK):
        check(case[0], found, expected)
        asked += found["asked"].get("unknown_outcome", 0)
    assert (asked > 0) == (case[0] == "once"), "a person is asked about once, and about nothing else"


@pytest.mark.slow
@pytest.mark.timeout(1200 if SOAK else 60)
@pytest.mark.parametrize("situation", UNWOUND)
def test_a_kill_of_processes_that_were_unwound_changes_nothing_in_the_end(
    kernels: Zygote, tmp_path: Path, situation: str
) -> None:
    case = ("once", situation)
    expected = live(kernels, tmp_path / "whole", case)
    for found in crashed(kernels, tmp_path, case, 0, "*" if SOAK else CHANGES_OF_THE_DISK):
        check("once", found, expected)
