"""agentos: a program of one syscall a step. `once` is never repeated by itself, so a person (here: one who looks) says what came of it."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.programs.sys import Sys
from tests.bench import pg
from tests.bench.harness import Spent
from tests.bench.peers.child import SERVER, chunk
from tests.bench.peers.target import Target

__all__ = ["effects", "grow", "steps"]

POLICY = 'policy "bench"\nallow target.act, proc.save\n'
_SAVE_EVERY = 5_000
_LOOK_S = 0.05


@agentos.program("peer-steps")
async def looping(sys: Sys, end: float) -> int:
    """Act until the time is over."""
    made = sys.state or 0
    while time.perf_counter() < end:
        await sys.target.act(n=made)
        made += 1
        if made % _SAVE_EVERY == 0:
            await sys.save(made)
    return made


@agentos.program("peer-grow")
async def growing(sys: Sys, count: int) -> int:
    """Act, keep a kilobyte more, and save all of it, every step."""
    noise, log = random.Random(1), []
    for turn in range(count):
        await sys.target.act(n=turn)
        log.append(chunk(noise))
        await sys.save({"log": log, "turn": turn})
    return count


@agentos.program("peer-effects")
async def acting(sys: Sys, count: int) -> int:
    """Do each effect."""
    for turn in range(count):
        await sys.target.act(n=turn)
    return count


def steps(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Run loops side by side."""
    processes, seconds = given
    return anyio.run(_timed, folder, mode, "peer-steps", int(processes), seconds)


def grow(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Grow a state."""
    return anyio.run(_timed, folder, mode, "peer-grow", 1, int(given[0]))


def effects(folder: Path, mode: str, given: Sequence[float]) -> dict[str, Any]:
    """Do effects, from where an earlier run was killed."""
    return anyio.run(_effects, folder, mode, int(given[0]))


def _device(mode: str, target: Target | None) -> agentos.Device:
    device = agentos.Device("target")

    @device.op(effect=mode.partition(" ")[0])  # type: ignore[untyped-decorator]
    async def act(ctx: agentos.Call, n: int) -> int:
        """Act upon the target, or upon nothing."""
        return target.act(n, ctx.key if mode == "keyed" else "") if target is not None else n

    return device


def _open(folder: Path, mode: str, device: agentos.Device) -> Any:
    (folder / "w").mkdir(parents=True, exist_ok=True)
    given = {"workspace": folder / "w", "devices": {"target": device}, "policy": POLICY, "control": False}
    where = pg.schema_of(os.environ[SERVER], folder) if mode.endswith("postgresql") else folder / "store.db"
    return agentos.open(where, **given)  # type: ignore[arg-type]


async def _timed(folder: Path, mode: str, program: str, processes: int, given: float) -> dict[str, Any]:
    image = agentos.Image.program(program, capabilities=["target.*"])
    async with _open(folder, mode, _device(mode, None)) as kernel:
        with Spent() as spent:
            args = {"end": time.perf_counter() + given} if program == "peer-steps" else {"count": given}
            spawned = [await kernel.spawn(image, args=args) for _ in range(processes)]
            ended = [await process.wait() for process in spawned]
            kernel.core.journal.flush()
    assert all(one.state == "exited" for one in ended), ended
    return {"steps": sum(one.value for one in ended), "wall_s": spent.wall_s, "cpu_s": spent.cpu_s}


async def _effects(folder: Path, mode: str, count: int) -> dict[str, Any]:
    target, asked = Target(folder / "effects"), 0
    async with _open(folder, mode, _device(mode, target)) as kernel:
        image = agentos.Image.program("peer-effects", capabilities=["target.*"])
        process = kernel.process(1) if await kernel.ps(all=True) else await kernel.spawn(image, args={"count": count})
        ended = None
        while ended is None:
            for ask in await kernel.asks():
                asked += 1
                number = ask.args["n"]
                happened = {"value": number} if target.has(number) else {}
                await kernel.answer(ask.id, "approve", by="operator", **happened)
            with anyio.move_on_after(_LOOK_S):
                ended = await process.wait()
    assert ended.state == "exited", ended
    return {"steps": count, "asked": asked}
