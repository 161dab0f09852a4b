"""A store full of life for random kills: a ring of workers that act, talk, sleep, ask, save and have children, all at once.

What each worker does follows from the seed alone (`steps_of`), so what the ledger, the objects and the exits have to be in the end is
known without running anything (`model`).
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.codec import decode
from agentos.abi.records import MessageRecord
from agentos.testing import Ledger
from agentos.testing.crash import install
from tests.fault import soak_upkeep
from tests.fault.crash_programs import answer_of, answer_people, counted

LIFE_S = 80
GATE = 'restrict "gate" version 1\nask ledger.* when delay_s == 0.001\n'
GRANT = ["ledger.*", "obj.*", "msg.*", "proc.*"]
EFFECTS = ("repeatable", "keyed", "probeable", "once")
KINDS = (*EFFECTS, *EFFECTS, "approval", "question", "sleep", "gather", "child", "talk", "talk", "object")


def steps_of(seed: int, worker: int, rounds: int) -> list[str]:
    """Return what a worker does, step by step. Everybody talks in the same rounds, so that the ring never waits for itself."""
    chance, everybody = random.Random(seed * 1000 + worker), random.Random(seed)
    return [kind if (kind := everybody.choice(KINDS)) == "talk" else chance.choice(KINDS[:-3]) for _ in range(rounds)]


def model(seed: int, workers: int, rounds: int) -> tuple[Counter[str], Counter[str]]:
    """Return (values that stand in the ledger exactly once, values that stand there at least once)."""
    exact, least = Counter[str](), Counter[str]()
    for worker in range(workers):
        for at, kind in enumerate(steps_of(seed, worker, rounds)):
            value = f"{worker}.{at}"
            if kind == "repeatable":
                least[value] += 1
            elif kind == "gather":
                exact[f"{value}a"] += 1
                exact[f"{value}b"] += 1
            elif kind in ("keyed", "probeable", "once", "approval", "child"):
                exact[value] += 1
    return exact, least


@agentos.program("ring")
async def ring(sys: Any, seed: int, workers: int, rounds: int) -> list[Any]:
    """Start the workers, tell each its neighbour, and wait for all."""
    pids = [
        await sys.proc.spawn("worker:1", args={"seed": seed, "worker": worker, "rounds": rounds}, grant=GRANT, policy=GATE)
        for worker in range(workers)
    ]
    for at, pid in enumerate(pids):
        await sys.msg.send(pid, pids[(at + 1) % workers], channel="peer")
    return [(await sys.proc.wait(pid)).value for pid in pids]


@agentos.program("worker")
async def worker(sys: Any, seed: int, worker: int, rounds: int) -> dict[str, Any]:
    """Take the steps, with a save point every eighth."""
    state = sys.state
    if state is None:
        state = {"at": 0, "peer": (await sys.msg.recv(channel="peer")).value, "heard": []}
    for at, kind in enumerate(steps_of(seed, worker, rounds)):
        if at < state["at"]:
            continue
        await _STEPS.get(kind, _effect)(sys, kind, f"{worker}.{at}", state)
        await sys.obj.append(f"log{worker}", f"{worker}.{at}", namespace="soak")
        if at % 8 == 7:
            state["at"] = at + 1
            await sys.save(state)
    return {"heard": state["heard"], "log": await sys.obj.get(f"log{worker}", namespace="soak")}


@agentos.program("leaf")
async def leaf(sys: Any, value: str) -> str:
    """Act once."""
    return str((await sys.ledger.once(value=value))["value"])


async def _effect(sys: Any, kind: str, value: str, state: dict[str, Any]) -> None:
    assert (await sys(f"ledger.{kind}", value=value))["value"] == value


async def _approval(sys: Any, kind: str, value: str, state: dict[str, Any]) -> None:
    assert (await sys.ledger.keyed(value=value, delay_s=0.001))["value"] == value


async def _question(sys: Any, kind: str, value: str, state: dict[str, Any]) -> None:
    assert await sys.human.ask(f"{value}?") == "go"


async def _sleep(sys: Any, kind: str, value: str, state: dict[str, Any]) -> None:
    await sys.clock.sleep(0.01)


async def _gather(sys: Any, kind: str, value: str, state: dict[str, Any]) -> None:
    both = await sys.gather(sys.ledger.once(value=f"{value}a"), sys.ledger.keyed(value=f"{value}b"))
    assert [result["value"] for result in both] == [f"{value}a", f"{value}b"]


async def _child(sys: Any, kind: str, value: str, state: dict[str, Any]) -> None:
    pid = await sys.proc.spawn("leaf:1", args={"value": value}, grant=["ledger.*"])
    assert (await sys.proc.wait(pid)).value == value


async def _talk(sys: Any, kind: str, value: str, state: dict[str, Any]) -> None:
    await sys.msg.send(state["peer"], value)
    state["heard"] = [*state["heard"], (await sys.msg.recv()).value]


async def _object(sys: Any, kind: str, value: str, state: dict[str, Any]) -> None:
    assert (await sys.obj.put(value * 2_000, name=value, namespace="soak")).version == 1


_STEPS = {
    "approval": _approval, "question": _question, "sleep": _sleep, "gather": _gather, "child": _child, "talk": _talk, "object": _object,
}  # fmt: skip


async def end_of(kernel: agentos.Kernel, pid: int) -> agentos.Exit:
    """Wait for the end of a process; one that hangs fails with what everybody waits for."""
    try:
        return await kernel.process(pid).wait(LIFE_S)
    except TimeoutError:
        core = kernel.core
        states = [
            (p.pid, p.state, p.running, p.queued, p.waiting, p.branches, core.waits.waiting_on(p)) for p in core.processes
        ]
        raise AssertionError(f"hangs: row {core.journal.head}, asks {await kernel.asks()}, {states}") from None


def opened(folder: Path, store: str, lease_ttl_s: float) -> Any:
    """A kernel on the folder's own store, or on the store at an address once its last kernel's lease has ended."""
    device = Ledger(folder / "ledger").device
    leased = {"standby": True, "lease_ttl_s": lease_ttl_s} if store else {}
    return agentos.open(
        store or folder / "store.db",
        workspace=folder / "w",
        devices={"ledger": device},
        control=False,
        durability="fast",
        **leased,
    )


async def live(
    where: str, seed: int, workers: int, rounds: int, resident: int, store: str = "", lease_ttl_s: float = 0.0, upkeep: int = 0
) -> dict[str, Any]:  # fmt: skip
    """Bring the ring to its end from wherever the last kernel left it, and tell what came of it; `upkeep` is a seed, 0 does none."""
    folder, kinds = Path(where), Counter[str]()
    (folder / "w").mkdir(parents=True, exist_ok=True)
    install()
    async with opened(folder, store, lease_ttl_s) as kernel:
        kernel.core.scheduler.resident_max = resident
        known = [process.pid for process in await kernel.ps(all=True) if process.name == "ring"]
        await try_again(kernel)
        for name in ("worker", "leaf"):
            await kernel.register(agentos.Image.program(name, capabilities=GRANT))
        if not known:
            args = {"seed": seed, "workers": workers, "rounds": rounds}
            known = [(await kernel.spawn(agentos.Image.program("ring", capabilities=GRANT), args=args)).pid]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(answer_people, kernel, folder / "ledger", kinds, 0.02)
            if upkeep:
                await soak_upkeep.begin(kernel)
                tasks.start_soon(soak_upkeep.upkeep, kernel, folder, random.Random(upkeep))
            ended = await end_of(kernel, known[0])
            tasks.cancel_scope.cancel()
        if upkeep:
            await soak_upkeep.end(kernel)
        messages = kernel.core.store.current(MessageRecord, live=None)
        return {
            "state": ended.state, "value": ended.value, "error": str(ended.error or ""), "asked": dict(kinds),
            "ledger": dict(counted(folder / "ledger")), "chain": kernel.core.store.verify().ok,
            "unread": [str(decode(message.value)) for message in messages if message.live], "messages": len(messages),
            "alive": len(await kernel.ps()), "open": len(await kernel.asks()), "rows": kernel.core.journal.head,
            "aside": kernel.core.store.reader.fetch("SELECT count(*) FROM journal WHERE op = 'note.poisoned'")[0][0],
            "beside": await soak_upkeep.told(kernel, folder) if upkeep else None,
        }  # fmt: skip


async def try_again(kernel: agentos.Kernel) -> None:
    """Give the processes another try that were set aside, because kernel after kernel died before they came to anything."""
    for process in await kernel.ps():
        if process.state == "paused":
            await kernel.process(process.pid).signal("resume")


async def answer_outside(where: str, store: str, most: int) -> int:
    """Answer at most so many asks through the store, while no kernel runs; returns how many."""
    folder = Path(where)
    answered = 0
    try:
        async with agentos.connect(store or folder / "store.db") as view:
            for ask in (await view.asks())[:most]:
                await view.answer(ask.id, "approve", by="pat", **answer_of(ask, folder / "ledger"))
                answered += 1
    except agentos.Invalid as error:
        if error.reason not in ("held", "missing"):  # the lease of the last kernel has not ended yet, or there was none
            raise
    return answered


def warm() -> None:
    """Run a small ring once in this interpreter, so that its forks start at once."""
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(live, folder, 1, 3, 12, 512)
