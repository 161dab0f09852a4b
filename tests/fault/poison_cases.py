"""Kernels for the stories of poison: a program that kills its kernel whenever it runs again, beside healthy ones."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel

import agentos
from agentos.runtime.boot import Open
from agentos.testing import Ledger
from agentos.testing.crash import install

HEALTHY = 20


def opened(folder: Path, **options: Any) -> Open:
    """Open the story's store, with its ledger."""
    (folder / "w").mkdir(parents=True, exist_ok=True)
    usual = {"workspace": folder / "w", "devices": {"ledger": Ledger(folder / "ledger").device}, "control": False, "grace_s": 0}
    return agentos.open(folder / "store.db", **{**usual, "durability": "fast", **options})


@agentos.program("bane")
async def bane(sys: Any, *, cured: str) -> str:
    """Kill the kernel, unless somebody has put a file there: before or after an effect, as `sys.goal` says."""
    await sys.clock.sleep(0.05)  # until its birth is on the disk
    if sys.goal == "at once" and not Path(cured).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    await sys.ledger.keyed(f"bane {sys.pid}", delay_s=0)
    if sys.goal == "later" and not Path(cured).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return "cured"


@agentos.program("worker")
async def worker(sys: Any) -> str:
    """Sleep, act, wait for a word, act."""
    await sys.clock.sleep(0.005)
    await sys.ledger.keyed(f"first {sys.pid}")
    await sys.ledger.keyed(f"second {sys.pid}")  # not once: what is interrupted would wait for a person
    return "done"


@agentos.program("sleeper")
async def sleeper(sys: Any) -> str:
    """Wait, and write no row while it does."""
    return str((await sys.msg.recv()).value)


async def live(where: str, goal: str, kill_after_rest: bool) -> dict[str, Any]:
    """Run the story to its end from wherever the last kernel left it; with `kill_after_rest`, die when nothing is left to do."""
    folder = Path(where)
    install()
    async with opened(folder) as kernel:
        if not await kernel.ps(all=True):
            for _ in range(HEALTHY // 2):
                await kernel.spawn(agentos.Image.program("worker", ["ledger.*"]))
                await kernel.spawn(agentos.Image.program("sleeper"))
            args = {"cured": str(folder / "cured")}
            for _ in range(2 if goal == "two" else 1):
                await kernel.spawn(
                    agentos.Image.program("bane", ["ledger.*"]), goal="at once" if goal == "two" else goal, args=args
                )
        await kernel.run_until_idle(60)
        while any("timer" in info.waiting_on for info in await kernel.ps()):
            await anyio.sleep(0.01)
            await kernel.run_until_idle(60)
        if kill_after_rest:
            os.kill(os.getpid(), signal.SIGKILL)
        await anyio.lowlevel.checkpoint()
        return {str(info.pid): [info.state, list(info.waiting_on)] for info in await kernel.ps(all=True)}


def warm() -> None:
    """Import and build in this interpreter what every story needs."""
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(live, folder, "never", False)
