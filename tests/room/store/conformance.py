"""What every backend of the store must do. Collected by `test_conformance`, once per backend of `conftest`."""

from __future__ import annotations

import pytest

from agentos.abi.records import AskRecord, Change, NameRecord, ProcessRecord, Row, TimerRecord
from agentos.errors import Invalid, KernelPanic, Unavailable
from agentos.store import Store
from tests.room.store.builders import change, intent, result, row, spawned

pytestmark = pytest.mark.anyio


# --- journal ---------------------------------------------------------------------------------------------------------------


def test_rows_are_numbered_from_one_without_gaps(store: Store) -> None:
    assert [store.journal.append(row()) for _ in range(3)] == [1, 2, 3]
    assert store.journal.head == 3


def test_a_row_without_a_time_gets_the_clocks(store: Store) -> None:
    stamped, kept = row(), row(at=7.0)
    store.journal.append(stamped)
    store.journal.append(kept)
    assert (stamped.at, kept.at) == (1_000.0, 7.0)


async def test_a_durable_row_reads_back_as_it_was_appended(store: Store) -> None:
    written = Row(
        pid=3, number="12.3.1", kind="call", op="fs.read", resource="path:/ä", effect="pure", digest=b"d" * 32, args=b"\x81",
        outcome="denied", code="denied.policy", rule="p:3:1", cap=4, ask=5, labels=6, cost=b"\x01", result=b"\x02", key="k",
        parent=0, at=1.5,
    )  # fmt: skip
    await store.journal.durable(store.journal.append(written))
    assert store.tape(3, 0, 10) == [written]
    assert store.journal.durable_seq == 1


def test_later_changes_of_a_record_do_not_reach_what_was_appended(store: Store) -> None:
    process = spawned(store, state="ready")
    process.state = "failed"
    assert store.get(ProcessRecord, 1).state == "ready"


def test_a_large_value_reads_back_and_is_kept_once(store: Store) -> None:
    big = bytes(range(256)) * 40
    store.journal.append(row(args=big, result=big), [Change(ProcessRecord(pid=1, goal=big))])
    assert store.tape(1, 0, 1)[0].args == store.tape(1, 0, 1)[0].result == big
    assert store.get(ProcessRecord, 1).goal == big
    assert store._reader.fetch("SELECT count(*) FROM object") == [(1,)]


def test_a_value_that_looks_like_a_reference_reads_back(store: Store) -> None:
    looks = b"\xc1" + b"h" * 32
    store.journal.append(row(args=looks, digest=looks))
    assert (store.tape(1, 0, 1)[0].args, store.tape(1, 0, 1)[0].digest) == (looks, looks)


def test_text_that_cannot_be_stored_is_refused_before_anything_is_appended(store: Store) -> None:
    process = ProcessRecord(pid=1, name="\udcff", seq=7)
    for bad, changes in ((row(resource="\udcff"), []), (row(), [Change(process)])):
        with pytest.raises(Invalid, match=r"invalid\.argument"):
            store.journal.append(bad, changes)
        assert (bad.seq, process.seq) == (0, 7)
    assert store.journal.head == 0
    store.journal.flush()


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**70])
def test_a_number_that_does_not_fit_is_refused_before_anything_is_appended(store: Store, number: int) -> None:
    with pytest.raises(Invalid, match=r"invalid\.argument"):
        store.journal.append(row(cap=number))
    store.journal.append(row())
    store.journal.flush()


def test_a_time_that_is_not_a_number_is_refused_and_an_endless_one_is_kept(store: Store) -> None:
    with pytest.raises(Invalid, match="does not fit"):
        store.journal.append(row(), [Change(TimerRecord(pid=1, number="1", due=float("nan")))])
    store.journal.append(row(), [Change(TimerRecord(pid=1, number="1", due=float("inf")))])
    assert store.get(TimerRecord, 1, "1").due == float("inf")


# --- versions --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
def test_every_version_of_a_record_is_kept_and_found_by_number(store: Store, together: bool) -> None:
    process = spawned(store, state="v1")
    for number in (2, 3, 4):
        if not together:
            store.journal.flush()
        process.state = f"v{number}"
        store.journal.append(row(), [change(process)])
    assert [store.get(ProcessRecord, 1, at=at).state for at in (1, 2, 3, 4, 99)] == ["v1", "v2", "v3", "v4", "v4"]
    assert store.get(ProcessRecord, 1, at=0) is None
    assert store.get(ProcessRecord, 1).seq == 4


