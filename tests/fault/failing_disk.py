"""What runs on a disk that fails at its n-th change. Each function runs in a child of an interpreter with `failing_disk.c` preloaded."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agentos.testing.ledger
from agentos.abi.records import ProcessRecord
from agentos.errors import AgentOSError, Invalid
from agentos.store import Store
from agentos.store.journal import Journal
from tests.fault import crash_programs, operation_cases
from tests.room.store.builders import change, file_store, row, spawned

BATCHES = 5


def plan(folder: Path, number: int, error: int, *, lasting: bool) -> ctypes.CDLL:
    """Let the n-th change below `folder` fail from here on."""
    shim = ctypes.CDLL(None)
    shim.fail_at(ctypes.c_long(number), error, lasting, str(folder.resolve()).encode())
    return shim


async def commit(where: str, number: int, error: int, lasting: bool) -> dict[str, Any]:
    """Commit a few batches; tells what was acknowledged, why it stopped, whether it went on, and how many changes there were."""
    folder, told = Path(where), {"acknowledged": 0, "reason": "", "went_on": False}
    shim = plan(folder, number, error, lasting=lasting)
    try:
        with file_store(folder, durability="strict") as store:
            assert store._writer is not None
            store._writer.execute("PRAGMA wal_autocheckpoint = 20")
            for acknowledged in batches(store):
                told["acknowledged"] = acknowledged
    except Invalid as failure:
        told["reason"] = failure.reason if failure.code == "invalid.store" else str(failure)
        told["went_on"] = goes_on(store) if "store" in locals() else False
    return {**told, "changes": shim.changes()}


def batches(store: Store) -> Iterator[int]:
    """Commit some processes, changes and objects; yields what is acknowledged."""
    for turn in range(BATCHES):
        for pid in (2 * turn + 2, 2 * turn + 3):
            process = spawned(store, pid, goal=bytes([pid]) * 3_000)
            process.state = f"turn {turn}"
            store.journal.append(row(pid, args=bytes([turn]) * 3_000), [change(process)])
        store.journal.flush()
        yield store.journal.durable_seq


def goes_on(store: Store) -> bool:
    """Say whether a store that has failed takes anything more."""
    try:
        store.journal.append(row())
    except AgentOSError:
        return False
    return True


async def look(where: str) -> dict[str, Any]:
    """Open the store once the disk works again, and tell what it holds."""
    with file_store(Path(where)) as store:
        processes = store.current(ProcessRecord)
        rows = store.rows(0, 999)
        assert [found.seq for found in rows] == list(range(1, store.journal.head + 1))
        for process in processes:
            assert process.seq == max(found.seq for found in rows if found.pid == process.pid)
            assert process.goal in (b"", bytes([process.pid]) * 3_000)
        ok = store.verify().ok
        store.journal.append(row())
        return {"head": store.journal.head - 1, "processes": len(processes), "ok": ok}


async def live(where: str, effect: str, situation: str, number: int, error: int, lasting: bool) -> dict[str, Any]:
    """Run a case of the crash matrix on a failing disk; the ledger is on another one. Tells what it came to, or how it failed."""
    folder, journals, late = Path(where), list[Journal](), list[str]()
    (folder / "db").mkdir(parents=True, exist_ok=True)
    if not (folder / "store.db").is_symlink():
        (folder / "store.db").symlink_to(folder / "db" / "store.db")
    made = Journal.__init__

    def noted(journal: Journal, *args: Any, **options: Any) -> None:
        made(journal, *args, **options)
        journals.append(journal)

    def watched(name: str) -> None:
        try:
            for journal in journals:
                journal.check()
        except AgentOSError:
            late.append(name)

    Journal.__init__ = noted  # type: ignore[method-assign]
    agentos.testing.ledger.reached = watched
    shim = plan(folder / "db", number, error, lasting=lasting)
    try:
        told: dict[str, Any] = {"found": await crash_programs.live(where, effect, situation, 512)}
    except BaseException as failure:  # noqa: BLE001 - what it was is what the test looks at
        told = {"failed": sorted({_code(each) for each in leaves(failure)})}
    return {**told, "late": [name for name in late if name.endswith(".before")], "changes": shim.changes()}


async def operate(where: str, name: str, number: int, error: int, lasting: bool) -> dict[str, Any]:
    """Do an operation of `operation_cases` on a disk that fails once the store is open; tells how it failed, if it did."""
    folder, told = Path(where), dict[str, Any](failed=[])
    shim = ctypes.CDLL(None)
    try:
        async with operation_cases.opened(folder) as kernel:
            await kernel.run_until_idle(5)
            shim = plan(folder / (".copy.db" if name == "backup" else "store.db"), number, error, lasting=lasting)
            await operation_cases.OPERATIONS[name](kernel, folder)
            await kernel.run_until_idle(5)
    except BaseException as failure:  # noqa: BLE001 - what it was is what the test looks at
        told["failed"] = sorted({_code(each) for each in leaves(failure)})
    return {**told, "changes": shim.changes()}


def leaves(failure: BaseException) -> Iterator[BaseException]:
    """Yield the failures of a group, however deep."""
    if isinstance(failure, BaseExceptionGroup):
        for each in failure.exceptions:
            yield from leaves(each)
    else:
        yield failure


def _code(failure: BaseException) -> str:
    return f"{failure.code} {failure.fields.get('reason', '')}" if isinstance(failure, AgentOSError) else repr(failure)


def warm() -> None:
    """Import and build what the children need."""
    crash_programs.warm()
    operation_cases.warm()
