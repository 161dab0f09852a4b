"""Builders for tests that need a running kernel: opening one, waiting for quiet, crashing it, and looking at its rows."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.codec import decode
from agentos.abi.records import Row, StateRecord
from agentos.kernel.process import AgentProcess
from agentos.runtime.boot import Open
from agentos.runtime.clock import SystemClock
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from agentos.testing import FakeClock

FOLDER = Path(__file__).parent


class FastClock(SystemClock):
    """The system's clock, so many times as fast: the pauses between a model's attempts take no time worth waiting for."""

    def __init__(self, speed: float = 100) -> None:
        super().__init__()
        self._speed = speed

    def now(self) -> float:
        """Return seconds since the epoch, of which a real one has many."""
        return super().now() * self._speed

    async def sleep_until(self, due: float) -> None:
        """Return when `now()` has reached `due`."""
        while (left := due - self.now()) > 0:  # noqa: ASYNC110 - it is time that is waited for
            await anyio.sleep(left / self._speed)


def opened(store: str | Path = ":memory:", **options: Any) -> Open:
    """A kernel without control socket that closes soon; in memory unless a path is given."""
    return agentos.open(store, **{"workspace": FOLDER, "control": False, "grace_s": 0.2, "durability": "fast", **options})


@asynccontextmanager
async def crashing(store: Path, copy: Path, **options: Any) -> AsyncIterator[Kernel]:
    """A kernel whose files are copied to `copy` as they are when the block ends: what a crash at that instant leaves."""
    async with opened(store, **options) as kernel:
        yield kernel
        crash(kernel, store, copy)


def crash(kernel: Kernel, store: Path, copy: Path) -> None:
    """Copy the files of a running kernel between two commits."""
    with kernel.core.journal._lock:
        for suffix in ("", "-wal"):
            source = store.with_name(store.name + suffix)
            if source.exists():
                shutil.copy(source, copy.with_name(copy.name + suffix))


async def host(kernel: Kernel, *grant: str, **options: Any) -> Process:
    """A host-driven process that holds `grant`."""
    return await kernel.spawn(agentos.Image.host(), grant=grant, **options)


async def started(kernel: Kernel, function: Callable[..., Awaitable[Any]], *grant: str, **options: Any) -> Process:
    """A process that runs a program and holds `grant`. The program is registered under its own name."""
    declared = agentos.program(function.__name__)(function)
    kernel.programs._given[function.__name__] = declared
    return await kernel.spawn(agentos.Image.program(function.__name__), grant=grant, **options)


def alive(kernel: Kernel, process: Process | int) -> AgentProcess:
    """The kernel's own record of a live process."""
    return kernel.core.processes.find(process if isinstance(process, int) else process.pid)


async def settled(kernel: Kernel, until: Callable[[], Any] | None = None) -> None:
    """Wait until nothing is ready or running, or until a condition holds."""
    if until is None:
        await kernel.run_until_idle(5)
        return
    with anyio.fail_after(5):
        while not until():  # noqa: ASYNC110 - what is waited for has no event of its own
            await anyio.sleep(0.001)


def advance(kernel: Kernel, seconds: float) -> None:
    """Move the kernel's fake clock."""
    clock = kernel.core.clock
    assert isinstance(clock, FakeClock)
    clock.advance(seconds)


def rows(kernel: Kernel, pid: int | None = None, *, notes: bool = False) -> list[Row]:
    """The journal, without notes unless asked for."""
    found = kernel.core.store.rows(0, 100_000)
    return [row for row in found if (notes or row.kind != "note") and (pid is None or row.pid == pid)]


def live(kernel: Kernel, kind: type[StateRecord]) -> list[Any]:
    """The records of a kind that live, as the store has them."""
    return kernel.core.store.current(kind, live=True)


def code_of(error: BaseException) -> str:
    """The stable code of an error."""
    assert isinstance(error, agentos.AgentOSError)
    return error.code


async def refused(call: Awaitable[Any]) -> str:
    """The code of the error that a call must raise."""
    try:
        value = await call
    except agentos.AgentOSError as error:
        return error.code
    raise AssertionError(f"it was not refused: {value!r}")


def value_of(row: Row) -> Any:
    """What a row's call returned."""
    return decode(row.result)
