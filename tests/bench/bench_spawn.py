"""Spawning: processes per second, what a live process takes in memory and in the store, and forking with 20 capabilities."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import anyio

import agentos
from agentos.programs.sys import Sys
from agentos.runtime.clock import SystemClock
from agentos.store import open_store
from tests.bench.harness import Size, Spent, Table, spread, store_bytes
from tests.bench.traffic import all_wait, kernel, let_go, spawn_all

__all__ = ["run", "spawns", "stored"]

_GRANTS = [f"fs.read /d{number}/**" for number in range(20)]
_forks: dict[int, list[float]] = {}


@agentos.program("bench-recv")
async def recv(sys: Sys) -> None:
    """Wait for a message."""
    await sys.msg.recv()


@agentos.program("bench-fork")
async def fork(sys: Sys, forks: int) -> None:
    """Fork children that end at once, each with 20 capabilities."""
    for _ in range(forks):
        begun = time.process_time()
        child = await sys.proc.fork(grant=_GRANTS)
        if child == 0:
            return
        _forks.setdefault(sys.pid, []).append(time.process_time() - begun)  # a child's own are those it remembers


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield rates, then sizes, then forks."""
    count = size.of(2_000)
    images = {
        "host, no capability": agentos.Image.host(),
        "host, 5 capabilities": agentos.Image.host(capabilities=_GRANTS[:5]),
        "program that waits for a message": agentos.Image.program("bench-recv"),
    }
    rates = Table(
        f"{count} spawns, up to 256 at once, each returned once it is durable", ("image", "spawns/s", "spread", "CPU us each")
    )
    for name, image in images.items():
        turns = [anyio.run(spawns, folder / f"{name}-{turn}", image, count) for turn in range(size.rounds)]
        rate, apart = spread([count / spent.wall_s for spent in turns])
        rates.add(name, f"{rate:.0f}", apart, f"{median(spent.cpu_s for spent in turns) / count * 1e6:.0f}")
    yield rates
    note = "memory as tracemalloc sees it, with its task where it has one"
    sizes = Table("bytes of one live process", ("image", "memory", "store"), note=note)
    for name, image in images.items():
        memory = anyio.run(_memory, folder / f"memory-{name}", image, size.of(500))
        sizes.add(name, f"{memory:.0f}", f"{stored(folder / f'{name}-0', folder / f'empty-{name}') / count:.0f}")
    yield sizes
    yield anyio.run(_fork, folder / "fork", size.of(300))


async def spawns(folder: Path, image: agentos.Image, count: int) -> Spent:
    async with kernel(folder) as opened:
        await opened.register(image)
        with Spent() as spent:
            await spawn_all(opened, image, count)
    return spent


def stored(folder: Path, empty: Path) -> int:
    """Return how much larger a store is than an empty one."""
    empty.mkdir()
    open_store(empty / "store.db", clock=SystemClock()).close()
    return store_bytes(folder / "store.db") - store_bytes(empty / "store.db")


async def _memory(folder: Path, image: agentos.Image, count: int) -> float:
    async with kernel(folder) as opened:
        opened.core.scheduler.resident_max = count + 2
        for part in (max(1, count // 50), count):  # the first few warm every cache up
            gc.collect()
            tracemalloc.start()
            spawned = await spawn_all(opened, image, part)
            let_go(opened)
            if image.body.kind != "host":
                await all_wait(opened)
            gc.collect()
            grown, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert all(opened.core.processes.get(process.pid) for process in spawned)
    return grown / count


async def _fork(folder: Path, forks: int) -> Table:
    _forks.clear()
    async with kernel(folder) as opened:
        image = agentos.Image.program("bench-fork", capabilities=[*_GRANTS, "proc.fork self"])
        parent = await opened.spawn(image, args={"forks": forks})
        ended = await parent.wait(60)
        assert ended.state == "exited", ended
        derive_us = await _derive_us(opened)
    table = Table(
        "fork with 20 capabilities", ("what", "CPU us"), note="a row and 22 changes are appended; their commit is not in it"
    )
    table.add("proc.fork, the whole call, median", f"{median(_forks[parent.pid]) * 1e6:.0f}")
    table.add("of which deriving 20 capabilities", f"{derive_us:.0f}")
    return table


async def _derive_us(opened: agentos.Kernel) -> float:
    core = opened.core
    above = await opened.spawn(agentos.Image.host(capabilities=_GRANTS))
    below = await opened.spawn(agentos.Image.host(), parent=above)
    giver, taker = core.processes.find(above.pid), core.processes.find(below.pid)
    times = []
    for _ in range(20):
        begun = time.process_time()
        made = [core.caps.derive(cap, cap.spec, taker, [], now=1.0) for cap in list(giver.caps.values())]
        times.append(time.process_time() - begun)
        for cap in made:
            core.caps.revoke(cap, [])
    return min(times) * 1e6