def test_two_changes_of_one_record_by_one_row_are_one_version(store: Store) -> None:
    process = spawned(store)
    before = process.seq
    process.state = "waiting"
    store.journal.append(row(), [Change(process, before), Change(process, before)])
    assert store.get(ProcessRecord, 1).state == "waiting"
    assert store._reader.fetch("SELECT count(*) FROM process") == [(2,)]


def committed(store: Store, made: Change) -> None:
    """Append one change and commit it."""
    store.journal.append(row(), [made])
    store.journal.flush()


@pytest.mark.parametrize("buffered", [True, False])
def test_replacing_a_version_that_is_not_current_is_a_panic_and_stops_the_store(store: Store, buffered: bool) -> None:
    process = spawned(store)
    if not buffered:
        store.journal.flush()
    stale = Change(ProcessRecord(pid=process.pid), 77)
    with pytest.raises(KernelPanic):
        committed(store, stale)
    with pytest.raises(KernelPanic):
        store.journal.append(row())


def test_a_new_record_under_a_taken_key_is_a_panic(store: Store) -> None:
    spawned(store)
    store.journal.flush()
    with pytest.raises(KernelPanic):
        committed(store, Change(ProcessRecord(pid=1)))


def test_more_changes_than_one_statement_takes_are_all_written(store: Store) -> None:
    processes = [ProcessRecord(pid=pid) for pid in range(1, 1_201)]
    store.journal.append(row(), [Change(process) for process in processes])
    store.journal.flush()
    store.journal.append(row(), [change(process) for process in processes])
    assert len(store.current(ProcessRecord)) == 1_200
    assert {found.seq for found in store.current(ProcessRecord)} == {2}


# --- reading state ---------------------------------------------------------------------------------------------------------


def test_current_gives_live_ended_or_all_records_by_key(store: Store) -> None:
    for pid in (3, 1, 2):
        spawned(store, pid, live=int(pid != 2))
    assert [found.pid for found in store.current(ProcessRecord)] == [1, 3]
    assert [found.pid for found in store.current(ProcessRecord, live=False)] == [2]
    assert [found.pid for found in store.current(ProcessRecord, live=None)] == [1, 2, 3]


def test_current_pages_by_the_last_key(store: Store) -> None:
    timers = [TimerRecord(pid=pid, number=number) for pid in (1, 2) for number in ("1", "2", "3")]
    store.journal.append(row(), [Change(timer) for timer in timers])
    page = store.current(TimerRecord, limit=2)
    pages = [page]
    while page := store.current(TimerRecord, after=(page[-1].pid, page[-1].number), limit=2):
        pages.append(page)
    assert [len(found) for found in pages] == [2, 2, 2]
    assert [timer for found in pages for timer in found] == timers


def test_current_filters_by_equal_columns(store: Store) -> None:
    for number, (namespace, name) in enumerate([("a", "x"), ("a", "y"), ("b", "x")], 1):
        store.journal.append(row(), [Change(NameRecord(namespace=namespace, name=name, made_by=number))])
    assert [found.name for found in store.current(NameRecord, namespace="a")] == ["x", "y"]
    assert [found.namespace for found in store.current(NameRecord, name="x", made_by=3)] == ["b"]


def test_the_largest_key_counts_ended_records_too(store: Store) -> None:
    assert store.max_key(AskRecord) == 0
    store.journal.append(row(), [Change(AskRecord(ask=9, pid=1, live=0)), Change(AskRecord(ask=4, pid=1))])
    assert store.max_key(AskRecord) == 9


# --- reading rows ----------------------------------------------------------------------------------------------------------


def test_the_tape_of_a_process_is_its_rows_in_order_and_bounds(store: Store) -> None:
    for pid in (1, 2, 1, 2, 1):
        store.journal.append(row(pid))
    assert [found.seq for found in store.tape(1, 0, 10)] == [1, 3, 5]
    assert [found.seq for found in store.tape(1, 1, 1)] == [3]
    assert [found.seq for found in store.tape(1, 0, 10, upto=3)] == [1, 3]
    assert store.last_seqs([1, 2, 3]) == {1: 5, 2: 4}


