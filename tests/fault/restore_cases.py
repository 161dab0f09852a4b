"""A family that is restored by a kernel that may die at any point: how it is made, taken back, described and brought to its end."""

from __future__ import annotations

import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.records import AskRecord, CapRecord, MessageRecord, NameRecord, ProcessRecord, TimerRecord
from agentos.runtime.boot import Open
from agentos.testing import FakeClock, Ledger
from agentos.testing.crash import install

NAMES = ("chief", "clerk")


@agentos.program("chief")
async def chief(sys: Any) -> Any:
    """Start a clerk, act, and collect words until there is one that ends it."""
    clerk_pid = await sys.proc.spawn("clerk:1", grant=["obj.put shared/** uses 3"])
    await sys.ledger.once(value="before")
    await sys.ckpt.save("here")
    await sys.msg.send(clerk_pid, "task")
    await sys.ledger.keyed(value="after")
    words = []
    while (word := (await sys.msg.recv()).value) != "end":
        words.append(word)
        await sys.obj.put(words, name="words")
    return [words, (await sys.proc.wait(clerk_pid)).value]


@agentos.program("clerk")
async def clerk(sys: Any) -> Any:
    """Do a task, and wait for a while."""
    task = (await sys.msg.recv()).value
    await sys.obj.put(task, name="task", namespace="shared")
    await sys.clock.sleep(1_000_000)
    return task


def opened(folder: Path, **options: Any) -> Open:
    (folder / "w").mkdir(parents=True, exist_ok=True)
    usual: dict[str, Any] = {
        "workspace": folder / "w", "devices": {"ledger": Ledger(folder / "ledger").device}, "control": False, "durability": "fast",
        "grace_s": 0, "clock": FakeClock(),
    }  # fmt: skip
    return agentos.open(folder / "store.db", **{**usual, **options})


async def quiet(kernel: agentos.Kernel) -> None:
    await kernel.run_until_idle(10)


async def build(where: str, parked: bool) -> None:
    """Make the family, let it go past its checkpoint, end one of it, start another, and revoke and grant."""
    async with opened(Path(where)) as kernel:
        kernel.core.scheduler.resident_max = 0 if parked else 512
        await kernel.register(agentos.Image.program("clerk"))
        process = await kernel.spawn(
            agentos.Image.program("chief"), grant=["ledger.*", "proc.*", "msg.*", "obj.put shared/** uses 9", "obj.get a/**"]
        )
        await quiet(kernel)
        await process.send("one")
        await quiet(kernel)
        await kernel.process(2).signal("kill")
        await kernel.spawn(agentos.Image.program("clerk"), parent=process)
        await kernel.revoke(next(cap.id for cap in await process.caps() if "a/**" in cap.text))
        await kernel.grant(process.pid, "obj.get **")
        await quiet(kernel)


async def go_back(where: str, mode: str) -> bool:
    """Restore the checkpoint while the programs run."""
    async with opened(Path(where)) as kernel:
        await quiet(kernel)
        install()
        kernel.core.scheduler.admitting = False  # so that what is on the disk is the restore, and not what came after it
        [checkpoint] = await kernel.checkpoints()
        await kernel.restore(checkpoint.id, mode=mode)
        return True


async def described(where: str) -> dict[str, Any]:
    """Say what the store holds, without running anything."""
    async with opened(Path(where), resume=False) as kernel:
        store = kernel.core.store
        return {
            "chain": (await kernel.verify_audit()).ok,
            "processes": [
                [r.pid, r.live, r.restored != "", r.label, r.fork_pid] for r in store.current(ProcessRecord, live=None)
            ],
            "caps": [[r.pid, r.text, r.uses_left] for r in store.current(CapRecord, live=True)],
            "names": [[r.namespace, r.name, store.objects.unpack(r.value)] for r in store.current(NameRecord, live=True)],
            "unread": [[r.pid, r.sender] for r in store.current(MessageRecord, live=True) if kernel.core.processes.get(r.pid)],
            "asks": len(store.current(AskRecord, live=True)),
            "timers": [[r.pid, r.number] for r in store.current(TimerRecord, live=True)],
        }


async def finish(where: str) -> dict[str, Any]:
    """Restore if that has not happened, and bring the chief to its end."""
    folder = Path(where)
    async with opened(folder) as kernel:
        await quiet(kernel)
        if not kernel.core.processes.find(1).record.restored:
            await kernel.restore((await kernel.checkpoints())[0].id)
        await quiet(kernel)
        process = kernel.process(1)
        await process.send("end")
        kernel.core.clock.advance(2_000_000)  # type: ignore[attr-defined]
        ended = await process.wait(10)
        report = await kernel.verify_audit()
    ledger = [entry["value"] for entry in Ledger.read(folder / "ledger")]
    keys = {entry["key"] for entry in Ledger.read(folder / "ledger") if entry["value"] == "after"}
    return {"value": ended.value, "before": ledger.count("before"), "keys": len(keys), "chain": report.ok}


def copied(whole: Path, to: Path) -> Path:
    """Copy a family's folder."""
    shutil.copytree(whole, to)
    return to


def warm() -> None:
    """Import what a kernel needs before the first child is forked."""

    async def once() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with opened(Path(folder)) as kernel:
                process = await kernel.spawn(agentos.Image.host(capabilities=["ledger.*"]))
                await process.call("ledger.keyed", value="warm")
                await kernel.restore(await process.checkpoint())

    anyio.run(once)
    for thread in set(threading.enumerate()) - {threading.current_thread()}:
        thread.join(5)  # a slow disk had a commit done in a thread; only an interpreter without threads can be forked
