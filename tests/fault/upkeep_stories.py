"""Stories of upkeep that is killed, each in a child, on a copy of one store; `test_upkeep_crash` says what has to hold."""

from __future__ import annotations

import tempfile
from pathlib import Path

import anyio

import agentos
from agentos.testing.crash import install
from tests.fault.crash_cases import opened

CANARY = "canary-77e1"
KEPT = "kept " * 1_000


async def make(where: str) -> None:
    """Leave a store with two trees that are over, one full of canaries, and one that lives and has objects."""
    folder = Path(where)
    (folder / "w").mkdir(parents=True, exist_ok=True)
    (folder / "w" / "f.txt").write_text(f"before {CANARY}" * 300)
    async with opened(folder) as kernel:
        rights = ["obj.*", "msg.*", "fs.*"]
        first, other, living = [
            await kernel.spawn(agentos.Image.host(capabilities=rights), goal=goal) for goal in (CANARY, "", "live")
        ]
        for number in range(4):
            await first.call("obj.put", value=[f"{CANARY} {number}"] * 300, name=f"o{number}")
            await other.call("obj.put", value=KEPT, name="kept", namespace="shared")
            await living.call("obj.put", value=[KEPT, number], name="mine")
        await first.call("fs.write", path="/f.txt", text=f"after {CANARY}")
        await first.call("msg.send", to=first.pid, value=CANARY)
        await first.exit(CANARY)
        await other.exit()
        await kernel.retain("all", keep_s=0, action="archive")
        kernel.core.store.objects.put(b"nobody's " * 1_000)


async def run_archive(where: str) -> bool:
    """Move everything that is over into the archive."""
    async with opened(Path(where)) as kernel:
        install()
        await kernel.archive()
    return True


async def run_tidy(where: str) -> bool:
    """Apply the rules and collect."""
    async with opened(Path(where)) as kernel:
        install()
        await kernel.tidy()
    return True


async def run_erase(where: str) -> bool:
    """Erase the tree of canaries, half of it out of the archive."""
    async with opened(Path(where)) as kernel:
        await kernel.archive(tree=1)
        install()
        await kernel.erase(tree=1)
    return True


async def run_erase_rows(where: str) -> bool:
    """Erase the tree of canaries, out of the journal."""
    async with opened(Path(where)) as kernel:
        install()
        await kernel.erase(tree=1)
    return True


async def run_backup(where: str) -> bool:
    """Make a backup."""
    async with opened(Path(where)) as kernel:
        install()
        await kernel.backup(Path(where) / "copy.db")
    return True


def warm() -> None:
    """Load what the stories need, once."""
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(make, folder)
