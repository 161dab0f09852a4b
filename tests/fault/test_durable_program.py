"""The tutorial's program of four days, killed after changes of the disk: there is one laptop, and it replays.

AGENTOS_SOAK=1 kills at every point there is; otherwise it is after one in STEP of the changes.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fault.crash_zygote import Zygote, zygote

PROGRAM = "tests.fault.crash_durable"
POINTS, STEP = ("*", 1) if os.environ.get("AGENTOS_SOAK") else ("*.after", 3)


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(PROGRAM) as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(600 if POINTS == "*" else 120)
@pytest.mark.parametrize("resident", [512, 0], ids=["resident", "parked"])
def test_a_kill_at_any_step_of_four_days_changes_nothing_in_the_end(kernels: Zygote, tmp_path: Path, resident: int) -> None:
    """INVARIANT resume-never-reruns, committed-survives, replay-has-no-effect."""

    def live(where: Path, crash_at: str = "") -> Any:
        return kernels.run(f"{PROGRAM}:live", str(where), resident, crash_at=crash_at)

    expected = live(tmp_path / "whole")
    accounts = [f"/accounts/{system}-ada.txt" for system in ("mail", "payroll", "wiki")]
    assert (expected["exit"], expected["value"][0], expected["value"][2:]) == ("exited", "desk by the window", accounts)
    for number in itertools.count(1, STEP):
        where = tmp_path / str(number)
        if live(where, f"{POINTS}:{number}") is not None:
            assert number > 10
            break
        found = live(where)
        assert {**found, "value": None} == {**expected, "value": None}, f"killed at {number}"
        assert found["value"][2:] == accounts
        assert found["value"][1].endswith(", in the post room")
    assert (expected["laptops"], expected["accounts"], expected["welcome"], expected["differences"]) == (1, 3, 1, [])
    assert expected["replayed"] == [True] * 4
