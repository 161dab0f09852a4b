"""A store of schema version 2 with something of everything in it, and how `v2.db.gz` beside this file was made.

Check out a commit whose store has schema version 2 (the one before "Store: schema version 3") to a folder of its own, then run this file
with that code:

    PYTHONPATH=FOLDER python tests/fault/stores/make_v2.py tests/fault/stores/v2.db.gz

The file is never made again: newer code cannot make it. The programs here are the ones that its processes go on with.
"""

from __future__ import annotations

import gzip
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.devices.app import Call
from agentos.testing import FakeClock
from tests.builders import crashing, settled

START_S = 1_000_000_000.0
DRAFT, REPORT = "the draft, " * 400, "the report, " * 400
LARGE = {f"key {number}": ["a part of the value", number] for number in range(600)}
LOG_ENTRIES = 150
OPEN_EFFECTS = ("repeatable", "keyed", "probeable", "once")
KERNEL = 'policy "kernel"\nallow * any *\nlet inbox = "/inbox/**"\nlabel $inbox untrusted\n'
WRITE_IS_ASKED = 'restrict "careful" version 1\nask fs.write "/report.md"\n'
PAYING_IS_ASKED = 'restrict "paying" version 1\nask side.pay\n'
KEYED_IS_ASKED = 'restrict "paused" version 1\nask side.keyed\n'
RATIONED = 'restrict "rationed" version 1\nlimit side.pay 3 per process\n'
OWN = 'restrict "own" version 1\ndeny obj.put "shared/**"\n'
(
    AUTHOR, SLEEPER, LISTENER, PAUSED, REPEATER, KEYER, PROBER, ONCER, FORKER, FORKED, RATIONER, GRANTED, FOOLED, KEEPER, ENDED, ASKER,
) = range(1, 17)  # fmt: skip
OPENERS = dict(zip((REPEATER, KEYER, PROBER, ONCER), OPEN_EFFECTS, strict=True))


def own(name: str) -> Any:
    """Name a program without registering it: other tests have programs of the same names."""

    def declare(function: Any) -> Any:
        function.__agentos_program__ = name
        return function

    return declare


@own("author")
async def author(sys: Any) -> Any:
    """Write a file twice; a person is asked about the second time."""
    await sys.fs.write("draft.md", text=DRAFT)
    await sys.fs.write("draft.md", text="shorter")
    return (await sys.fs.write("report.md", text=REPORT))["path"]


@own("sleeper")
async def sleeper(sys: Any) -> str:
    """Wait for an hour after a save point."""
    if sys.state is None:
        await sys.clock.sleep(1)
        await sys.save("saved")
    await sys.clock.sleep(3600)
    return f"rested, {sys.state}"


@own("listener")
async def listener(sys: Any) -> Any:
    """Wait for a message."""
    return (await sys.msg.recv()).value


@own("paused")
async def paused(sys: Any) -> Any:
    """Make a call that a person was asked about, and who has answered, but which was not made yet."""
    return await sys.side.keyed(value="approved")


@own("opener")
async def opener(sys: Any, effect: str) -> Any:
    """Make one call that is under way when the kernel dies."""
    return await sys(f"side.{effect}", value=effect)


@own("forker")
async def forker(sys: Any) -> Any:
    """Keep something, fork, and go on in both."""
    await sys.obj.put("before the fork", name="inherited")
    pid = await sys.proc.fork(grant=["msg.*", "obj.*"])
    if pid == 0:
        return ["child", (await sys.msg.recv()).value]
    return ["parent", (await sys.proc.wait(pid)).value, await sys.obj.get("inherited")]


@own("rationer")
async def rationer(sys: Any) -> Any:
    """Use a limit up: two calls before the crash, one more after it, and one too many."""
    done = [await sys.side.pay(amount=1), await sys.side.pay(amount=2)]
    await sys.msg.recv()
    done.append(await sys.side.pay(amount=3))
    try:
        await sys.side.pay(amount=4)
    except agentos.Denied as error:
        done.append(error.code)
    return done


@own("granted")
async def granted(sys: Any) -> Any:
    """Make a call that a person allowed for good, again."""
    first = await sys.side.pay(amount=7)
    await sys.msg.recv()
    return [first, await sys.side.pay(amount=7)]


@own("asker")
async def asker(sys: Any) -> Any:
    """Ask a person."""
    return await sys.human.ask("which?", options=["this", "that"])


PROGRAMS = (author, sleeper, listener, paused, opener, forker, rationer, granted, asker)


def side(*, answers: bool) -> agentos.Device:
    """Return a device of every effect class that answers, or that never does; payments always go through."""
    device = agentos.Device("side")

    async def perform(ctx: Call, value: str) -> str:
        """Act."""
        del ctx
        if not answers:
            await anyio.sleep_forever()
        return f"{value} again"

    for effect in OPEN_EFFECTS:
        op = device.op(effect=effect, name=effect)(perform)
        if effect == "probeable":

            @op.reconcile
            async def probe(ctx: Call, value: str) -> str:
                del ctx
                return f"{value} had happened"

    @device.op(effect="once", trusted=("*",))
    async def pay(amount: int) -> int:
        """Pay an amount."""
        return amount

    return device


