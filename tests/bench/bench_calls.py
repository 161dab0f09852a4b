"""Syscalls per second of 1, 100 and 1,000 processes beside the raw single-commit rate, quiet and under load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import anyio

from tests.bench.harness import Load, Raw, Size, Table, loads, raw_rate, spread
from tests.bench.traffic import KINDS, Window, window

__all__ = ["run"]

_PROCESSES = (1, 100, 1_000)


@dataclass(slots=True)
class Seen:
    """The rounds of one figure."""

    windows: list[Window] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield one table per load."""
    for load in loads(size):
        yield _table(size, folder, load)


def _table(size: Size, folder: Path, load: Load) -> Table:
    wanted = [(kind, size.of(n) if n > 1 else 1) for kind in KINDS for n in _PROCESSES]
    seen = {want: Seen() for want in wanted}
    floor: list[Raw] = []
    for turn in range(size.rounds):
        for kind, processes in wanted:
            with load.beside() as busy_s:
                before = raw_rate(folder, size.seconds / 2, busy_s)
                where = folder / f"{load.name}-{kind}-{processes}-{turn}"
                found = anyio.run(window, where, kind, processes, size.seconds, busy_s)
                after = raw_rate(folder, size.seconds / 2, busy_s)
            floor += [before, after]
            seen[kind, processes].windows.append(found)
            seen[kind, processes].ratios.append(found.rate / ((before.rate + after.rate) / 2))
    head = (
        "calls",
        "processes",
        "calls/s",
        "spread",
        "x raw",
        "CPU us/call",
        "statements/call",
        "commits/call",
        "host late ms",
    )
    raw, apart = spread([found.rate for found in floor])
    note = f"raw single commits: {raw:.0f}/s {apart}, {median(found.cpu_us for found in floor):.0f} CPU us each"
    table = Table(f"syscalls per second, {load.name}", head, note=note)
    for (kind, processes), rounds in seen.items():
        table.add(kind, f"{processes}", *_cells(rounds))
    return table


def _cells(seen: Seen) -> list[str]:
    rate, apart = spread([found.rate for found in seen.windows])
    calls = sum(found.calls for found in seen.windows)
    return [
        f"{rate:.0f}", apart, f"{median(seen.ratios):.2f}", f"{median(found.cpu_us for found in seen.windows):.0f}",
        f"{sum(found.statements for found in seen.windows) / calls:.3f}", f"{sum(found.commits for found in seen.windows) / calls:.3f}",
        f"{max(found.late_s for found in seen.windows) * 1e3:.0f}",
    ]  # fmt: skip
