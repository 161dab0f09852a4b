"""Single stories of a crash: each function runs in a child that is killed, or to its end; tests say what has to hold afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.records import MessageRecord
from agentos.runtime.boot import Open
from agentos.testing import Ledger
from agentos.testing.crash import crash_point, install

CAPABILITIES = ["ledger.*", "obj.*", "msg.*", "proc.*"]


def opened(folder: Path, **options: Any) -> Open:
    """Open the story's store with its ledger."""
    (folder / "w").mkdir(parents=True, exist_ok=True)
    devices = {"ledger": Ledger(folder / "ledger").device}
    usual = {
        "workspace": folder / "w",
        "devices": devices,
        "control": False,
        "durability": "fast",
        "grace_s": 0,
        "programs": PROGRAMS,
    }
    return agentos.open(folder / "store.db", **{**usual, **options})


def lines(folder: Path) -> list[tuple[str, str]]:
    """Return (effect class, value) of each line of the ledger."""
    return [(entry["op"], entry["value"]) for entry in Ledger.read(folder / "ledger")]


def image(name: str, *capabilities: str, **manifest: Any) -> agentos.Image:
    """Return the image of a program with its capabilities."""
    return agentos.Image.program(name, capabilities=list(capabilities or CAPABILITIES), **manifest)


def versioned(body: Callable[[Any], Any]) -> Any:
    """Return `body` as the newest code of the program ``changing``, for one kernel."""

    async def changing(sys: Any) -> Any:
        return await body(sys)

    changing.__dict__["__agentos_program__"] = "changing"
    return changing


@agentos.program("actor")
async def actor(sys: Any, effect: str = "keyed", value: str = "big") -> str:
    """Act once."""
    return str((await sys(f"ledger.{effect}", value=value))["value"])


@agentos.program("listener")
async def listener(sys: Any) -> str:
    """Wait for a message and act on it."""
    message = await sys.msg.recv()
    return str((await sys.ledger.keyed(value=message.value))["value"])


@agentos.program("poker")
async def poker(sys: Any, to: int) -> str:
    """Wake another process and wait, without a pause between."""
    await sys.msg.send(to, "poked")
    return str((await sys.msg.recv()).value)


@agentos.program("keeper")
async def keeper(sys: Any) -> str:
    """Keep something in the namespace of its own, then fork."""
    await sys.obj.put("kept", name="thing")
    pid = await sys.proc.fork(grant=["ledger.*"])
    return "child" if pid == 0 else str((await sys.proc.wait(pid)).value)


@agentos.program("spender")
async def spender(sys: Any) -> float:
    """Make three calls and tell how many were counted."""
    await sys.ledger.keyed(value="a")
    await sys.ledger.keyed(value="b")
    return float((await sys.proc.info())["usage"]["calls"])


@agentos.program("unstorable")
async def unstorable(sys: Any) -> object:
    """Return what no store can keep."""
    return object()


@agentos.program("saver")
async def saver(sys: Any) -> Any:
    """Hear something, make a save point, and act."""
    if sys.state is None:
        heard = (await sys.msg.recv()).value
        await sys.save(heard)
        await anyio.sleep(0.01)  # what it did until here is committed before it does more
    return str((await sys.ledger.keyed(value=sys.state))["value"])


async def run_saver(where: str) -> str:
    """Unwind a saver while it waits, tell it something, and let it come to its end; go on with it when it is there already."""
    async with opened(Path(where)) as kernel:
        kernel.core.scheduler.resident_max = 0
        process = kernel.process(1) if await kernel.ps(all=True) else await kernel.spawn(image("saver"))
        await kernel.run_until_idle(5)
        install()
        if not kernel.core.store.current(MessageRecord, live=None):
            await process.send("hello")
        return str((await process.wait(5)).value)


async def run_actor(where: str, effect: str, policy: str | None, edit: dict[str, Any] | None, capabilities: list[str]) -> None:
    """Start an actor; approve what it asks, perhaps with other arguments."""
    async with opened(Path(where)) as kernel:
        process = await kernel.spawn(image("actor", *capabilities), args={"effect": effect}, policy=policy)
        install()
        if policy is not None:
            await kernel.run_until_idle(5)
            await kernel.answer((await kernel.asks())[0].id, "approve", by="pat", edit=edit)
        await process.wait(5)


async def run_spender(where: str) -> None:
    """Run a spender with a budget that is just enough."""
    async with opened(Path(where)) as kernel:
        process = kernel.process(1) if await kernel.ps() else await kernel.spawn(image("spender"), budget={"calls": 3})
        install()
        await process.wait(5)


async def call_as_host(where: str, effect: str, key: str | None, program: str | None) -> None:
    """Make one call as the host, by a host process or by one that has a program."""
    async with opened(Path(where)) as kernel:
        started = image(program) if program else agentos.Image.host(capabilities=CAPABILITIES)
        process = await kernel.spawn(started)
        await kernel.run_until_idle(5)
        install()
        await process.call(f"ledger.{effect}", value="x", key=key)


async def ask_as_host(where: str, key: str | None) -> None:
    """Make a call as the host that waits for a person when the kernel dies."""
    async with opened(Path(where)) as kernel, anyio.create_task_group() as tasks:
        process = await kernel.spawn(
            agentos.Image.host(capabilities=CAPABILITIES), policy='restrict "g" version 1\nask ledger.once\n'
        )

        async def call() -> None:
            await process.call("ledger.once", value="x", key=key)

        tasks.start_soon(call)
        await kernel.run_until_idle(5)
        crash_point("story.told")


async def leave_things(where: str) -> None:
    """Leave a goal, an object, a message and a question behind."""
    async with opened(Path(where)) as kernel:
        waiting = await kernel.spawn(agentos.Image.host(capabilities=CAPABILITIES), goal="find it", name="waiting")
        await waiting.call("obj.put", value={"a": [1, 2]}, name="thing", namespace="ours", labels=["secret"])
        await waiting.call("msg.send", to=waiting.pid, value="hello")
        await kernel.spawn(image("asking"), goal="be told")
        await kernel.run_until_idle(5)
        crash_point("story.told")


@agentos.program("asking")
async def asking(sys: Any) -> Any:
    """Ask a person."""
    return await sys.human.ask("which?", options=["this", "that"])


def warm() -> None:
    """Run a few stories once in this interpreter, so that its forks start at once."""
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(run_actor, f"{folder}/1", "keyed", 'restrict "g" version 1\nask ledger.keyed\n', {"value": "x"}, CAPABILITIES)
        anyio.run(call_as_host, f"{folder}/2", "once", "k", None)
        anyio.run(leave_things, f"{folder}/3")


@agentos.program("author")
async def author(sys: Any) -> Any:
    """Write a file that a person is asked about."""
    return (await sys.fs.write("report.md", text="the report"))["path"]


WRITE_IS_ASKED = 'policy "w"\nask fs.write "/report.md"\n'


async def write_asked(where: str) -> None:
    """Write with an approval, in a capability's last use."""
    install()
    async with opened(Path(where)) as kernel:
        process = await kernel.spawn(image("author", "fs.write /report.md uses 1"), policy=WRITE_IS_ASKED)
        await kernel.run_until_idle(5)
        (ask,) = await kernel.asks()
        await kernel.answer(ask.id, "approve", by="pat")
        await process.wait(5)


PROGRAMS = [
    actor,
    listener,
    poker,
    keeper,
    spender,
    unstorable,
    saver,
    asking,
    author,
]  # given to each kernel: by name another module's could be meant, whoever was imported last