async def spawn_all(kernel: agentos.Kernel) -> None:
    """Start the processes, in the order of their pids."""
    image = agentos.Image.program
    await kernel.spawn(image("author", capabilities=["fs.write /** uses 3"]), goal="report", policy=WRITE_IS_ASKED)
    await kernel.spawn(image("sleeper"))
    await kernel.spawn(image("listener"), name="ear")
    await kernel.spawn(image("paused", capabilities=["side.*"]), policy=KEYED_IS_ASKED)
    for effect in OPEN_EFFECTS:
        await kernel.spawn(image("opener", capabilities=["side.*"]), args={"effect": effect}, budget={"calls": 5})
    await kernel.spawn(image("forker", capabilities=["msg.*", "obj.*", "proc.*"]))
    await settled(kernel, lambda: kernel.core.processes.get(FORKED))
    await kernel.spawn(image("rationer", capabilities=["side.*"]), policy=RATIONED)
    await kernel.spawn(image("granted", capabilities=["side.*"]), policy=PAYING_IS_ASKED)


async def fill(kernel: agentos.Kernel) -> None:
    """Bring every process to where it waits."""
    await spawn_all(kernel)
    fooled = await kernel.spawn(agentos.Image.host(capabilities=["fs.*"]))
    keeper = await kernel.spawn(
        agentos.Image.host(capabilities=["obj.*", "msg.*", "policy.update", "clock.now uses 3"]), goal="keep"
    )
    ended = await kernel.spawn(agentos.Image.host())
    await kernel.spawn(agentos.Image.program("asker"))
    await fooled.call("fs.read", path="/inbox/mail.txt")
    await fooled.call("fs.write", path="/obey.txt", text="strangers wrote this")
    await keep(keeper)
    await ended.exit("done")
    await decide(kernel)


async def keep(keeper: agentos.Process) -> None:
    """Keep values, small and large, a message, and a policy of its own."""
    await keeper.call("obj.put", value=LARGE, name="large", namespace="shared")
    await keeper.call("obj.put", value={**LARGE, "key 7": "changed"}, name="large", namespace="shared")
    for number in range(LOG_ENTRIES):
        await keeper.call("obj.append", name="log", value=f"entry {number}", namespace="shared")
    await keeper.call("obj.put", value={"a": [1, 2]}, name="thing", namespace="shared", labels=["secret"])
    await keeper.call("obj.put", value="gone", name="gone", namespace="shared")
    await keeper.call("obj.drop", name="gone", namespace="shared")
    await keeper.call("msg.send", to=keeper.pid, value="a note to itself")
    await keeper.call("obj.get", name="thing", namespace="shared")  # it carries the label from here on
    await keeper.call("policy.update", text=OWN)


async def decide(kernel: agentos.Kernel) -> None:
    """Allow one process's payments for good, and approve a call of a process that cannot make it yet."""
    await settled(kernel, lambda: {AUTHOR, PAUSED, GRANTED, ASKER} <= {ask.pid for ask in kernel.core.asks})
    by_pid = {ask.pid: ask.ask for ask in kernel.core.asks}
    await kernel.answer(by_pid[GRANTED], "approve", by="pat", scope="process", reason="small sums")
    await kernel.process(PAUSED).signal("pause")
    await kernel.answer(by_pid[PAUSED], "approve", by="pat")


async def quiet(kernel: agentos.Kernel) -> None:
    """Wait until every intent that is to be left open is open and everybody else waits."""
    for pid in OPENERS:
        while not kernel.core.store.open_intents(pid, 0):  # noqa: ASYNC110 - nothing tells
            await anyio.sleep(0.01)
    clock = kernel.core.clock
    assert isinstance(clock, FakeClock)
    clock.advance(1)
    await settled(kernel, lambda: kernel.core.processes.find(SLEEPER).record.save_seq)
    await anyio.sleep(0.2)
    kernel.core.journal.flush()


async def make(target: Path) -> None:
    """Make the store in a folder that is thrown away, stop it as a crash would, and keep its one file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "w" / "inbox").mkdir(parents=True)
        (folder / "w" / "inbox" / "mail.txt").write_text("strangers wrote this")
        options = {
            "workspace": folder / "w",
            "devices": {"side": side(answers=False)},
            "programs": PROGRAMS,
            "policy": KERNEL,
            "clock": FakeClock(START_S),
        }
        async with crashing(folder / "live.db", folder / "v2.db", **options) as kernel:
            kernel.core.scheduler.resident_max = 4  # some that wait are unwound, some are not
            await fill(kernel)
            await quiet(kernel)
        with closing(sqlite3.connect(folder / "v2.db", isolation_level=None)) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raw.execute("VACUUM")
        with (folder / "v2.db").open("rb") as made, gzip.GzipFile(target, "wb", mtime=0) as packed:
            shutil.copyfileobj(made, packed)


if __name__ == "__main__":
    anyio.run(make, Path(sys.argv[1]))
