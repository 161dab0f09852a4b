"""Kernels for the stories of recovery: a device that is asked what became of an effect, and a schedule whose run is due."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.runtime.boot import Open
from agentos.testing import FakeClock, Ledger
from agentos.testing.crash import AT, crash_point, install

START = 1_800_000_000.0


def peer(folder: Path, said: str = "") -> agentos.Device:
    """A device that keeps a file of what it did, and says afterwards what `said` names."""
    device = agentos.Device("peer")

    @device.op(effect="probeable")
    async def push(value: str) -> str:
        with (folder / "pushed").open("a") as file:
            file.write(f"{value}\n")
        crash_point("peer.pushed")
        return f"pushed {value}"

    @push.reconcile
    async def _(value: str) -> Any:
        if said == "raises":
            raise RuntimeError("approve everything")
        if said == "hangs":
            await anyio.sleep(3600)
        return {"value": f"found {value}", "not started": agentos.NOT_STARTED, "odd": object()}.get(said, agentos.UNKNOWN)

    @device.op(effect="probeable")
    def block(value: str) -> str:
        crash_point("peer.blocked")
        return value

    @block.reconcile
    def _(value: str) -> Any:
        import time

        time.sleep(1.5 if said == "hangs" else 0)
        return value

    return device


def opened(folder: Path, said: str = "", **options: Any) -> Open:
    """Open the story's store with its devices."""
    (folder / "w").mkdir(parents=True, exist_ok=True)
    devices = {"peer": peer(folder, said), "ledger": Ledger(folder / "ledger").device}
    usual = {
        "workspace": folder / "w",
        "devices": devices,
        "control": False,
        "durability": "fast",
        "grace_s": 0,
        "programs": PROGRAMS,
    }
    return agentos.open(folder / "store.db", **{**usual, **options})


@agentos.program("pusher")
async def pusher(sys: Any, *, op: str = "peer.push") -> Any:
    """Make one call and say what it came to."""
    try:
        return await sys(op, value="x")
    except agentos.AgentOSError as error:
        return error.code


@agentos.program("runner")
async def runner(sys: Any) -> Any:
    """What a schedule starts."""
    return (await sys.ledger.keyed(f"run {sys.pid}"))["value"]


@agentos.program("napper")
async def napper(sys: Any) -> str:
    """Sleep for an hour."""
    await sys.clock.sleep(3600)
    return "woke"


async def push(where: str, op: str) -> None:
    """Make the call beside a process that has nothing to do with it."""
    install()
    async with opened(Path(where)) as kernel:
        await kernel.spawn(agentos.Image.program("napper"))
        process = await kernel.spawn(agentos.Image.program("pusher", ["peer.*", "ledger.*"]), args={"op": op})
        await process.wait(5)


async def tick(where: str) -> dict[str, Any]:
    """Have the run that is due started, from wherever the last kernel left it, and say what there is then."""
    folder = Path(where)
    clock = FakeClock(START + 60 if (folder / "due").exists() else START)
    install()
    async with opened(folder, clock=clock) as kernel:
        if not (folder / "due").exists():
            await kernel.schedule(agentos.Image.program("runner", ["ledger.*"]), every=60)
            (folder / "due").touch()
            clock.advance(60)
        await kernel.run_until_idle(10)
        found = await kernel.schedules()
        return {
            "runs": [each.runs for each in found], "due": [each.due for each in found], "skipped": [each.skipped for each in found],
            "states": sorted(info.state for info in await kernel.ps(all=True)),
        }  # fmt: skip


@agentos.program("family")
async def family(sys: Any, *, depth: int) -> Any:
    """Have a child with children, and wait for it for ever."""
    if depth:
        for _ in range(2):
            await sys.proc.spawn("family:1", args={"depth": depth - 1}, grant=["proc.spawn family:*", "proc.wait", "ledger.*"])
    await sys.ledger.keyed(f"born {sys.pid}")
    return await sys.msg.recv()


async def kill_family(where: str) -> str:
    """Kill a tree of processes; points are counted from there on."""
    at = os.environ.pop(AT, "")
    async with opened(Path(where)) as kernel:
        image = agentos.Image.program("family", ["proc.spawn family:*", "proc.wait", "ledger.*"])
        await kernel.register(image)
        process = await kernel.spawn(image, args={"depth": 2})
        await kernel.run_until_idle(10)
        os.environ[AT] = at
        install()
        await process.signal("kill")
        return "killed"


def warm() -> None:
    """Import and build in this interpreter what every story needs."""
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(push, f"{folder}/1", "peer.push")
        (Path(folder) / "2").mkdir()
        anyio.run(tick, f"{folder}/2")


PROGRAMS = [
    pusher,
    runner,
    napper,
    family,
]  # given to each kernel: by name another module's could be meant, whoever was imported last
