"""The store on a PostgreSQL server, without a kernel above it: rows per second in batches, beside single commits of plain psycopg.

The rates of whole calls on the same server are in the bench `durability`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

import anyio

from agentos.abi.limits import BATCH_ROWS_MAX
from agentos.abi.records import Row
from agentos.runtime.clock import SystemClock
from agentos.store import Store, open_store
from tests.bench import pg
from tests.bench.harness import Size, Spent, Table

__all__ = ["run"]

_ARGS = os.urandom(400)
_ROWS = (2, 20, 200, BATCH_ROWS_MAX)
_WRITERS = (1, 100)


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield a table of batches and one of durable calls of two rows each; nothing where there is no server."""
    with pg.server() as address:
        head = ("", "rows a commit", "rows/s", "x raw", "p50 ms", "p99 ms", "CPU us/row")
        table = Table("rows of 0.5 KB on PostgreSQL, raw by psycopg", head)
        if not address:
            table.add("no server", *("-" * (len(head) - 1)))
            yield table
            return
        with open_store(pg.schema_of(address, folder), clock=SystemClock(), lease_ttl_s=3_600.0) as store:
            for rows in _ROWS:
                before = pg.raw_rate(address, size.seconds)
                times, cpu_us = _batches(store, rows, size.of(200))
                raw = (before.rate + pg.raw_rate(address, size.seconds).rate) / 2
                rate = rows / median(times)
                ends = f"{median(times) * 1e3:.2f}", f"{times[len(times) * 99 // 100] * 1e3:.2f}"
                table.add("one batch after another", f"{rows}", f"{rate:.0f}", f"{rate / raw:.1f}", *ends, f"{cpu_us:.1f}")
            for writers in _WRITERS:
                before = pg.raw_rate(address, size.seconds)
                commits = store.journal.commits
                with Spent() as spent:
                    made = anyio.run(partial(_calls, store, writers, size.seconds * 4))
                raw = (before.rate + pg.raw_rate(address, size.seconds).rate) / 2
                rate = 2 * made / spent.wall_s
                per_commit = f"{2 * made / (store.journal.commits - commits):.0f}"
                cpu = f"{spent.cpu_s / made / 2 * 1e6:.1f}"
                table.add(f"{writers} waiting for two rows each", per_commit, f"{rate:.0f}", f"{rate / raw:.1f}", "-", "-", cpu)
        yield table


def _row(pid: int, kind: str = "intent") -> Row:
    return Row(
        pid=pid, number="12.3", kind=kind, op="fs.write", resource="path:/docs/pkg/module.py", args=_ARGS, rule="kernel:3:1"
    )


def _batches(store: Store, rows: int, count: int) -> tuple[list[float], float]:
    """Return the sorted seconds of commits of that many rows, and the CPU microseconds of a row."""
    times = []
    with Spent() as spent:
        for _ in range(count):
            for pid in range(rows - 1):
                store.journal.append(_row(pid % 50))
            with Spent() as one:
                store.journal.append(_row(1))
                store.journal.flush()
            times.append(one.wall_s)
    return sorted(times), spent.cpu_s / count / rows * 1e6


async def _calls(store: Store, writers: int, seconds: float) -> int:
    """Return how many times somebody waited for an intent and a result."""
    made = 0

    async def one(pid: int) -> None:
        nonlocal made
        while not ended.cancel_called:
            await store.journal.durable(store.journal.append(_row(pid)))
            await store.journal.durable(store.journal.append(_row(pid, "result")))
            made += 1

    with anyio.move_on_after(seconds) as ended:
        async with anyio.create_task_group() as tasks:
            for pid in range(writers):
                tasks.start_soon(one, pid)
    return max(1, made)
