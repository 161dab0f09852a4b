"""Calls that the embedding application makes: each returns once its own row is durable. One after the other, and 64 in flight."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import anyio

import agentos
from agentos.abi.limits import CALLS_IN_FLIGHT_MAX
from tests.bench.harness import Size, Spent, Table, raw_rate
from tests.bench.traffic import kernel

__all__ = ["run"]

_CALLS: dict[str, tuple[str, dict[str, Any]]] = {"pure": ("clock.now", {}), "effect": ("noop.run", {"n": 1})}


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield one table."""
    head = ("call", "in flight", "calls/s", "x raw", "wall us", "CPU us")
    turns = [anyio.run(_turn, folder / f"{turn}", size) for turn in range(size.rounds)]
    note = "a sequential call waits for a commit of its own, an effect for two; what is in flight together shares one"
    table = Table("Process.call", head, note=note)
    for kind in _CALLS:
        for flight in (1, CALLS_IN_FLIGHT_MAX):
            walls, cpus, ratios = zip(*(turn[kind, flight] for turn in turns), strict=True)
            wall = median(walls)
            table.add(kind, f"{flight}", f"{1e6 / wall:.0f}", f"{median(ratios):.2f}", f"{wall:.0f}", f"{median(cpus):.0f}")
    yield table


async def _turn(folder: Path, size: Size) -> dict[tuple[str, int], tuple[float, float, float]]:
    found = {}
    async with kernel(folder) as opened:
        host = await opened.spawn(agentos.Image.host(), grant=["noop.*"])
        for kind in _CALLS:
            for flight in (1, CALLS_IN_FLIGHT_MAX):
                calls = size.of(300 if flight == 1 else 5_000) + flight
                before = raw_rate(folder, size.seconds / 4).rate
                with Spent() as spent:
                    await _make(host, kind, flight, calls)
                raw = (before + raw_rate(folder, size.seconds / 4).rate) / 2
                found[kind, flight] = spent.wall_s / calls * 1e6, spent.cpu_s / calls * 1e6, calls / spent.wall_s / raw
    return found


async def _make(host: agentos.Process, kind: str, flight: int, calls: int) -> None:
    op, args = _CALLS[kind]
    left = calls

    async def one() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await host.call(op, **args)

    async with anyio.create_task_group() as tasks:
        for _ in range(flight):
            tasks.start_soon(one)
