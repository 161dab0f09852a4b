"""Checkpoints: what naming a point, going back to it, starting from it and comparing with it cost, by what there is and has changed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio

import agentos
from tests.bench.harness import Size, Table
from tests.bench.traffic import kernel

__all__ = ["run"]


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield one table: every store has objects; `changed` of them were changed, and `rows` calls made, since the checkpoint."""
    head = ("objects", "changed since", "rows since", "checkpoint ms", "restore ms", "fork ms", "diff ms", "new tree ms")
    note = "each the median of some, until it is durable; forks and new trees copy every name of the private namespace"
    table = Table("checkpoints", head, note=note)
    cases = ((100, 0, 0), (10_000, 0, 0), (10_000, 100, 1_000), (10_000, 10_000, 10_000), (100, 0, 20_000))
    for objects, changed, rows in cases:
        counts = [size.of(objects), size.of(changed) if changed else 0, size.of(rows) if rows else 0]
        where = folder / f"{objects}-{changed}-{rows}"
        where.mkdir()
        table.add(*map(str, counts), *anyio.run(_measure, where, *counts, size.rounds))
    yield table


async def _measure(folder: Path, objects: int, changed: int, rows: int, rounds: int) -> list[str]:
    async with kernel(folder) as opened:
        process = await opened.spawn(agentos.Image.host())
        await _put(process, objects)
        saved: list[str] = []

        async def save() -> None:
            saved.append(await process.checkpoint())

        checkpoint_ms = await _median_ms(save, 3 * rounds)
        await _put(process, changed)
        await process.calls([("clock.now", {})] * max(0, rows - changed))
        point = saved[-1]
        times = [checkpoint_ms]
        diff_ms = await _median_ms(lambda: opened.diff(point), rounds)
        times.append(await _once_ms(lambda: opened.restore(point)))
        times.append(await _median_ms(lambda: opened.fork(checkpoint=point), rounds))
        times += [diff_ms, await _median_ms(lambda: opened.restore(point, mode="new"), rounds)]
        return [f"{each:.1f}" for each in times]


async def _put(process: agentos.Process, count: int) -> None:
    for begin in range(0, count, 500):
        names = range(begin, min(begin + 500, count))
        await process.calls([("obj.put", {"value": time.monotonic_ns(), "name": f"n{name}"}) for name in names])


async def _once_ms(work: Callable[[], Awaitable[Any]]) -> float:
    begun = time.perf_counter()
    await work()
    return (time.perf_counter() - begun) * 1e3


async def _median_ms(work: Callable[[], Awaitable[Any]], count: int) -> float:
    return sorted([await _once_ms(work) for _ in range(count)])[count // 2]
