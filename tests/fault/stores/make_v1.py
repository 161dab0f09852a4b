"""A store of schema version 1 with something of everything in it, and how `v1.db.gz` beside this file was made.

Check out a commit whose store has schema version 1 (the one before "Vocabulary: flow, charges, standing grants, quotas, file labels") to
a folder of its own, then run this file with that code:

    PYTHONPATH=FOLDER python tests/fault/stores/make_v1.py tests/fault/stores/v1.db.gz

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
from agentos.testing import FakeClock
from tests.builders import crashing

START_S = 1_000_000_000.0
REPORT = "the report, " * 400
WRITE_IS_ASKED = 'restrict "careful" version 1\nask fs.write "/report.md"\n'
AUTHOR, SLEEPER, LISTENER, PAYER, KEEPER, ENDED, ASKER = range(1, 8)


def own(name: str) -> Any:
    """Name a program without registering it: other tests have programs of the same names."""

    def declare(function: Any) -> Any:
        function.__agentos_program__ = name
        return function

    return declare


@own("author")
async def author(sys: Any) -> Any:
    """Keep a text that is too large for a row, then write it to a file that a person is asked about."""
    await sys.obj.put(REPORT, name="report", namespace="shared")
    return (await sys.fs.write("report.md", text=REPORT))["path"]


@own("sleeper")
async def sleeper(sys: Any) -> str:
    """Wait for an hour."""
    await sys.clock.sleep(3600)
    return "rested"


@own("listener")
async def listener(sys: Any) -> Any:
    """Wait for a message."""
    return (await sys.msg.recv()).value


@own("payer")
async def payer(sys: Any) -> Any:
    """Pay once."""
    return await sys.bank.pay(amount=7)


@own("asker")
async def asker(sys: Any) -> Any:
    """Ask a person."""
    return await sys.human.ask("which?", options=["this", "that"])


PROGRAMS = (author, sleeper, listener, payer, asker)


def bank(*, answers: bool) -> agentos.Device:
    """Return a bank that pays, or that never says whether it did."""
    device = agentos.Device("bank")

    @device.op(effect="once")
    async def pay(amount: int) -> int:
        """Pay an amount."""
        if not answers:
            await anyio.sleep_forever()
        return amount

    return device


async def fill(kernel: agentos.Kernel) -> None:
    """Start one process of each kind."""
    image = agentos.Image.program
    await kernel.spawn(
        image("author", capabilities=["fs.write /report.md uses 1", "obj.*"]), goal="report", policy=WRITE_IS_ASKED
    )
    await kernel.spawn(image("sleeper"))
    await kernel.spawn(image("listener"), name="ear")
    await kernel.spawn(image("payer", capabilities=["bank.pay"]), budget={"calls": 5})
    keeper = await kernel.spawn(agentos.Image.host(capabilities=["obj.*", "msg.*", "clock.now uses 3"]), goal="keep")
    ended = await kernel.spawn(agentos.Image.host())
    await kernel.spawn(image("asker"))
    assert (keeper.pid, ended.pid) == (KEEPER, ENDED)
    await ended.exit("done")
    await keeper.call("obj.put", value={"a": [1, 2]}, name="thing", namespace="shared", labels=["secret"])
    await keeper.call("obj.get", name="thing", namespace="shared")  # it carries the label from here on
    await keeper.call("msg.send", to=KEEPER, value="a note to itself")


async def make(target: Path) -> None:
    """Make the store in a folder that is thrown away, stop it as a crash would, and keep its one file."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "w").mkdir()
        options = {
            "workspace": folder / "w",
            "devices": {"bank": bank(answers=False)},
            "programs": PROGRAMS,
            "clock": FakeClock(START_S),
        }
        async with crashing(folder / "live.db", folder / "v1.db", **options) as kernel:
            await fill(kernel)
            while not kernel.core.store.open_intents(PAYER, 0) or len(await kernel.asks()) < 2:  # noqa: ASYNC110 - nothing tells
                await anyio.sleep(0.01)
            kernel.core.journal.flush()
        with closing(sqlite3.connect(folder / "v1.db", isolation_level=None)) as raw:
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            raw.execute("VACUUM")
        with (folder / "v1.db").open("rb") as made, gzip.GzipFile(target, "wb", mtime=0) as packed:
            shutil.copyfileobj(made, packed)


if __name__ == "__main__":
    anyio.run(make, Path(sys.argv[1]))
