"""What a host does with a whole store, in a kernel that may die at any point of it: one world, one function per operation.

`build` makes the world: processes that live, wait and have ended, a checkpoint with changes after it, changed files, garbage, and a
schedule. `operate` opens it and does one operation; done again after a crash, it ends what was begun. `described` says what the store and
the workspace hold, without anything that depends on how often it was opened.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.codec import decode
from agentos.abi.records import (
    CapRecord,
    CheckpointRecord,
    ImageRecord,
    MessageRecord,
    NameRecord,
    ProcessRecord,
    RetentionRecord,
    ScheduleRecord,
)
from agentos.runtime.boot import Open
from agentos.testing import FakeClock, Ledger
from agentos.testing.crash import install
from tests.fault.crash_programs import store_of
from tests.fault.crash_zygote import Zygote
from tests.postgres import database_like

KEEPER, LISTENER, AUTHOR = 1, 2, 3
START_S, EVERY_S = 1_000_000.0, 60.0
CAPABILITIES = ("fs.*", "obj.*", "msg.*", "clock.now uses 9")
CANARY = "the canary of the author "


@agentos.program("listener")
async def listener(sys: Any) -> Any:
    """Wait for a message and act on it."""
    return (await sys.ledger.keyed(value=(await sys.msg.recv()).value))["value"]


@agentos.program("canary-author")
async def author(sys: Any) -> Any:
    """Write, keep something large and something small, and end."""
    await sys.fs.write("report.md", text="draft")
    await sys.fs.write("report.md", text=CANARY)
    await sys.obj.put(CANARY * 400, name="large", namespace="authors")
    await sys.obj.put(CANARY, name="small")
    return CANARY


@agentos.program("runner")
async def runner(sys: Any) -> Any:
    """Act once."""
    return (await sys.ledger.keyed(value=f"run of {sys.pid}"))["value"]


def opened(folder: Path, later_s: float = 0.0) -> Open:
    """A kernel on the world, so many seconds after it was made."""
    (folder / "w").mkdir(parents=True, exist_ok=True)
    devices = {"ledger": Ledger(folder / "ledger").device}
    clock = FakeClock(START_S + later_s)
    return agentos.open(
        store_of(folder),
        workspace=folder / "w",
        devices=devices,
        programs=[listener, author, runner],  # by name another module's could be meant: whoever was imported last
        clock=clock,
        control=False,
        durability="fast",
        grace_s=0,
    )


async def build(where: str) -> None:
    """Make the world."""
    async with opened(Path(where)) as kernel:
        (Path(where) / "w" / "old.txt").write_text("old")
        (Path(where) / "w" / "gone.txt").write_text("soon gone")
        (Path(where) / "w" / "m.txt").write_text("moved")
        keeper = await kernel.spawn(agentos.Image.host(capabilities=list(CAPABILITIES)), goal="keep", name="keeper")
        await kernel.spawn(agentos.Image.program("listener", capabilities=["ledger.*", "msg.*"]))
        await kernel.spawn(agentos.Image.program("canary-author", capabilities=["fs.*", "obj.*"]), goal=CANARY)
        await kernel.run_until_idle(5)
        for number in range(3):
            await keeper.call("obj.put", value=[f"part {number}"] * 300, name="garbage", namespace="shared")
        await keeper.call("obj.put", value={"a": list(range(400))}, name="kept")
        await keeper.checkpoint("here")
        await change(keeper)
        await kernel.schedule(agentos.Image.program("runner", capabilities=["ledger.*"]), every=EVERY_S, name="run")
        await kernel.run_until_idle(5)


async def change(keeper: agentos.Process) -> None:
    """Change what the checkpoint has kept, and files of every kind."""
    await keeper.call("obj.put", value={"a": [1]}, name="kept")
    await keeper.call("obj.put", value="new", name="made since")
    await keeper.call("obj.drop", name="garbage", namespace="shared")
    await keeper.call("msg.send", to=keeper.pid, value="to myself")
    await keeper.call("fs.write", path="/old.txt", text="overwritten")
    await keeper.call("fs.write", path="/new.txt", text="new")
    await keeper.call("fs.mkdir", path="/d")
    await keeper.call("fs.move", path="/m.txt", to="/d/m.txt")
    await keeper.call("fs.delete", path="/gone.txt")


# --- the operations -----------------------------------------------------------------------------------------------------------

Operation = Callable[[agentos.Kernel, Path], Awaitable[Any]]
OPERATIONS: dict[str, Operation] = {}
ONE_APPEND = {"restore", "copy", "fork", "commit", "drop", "unschedule", "retain"}
"""Operations that have happened as a whole or not at all; the others go on where they were stopped."""


def operation(function: Operation) -> Operation:
    """Enter a function in the table under its name."""
    OPERATIONS[function.__name__] = function
    return function


async def _checkpoint(kernel: agentos.Kernel) -> str:
    return (await kernel.checkpoints())[0].id


@operation
async def restore(kernel: agentos.Kernel, folder: Path) -> Any:
    """Go back in place."""
    return (await kernel.restore(await _checkpoint(kernel))).mode


@operation
async def copy(kernel: agentos.Kernel, folder: Path) -> Any:
    """Start once more from the checkpoint, beside what goes on."""
    return (await kernel.restore(await _checkpoint(kernel), mode="new")).mode


@operation
async def fork(kernel: agentos.Kernel, folder: Path) -> Any:
    """Fork at the checkpoint."""
    return (await kernel.fork(checkpoint=await _checkpoint(kernel))).pid


@operation
async def commit(kernel: agentos.Kernel, folder: Path) -> Any:
    """Make an image of the checkpoint."""
    return await kernel.commit_image(await _checkpoint(kernel), "made")


@operation
async def drop(kernel: agentos.Kernel, folder: Path) -> Any:
    """Forget the checkpoint."""
    for checkpoint in await kernel.checkpoints():
        await kernel.drop_checkpoint(checkpoint.id)


@operation
async def unschedule(kernel: agentos.Kernel, folder: Path) -> Any:
    """End the schedule."""
    for schedule in await kernel.schedules():
        await kernel.unschedule(schedule.id)


@operation
async def retain(kernel: agentos.Kernel, folder: Path) -> Any:
    """Make a rule of retention."""
    return (await kernel.retain("all", keep_s=1e9)).id


@operation
async def undo(kernel: agentos.Kernel, folder: Path) -> Any:
    """Take the keeper's file effects back."""
    return len((await kernel.undo(pid=KEEPER)).conflicts)


