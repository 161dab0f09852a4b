"""What goes on beside the ring of a soak: schedules that start runs, and upkeep of the store, in a kernel that may die at any moment.

Every run acts once, keeps a secret and ends; its tree is over then, so upkeep may archive or erase it. What has to hold in the end
(`agree`): the schedules started as many runs as they counted, each acted exactly once, and of what was reported as erased nothing is left.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.codec import decode
from agentos.abi.records import ProcessRecord, ScheduleRecord
from agentos.testing import Ledger

EVERY_S = 1.0  # no schedule is denser
SCHEDULES = 3
PREFIX = "run of "


@agentos.program("run")
async def run(sys: Any) -> str:
    """Act once, and keep a secret."""
    await sys.obj.put(secret_of(sys.pid), name="secret")
    return str((await sys.ledger.keyed(value=f"{PREFIX}{sys.pid}"))["value"])


def secret_of(pid: int) -> str:
    """Return the secret of a run, long enough to be an object of its own."""
    return f"the secret of run {pid} is nobody's business; " * 60


async def begin(kernel: agentos.Kernel) -> None:
    """Make the schedules that no kernel before this one has made."""
    image = agentos.Image.program("run", capabilities=["ledger.*", "obj.*"])
    for _ in range(len(await kernel.schedules(all=True)), SCHEDULES):
        await kernel.schedule(image, every=EVERY_S, overlap="allow", name="run")


async def upkeep(kernel: agentos.Kernel, folder: Path, chance: random.Random) -> None:
    """Do one thing after another to the store, until cancelled."""
    while True:
        await anyio.sleep(chance.uniform(0.0, 0.05))
        await chance.choice(_DOINGS)(kernel, folder, chance)


async def _archive(kernel: agentos.Kernel, folder: Path, chance: random.Random) -> None:
    await kernel.archive()


async def _collect(kernel: agentos.Kernel, folder: Path, chance: random.Random) -> None:
    await kernel.tidy()


async def _erase(kernel: agentos.Kernel, folder: Path, chance: random.Random) -> None:
    over = [info.pid for info in await kernel.ps(all=True) if info.name == "run" and info.state == "exited"]
    if over:
        try:
            await kernel.erase(tree=chance.choice(over[-20:]))
        except agentos.Invalid as error:
            if "checkpoint" not in error.message:  # one taken while it ran is no fault
                raise


async def _backup(kernel: agentos.Kernel, folder: Path, chance: random.Random) -> None:
    where = folder / f"copy-{kernel.core.journal.head}.db"
    if not where.exists():
        await kernel.backup(where)
        where.unlink()


async def _checkpoint(kernel: agentos.Kernel, folder: Path, chance: random.Random) -> None:
    for checkpoint in await kernel.checkpoints():
        await kernel.drop_checkpoint(checkpoint.id)
    if alive := await kernel.ps():
        await kernel.process(chance.choice(alive).pid).checkpoint("soak")


_DOINGS: tuple[Callable[[agentos.Kernel, Path, random.Random], Awaitable[None]], ...] = (
    _archive, _collect, _erase, _backup, _checkpoint,
)  # fmt: skip


async def end(kernel: agentos.Kernel) -> None:
    """End the schedules, wait for their last runs, and end what upkeep was interrupted at."""
    for schedule in await kernel.schedules():
        await kernel.unschedule(schedule.id)
    await kernel.run_until_idle(30)
    for tree in _interrupted(kernel):
        await kernel.erase(tree=tree)


async def told(kernel: agentos.Kernel, folder: Path) -> dict[str, Any]:
    """Return what `agree` looks at."""
    store = kernel.core.store
    runs = [record.pid for record in store.current(ProcessRecord, live=None) if record.name == "run"]
    erased = _trees(kernel, "note.erased")
    acted = Counter(entry["value"] for entry in Ledger.read(folder / "ledger") if entry["value"].startswith(PREFIX))
    return {
        "counted": sum(record.runs for record in store.current(ScheduleRecord, live=None)), "runs": runs, "acted": dict(acted),
        "erased": len(erased), "left": [pid for pid in sorted(erased) if _is_left(folder, pid)],
        "bad": [finding.detail for finding in await kernel.inspect() if finding.state == "bad"],
    }  # fmt: skip


def _trees(kernel: agentos.Kernel, op: str) -> set[int]:
    """Return the trees that the notes of one kind name."""
    return {decode(row.args)["tree"] for row in kernel.core.store.tape(0, 0, 1_000_000) if row.op == op}


def _interrupted(kernel: agentos.Kernel) -> list[int]:
    """Return the trees whose last erasure a kill has interrupted."""
    last = {
        decode(row.args)["tree"]: row.op
        for row in kernel.core.store.tape(0, 0, 1_000_000)
        if row.op in ("note.erasing", "note.erased")
    }
    return sorted(tree for tree, op in last.items() if op == "note.erasing")


def _is_left(folder: Path, pid: int) -> bool:
    secret = secret_of(pid)[:40].encode()
    return any(secret in path.read_bytes() for path in folder.glob("store.db*"))


def agree(found: dict[str, Any]) -> None:
    """Check that what happened beside the ring is consistent."""
    assert found["counted"] == len(found["runs"]), "the schedule counted other runs than it started"
    assert found["acted"] == {f"{PREFIX}{pid}": 1 for pid in found["runs"]}, "a run did not act exactly once"
    assert found["left"] == [], f"of what was erased something is left: {found['left']}"
    assert found["bad"] == [], f"the store is not in order: {found['bad']}"
