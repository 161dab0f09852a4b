"""A kernel on a PostgreSQL store in a process of its own: it acts again and again, and says so. Run by `test_postgres_kernel`.

``FOLDER ADDRESS NAME TTL_S``: waits for the store, then acts until it is interrupted. ``... race``: opens it or says that it is held.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import anyio
import anyio.to_thread

import agentos
from agentos.testing import Ledger


def say(line: str) -> None:
    """Write a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def act(folder: Path, address: str, name: str, ttl_s: float) -> None:
    """Become the kernel of the store, and act without a pause."""
    if name != "first":
        say("waits")
    options = {"devices": {"ledger": Ledger(folder / "ledger").device}, "standby": True, "lease_ttl_s": ttl_s, "control": False}
    async with agentos.open(address, workspace=folder, **options) as kernel:
        process = await kernel.spawn(agentos.Image.host(), grant=["ledger.*"])
        for number in itertools.count():
            await process.call("ledger.keyed", value=f"{name} {number}")
            if number == 3:
                say("acted")
            await anyio.sleep(0.001)


async def race(folder: Path, address: str, ttl_s: float) -> None:
    """Open the store, or say that somebody else has it; hold it until the input ends."""
    try:
        async with agentos.open(address, workspace=folder, lease_ttl_s=ttl_s, control=False):
            say("won")
            await anyio.to_thread.run_sync(sys.stdin.read)
    except agentos.Invalid as error:
        say(str(error.reason))


def main(folder: str, address: str, name: str, ttl_s: str, *words: str) -> None:
    """Run until the end, or an error, which is printed."""
    if words == ("race",):
        anyio.run(race, Path(folder), address, float(ttl_s))
    else:
        try:
            anyio.run(act, Path(folder), address, name, float(ttl_s))
        except agentos.Invalid as error:
            sys.exit(f"{error.code} {error.reason}")


if __name__ == "__main__":
    main(*sys.argv[1:])
