"""What the store costs: rows per second against raw SQLite, bytes per row, and commits beside a busy thread.

Run with ``python -m tests.bench.bench_store [SECONDS] [FOLDER]``. Raw single commits (WAL, FULL, 1 KB) are measured between all others
in the same run, because disks change their mind. A call is an intent and a result of 0.5 KB, and waits until both are durable.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import anyio

from agentos.abi.records import Row
from agentos.store import Store
from tests.room.store.builders import file_store

DIGEST = os.urandom(32)
ARGS = os.urandom(400)


def call(pid: int, kind: str = "intent") -> Row:
    """A row of half a kilobyte."""
    return Row(
        pid=pid, number="12.3", kind=kind, op="fs.write", resource="path:/docs/pkg/module.py", effect="probeable", digest=DIGEST,
        args=ARGS, rule="kernel:3:1", cap=3,
    )  # fmt: skip


@contextlib.contextmanager
def busy_thread(busy: bool) -> Iterator[None]:
    """Compute in another thread meanwhile."""
    stop = threading.Event()

    def compute() -> None:
        count = 0
        while not stop.is_set():
            for _ in range(10_000):
                count += 1

    thread = threading.Thread(target=compute)
    if busy:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        if busy:
            thread.join()


def raw_rate(folder: Path, seconds: float) -> float:
    """Single commits per second of plain sqlite3."""
    with contextlib.closing(sqlite3.connect(folder / "raw.db", isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b BLOB)")
        count, begun = 0, time.perf_counter()
        while time.perf_counter() - begun < seconds:
            raw.execute("INSERT INTO t (b) VALUES (?)", (ARGS + ARGS,))
            count += 1
        return count / (time.perf_counter() - begun)


async def call_rate(store: Store, processes: int, seconds: float) -> float:
    """Durable calls per second of this many processes."""
    counts = [0] * processes
    begun = time.perf_counter()

    async def process(pid: int) -> None:
        while time.perf_counter() - begun < seconds:
            store.journal.append(call(pid))
            await store.journal.durable(store.journal.append(call(pid, "result")))
            counts[pid] += 1

    async with anyio.create_task_group() as group:
        for pid in range(processes):
            group.start_soon(process, pid)
    return sum(counts) / (time.perf_counter() - begun)


def commit_times(store: Store, rows: int, commits: int) -> list[float]:
    """Sorted seconds of commits of this many rows."""
    times = []
    for _ in range(commits):
        for pid in range(rows):
            store.journal.append(call(pid % 50))
        begun = time.perf_counter()
        store.journal.flush()
        times.append(time.perf_counter() - begun)
    return sorted(times)


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def measure_calls(folder: Path, seconds: float, busy: bool) -> None:
    for processes in (1, 100, 1_000):
        raw = raw_rate(folder, seconds / 2)
        with file_store(folder / f"calls-{processes}-{busy}", durability="strict") as store, busy_thread(busy):
            spent = time.thread_time()
            rate = anyio.run(call_rate, store, processes, seconds)
            cpu = (time.thread_time() - spent) / max(1, rate * seconds) * 1e6
            per_commit = store.journal.head / store.journal.commits
        raw = (raw + raw_rate(folder, seconds / 2)) / 2
        ratio = f"{rate:8.0f} calls/s = {rate / raw:5.2f} x raw ({raw:.0f}/s)"
        say(f"{processes:5} processes: {ratio}, {per_commit:.0f} rows a commit, {cpu:.0f} us CPU a call")


def measure_commits(folder: Path, busy: bool) -> None:
    with file_store(folder / f"commits-{busy}", durability="strict") as store, busy_thread(busy):
        times = commit_times(store, 200, 100)
    say(f"commit of 200 rows: p50 {times[50] * 1e3:.1f} ms, p99 {times[98] * 1e3:.1f} ms")


def measure_rows(folder: Path) -> None:
    where, rows = folder / "rows", 20_000
    with file_store(where, durability="strict") as store:
        spent, begun = time.process_time(), time.perf_counter()
        for number in range(rows):
            store.journal.append(call(number % 50))
        store.journal.flush()
        cpu, wall = time.process_time() - spent, time.perf_counter() - begun
        begun = time.perf_counter()
        assert store.verify().ok
        checked = time.perf_counter() - begun
    size = (where / "store.db").stat().st_size
    begun = time.perf_counter()
    file_store(where).close()
    opened = time.perf_counter() - begun
    say(f"rows nobody waits for: {rows / wall:.0f}/s, {cpu / rows * 1e6:.1f} us CPU a row, {size / rows:.0f} bytes a row")
    say(f"verify {checked / rows * 1e6:.1f} us a row; open and close with {rows} rows {opened * 1e3:.1f} ms")


def main(seconds: float, where: str | None) -> None:
    """Print everything once quiet and once beside a busy thread."""
    folder = Path(tempfile.mkdtemp(dir=where))
    try:
        for busy in (False, True):
            say("beside a busy thread" if busy else "quiet")
            measure_calls(folder, seconds, busy)
            measure_commits(folder, busy)
        measure_rows(folder)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 2.0, sys.argv[2] if len(sys.argv) > 2 else None)
