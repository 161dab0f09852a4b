"""Poison: a program that kills its kernel each time it runs is set aside after few crashes, with evidence, and nobody else is."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentos.abi.codec import decode
from agentos.abi.limits import POISON_RESUMES_MAX, SUSPECT_RESUMES
from agentos.testing import Ledger
from tests.builders import rows
from tests.fault.crash_zygote import Zygote, zygote
from tests.fault.poison_cases import HEALTHY, opened

pytestmark = pytest.mark.anyio
CASES = "tests.fault.poison_cases"


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(CASES) as started:
        yield started


def crashes(kernels: Zygote, folder: Path, goal: str, *, at_most: int = 30) -> tuple[int, dict[str, list[str]]]:
    """Open the story again until a kernel comes to rest; the number of kernels that died before, and what the last one said."""
    for count in range(at_most):
        found = kernels.run(f"{CASES}:live", str(folder), goal, False)
        if found is not None:
            return count, found
    raise AssertionError(f"{at_most} kernels died")


@pytest.mark.parametrize("goal", ["at once", "later"])
async def test_a_program_that_kills_its_kernel_is_set_aside_and_the_others_go_on(
    kernels: Zygote, tmp_path: Path, goal: str
) -> None:
    """nobody-dies-of-another"""
    count, found = crashes(kernels, tmp_path, goal)
    assert count <= POISON_RESUMES_MAX + 1
    assert Counter(state for state, _ in found.values()) == {"exited": HEALTHY // 2, "waiting": HEALTHY // 2, "paused": 1}
    assert [waits for state, waits in found.values() if state == "paused"] == [["poison"]]
    entries = [entry["value"] for entry in Ledger.read(tmp_path / "ledger")]
    assert all(number <= 1 for number in Counter(entries).values())


async def test_each_of_two_that_kill_their_kernel_is_set_aside(kernels: Zygote, tmp_path: Path) -> None:
    count, found = crashes(kernels, tmp_path, "two")
    assert count <= 2 * (POISON_RESUMES_MAX + 1)
    assert Counter(state for state, _ in found.values())["paused"] == 2


async def test_what_was_set_aside_leaves_evidence_and_gets_another_try(kernels: Zygote, tmp_path: Path) -> None:
    crashes(kernels, tmp_path, "at once")
    pid = HEALTHY + 1
    async with opened(tmp_path, resume=False) as kernel:
        assert kernel.process(pid).info.waiting_on == ("poison",)
        [note] = [decode(row.args) for row in rows(kernel, pid, notes=True) if row.op == "note.poisoned"]
        assert (note["image"], note["resumes"], len(note["resumed"])) == ("bane:1", POISON_RESUMES_MAX, POISON_RESUMES_MAX)
        assert note["rows"][-1].endswith("note.resumed done")
        await kernel.process(pid).signal("resume")
        assert kernel.process(pid).info.waiting_on == ()
    assert crashes(kernels, tmp_path, "at once")[0] <= POISON_RESUMES_MAX - SUSPECT_RESUMES
    (tmp_path / "cured").touch()
    async with opened(tmp_path) as kernel:
        assert kernel.process(pid).info.state == "paused"
        await kernel.process(pid).signal("resume")
        assert (await kernel.process(pid).wait(5)).value == "cured"
        await kernel.run_until_idle(5)
        assert {info.state for info in await kernel.ps()} == {"waiting"}


async def test_a_program_that_only_waits_is_never_set_aside(kernels: Zygote, tmp_path: Path) -> None:
    for _ in range(2 * POISON_RESUMES_MAX):
        assert kernels.run(f"{CASES}:live", str(tmp_path), "never", True) is None
    async with opened(tmp_path) as kernel:
        await kernel.run_until_idle(5)
        assert Counter(info.state for info in await kernel.ps(all=True)) == {
            "exited": HEALTHY // 2 + 1,
            "waiting": HEALTHY // 2,
        }


async def test_kernels_that_are_killed_each_time_they_resume_a_suspect_put_off_the_one_that_was_hit(
    kernels: Zygote, tmp_path: Path
) -> None:
    for point in ("append.done:60", "resumed:1", "resumed:1", *["resumed.alone:1"] * (2 * POISON_RESUMES_MAX)):
        assert kernels.run(f"{CASES}:live", str(tmp_path), "never", False, crash_at=point) is None
    async with opened(tmp_path) as kernel:
        await kernel.run_until_idle(30)
        suspected = Counter(row.pid for row in rows(kernel, notes=True) if row.op == "note.resumed")
        assert len(suspected) > 2 * POISON_RESUMES_MAX
        assert [row.pid for row in rows(kernel, notes=True) if row.op == "note.poisoned"] == []
        assert {info.state for info in await kernel.ps()} == {"waiting"}


async def test_kernels_that_are_killed_at_random_set_nobody_aside(kernels: Zygote, tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(40):
        kernels.run(f"{CASES}:live", str(tmp_path), "never", False, kill_after_s=chance.uniform(0.01, 0.08))
    async with opened(tmp_path) as kernel:
        await kernel.run_until_idle(30)
        noted = [row for row in rows(kernel, notes=True) if row.op == "note.poisoned"]
        assert noted == []
        assert Counter(info.state for info in await kernel.ps(all=True))["paused"] == 0