@operation
async def archive(kernel: agentos.Kernel, folder: Path) -> Any:
    """Move what is over into the archive."""
    return (await kernel.archive()).rows


@operation
async def erase(kernel: agentos.Kernel, folder: Path) -> Any:
    """Erase the author."""
    return (await kernel.erase(tree=AUTHOR)).rows


@operation
async def erase_archived(kernel: agentos.Kernel, folder: Path) -> Any:
    """Erase the author from the archive."""
    await kernel.archive(tree=AUTHOR)
    return (await kernel.erase(tree=AUTHOR)).rows


@operation
async def tidy(kernel: agentos.Kernel, folder: Path) -> Any:
    """Archive by a rule, and collect what nothing refers to."""
    if not await kernel.retention():
        await kernel.retain("all", keep_s=0)
    return (await kernel.tidy()).objects


@operation
async def backup(kernel: agentos.Kernel, folder: Path) -> Any:
    """Copy the store."""
    if not (folder / "copy.db").exists():
        return (await kernel.backup(folder / "copy.db")).rows
    return 0


@operation
async def fire(kernel: agentos.Kernel, folder: Path) -> Any:
    """Let the schedule's time come, twice."""
    clock = kernel.core.clock
    assert isinstance(clock, FakeClock)
    for due in (START_S + EVERY_S, START_S + 2 * EVERY_S):
        clock.advance(max(0.0, due - clock.now()))
        await kernel.run_until_idle(5)


# --- what a test runs ---------------------------------------------------------------------------------------------------------


