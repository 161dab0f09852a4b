"""A kernel on a PostgreSQL server, killed, stopped and raced: the cases of the crash matrix, and two kernels on one store.

AGENTOS_SOAK=1 kills at every change of the disk; otherwise it is one in STEP, each case at others.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

import agentos
from agentos.store import open_store
from agentos.testing import Ledger
from tests.builders import host, opened, refused
from tests.fault.crash_zygote import Zygote, zygote
from tests.fault.test_crash_matrix import CHANGES_OF_THE_DISK, PROGRAMS, SOAK, check, live
from tests.room.store.builders import FixedClock

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(120)]

CASES = [("once", "running"), ("keyed", "approval"), ("probeable", "gather"), ("object", "fork")]
STEP = 1 if SOAK else 8
TTL_S = 3.0
Child = Callable[..., subprocess.Popen[str]]


@pytest.fixture(scope="module")
def kernels() -> Iterator[Zygote]:
    with zygote(PROGRAMS) as started:
        yield started


def placed(folder: Path, address: str) -> Path:
    """A folder of a case whose store is a database."""
    folder.mkdir()
    (folder / "address").write_text(address)
    return folder


@pytest.mark.timeout(1200 if SOAK else 240)
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_a_kill_at_any_point_changes_nothing_in_the_end(
    kernels: Zygote, tmp_path: Path, postgres: Callable[[], str], case: tuple[str, str]
) -> None:
    """INVARIANT intent-before-effect, resume-never-reruns, committed-survives."""
    expected = live(kernels, placed(tmp_path / "whole", postgres()), case)
    for number in itertools.count(1 + CASES.index(case) % STEP, STEP):
        folder = placed(tmp_path / str(number), postgres())
        if live(kernels, folder, case, crash_at=f"{CHANGES_OF_THE_DISK}:{number}") is not None:
            assert number > 3
            return
        check(case[0], live(kernels, folder, case), expected)


# --- two kernels ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def child(tmp_path: Path, postgres: Callable[[], str]) -> Iterator[Child]:
    """Starts kernels in processes of their own that write a line for everything they do; none outlives the test."""
    made: list[subprocess.Popen[str]] = []

    def start(address: str, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.fault.postgres_child", str(tmp_path), address, *words]
        made.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return made[-1]

    yield start
    for process in made:
        process.kill()
        process.communicate()


def told(process: subprocess.Popen[str], line: str) -> None:
    """Wait for a line of a child."""
    assert process.stdout is not None
    for said in process.stdout:
        if said.strip() == line:
            return
    raise AssertionError(f"it never said {line!r}: {process.stderr.read() if process.stderr else ''}")


def stopped(process: subprocess.Popen[str], folder: Path) -> None:
    """Stop a child, at a moment when it does not hold the ledger, which its successor needs."""
    with (folder / "ledger").open("rb") as ledger:
        while True:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED)
            try:
                fcntl.flock(ledger, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                process.send_signal(signal.SIGCONT)
                time.sleep(0.001)


def acts(folder: Path) -> list[str]:
    """What stands in the ledger, in order."""
    return [entry["value"] for entry in Ledger.read(folder / "ledger")]


def test_a_kernel_stopped_beyond_its_lease_is_succeeded_and_acts_no_more(
    tmp_path: Path, postgres: Callable[[], str], child: Child
) -> None:
    """INVARIANT one-writer, for effects: what the stale kernel was about to do, the standby does, once."""
    address = postgres()
    first = child(address, "first", str(TTL_S))
    told(first, "acted")
    second = child(address, "second", str(TTL_S))
    told(second, "waits")
    stopped(first, tmp_path)
    told(second, "acted")
    before = acts(tmp_path)
    first.send_signal(signal.SIGCONT)
    _, errors = first.communicate(timeout=20)
    assert (first.returncode, errors.strip()) == (1, "invalid.store lease_lost")
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=20)
    later = acts(tmp_path)
    assert later[: len(before)] == before
    assert [value for value in later[len(before) :] if value.startswith("first")] == []
    counts = {value: later.count(value) for value in later}
    assert set(counts.values()) == {1}
    with open_store(address, clock=FixedClock(), writer=False) as store:
        assert store.verify().ok


def test_of_kernels_that_race_for_a_lease_exactly_one_wins(postgres: Callable[[], str], child: Child) -> None:
    """INVARIANT one-writer."""
    address = postgres()
    racers = [child(address, f"racer{number}", "30", "race") for number in range(4)]
    outcomes = sorted(racer.stdout.readline().strip() for racer in racers if racer.stdout is not None)
    assert outcomes == ["held", "held", "held", "won"]


async def test_a_kernel_that_leaves_wakes_the_one_that_waits(postgres: Callable[[], str]) -> None:
    address = postgres()
    woken: list[float] = []

    async def wait() -> None:
        async with opened(address, standby=True) as kernel:
            assert [info.pid for info in await kernel.ps()] == [1]
            woken.append(time.monotonic())

    async with anyio.create_task_group() as tasks:
        async with opened(address) as kernel:
            await host(kernel)
            tasks.start_soon(wait)
            await anyio.sleep(0.3)
            assert woken == []
        left = time.monotonic()
    assert woken[0] - left < 1


async def test_a_store_that_is_held_says_by_whom_and_can_be_read(postgres: Callable[[], str]) -> None:
    address = postgres()
    async with opened(address):
        with pytest.raises(agentos.Invalid) as caught:
            await opened(address).__aenter__()
        assert (caught.value.reason, caught.value.pid, bool(caught.value.host)) == ("held", os.getpid(), True)
        with open_store(address, clock=FixedClock(), writer=False) as reader:
            assert reader.epoch == 1


async def test_a_kernel_killed_on_this_machine_is_succeeded_at_once(
    tmp_path: Path, postgres: Callable[[], str], child: Child
) -> None:
    address = postgres()
    first = child(address, "first", "600")
    told(first, "acted")
    first.kill()
    first.communicate()
    async with opened(address, devices={"ledger": Ledger(tmp_path / "ledger").device}) as kernel:
        assert kernel.core.store.epoch == 2


async def act_without_lease(address: str, book: Ledger) -> None:
    """Try two effects in a kernel whose lease has ended while it lives on."""
    async with opened(address, devices={"ledger": book.device}) as kernel:
        process = await host(kernel, "ledger.*")
        await anyio.sleep(0.3)  # the first renewal is over
        kernel.core.journal.lease._sure_until = 0.0
        assert await refused(process.call("ledger.once", value="x")) == "invalid.store"
        assert await refused(process.call("ledger.once", value="y")) == "invalid.store"


async def test_a_lost_lease_stops_the_kernel_before_its_next_effect(tmp_path: Path, postgres: Callable[[], str]) -> None:
    """The intent is there, the effect is not, and nothing is settled."""
    address, book = postgres(), Ledger(tmp_path / "ledger")
    with pytest.raises(agentos.Invalid) as caught:
        await act_without_lease(address, book)
    assert caught.value.reason == "lease_lost"
    assert Ledger.read(tmp_path / "ledger") == []
    async with opened(address, devices={"ledger": book.device}) as kernel:
        assert [row.kind for row in kernel.core.store.rows(0, 99) if row.op == "ledger.once"] == ["intent"]
