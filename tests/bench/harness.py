"""What every bench shares: sizes, clocks, the raw floor, something busy beside, and tables.

Protocol: a bench is a function ``run(size, folder)`` that yields tables as it gets them. A rate is never printed alone: the raw rate of
plain sqlite3 single commits (WAL, FULL, 800 bytes) is measured before and after it, in the same folder and beside the same load, and the
ratio is the median of the rounds' own ratios. CPU time (of this process, without the load's) stands beside wall time.
Not here: thresholds. No bench fails on a time.
"""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import TracebackType

__all__ = [
    "PAYLOAD", "Bench", "Load", "Raw", "Size", "Spent", "Table", "each_us", "loads", "quick", "raw_commits", "raw_rate", "spread",
    "store_bytes",
]  # fmt: skip

PAYLOAD = bytes(range(200)) * 4


@dataclass(frozen=True, slots=True)
class Size:
    """How much is measured.

    Attributes:
        seconds: Length of one measured window.
        rounds: How often everything is measured, in turn.
        share: Counts (processes, rows, spawns) are multiplied by this.
        full: Also measure what takes minutes.
        loaded: Also measure beside a busy thread and a busy process.
    """

    seconds: float = 0.5
    rounds: int = 3
    share: float = 1.0
    full: bool = False
    loaded: bool = True

    def of(self, count: int) -> int:
        """Return a count at this size, at least 1."""
        return max(1, round(count * self.share))


def quick() -> Size:
    """The size at which a bench only shows that it runs."""
    return Size(seconds=0.02, rounds=1, share=0.01, loaded=False)


@dataclass(slots=True)
class Table:
    """A table as it is printed: the first column to the left, numbers to the right."""

    title: str
    head: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""

    def add(self, *cells: str) -> None:
        """Add a row."""
        assert len(cells) == len(self.head), "a cell is missing"
        self.rows.append(cells)

    def __str__(self) -> str:
        """Return the table as aligned text."""
        lines = [self.head, *self.rows]
        widths = [max(len(line[at]) for line in lines) for at in range(len(self.head))]
        text = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]).rstrip() for line in lines]
        text.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([f"# {self.title}", *text, *([self.note] if self.note else [])])


Bench = Callable[[Size, Path], Iterator[Table]]


# --- clocks -------------------------------------------------------------------------------------------------------------------


class Spent:
    """Wall and CPU seconds of a block; `busy_s` tells what a load in this process has used and is taken off."""

    def __init__(self, busy_s: Callable[[], float] = float) -> None:
        self._busy_s = busy_s
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def __enter__(self) -> Spent:
        """Start the clocks."""
        self._cpu, self._wall = time.process_time() - self._busy_s(), time.perf_counter()
        return self

    @property
    def so_far_s(self) -> float:
        """Wall seconds since the clocks were started."""
        return time.perf_counter() - self._wall

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Stop the clocks."""
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = time.process_time() - self._busy_s() - self._cpu


def each_us(work: Callable[[], object], count: int, rounds: int = 5) -> float:
    """Return the CPU microseconds of one `work()`: the best of some rounds, without the loop around it."""
    empty = min(_loop_s(_nothing, count) for _ in range(rounds))
    return max(0.0, min(_loop_s(work, count) for _ in range(rounds)) - empty) / count * 1e6


def _loop_s(work: Callable[[], object], count: int) -> float:
    begun = time.process_time()
    for _ in range(count):
        work()
    return time.process_time() - begun


def _nothing() -> None:
    pass


def spread(values: Sequence[float]) -> tuple[float, str]:
    """Return the median, and how far the values lie apart, in percent of it."""
    middle = median(values)
    return middle, f"+-{(max(values) - min(values)) / 2 / middle * 100:.0f}%" if middle else "-"


# --- the floor, and the load beside -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Raw:
    """What plain sqlite3 single commits do: how many a second, and the CPU of one."""

    rate: float
    cpu_us: float


def raw_rate(folder: Path, seconds: float, busy_s: Callable[[], float] = float) -> Raw:
    """Measure single commits of plain sqlite3 in `folder`: what the disk gives to one who waits for every row."""
    with _raw(folder) as raw:
        count, spent = 0, Spent(busy_s)
        with spent:
            while not count or spent.so_far_s < seconds:
                raw.execute("INSERT INTO t (b) VALUES (?)", (PAYLOAD,))
                count += 1
    return Raw(count / spent.wall_s, spent.cpu_s / count * 1e6)


def raw_commits(folder: Path, count: int, size_bytes: int) -> None:
    """Commit `count` rows of that many bytes one by one with plain sqlite3, into ``raw.db``."""
    with _raw(folder) as raw:
        for _ in range(count):
            raw.execute("INSERT INTO t (b) VALUES (?)", (bytes(size_bytes),))


@contextlib.contextmanager
def _raw(folder: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(folder / "raw.db", isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("PRAGMA synchronous = FULL")
        raw.execute("CREATE TABLE IF NOT EXISTS t (a INTEGER PRIMARY KEY, b BLOB)")
        yield raw


@dataclass(frozen=True, slots=True)
class Load:
    """Something that computes beside what is measured."""

    name: str
    beside: Callable[[], contextlib.AbstractContextManager[Callable[[], float]]]


@contextlib.contextmanager
def _alone() -> Iterator[Callable[[], float]]:
    yield float


@contextlib.contextmanager
def _busy_thread() -> Iterator[Callable[[], float]]:
    stop, spent = threading.Event(), [0.0]

    def compute() -> None:
        number = 0
        while not stop.is_set():
            for _ in range(5_000):
                number += 1
            spent[0] = time.thread_time()

    thread = threading.Thread(target=compute, daemon=True)
    thread.start()
    try:
        yield lambda: spent[0]
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def _busy_process() -> Iterator[Callable[[], float]]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        try:
            yield float
        finally:
            process.kill()


def loads(size: Size) -> list[Load]:
    """Return the loads under which rates are measured."""
    quiet = Load("nothing else in this interpreter", _alone)
    beside = [Load("beside a busy thread of this interpreter", _busy_thread), Load("beside a busy process", _busy_process)]
    return [quiet, *beside] if size.loaded else [quiet]


def store_bytes(path: Path) -> int:
    """Return the bytes of a closed store: the file and, if it was left, its log."""
    return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*") if not file.name.endswith("-shm"))
