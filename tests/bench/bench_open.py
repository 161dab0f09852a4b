"""Opening: what reopening a store costs by what lives in it and by what ever happened, and how long the command line takes to start."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from statistics import median

import anyio

import agentos
from agentos.programs.sys import Sys
from tests.bench.bench_spawn import recv
from tests.bench.harness import Size, Spent, Table, store_bytes
from tests.bench.traffic import all_wait, kernel, let_go, spawn_all

__all__ = ["make_pending", "reopened", "run"]

_SAVE_EVERY = 5_000
Fill = Callable[[Path, int], Awaitable[None]]


@agentos.program("bench-pending")
async def pending(sys: Sys) -> None:
    """Do a few things, then wait for a message."""
    for number in range(3):
        await sys.noop.run(n=number)
    await recv(sys)


@agentos.program("bench-past")
async def past(sys: Sys, rows: int) -> None:
    """Make that many calls, then wait for a message."""
    made = sys.state or 0
    while made < rows:
        await sys.clock.now()
        made += 1
        if made % _SAVE_EVERY == 0:
            await sys.save(made)
    await sys.save(made)
    await sys.msg.recv()


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield the opening of stores, then of interpreters."""
    cases: list[tuple[str, int, Fill]] = [
        ("empty", 0, _nothing), ("pending processes, run again from their tape", size.of(1_000), make_pending),
        ("parked processes", size.of(10_000), _parked), ("rows of history", size.of(100_000), _history),
    ]  # fmt: skip
    if size.full:
        cases.append(("rows of history", size.of(1_000_000), _history))
    head = ("store", "count", "bytes", "open ms", "CPU ms", "until all wait ms")
    note = "open: until calls can be made. Until all wait: every program has come to where it waited before"
    table = Table("reopening a store", head, note=note)
    for name, count, fill in cases:
        where = folder / f"{name.partition(',')[0]}-{count}"
        anyio.run(fill, where, count)
        table.add(name, f"{count}", f"{store_bytes(where / 'store.db')}", *reopened(where, size.rounds))
    yield table
    yield _starts(size, folder)


def reopened(folder: Path, rounds: int) -> list[str]:
    turns = [anyio.run(_open, folder) for _ in range(rounds)]
    return [f"{median(turn[at] for turn in turns) * 1e3:.1f}" for at in range(3)]


async def _open(folder: Path) -> tuple[float, float, float]:
    begun = time.perf_counter()
    with Spent() as spent:
        opening = kernel(folder)
        opened = await opening.__aenter__()
    try:
        await all_wait(opened)
        return spent.wall_s, spent.cpu_s, time.perf_counter() - begun
    finally:
        await opening.__aexit__(None, None, None)


async def _nothing(folder: Path, count: int) -> None:
    async with kernel(folder):
        assert count == 0


async def make_pending(folder: Path, count: int) -> None:
    async with kernel(folder) as opened:
        opened.core.scheduler.resident_max = count + 2
        await _settled(opened, agentos.Image.program("bench-pending", capabilities=["noop.*"]), count)


async def _parked(folder: Path, count: int) -> None:
    async with kernel(folder) as opened:
        opened.core.scheduler.resident_max = 0
        await _settled(opened, agentos.Image.program("bench-recv"), count)


async def _settled(opened: agentos.Kernel, image: agentos.Image, count: int) -> None:
    """Spawn processes and let each come to where it waits."""
    await spawn_all(opened, image, count)
    let_go(opened)
    await all_wait(opened)


async def _history(folder: Path, count: int) -> None:
    async with kernel(folder) as opened:
        await opened.spawn(agentos.Image.program("bench-past"), args={"rows": count})
        await all_wait(opened)
        assert opened.core.journal.head >= count


def _starts(size: Size, folder: Path) -> Table:
    table = Table("starting an interpreter, wall ms", ("command", "median", "above bare python"))
    store = str(folder / "empty-0" / "store.db")
    commands = {
        "import agentos": ["-c", "import agentos"],
        "import all that a kernel needs": ["-c", "import agentos; agentos.open"],
    }
    if find_spec("agentos.__main__") is not None:
        commands["agentos ps (no kernel runs)"] = ["-m", "agentos", "ps", "--store", store]
    bare = _start_ms(["-c", "pass"], size.rounds)
    table.add("python -c pass", f"{bare:.0f}", "")
    for name, command in commands.items():
        took = _start_ms(command, size.rounds)
        table.add(name, f"{took:.0f}", f"{took - bare:.0f}")
    return table


def _start_ms(command: list[str], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        subprocess.run([sys.executable, *command], check=True, capture_output=True)
        times.append(time.perf_counter() - begun)
    return median(times) * 1e3
