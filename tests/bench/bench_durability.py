"""The aims of durability, each beside what is measured: one command that says which are met.

A rate is the median of the rounds, and so is its ratio to the raw single commits around it; then the same beside a busy thread of the
interpreter, with the time that 99 of 100 commits took at most. Sizes and times are those of the other benches (spawn, open, cost).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import anyio

import agentos
from agentos.abi.records import Row
from agentos.runtime.clock import SystemClock
from agentos.store import open_store
from tests.bench import pg
from tests.bench.bench_checkpoint import _measure
from tests.bench.bench_cost import run_to_end
from tests.bench.bench_million import make_past
from tests.bench.bench_open import make_pending, reopened
from tests.bench.bench_spawn import spawns, stored
from tests.bench.harness import Load, Size, Table, loads, raw_rate, store_bytes
from tests.bench.traffic import Window, window

__all__ = ["run"]

_SLOW_DISK = 1_000.0  # raw commits a second, below which an fsync takes over a millisecond
_COMMIT_ROWS = 200
_COMMITS = 100


@dataclass(frozen=True, slots=True)
class Rate:
    """An aim for a rate: `least` a second, or so many times the raw rate."""

    kind: str
    processes: int
    least: float = 0.0
    ratio: float = 0.0
    ratio_slow: float = 0.0

    @property
    def name(self) -> str:
        """What is measured."""
        call = "effects" if self.kind == "effect" else "pure calls"
        return f"{call} a second, {self.processes} process{'es' if self.processes > 1 else ''}"

    def aim(self, raw: float) -> str:
        """Return the aim in words, where the disk makes `raw` single commits a second."""
        return f"{self.least:.0f}" if self.least else f"{self._ratio(raw):g} x raw"

    def is_met(self, rate: float, ratio: float, raw: float) -> bool:
        """Tell whether it is met."""
        return rate >= self.least if self.least else ratio >= self._ratio(raw)

    def _ratio(self, raw: float) -> float:
        return self.ratio_slow if self.ratio_slow and raw < _SLOW_DISK else self.ratio


Round = tuple[Window, float]
"""What was measured, and the raw rate around it."""
_ON_POSTGRES = (Rate("effect", 1, ratio=0.5), Rate("effect", 100, least=5_000.0), Rate("effect", 1_000, least=5_000.0))
_RATES = (
    Rate("effect", 1, ratio=0.5, ratio_slow=0.8), Rate("effect", 100, ratio=20.0), Rate("effect", 1_000, least=20_000.0),
    Rate("pure", 1, least=20_000.0), Rate("pure", 100, least=20_000.0),
)  # fmt: skip


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield rates, then sizes and times."""
    for load in loads(size)[:2]:
        yield _rates(size, folder / load.name, load)
    yield _commits(size, folder)
    yield _others(size, folder)
    yield from _on_postgres(size, folder / "postgres")


# --- rates --------------------------------------------------------------------------------------------------------------------


def _rates(size: Size, folder: Path, load: Load) -> Table:
    folder.mkdir()
    found: dict[Rate, list[Round]] = {rate: [] for rate in _RATES}
    for turn in range(size.rounds):
        for rate in _RATES:
            with load.beside() as busy_s:
                before = raw_rate(folder, size.seconds / 2, busy_s)
                where = folder / f"{rate.kind}-{rate.processes}-{turn}"
                seen = anyio.run(window, where, rate.kind, size.of(rate.processes), size.seconds * 2, busy_s)
                after = raw_rate(folder, size.seconds / 2, busy_s)
            found[rate].append((seen, (before.rate + after.rate) / 2))
    return _rates_table(f"rates, {load.name}", found)


def _rates_table(title: str, found: dict[Rate, list[Round]]) -> Table:
    head = ("what", "aim", "measured", "x raw", "raw/s", "CPU us", "commit p99 ms", "met")
    table = Table(title, head, note="CPU us: of one call, all threads, without a busy one's and without a server's")
    for rate, rounds in found.items():
        raw = median(floor for _, floor in rounds)
        measured, ratio = median(seen.rate for seen, _ in rounds), median(seen.rate / floor for seen, floor in rounds)
        table.add(
            rate.name, rate.aim(raw), f"{measured:.0f}", f"{ratio:.2f}", f"{raw:.0f}", f"{median(seen.cpu_us for seen, _ in rounds):.0f}",
            f"{median(seen.commit_p99_s for seen, _ in rounds) * 1e3:.1f}", _met(rate.is_met(measured, ratio, raw)),
        )  # fmt: skip
    return table


