"""INVARIANT cost-is-local: no read scans the journal or a versioned table, and opening does not depend on history."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentos.abi.records import Change, ProcessRecord, TimerRecord
from agentos.store import Store
from agentos.store.tables import state_tables
from tests.room.store.builders import change, file_store, intent, result, row, spawned

READS: dict[str, Callable[[Store], object]] = {
    "current": lambda store: store.current(ProcessRecord),
    "current ended": lambda store: store.current(ProcessRecord, live=False, after=5, limit=5),
    "current all": lambda store: store.current(ProcessRecord, live=None, after=5, limit=5),
    "current page": lambda store: store.current(TimerRecord, after=(1, "1"), limit=5),
    "current of a key": lambda store: store.current(TimerRecord, pid=3),
    "get": lambda store: store.get(ProcessRecord, 1),
    "get at": lambda store: store.get(ProcessRecord, 1, at=3),
    "max_key": lambda store: [store.max_key(kind) for kind, table in state_tables() if int in table.kinds[:3]],
    "tape": lambda store: store.tape(1, 3, 5),
    "last_seqs": lambda store: store.last_seqs([1, 2]),
    "open_intents": lambda store: store.open_intents(1, 3),
    "keyed": lambda store: store.keyed(1, "k"),
    "result_of": lambda store: store.result_of(1),
    "entries": lambda store: store.entries(3, 5),
    "entries of a process": lambda store: store.entries(3, 5, pid=1),
    "entries of an op": lambda store: store.entries(3, 5, op="fs.write", outcome="done"),
    "spent": lambda store: store.spent(3),
    "spent by a process": lambda store: store.spent(3, pid=1),
    "object": lambda store: store.objects.missing(b"\xc1" + b"h" * 32),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with file_store(tmp_path) as opened:
        for pid in range(1, 60):
            process = spawned(opened, pid)
            opened.journal.append(intent(pid, key="k"), [change(process), Change(TimerRecord(pid=pid, number="1"))])
            opened.journal.append(result(opened.journal.head, pid))
        opened.journal.flush()
        yield opened


@pytest.mark.parametrize("read", list(READS))
def test_no_read_scans_a_big_table(store: Store, read: str) -> None:
    plans: list[str] = []
    fetch = store._reader.fetch

    def explained(text: str, parameters: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        if not text.startswith("PRAGMA"):
            plans.extend(f"{text}: {step[3]}" for step in fetch(f"EXPLAIN QUERY PLAN {text}", parameters))
        return fetch(text, parameters)

    store._reader.fetch = explained
    READS[read](store)
    small = ("SCAN head",)
    bad = [
        plan
        for plan in plans
        if ("SCAN" in plan and " INDEX " not in plan and not any(s in plan for s in small)) or "TEMP B-TREE" in plan
    ]
    assert plans
    assert bad == []


def test_live_records_are_found_through_the_index_of_live_ones(store: Store) -> None:
    plan = store._reader.fetch("EXPLAIN QUERY PLAN SELECT pid FROM process WHERE until IS NULL AND live = 1 ORDER BY pid")
    assert "process_live" in plan[0][3]


def test_closing_versions_probes_the_index_of_versions(store: Store) -> None:
    from agentos.store import sql
    from agentos.store.tables import table_of

    text = sql.close_versions(table_of(ProcessRecord), 2)
    plan = [step[3] for step in store._reader.fetch(f"EXPLAIN QUERY PLAN {text}", (None,) * 6)]
    assert any(step.startswith("SEARCH process USING INDEX") for step in plan)
    assert not any(step.startswith("SCAN process") for step in plan)


def test_opening_costs_a_fixed_number_of_statements(tmp_path: Path) -> None:
    counts = []
    for _ in range(2):
        with file_store(tmp_path) as store:
            counts.append(store._writer.statements + store._reader.statements)
            for _ in range(1_000):
                store.journal.append(row())
    with file_store(tmp_path) as store:
        counts.append(store._writer.statements + store._reader.statements)
    assert counts[1] == counts[2]
