"""INVARIANT erased-is-gone: rows, pages and records lose their content, the chain verifies, and the bytes are in no file."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentos.abi.records import AskRecord, Change, MessageRecord, NameRecord, ProcessRecord
from agentos.errors import Unavailable
from agentos.store import Store, scrub
from agentos.store.archive import archive
from agentos.store.collect import collect
from agentos.store.erase import CONTENT, Erasing, Scope, erase
from agentos.store.tables import state_tables
from tests.room.store.builders import change, file_store, intent, result, row

CANARY = b"canary-3f9a"
BIG = CANARY * 1_000


def filled(store: Store, rounds: int = 40) -> None:
    """Process 1 with the canary everywhere, process 2 with none, between each other so that pages are shared and split."""
    one, two = ProcessRecord(pid=1, goal=CANARY, args=BIG, save_state=CANARY), ProcessRecord(pid=2, goal=b"kept")
    store.journal.append(row(1), [change(one)])
    store.journal.append(row(2), [change(two)])
    name = NameRecord(namespace="proc/1", name="thing")
    for number in range(rounds):
        seq = store.journal.append(intent(1, args=CANARY + b"%d" % number, resource=f"/{CANARY.decode()}", key=CANARY.decode()))
        store.journal.append(result(seq, 1, result=BIG if number % 7 == 0 else CANARY))
        store.journal.append(row(2, args=b"kept%d" % number, result=b"kept" * 1_000 if number % 7 == 0 else b""))
        name.pid, name.value = 1, store.objects.pack([CANARY.decode() * 30] * (number + 1))
        store.journal.append(row(1, op="obj.put", resource="proc/1/thing"), [change(name)])
    ask = AskRecord(ask=1, pid=1, args=CANARY, preview=CANARY, question=CANARY.decode(), answer=CANARY)
    told = MessageRecord(message=1, pid=1, value=CANARY)
    store.journal.append(row(1), [Change(ask), Change(told)])
    one.live, one.exit = 0, CANARY
    store.journal.append(row(1), [change(one)])
    store.journal.append(row(2))
    store.journal.flush()


def erased(store: Store, scope: Scope) -> Erasing:
    done = erase(store, scope, {})
    store.journal.watch(without=done.names)
    collect(store)
    store.journal.unwatch()
    store.objects.clear()
    store.rewrite()
    return done


def bytes_of(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()) if path.name.startswith("store.db"))


@pytest.mark.parametrize("pids", [[], [1], [2], [1, 2]])
def test_erased_is_gone_from_the_bytes_of_every_file(tmp_path: Path, pids: list[int]) -> None:
    with file_store(tmp_path) as store:
        filled(store)
        archive(store, pids)
        assert CANARY in bytes_of(tmp_path) or pids
        before = store.verify()
        erased(store, Scope((1,)))
        assert CANARY not in bytes_of(tmp_path)
        assert store.verify(before.head) == before
        assert b"".join(each.args for each in store.tape(2, 0, 10_000)).startswith(b"kept0kept1")
    with file_store(tmp_path) as store:
        assert store.verify().ok
        assert CANARY not in bytes_of(tmp_path)


def test_facts_stay_and_content_goes(store: Store) -> None:
    filled(store, 3)
    before = store.tape(1, 0, 100)
    done = erased(store, Scope((1,)))
    after = store.tape(1, 0, 100)
    assert done.rows == len(before)
    assert [(each.seq, each.op, each.kind, each.outcome, each.at) for each in after] == [
        (each.seq, each.op, each.kind, each.outcome, each.at) for each in before
    ]
    assert {(each.args, each.resource, each.result, each.digest, each.key) for each in after} == {(b"", "", b"", b"", "")}
    assert store.get(ProcessRecord, 1).goal == b""
    assert store.get(ProcessRecord, 2).goal == b"kept"


def test_every_version_of_a_record_loses_its_content(store: Store) -> None:
    filled(store, 3)
    erased(store, Scope((1,)))
    values = store.reader.fetch("SELECT value FROM name")
    assert len(values) == 3
    assert {bytes(value) for (value,) in values} == {b""}


def test_replaced_versions_of_what_is_erased_whole_go_and_those_of_others_stay(store: Store) -> None:
    filled(store, 3)
    two = store.get(ProcessRecord, 2)
    assert two is not None
    store.journal.append(row(2), [change(two)])
    store.journal.flush()
    erase(store, Scope((1,), label=0b001), {})
    count = "SELECT count(*) FROM process WHERE until IS NOT NULL AND pid = ?"
    assert [store.reader.fetch(count, (pid,))[0][0] for pid in (1, 2)] == [1, 1]
    erased(store, Scope((1,)))
    assert [store.reader.fetch(count, (pid,))[0][0] for pid in (1, 2)] == [0, 1]
    assert store.verify().ok


def test_erasing_again_finds_nothing(store: Store) -> None:
    filled(store, 3)
    erased(store, Scope((1,)))
    again = erased(store, Scope((1,)))
    assert (again.rows, again.records, again.names) == (0, 0, set())


def test_an_object_that_others_refer_to_stays(store: Store) -> None:
    filled(store, 3)
    seq = store.journal.append(row(2, result=BIG))
    store.journal.flush()
    erased(store, Scope((1,)))
    assert store.rows(seq - 1, 1)[0].result == BIG


def test_a_namespace_is_erased_without_the_rest(store: Store) -> None:
    filled(store, 3)
    done = erased(store, Scope((1,), namespace="proc/1"))
    assert (done.rows, done.records) == (3, 3)
    assert store.get(ProcessRecord, 1).goal == CANARY
    assert erase(store, Scope((1,), namespace="proc"), {}).rows == 0


def test_a_namespace_is_not_the_beginning_of_another(store: Store) -> None:
    filled(store, 3)
    assert erase(store, Scope((1,), namespace="pro"), {}).rows == 0


def test_a_label_is_erased_without_the_rest(store: Store) -> None:
    store.journal.append(row(1, args=b"plain"))
    name = NameRecord(namespace="n", name="a", pid=1, labels=0b111, value=CANARY)
    store.journal.append(row(1, args=CANARY), [Change(name)])
    store.journal.append(row(1, args=CANARY, labels=0b011))
    store.journal.append(row(1, args=b"internal", labels=0b001))
    store.journal.flush()
    done = erased(store, Scope((1,), label=0b011))
    assert (done.rows, done.records) == (2, 1)
    assert [each.args for each in store.tape(1, 0, 9)] == [b"plain", b"", b"", b"internal"]


def test_a_message_to_somebody_else_is_theirs_until_it_was_read(store: Store) -> None:
    store.journal.append(row(1), [Change(MessageRecord(message=1, pid=2, sender=1, value=CANARY))])
    store.journal.append(row(1), [Change(MessageRecord(message=2, pid=2, sender=1, live=0, value=CANARY))])
    store.journal.flush()
    erased(store, Scope((1,)))
    assert [store.get(MessageRecord, number).value for number in (1, 2)] == [CANARY, b""]


def test_a_dry_run_counts_and_changes_nothing(store: Store) -> None:
    filled(store, 3)
    before = store.rows(0, 1_000)
    counted = erase(store, Scope((1,)), {}, dry_run=True)
    assert store.rows(0, 1_000) == before
    done = erased(store, Scope((1,)))
    assert (counted.rows, counted.records) == (done.rows, done.records)


def test_tampering_is_seen_in_what_was_erased(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        filled(store, 3)
        erased(store, Scope((1,)))
        with store.upkeep() as connection:
            connection.execute("UPDATE journal SET args = ? WHERE seq = 5", (b"other",))
        assert store.verify().first_bad_seq == 5


def test_a_log_that_somebody_reads_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that holds an older state keeps the log from being emptied: the caller must not believe that all is gone."""
    monkeypatch.setattr(scrub, "_LOG_S", 0.05)
    with file_store(tmp_path) as store:
        filled(store, 3)
        store._writer.fetch("PRAGMA busy_timeout = 50")
        with store.scan() as reader:
            reader.fetch("SELECT count(*) FROM journal")
            with pytest.raises(Unavailable, match="log cannot be emptied"):
                erased(store, Scope((1,)))
        store.rewrite()
        assert CANARY not in bytes_of(tmp_path)


def test_the_list_of_content_names_columns_that_exist() -> None:
    tables = {table.name: table.columns for _, table in state_tables()}
    assert all(set(columns) <= set(tables[name]) for name, columns in CONTENT.items())
