"""Builders for tests of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from agentos.abi.records import Change, ProcessRecord, Row, StateRecord
from agentos.store import Store, open_store


class FixedClock:
    """A clock that stands still until it is told otherwise."""

    def __init__(self, at: float = 1_000.0) -> None:
        self.at = at

    def now(self) -> float:
        return self.at

    async def sleep_until(self, due: float) -> None:
        self.at = max(self.at, due)


def row(pid: int = 1, **fields: Any) -> Row:
    """A pure call of process `pid`."""
    return Row(**{"pid": pid, "number": "1", "kind": "call", "op": "clock.now", "outcome": "done", **fields})


def intent(pid: int = 1, **fields: Any) -> Row:
    """An effectful call that is about to run."""
    return row(pid, **{"kind": "intent", "op": "fs.write", "outcome": "", **fields})


def result(parent: int, pid: int = 1, **fields: Any) -> Row:
    """What came of intent `parent`."""
    return row(pid, **{"kind": "result", "op": "fs.write", "parent": parent, **fields})


def change(record: StateRecord) -> Change:
    """The change that makes `record` current in place of the version it was read or written as."""
    return Change(record, record.seq)


def spawned(store: Store, pid: int = 1, **fields: Any) -> ProcessRecord:
    """A process that is in the store."""
    process = ProcessRecord(pid=pid, **fields)
    store.journal.append(row(pid, op="proc.spawn"), [change(process)])
    return process


def file_store(folder: Path, **options: Any) -> Store:
    """The store file of this test, made if it is missing."""
    return open_store(folder / "store.db", **{"clock": FixedClock(), "durability": "fast", **options})
