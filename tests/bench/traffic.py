"""Traffic: a kernel with processes that make calls as fast as they get them, and a window in which they are counted.

Spawning and the first call of each process lie before the window, their exits after it. The device does nothing, so what is measured is
agentos alone; a policy layer is loaded, so every call is decided.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.programs.sys import Sys
from tests.bench.harness import Spent

__all__ = ["KINDS", "Window", "all_wait", "kernel", "let_go", "spawn_all", "window"]

KINDS = ("pure", "effect")
POLICY = 'policy "bench"\nallow noop.run, clock.now, proc.save, proc.fork, proc.spawn, msg.recv\n'
_SAVE_EVERY = 5_000  # far enough below the bound of calls per save point
_STARTED_S = 10.0
_LOOK_S = 0.005

noop = agentos.Device("noop")


@noop.op(effect="keyed")  # type: ignore[untyped-decorator]
async def run(ctx: agentos.Call, n: int) -> int:
    """Do nothing."""
    return n


class Count:
    """What the running programs have done."""

    def __init__(self) -> None:
        self.calls = 0
        self.started = 0
        self.stop = False


_count = Count()


@agentos.program("bench-pure")
async def pure(sys: Sys) -> None:
    """Ask for the time until stopped."""
    count, made = _count, 0
    while not count.stop:
        await sys.clock.now()
        count.started += not made
        count.calls += 1
        made += 1
        if made % _SAVE_EVERY == 0:
            await sys.save()


@agentos.program("bench-effect")
async def effect(sys: Sys) -> None:
    """Call the device until stopped."""
    count, made = _count, 0
    while not count.stop:
        await sys.noop.run(n=made)
        count.started += not made
        count.calls += 1
        made += 1
        if made % _SAVE_EVERY == 0:
            await sys.save()


@dataclass(frozen=True, slots=True)
class Window:
    """What happened between two moments.

    Attributes:
        late_s: The longest that a task of the host was kept waiting for the event loop.
        commit_times_s: How long each commit took, sorted.
    """

    calls: int
    wall_s: float
    cpu_s: float
    statements: int
    commits: int
    late_s: float
    commit_times_s: tuple[float, ...]

    @property
    def commit_p99_s(self) -> float:
        """What 99 of 100 commits took at most."""
        return self.commit_times_s[len(self.commit_times_s) * 99 // 100] if self.commit_times_s else 0.0

    @property
    def rate(self) -> float:
        """Calls per second."""
        return self.calls / self.wall_s

    @property
    def cpu_us(self) -> float:
        """CPU microseconds of a call."""
        return self.cpu_s / self.calls * 1e6 if self.calls else 0.0


@asynccontextmanager
async def kernel(folder: Path, *, store: str = "", **options: object) -> AsyncIterator[agentos.Kernel]:
    """Open a kernel with the device that does nothing, on a file of `folder` or the store named."""
    (folder / "w").mkdir(parents=True, exist_ok=True)
    logging.getLogger("agentos.kernel").setLevel(logging.ERROR)  # greed is what is measured, not news
    given = {
        "workspace": folder / "w",
        "devices": {"noop": noop},
        "policy": POLICY,
        "control": False,
        "grace_s": 1.0,
        **options,
    }
    async with agentos.open(store or folder / "store.db", **given) as opened:  # type: ignore[arg-type]
        yield opened


async def spawn_all(opened: agentos.Kernel, image: agentos.Image, processes: int, *, goal: Any = None) -> list[agentos.Process]:
    """Spawn processes, a few hundred at once, without letting them run; `let_go` does."""
    opened.core.scheduler.admitting = False
    spawned: list[agentos.Process] = []
    room = anyio.Semaphore(256)

    async def one() -> None:
        async with room:
            spawned.append(await opened.spawn(image, goal=goal))

    async with anyio.create_task_group() as tasks:
        for _ in range(processes):
            tasks.start_soon(one)
    return spawned


def let_go(opened: agentos.Kernel) -> None:
    """Admit what was spawned."""
    opened.core.scheduler.admitting = True
    opened.core.scheduler._work.set()


async def all_wait(opened: agentos.Kernel) -> None:
    """Return when every process waits."""
    while any(process.state != "waiting" for process in opened.core.processes):  # noqa: ASYNC110 - no event says so to a host
        await anyio.sleep(0.002)


async def window(
    folder: Path,
    kind: str,
    processes: int,
    seconds: float,
    busy_s: Callable[[], float] = float,
    *,
    sampled: Callable[[bool], object] = bool,
    store: str = "",
) -> Window:
    """Return what `processes` processes get done in `seconds`. `sampled` is told when the window opens and closes."""
    global _count  # noqa: PLW0603 - programs are found by name and share the interpreter with this
    async with kernel(folder, store=store) as opened:
        _count = count = Count()
        await spawn_all(opened, agentos.Image.program(f"bench-{kind}", capabilities=["noop.*"]), processes)
        let_go(opened)
        with anyio.move_on_after(_STARTED_S):
            while count.started < processes:  # noqa: ASYNC110 - the programs run as in a real kernel, and signal nobody
                await anyio.sleep(0.002)
        journal = opened.core.journal
        times = _timed_commits(opened)
        calls, statements, commits = count.calls, journal.statements, journal.commits
        sampled(True)
        with Spent(busy_s) as spent:
            late_s = await _look(seconds)
            while count.calls == calls:  # a busy neighbour may outlast a short window
                late_s = max(late_s, await _look(seconds))
        made = count.calls - calls
        sampled(False)
        statements, commits = journal.statements - statements, journal.commits - commits
        count.stop = True
        return Window(made, spent.wall_s, spent.cpu_s, statements, commits, late_s, tuple(sorted(times)))


def _timed_commits(opened: agentos.Kernel) -> list[float]:
    """Return a list to which every commit from now on adds how long it took."""
    journal, times = opened.core.journal, []
    commit = journal._commit

    def timed(batch: Any) -> None:
        begun = time.perf_counter()
        commit(batch)
        times.append(time.perf_counter() - begun)

    journal._commit = timed
    return times


async def _look(seconds: float) -> float:
    """Sleep in short steps for `seconds` and return by how much the latest step was late."""
    begun = anyio.current_time()
    late_s = 0.0
    while (now := anyio.current_time()) - begun < seconds:
        await anyio.sleep(min(_LOOK_S, seconds))
        late_s = max(late_s, anyio.current_time() - now - _LOOK_S)
    return late_s
