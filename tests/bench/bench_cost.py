"""What a call costs in the store: rows, SQL statements, commits and bytes; and what a growing state costs that is saved every step."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path

import anyio

import agentos
from agentos.programs.sys import Sys
from tests.bench.harness import Size, Spent, Table, store_bytes
from tests.bench.traffic import kernel

__all__ = ["run", "run_to_end"]


@agentos.program("bench-some")
async def some(sys: Sys, kind: str, calls: int) -> None:
    """Make this many calls."""
    for number in range(calls):
        if kind == "pure":
            await sys.clock.now()
        else:
            await sys.noop.run(n=number)


@agentos.program("bench-grow")
async def grow(sys: Sys, steps: int) -> None:
    """Keep a log that grows by a kilobyte a step, and save it every step."""
    noise = random.Random(1)
    log: list[str] = []
    for turn in range(steps):
        log.append(noise.randbytes(512).hex())
        await sys.save({"log": log, "turn": turn})


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield what calls cost, then what save points do."""
    head = ("call", "processes", "rows", "SQL statements", "commits", "bytes")
    table = Table("store cost of one call", head, note="bytes of the closed file, exits included")
    for kind in ("pure", "effect"):
        for processes in (1, size.of(100)):
            table.add(
                kind, f"{processes}", *_calls(folder / f"{kind}-{processes}", kind, processes, size.of(5_000) // processes + 1)
            )
    yield table
    steps = size.of(1_000)
    spent = anyio.run(run_to_end, folder / "grow", "bench-grow", 1, {"steps": steps})[0]
    grown = store_bytes(folder / "grow" / "store.db")
    table = Table(f"{steps} save points of a state that grows by 1 KB", ("store bytes", "bytes a step", "CPU us a step"))
    table.add(f"{grown}", f"{grown / steps:.0f}", f"{spent.cpu_s / steps * 1e6:.0f}")
    yield table


def _calls(folder: Path, kind: str, processes: int, each: int) -> list[str]:
    anyio.run(run_to_end, folder, "bench-some", processes, {"kind": kind, "calls": 0})
    before = store_bytes(folder / "store.db")
    _, *counted = anyio.run(run_to_end, folder, "bench-some", processes, {"kind": kind, "calls": each})
    calls = processes * each
    return [*(f"{count / calls:.3f}" for count in counted), f"{(store_bytes(folder / 'store.db') - before) / calls:.0f}"]


async def run_to_end(folder: Path, program: str, processes: int, args: Mapping[str, object]) -> tuple[Spent, int, int, int]:
    """Run processes to their end; returns time, rows, statements and commits between the spawns and the last exit."""
    async with kernel(folder) as opened:
        journal, image = opened.core.journal, agentos.Image.program(program, capabilities=["noop.*"])
        opened.core.scheduler.admitting = False
        spawned = [await opened.spawn(image, args=dict(args)) for _ in range(processes)]
        rows, statements, commits = journal.head, journal.statements, journal.commits
        opened.core.scheduler.admitting = True
        opened.core.scheduler._work.set()
        with Spent() as spent:
            for process in spawned:
                ended = await process.wait(120)
                assert ended.state == "exited", ended
        journal.flush()
        return spent, journal.head - rows, journal.statements - statements, journal.commits - commits
