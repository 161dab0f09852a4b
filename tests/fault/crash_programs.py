"""The programs and the host of the crash matrix: one effect class in one situation, in a kernel that may die at any point.

`live` opens the store, starts what is not there yet, answers people's questions, waits for the end and tells what it found. It is what a
careful host does after a crash, so running it again on the same folder has to end as if nothing had happened.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.codec import decode
from agentos.abi.records import MessageRecord
from agentos.runtime.audit import entries
from agentos.testing import Ledger
from agentos.testing.crash import install

EFFECTS = ("pure", "repeatable", "keyed", "probeable", "once", "object", "message")
SITUATIONS = ("running", "gather", "parked", "approval", "question", "spawn", "fork")
CAPABILITIES = ["ledger.*", "obj.*", "msg.*", "proc.*"]
GATE = 'restrict "gate" version 1\nask ledger.*, obj.put, msg.send when value == "asked"\n'
LIFE_S = 10


async def act(sys: Any, effect: str, value: str) -> str:
    """Make one effect that bears the name `value`."""
    if effect == "object":
        ref = await sys.obj.put(value, name=value, namespace="matrix")
        return f"{value} v{ref.version}"
    if effect == "message":
        await sys.msg.send(1, value, channel="box")
        return value
    result = await sys(f"ledger.{effect}", value=value)
    return str(result["value"])


@agentos.program("subject")
async def subject(sys: Any, effect: str, situation: str) -> list[Any]:
    """Act before, in and after the situation."""
    first = await act(sys, effect, "first")
    found = await _SITUATIONS[situation](sys, effect)
    return [first, *found, await act(sys, effect, "last")]


@agentos.program("helper")
async def helper(sys: Any, effect: str, to: int) -> str:
    """Act, and send the subject a message when it wants one."""
    done = await act(sys, effect, "helped")
    if to:
        await sys.msg.send(to, done)
    return done


async def _running(sys: Any, effect: str) -> list[Any]:
    return [await act(sys, effect, "middle")]


async def _gather(sys: Any, effect: str) -> list[Any]:
    async def twice() -> list[str]:
        return [await act(sys, effect, "a1"), await act(sys, effect, "a2")]

    return list(await sys.gather(twice, act(sys, effect, "b"), sys.clock.sleep(0.005)))


async def _helper(sys: Any, effect: str, to: int) -> int:
    pid: int = await sys.proc.spawn("helper:1", args={"effect": effect, "to": to}, grant=["ledger.*", "obj.*", "msg.*"])
    return pid


async def _parked(sys: Any, effect: str) -> list[Any]:
    await _helper(sys, effect, sys.pid)
    message = await sys.msg.recv()
    return [message.value, await act(sys, effect, "middle")]


async def _approval(sys: Any, effect: str) -> list[Any]:
    return [await act(sys, effect, "asked")]


async def _question(sys: Any, effect: str) -> list[Any]:
    return [await sys.human.ask("go on?"), await act(sys, effect, "middle")]


async def _spawn(sys: Any, effect: str) -> list[Any]:
    ended = await sys.proc.wait(await _helper(sys, effect, 0))
    return [ended.state, ended.value]


async def _fork(sys: Any, effect: str) -> list[Any]:
    pid = await sys.proc.fork(grant=["ledger.*", "obj.*", "msg.*"])
    if pid == 0:
        await sys.proc.exit(await act(sys, effect, "forked"))
    ended = await sys.proc.wait(pid)
    return [ended.state, ended.value]


_SITUATIONS = {
    "running": _running, "gather": _gather, "parked": _parked, "approval": _approval, "question": _question, "spawn": _spawn,
    "fork": _fork,
}  # fmt: skip


def counted(ledger: Path) -> Counter[str]:
    """Return how often each value stands in the ledger."""
    return Counter(entry["value"] for entry in Ledger.read(ledger))


def finished(kernel: agentos.Kernel) -> set[str]:
    """Return the values whose effect the journal knows to be done."""
    trail = entries(kernel.core.store, since=0, pid=None, op=None, outcome="done")
    return {str(entry.args["value"]) for entry in trail if entry.op.startswith("ledger.")}


async def answer_people(kernel: agentos.Kernel, ledger: Path, kinds: Counter[str], pause_s: float = 0.001) -> None:
    """Answer every question as somebody would who looks at the other side before saying what happened, and then at other things."""
    while True:
        for ask in await kernel.asks():
            kinds[ask.kind] += 1
            await kernel.answer(ask.id, "approve", by="pat", **answer_of(ask, ledger))
        await anyio.sleep(pause_s)


def answer_of(ask: agentos.Ask, ledger: Path) -> dict[str, Any]:
    """What somebody says who looks at the other side."""
    happened = ask.kind == "unknown_outcome" and _happened(ledger, str(ask.args["value"]))
    return {"value": happened} if happened else {"value": "go"} if ask.kind == "question" else {}


def _happened(ledger: Path, value: str) -> dict[str, Any] | None:
    lines = [entry for entry in Ledger.read(ledger) if entry["value"] == value and entry["op"] == "once"]
    return {"value": value, "when": lines[0]["when"]} if lines else None


def store_of(folder: Path) -> str | Path:
    """Return the store of a case: the database whose address a test has left there, or a file."""
    address = folder / "address"
    return address.read_text() if address.exists() else folder / "store.db"


async def live(where: str, effect: str, situation: str, resident: int) -> dict[str, Any]:
    """Run one case to its end, from wherever the last kernel left it, and tell what came of it."""
    folder = Path(where)
    (folder / "w").mkdir(parents=True, exist_ok=True)
    book, kinds = folder / "ledger", Counter[str]()
    ledger = Ledger(book)
    install()
    before = counted(book)
    async with agentos.open(
        store_of(folder), workspace=folder / "w", devices={"ledger": ledger.device}, control=False, durability="fast"
    ) as kernel:
        kernel.core.scheduler.resident_max = resident
        done_before = finished(kernel)
        process = await _the_subject(kernel, folder, effect, situation)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer_people, kernel, book, kinds)
            ended = await process.wait(LIFE_S)
            await kernel.run_until_idle(LIFE_S)
            tasks.cancel_scope.cancel()
        kernel.core.journal.flush()
        after = counted(book)
        boxed = [record for record in kernel.core.store.current(MessageRecord, live=None) if record.channel == "box"]
        return {
            "state": ended.state, "value": ended.value, "error": str(ended.error or ""), "asked": dict(kinds), "ledger": dict(after),
            "keys": {value: len({e["key"] for e in Ledger.read(book) if e["value"] == value}) for value in after},
            "again": sorted(value for value in done_before if after[value] != before[value]),
            "messages": dict(Counter(decode(record.value) for record in boxed)),
            "chain": kernel.core.store.verify().ok, "alive": [process.pid for process in await kernel.ps() if process.pid != 1],
        }  # fmt: skip


async def _the_subject(kernel: agentos.Kernel, folder: Path, effect: str, situation: str) -> agentos.Process:
    """Start the subject, or find the one that the host was told about, or may not have been told about."""
    told = folder / "told"
    known = [process for process in await kernel.ps(all=True) if process.name == "subject"]
    if known:
        return kernel.process(min(process.pid for process in known))
    assert not told.exists(), "a process was acknowledged and is gone"
    if not await kernel.ps():
        await kernel.spawn(agentos.Image.host("mailbox"), name="mailbox")
    await kernel.register(agentos.Image.program("helper", capabilities=CAPABILITIES))
    process = await kernel.spawn(
        agentos.Image.program("subject", capabilities=CAPABILITIES), args={"effect": effect, "situation": situation}, policy=GATE,
        name="subject",
    )  # fmt: skip
    os.close(os.open(told, os.O_CREAT | os.O_WRONLY, 0o600))
    return process


def warm() -> None:
    """Import and build in this interpreter what every case needs, so that a fork of it starts at once."""
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate([("once", "parked"), ("object", "fork"), ("message", "question"), ("keyed", "approval")]):
            anyio.run(live, f"{folder}/{number}", *case, 512)