def copied(folder: Path, to: Path) -> Path:
    """Copy a world that no kernel has open, with the database of its own, if it has one."""
    shutil.copytree(folder, to)
    if (to / "address").exists():
        (to / "address").write_text(database_like((folder / "address").read_text()))
    return to


async def operate(where: str, name: str) -> Any:
    """Open the world and do one operation, at whose points the kernel may die."""
    async with opened(Path(where)) as kernel:
        await kernel.run_until_idle(5)
        install()
        told = await OPERATIONS[name](kernel, Path(where))
        await kernel.run_until_idle(5)
        return [told]


async def described(where: str, later_s: float = 0.0) -> dict[str, Any]:
    """Open the world and say what is in it: of the records what does not depend on how often it was opened, and all values in full."""
    folder = Path(where)
    async with opened(folder, later_s) as kernel:
        await kernel.run_until_idle(5)
        kernel.core.journal.flush()
        store = kernel.core.store
        records = store.current(NameRecord, live=True)
        found = {
            "processes": [_process(record) for record in store.current(ProcessRecord, live=None) if record.name != "undo"],
            "undoing": [record.pid for record in store.current(ProcessRecord, live=True) if record.name == "undo"],
            "names": {
                f"{each.namespace}/{each.name}": store.objects.unpack(each.value) if each.value else None for each in records
            },
            "messages": [[each.pid, each.live, decode(each.value)] for each in store.current(MessageRecord, live=None)],
            "caps": [[each.pid, each.text, each.uses_left] for each in store.current(CapRecord, live=True)],
            "checkpoints": [each.checkpoint for each in store.current(CheckpointRecord)],
            "schedules": [
                [each.schedule, each.state, each.due, each.runs, each.last_pid]
                for each in store.current(ScheduleRecord, live=None)
            ],
            "retention": [[each.scope, each.keep_s] for each in store.current(RetentionRecord)],
            "images": sorted(each.name for each in store.current(ImageRecord)),
            "files": files(folder / "w"),
            "ledger": sorted(entry["value"] for entry in Ledger.read(folder / "ledger")),
            "chain": (await kernel.verify_audit()).reason,
            "bad": [each.detail for each in await kernel.inspect() if each.state == "bad"],
        }
    return {**found, "canary": sum(CANARY.encode() in path.read_bytes() for path in folder.glob("store.db*"))}


def _process(record: ProcessRecord) -> list[Any]:
    ended = decode(record.exit).get("value") if record.exit and isinstance(decode(record.exit), dict) else None
    goal = decode(record.goal) if record.goal else None
    return [record.pid, record.ppid, record.name, record.state, record.live, goal, ended, record.fork_pid, record.restored]


def files(folder: Path) -> dict[str, str]:
    """Return every path below `folder` with its content; folders have none."""
    return {str(path.relative_to(folder)): path.read_text() if path.is_file() else "" for path in sorted(folder.rglob("*"))}


async def copy_verifies(where: str) -> dict[str, Any]:
    """Say what the copy of the world is: nothing, or a whole store."""
    folder = Path(where)
    left = sorted(path.name for path in folder.iterdir() if "copy" in path.name)
    if not (folder / "copy.db").exists():
        return {"left": left, "ok": None}
    async with agentos.connect(folder / "copy.db") as view:
        return {"left": left, "ok": (await view.verify_audit()).ok, "processes": len(await view.ps(all=True))}


async def finish(where: str) -> Any:
    """Let the listener hear something: the world still works."""
    async with opened(Path(where)) as kernel:
        await kernel.process(LISTENER).send("a word")
        return (await kernel.process(LISTENER).wait(5)).value


def crash_at(kernels: Zygote, folder: Path, name: str, point: str) -> Any:
    """Do an operation in a child that is killed at a point; None when it was."""
    return kernels.run("tests.fault.operation_cases:operate", str(folder), name, crash_at=point)


def warm() -> None:
    """Build a world and look at it once in this interpreter, so that its forks start at once."""
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(build, folder)
        anyio.run(operate, folder, "restore")
        anyio.run(described, folder)
