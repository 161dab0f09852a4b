"""A store with a long past: what looking at it, checking it and keeping it small costs, and how long commits wait meanwhile.

The past is made by appending rows and records as a kernel would: trees of one process that have ended, ten at a time, one row in twenty
with a result of 4 KiB. ``--full`` makes a million rows of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.codec import encode
from agentos.abi.records import AccountRecord, Change, ProcessRecord, Row
from agentos.runtime.clock import SystemClock
from agentos.store import open_store
from tests.bench.bench_open import reopened
from tests.bench.harness import Size, Spent, Table, store_bytes
from tests.bench.traffic import kernel

__all__ = ["make_past", "run"]

_ROWS_PER_TREE = 1_000
_AT_ONCE = 10
_ARGS = encode({"path": "/report.md", "text": "what a call of this size says is about a line or two of text"})


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield what each piece of upkeep costs."""
    rows = 1_000_000 if size.full else size.of(50_000)
    begun = time.perf_counter()
    make_past(folder / "store.db", rows)
    made_s = time.perf_counter() - begun
    table = Table(
        f"a store of {rows:,} rows", ("what", "seconds", "CPU s", "rows/s", "commit p50 ms", "commit p99 ms", "worst ms", "store MB"),
        note=f"made in {made_s:.0f} s. Commits: one durable note after another beside what is measured",
    )  # fmt: skip
    agentos.open(":memory:")  # loads what a kernel needs, which is not what is measured
    wall_ms, cpu_ms, _ = reopened(folder, size.rounds)
    table.add(
        "open",
        f"{float(wall_ms) / 1e3:.3f}",
        f"{float(cpu_ms) / 1e3:.3f}",
        *[""] * 4,
        f"{store_bytes(folder / 'store.db') / 1e6:.0f}",
    )
    anyio.run(_measure, folder, rows, table)
    yield table


def make_past(path: Path, rows: int) -> None:
    """Make a store of that many rows, of trees that have ended."""
    with open_store(path, durability="fast", clock=SystemClock()) as store:
        pid = 0
        while store.journal.head < rows:
            made = min(_ROWS_PER_TREE * _AT_ONCE, rows - store.journal.head) // _AT_ONCE
            records = [
                ProcessRecord(pid=pid + at, tree=pid + at, goal=encode("to be measured")) for at in range(1, _AT_ONCE + 1)
            ]
            pid += _AT_ONCE
            for record in records:
                born = Row(record.pid, "", "note", "note.spawned")
                store.journal.append(born, [Change(record), Change(AccountRecord(pid=record.pid))])
            for number in range(max(made - 2, 1)):
                for record in records:
                    store.journal.append(_call(record.pid, number))
            for record in records:
                record.live, record.state = 0, "exited"
                record.exit = encode({"state": "exited", "value": None, "error": None})
                store.journal.append(Row(record.pid, "", "note", "note.exited"), [Change(record, record.seq)])


def _call(pid: int, number: int) -> Row:
    result = os.urandom(4_000) if number % 20 == 0 else b"done"
    return Row(
        pid, str(number), "call", "obj.put", f"proc/{pid}/report", "local", args=_ARGS, outcome="done", result=encode(result)
    )


async def _measure(folder: Path, rows: int, table: Table) -> None:
    store = folder / "store.db"
    async with kernel(folder) as opened:
        await opened.spawn(agentos.Image.host())
        steps: tuple[tuple[str, Callable[[], Awaitable[Any]]], ...] = (
            ("ps", opened.ps), ("audit, first 200", lambda: _audit(opened, 0)), ("audit, last 200", lambda: _audit(opened, rows - 200)),
            ("verify", opened.verify_audit), ("inspect (doctor)", opened.inspect), ("backup", lambda: opened.backup(folder / "copy.db")),
            ("export", lambda: opened.export(folder / "copy.jsonl")), ("tidy: nothing to do", opened.tidy), ("archive", opened.archive),
            ("audit, first 200, archived", lambda: _audit(opened, 0)), ("verify, archived", opened.verify_audit),
            ("tidy, archived", opened.tidy), ("erase one tree", lambda: opened.erase(tree=1)),
            ("erase all", lambda: opened.erase(before=time.time() + 1e6)), ("verify, erased", opened.verify_audit),
        )  # fmt: skip
        for name, step in steps:
            spent, commits = await _beside(opened, step)
            cells = [f"{commits[len(commits) * at // 100] * 1e3:.1f}" for at in (50, 99)]
            size_mb = f"{store_bytes(store) / 1e6:.0f}"
            rate = f"{rows / spent.wall_s:,.0f}"
            table.add(name, f"{spent.wall_s:.3f}", f"{spent.cpu_s:.3f}", rate, *cells, f"{commits[-1] * 1e3:.1f}", size_mb)


async def _audit(opened: agentos.Kernel, since: int) -> None:
    seen = 0
    async for _ in opened.audit(since=since):
        seen += 1
        if seen == 200:
            return


async def _beside(opened: agentos.Kernel, work: Callable[[], Awaitable[Any]]) -> tuple[Spent, list[float]]:
    """Return what `work` took, and sorted how long each of the commits took that were made one after another meanwhile."""
    times: list[float] = []

    async def commits() -> None:
        while True:
            begun = time.perf_counter()
            await opened.core.journal.durable(opened.core.note(0, "beside"))
            times.append(time.perf_counter() - begun)
            await anyio.sleep(0.002)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(commits)
        await anyio.sleep(0.05)
        times.clear()
        with Spent() as spent:
            await work()
        tasks.cancel_scope.cancel()
    return spent, sorted(times) or [0.0]