def _on_postgres(size: Size, folder: Path) -> Iterator[Table]:
    with pg.server() as address:
        found: dict[Rate, list[Round]] = {rate: [] for rate in _ON_POSTGRES if address}
        for turn in range(size.rounds):
            for rate, rounds in found.items():
                before = pg.raw_rate(address, size.seconds / 2)
                where = folder / f"{rate.processes}-{turn}"
                store = pg.schema_of(address, where)
                seen = anyio.run(partial(window, where, rate.kind, size.of(rate.processes), size.seconds * 2, store=store))
                rounds.append((seen, (before.rate + pg.raw_rate(address, size.seconds / 2).rate) / 2))
        if found:
            yield _rates_table("rates on PostgreSQL, raw by psycopg", found)


def _met(met: bool) -> str:
    return "yes" if met else "NO"


def _commits(size: Size, folder: Path) -> Table:
    head = ("beside", "aim, p99 ms", "p50 ms", "p99 ms", "met")
    table = Table(f"commits of {_COMMIT_ROWS} rows of 0.5 KB", head)
    for load in loads(size)[:2]:
        where = folder / f"commits-{load.name}"
        where.mkdir()
        with load.beside():
            times = _commit_times(where, max(2, size.of(_COMMITS)))
        p99 = times[len(times) * 99 // 100] * 1e3
        table.add(load.name, "20", f"{median(times) * 1e3:.1f}", f"{p99:.1f}", _met(p99 <= 20))
    return table


def _commit_times(folder: Path, commits: int) -> list[float]:
    """Return the sorted seconds of commits, each on a store of its own interpreter's main thread."""
    times = []
    with contextlib.closing(open_store(folder / "store.db", clock=SystemClock())) as store:
        for _ in range(commits):
            for pid in range(_COMMIT_ROWS):
                store.journal.append(
                    Row(pid=pid % 50, number="1.2", kind="intent", op="fs.write", resource="path:/a", args=bytes(400))
                )
            begun = time.perf_counter()
            store.journal.flush()
            times.append(time.perf_counter() - begun)
    return sorted(times)


# --- sizes and times ----------------------------------------------------------------------------------------------------------


def _others(size: Size, folder: Path) -> Table:
    table = Table("sizes and times", ("what", "aim", "measured", "met"))

    def add(what: str, aim: str, measured: float, unit: str, met: bool) -> None:
        table.add(what, aim, f"{measured:.1f} {unit}".replace(".0 ", " "), _met(met))

    count = size.of(2_000)
    image = agentos.Image.host()
    rates = [count / anyio.run(spawns, folder / f"spawn-{turn}", image, count).wall_s for turn in range(size.rounds)]
    add("spawns a second, up to 256 at once", "2000", median(rates), "/s", median(rates) >= 2_000)
    used = stored(folder / "spawn-0", folder / "spawn-empty") / count
    add("a process in the store", "1536 bytes", used, "bytes", used <= 1_536)
    steps = size.of(1_000)
    anyio.run(run_to_end, folder / "grow", "bench-grow", 1, {"steps": steps})
    grown = store_bytes(folder / "grow" / "store.db")
    add(f"{steps} steps of 1 KB more state", "3 MB", grown / 1e3, "KB", grown <= 3_000_000)
    objects, changed = size.of(10_000), size.of(100)
    (folder / "checkpoint").mkdir()
    named_ms, restored_ms = anyio.run(_measure, folder / "checkpoint", objects, changed, changed, size.rounds)[:2]
    add(f"checkpoint of {objects} objects", "10 ms", float(named_ms), "ms", float(named_ms) <= 10)
    add(f"restore it, {changed} of them changed since", "100 ms", float(restored_ms), "ms", float(restored_ms) <= 100)
    pending = size.of(1_000)
    anyio.run(make_pending, folder / "pending", pending)
    waited = float(reopened(folder / "pending", size.rounds)[2])
    add(f"{pending} pending processes, until all run again", "1000 ms", waited, "ms", waited < 1_000)
    rows = size.of(1_000_000 if size.full else 100_000)
    (folder / "history").mkdir()
    make_past(folder / "history" / "store.db", rows)
    opened = float(reopened(folder / "history", size.rounds)[0])
    add(f"reopen after {rows} rows", "200 ms", opened, "ms", opened < 200)
    return table