def test_open_intents_are_those_without_a_result(store: Store) -> None:
    for appended in (intent(1), intent(1), intent(2), result(1), row(1)):
        store.journal.append(appended)
    assert [found.seq for found in store.open_intents(1, 0)] == [2]
    assert store.open_intents(1, 2) == []
    assert (store.result_of(1).seq, store.result_of(2)) == (4, None)


def test_a_keyed_call_is_found_by_its_process_and_key(store: Store) -> None:
    for appended in (intent(1, key="a"), result(1, key="a"), intent(2, key="b"), row(1)):
        store.journal.append(appended)
    assert (store.keyed(1, "a").seq, store.keyed(2, "b").seq) == (1, 3)
    assert store.keyed(1, "b") is store.keyed(1, "") is None


def test_entries_pair_intents_with_results_and_leave_notes_out(store: Store) -> None:
    for appended in (intent(1), row(2, kind="note"), intent(1), result(1, outcome="failed"), row(2)):
        store.journal.append(appended)
    found, since = store.entries(0, 10)
    assert [(head.seq, done and done.seq) for head, done in found] == [(1, 4), (3, None), (5, None)]
    assert since == 5
    assert store.entries(5, 10) == ([], 5)


def test_entries_are_filtered_by_process_op_and_outcome(store: Store) -> None:
    for appended in (intent(1), row(2), intent(1), result(1, outcome="failed"), row(2, outcome="denied")):
        store.journal.append(appended)
    seqs = lambda **only: [head.seq for head, _ in store.entries(0, 10, **only)[0]]  # noqa: E731 - a query of this test
    assert seqs(pid=2) == [2, 5]
    assert seqs(op="fs.write") == [1, 3]
    assert (seqs(outcome="failed"), seqs(outcome="pending"), seqs(outcome="denied")) == ([1], [3], [5])


def test_entries_page_through_everything_once(store: Store) -> None:
    for number in range(1_300):
        store.journal.append(row(number % 3, outcome="done" if number % 4 else "denied"))
    seen, since = [], 0
    while True:
        page, after = store.entries(since, 100, outcome="denied")
        seen += [head.seq for head, _ in page]
        if after == since:
            break
        since = after
    assert seen == list(range(1, 1_301, 4))


def test_one_page_of_entries_looks_at_a_bounded_number_of_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.store.reads.ENTRIES_LOOKED_AT_MAX", 50)
    for _ in range(120):
        store.journal.append(row())
    assert store.entries(0, 10, op="no.such") == ([], 50)
    assert store.entries(100, 10, op="no.such") == ([], 120)


# --- objects ---------------------------------------------------------------------------------------------------------------


def test_an_object_is_there_before_and_after_its_commit(store: Store) -> None:
    name = store.objects.put(b"data" * 1_000)
    assert store.objects.get(name) == b"data" * 1_000
    store.journal.flush()
    store.objects._cache.clear()
    assert store.objects.get(name) == b"data" * 1_000


def test_a_missing_object_is_unavailable_and_a_wrong_name_is_invalid(store: Store) -> None:
    with pytest.raises(Unavailable, match="missing"):
        store.objects.get("00" * 32)
    with pytest.raises(Invalid, match="not an object hash"):
        store.objects.get("zz")


def test_a_big_value_comes_back_from_the_store(store: Store) -> None:
    value = {"log": [{"n": n, "text": "x" * 300} for n in range(200)], "n": 5}
    root = store.objects.pack(value)
    store.journal.append(row(), [Change(ProcessRecord(pid=1, save_state=root))])
    store.journal.flush()
    store.objects._cache.clear()
    assert store.objects.unpack(store.get(ProcessRecord, 1).save_state) == value


# --- the chain -------------------------------------------------------------------------------------------------------------


def test_an_untouched_store_verifies_and_says_its_head(store: Store) -> None:
    assert store.verify().ok
    for _ in range(20):
        store.journal.append(row(args=b"a" * 3_000))
    report = store.verify()
    assert (report.ok, report.rows, report.head.partition(":")[0]) == (True, 20, "20")
    store.journal.append(row())
    assert store.verify(report.head).ok


def test_counts_name_the_live_records(store: Store) -> None:
    spawned(store)
    counts = store.counts()
    assert (counts["rows"], counts["live process"], counts["epoch"]) == (1, 1, 1)
