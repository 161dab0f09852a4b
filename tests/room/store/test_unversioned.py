"""Tables that keep only what is current: keys come and go, nothing is left of them, and a wrong version still never wins."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.abi import records
from agentos.abi.records import Change, FileLabelRecord, QuotaRecord
from agentos.errors import KernelPanic
from agentos.store import Store, sql
from agentos.store.tables import state_tables, table_of
from tests.room.store.builders import change, file_store, row


def stored(store: Store) -> list[tuple[str, int]]:
    return [(key, seq) for key, seq in store._reader.fetch("SELECT key, seq FROM quota ORDER BY key")]


def used(store: Store, key: str, data: bytes = b"x") -> QuotaRecord:
    """A counter that is in the buffer."""
    record = QuotaRecord(key=key, data=data)
    store.journal.append(row(), [Change(record)])
    return record


def written(store: Store, *changes: Change) -> None:
    store.journal.append(row(), changes)
    store.journal.flush()


def ended(store: Store, record: QuotaRecord) -> None:
    record.live = 0
    store.journal.append(row(), [change(record)])


@pytest.mark.parametrize("flush", [True, False])
def test_only_the_current_version_is_kept(store: Store, flush: bool) -> None:
    record = used(store, "a")
    for data in (b"y", b"z"):
        if flush:
            store.journal.flush()
        record.data = data
        store.journal.append(row(), [change(record)])
    assert store.current(QuotaRecord) == [record]
    assert stored(store) == [("a", 3)]


@pytest.mark.parametrize("flush", [True, False])
def test_an_ended_key_leaves_nothing_and_may_come_again(store: Store, flush: bool) -> None:
    for _ in range(3):
        record = used(store, "a")
        if flush:
            store.journal.flush()
        ended(store, record)
        assert store.get(QuotaRecord, "a") is None
    store.journal.flush()
    assert stored(store) == []
    assert store.current(QuotaRecord, live=None) == []


def test_a_record_that_begins_and_ends_with_one_row_was_never_there(store: Store) -> None:
    record = QuotaRecord(key="a", live=0)
    store.journal.append(row(), [Change(record), Change(record)])
    again = QuotaRecord(key="a", data=b"again")
    store.journal.append(row(), [Change(again)])
    assert store.current(QuotaRecord) == [again]


def test_a_key_that_ends_and_begins_with_one_row_is_the_new_one(store: Store) -> None:
    old = used(store, "a")
    store.journal.flush()
    old.live, new = 0, QuotaRecord(key="a", data=b"new")
    store.journal.append(row(), [change(old), change(old), Change(new), Change(new)])
    store.journal.flush()
    assert stored(store) == [("a", 2)]
    assert store.current(QuotaRecord) == [new]


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("replaces", [0, 5])
def test_replacing_another_version_than_the_current_one_is_a_panic(store: Store, flush: bool, replaces: int) -> None:
    used(store, "a")
    if flush:
        store.journal.flush()
    with pytest.raises(KernelPanic):
        written(store, Change(QuotaRecord(key="a"), replaces))


def test_one_of_many_wrong_versions_undoes_the_batch(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        kept = [used(store, key) for key in "abc"]
        store.journal.flush()
        changes = [change(record) for record in kept]
        with pytest.raises(KernelPanic, match="1 of 3 replaced versions"):
            written(store, *changes[:2], Change(kept[2], 1))
    with file_store(tmp_path) as store:
        assert stored(store) == [("a", 1), ("b", 2), ("c", 3)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["use", "end", "flush"])), max_size=30))
def test_what_is_kept_is_what_was_last_written(steps: list[tuple[str, str]]) -> None:
    with file_store(Path(), durability="memory") as store:
        model: dict[str, QuotaRecord] = {}
        for key, step in steps:
            if step == "flush":
                store.journal.flush()
            elif step == "end" and key in model:
                ended(store, model.pop(key))
            elif step == "use":
                record = model.setdefault(key, QuotaRecord(key=key))
                record.data += b"x"
                store.journal.append(row(), [change(record)])
        assert store.current(QuotaRecord) == [model[key] for key in sorted(model)]
        assert stored(store) == [(key, model[key].seq) for key in sorted(model)]


def test_removing_versions_probes_the_index_of_current_ones(tmp_path: Path) -> None:
    store = file_store(tmp_path)
    for record in (QuotaRecord, FileLabelRecord):
        plan = [
            step[3] for step in store._reader.fetch(f"EXPLAIN QUERY PLAN {sql.drop_versions(table_of(record), 2)}", (None,) * 6)
        ]
        assert any(f"SEARCH old USING INDEX {record.table}_current" in step for step in plan), plan
        assert not any(step.startswith("SCAN") and " v" not in step and "CONSTANT" not in step for step in plan), plan


def test_every_kind_of_record_is_written_and_read_back(store: Store) -> None:
    """Column names that are words of SQL included."""
    values = {int: 1, float: 1.5, str: "t", bytes: b"b"}
    assert records.StandingRecord.table in {table.name for _, table in state_tables()}
    for kind, table in state_tables():
        fields = {name: values[of] for name, of in zip(table.columns[:-1], table.kinds, strict=False) if name != "seq"}
        made = kind(**fields)
        store.journal.append(row(), [Change(made)])
        assert store.current(kind) == [made]
        store.journal.append(row(), [change(made)])
        assert store.get(kind, *table.key_of(msgspec.structs.astuple(made))) == made


def test_a_table_without_versions_cannot_be_asked_for_one(store: Store) -> None:
    used(store, "a")
    with pytest.raises(AssertionError, match="keeps no versions"):
        store.get(QuotaRecord, "a", at=1)
