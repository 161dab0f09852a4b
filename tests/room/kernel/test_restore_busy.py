"""Restores at any moment of a family that is busy: nobody diverges, nothing is used twice, and the next kernel agrees."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import agentos
from agentos.testing import Ledger
from tests.builders import opened, rows

pytestmark = pytest.mark.anyio


@agentos.program("busy")
async def busy(sys: Any, depth: int = 0) -> Any:
    """Save, gather effects, start children, wait for them, for ever."""
    done = sys.state or 0
    while done < 6:

        async def act(number: int = done) -> Any:
            await sys.obj.append("log", number)
            return (await sys.ledger.keyed(f"{number}"))["value"]

        await sys.gather(act, act, sys.clock.sleep(0.001))
        if depth < 2 and done == 1:
            child = await sys.proc.spawn("busy:1", args={"depth": depth + 1}, grant=["ledger.*", "proc.*", "msg.*"])
            await sys.msg.send(child, "hello")
            await sys.proc.wait(child)
        elif depth and done == 2:
            await sys.msg.recv()
        done += 1
        await sys.save(done)
    return len(await sys.obj.get("log"))


async def until_some_rows(kernel: Any, chance: random.Random) -> None:
    head = kernel.core.journal.head + chance.randint(1, 60)
    with anyio.move_on_after(0.2):
        while kernel.core.journal.head < head:
            await anyio.lowlevel.checkpoint()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("seed", range(2))
async def test_a_busy_family_is_taken_back_at_any_moment(tmp_path: Path, seed: int) -> None:
    """INVARIANT resume-never-reruns, uses-are-conserved: whatever was going on when the restore came."""
    chance = random.Random(seed)
    devices = {"ledger": Ledger(tmp_path / "ledger").device}
    options = {"devices": devices, "programs": [busy]}
    async with opened(tmp_path / "a.db", **options) as kernel:
        kernel.core.scheduler.resident_max = seed % 2
        await kernel.register(agentos.Image.program("busy"))
        process = await kernel.spawn(
            agentos.Image.program("busy"), grant=["ledger.*", "proc.*", "msg.*", "obj.put a/** uses 9"]
        )
        points = [await process.checkpoint()]
        for _ in range(18):
            await until_some_rows(kernel, chance)
            if process.info.exit is None and chance.random() < 0.5:
                points.append(await process.checkpoint())
            if chance.random() < 0.6:
                await kernel.restore(chance.choice(points))
    async with opened(tmp_path / "a.db", **options) as kernel:
        again = kernel.process(process.pid)
        if again.info.exit is not None:
            await kernel.restore(points[-1])
        ended = await again.wait(20)
        assert (ended.state, ended.value) == ("exited", 12)
        assert {info.exit.state for info in await kernel.ps(all=True) if info.exit} <= {"exited", "killed"}
        assert [row.op for row in rows(kernel, notes=True)].count("note.restored") > 5
        assert sum(cap.uses_left or 0 for cap in await kernel.caps()) in (0, 9)
        assert (await kernel.verify_audit()).ok
