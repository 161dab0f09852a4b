"""INVARIANT archived-is-still-read: rows give the same answers and verify the same, in the journal or in the archive."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agentos.abi.limits import SEGMENT_NUMBERS
from agentos.errors import Invalid, KernelPanic
from agentos.store import Store
from agentos.store.archive import archive, pids_in_journal
from tests.room.store.builders import file_store, intent, result, row

BIG = b"large" * 2_000


def pages(store: Store, **tests: object) -> list[object]:
    found, since = [], 0
    while True:
        page, following = store.entries(since, 4, **tests)
        found += page
        if following <= since:
            return found
        since = following


READS: dict[str, Callable[[Store], object]] = {
    "rows": lambda store: store.rows(0, 10_000),
    "some rows": lambda store: store.rows(7, 5),
    "tape": lambda store: store.tape(2, 0, 10_000),
    "tape upto": lambda store: store.tape(2, 4, 6, upto=30),
    "newest": lambda store: store.newest(2, 7),
    "newest upto": lambda store: store.newest(1, 7, upto=40),
    "last_seqs": lambda store: store.last_seqs([1, 2, 3, 99]),
    "keyed": lambda store: store.keyed(2, "k2"),
    "not keyed": lambda store: store.keyed(2, "none"),
    "result_of": lambda store: [store.result_of(seq) for seq in range(1, 60)],
    "entries": pages,
    "entries of a process": lambda store: pages(store, pid=2),
    "entries of an outcome": lambda store: pages(store, outcome="failed"),
    "entries that wait": lambda store: pages(store, outcome="pending"),
    "entries of an op": lambda store: pages(store, op="fs.write"),
}


def filled(store: Store, rounds: int = 12) -> None:
    """Three processes: calls, intents with one result, with two, and with none."""
    for number in range(rounds):
        for pid in (1, 2, 3):
            store.journal.append(row(pid, number=str(number), args=b"a", result=BIG if number == 3 else b"r"))
            seq = store.journal.append(intent(pid, key=f"k{number}", resource=f"/{number}"))
            if number % 4 != 1:
                store.journal.append(result(seq, pid, outcome="unknown" if number % 4 == 2 else "done"))
            if number % 4 == 2:
                store.journal.append(result(seq, pid, outcome="failed"))
    store.journal.append(row(0))
    store.journal.flush()


@pytest.mark.parametrize("pids", [[1], [2], [1, 2, 3]])
@pytest.mark.parametrize("read", list(READS))
def test_archived_is_still_read(store: Store, read: str, pids: list[int]) -> None:
    filled(store)
    before = READS[read](store)
    archive(store, pids)
    assert READS[read](store) == before


@pytest.mark.parametrize("order", [[[1], [2], [3]], [[3, 1], [2]], [[1, 2, 3]]])
def test_a_store_verifies_with_the_same_head_whatever_is_archived(store: Store, order: list[list[int]]) -> None:
    filled(store)
    before = store.verify()
    assert before.ok
    for pids in order:
        archive(store, pids)
        assert store.verify(before.head) == before


def test_archiving_loses_nothing(store: Store) -> None:
    filled(store)
    rows = store.rows(0, 10_000)
    moved = archive(store, [1, 2, 3])
    left = store.reader.fetch("SELECT count(*) FROM journal")[0][0]
    assert (moved.rows, left, moved.pages) == (len(rows) - 1, 1, 1)
    assert list(pids_in_journal(store)) == []
    assert archive(store, [1, 2, 3]).rows == 0


def test_the_last_row_stays_in_the_journal(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        store.journal.append(row(1))
        store.journal.append(row(1))
        store.journal.flush()
        assert archive(store, [1]).rows == 1
    with file_store(tmp_path) as store:
        assert store.verify().ok
        assert [each.seq for each in store.tape(1, 0, 10)] == [1, 2]


def test_rows_that_come_later_are_read_after_the_archived_ones(store: Store) -> None:
    filled(store)
    archive(store, [2])
    seq = store.journal.append(row(2, op="proc.later"))
    assert store.newest(2, 1)[0].seq == seq
    assert store.tape(2, 0, 10_000)[-1].op == "proc.later"
    assert store.last_seqs([2]) == {2: seq}


def test_pages_are_windows_of_journal_numbers(store: Store) -> None:
    for number in range(SEGMENT_NUMBERS * 2 + 10):
        store.journal.append(row(1 + number % 2, number=str(number)))
    store.journal.flush()
    assert archive(store, [1]).pages == 3
    assert [each.seq for each in store.tape(1, SEGMENT_NUMBERS * 2, 3)] == [2001, 2003, 2005]
    assert len(store.rows(0, 10_000)) == SEGMENT_NUMBERS * 2 + 10


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE segment SET body = substr(body, 1, 40)", "damaged"),
        ("UPDATE segment SET body = x'00'", "damaged"),
        ("UPDATE segment SET size = size - 1", "damaged"),
        ("UPDATE segment SET codec = 'other'", "damaged"),
        ("UPDATE segment SET page = page + 1", "damaged"),
        ("DELETE FROM segment", "row 1 is missing"),
    ],
)
def test_a_damaged_page_is_seen_and_never_guessed_at(tmp_path: Path, statement: str, said: str) -> None:
    with file_store(tmp_path) as store:
        filled(store)
        archive(store, [1, 2])
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as raw:
        raw.execute(statement)
    with file_store(tmp_path, writer=False) as reader:
        report = reader.verify()
        assert not report.ok
        assert said in report.reason
        if said == "damaged":
            with pytest.raises(KernelPanic):
                reader.rows(0, 10_000)


@pytest.mark.parametrize(
    "data", [b"\x91" * 5_000, b"\x00" * (64 << 20), b"\xdd\xff\xff\xff\xff", b""], ids=["deep", "bomb", "long", "none"]
)
def test_a_page_that_is_no_list_of_rows_is_damaged(data: bytes) -> None:
    from agentos.store.segment import unpack_page

    for size in (len(data), 10):
        with pytest.raises(KernelPanic, match="damaged"):
            unpack_page(0, "zlib", size, zlib.compress(data))


def test_a_row_changed_inside_a_page_is_seen(tmp_path: Path) -> None:
    from agentos.store.segment import pack_page, unpack_page

    with file_store(tmp_path) as store:
        filled(store)
        archive(store, [1, 2, 3])
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as raw:
        rows = unpack_page(0, *raw.execute("SELECT codec, size, body FROM segment").fetchone())
        rows[4] = (99, *rows[4][1:])
        raw.execute("UPDATE segment SET codec = ?, size = ?, body = ?", pack_page(rows))
    with file_store(tmp_path, writer=False) as reader:
        assert reader.verify().first_bad_seq == 5


def test_a_row_that_is_in_both_places_is_seen(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        filled(store)
        with closing(sqlite3.connect(tmp_path / "store.db")) as raw:
            kept = raw.execute("SELECT * FROM journal WHERE seq = 3").fetchone()
        archive(store, [1, 2, 3])
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as raw:
        raw.execute(f"INSERT INTO journal VALUES ({', '.join('?' * len(kept))})", kept)
    with file_store(tmp_path, writer=False) as reader:
        assert not reader.verify().ok


def test_a_reader_cannot_archive(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        filled(store)
    with file_store(tmp_path, writer=False) as reader, pytest.raises(Invalid, match="opened for reading"):
        archive(reader, [1])


def test_a_reader_that_was_open_before_sees_every_row(tmp_path: Path) -> None:
    with file_store(tmp_path) as store, file_store(tmp_path, writer=False) as reader:
        filled(store)
        before = reader.rows(0, 10_000)
        archive(store, [1])
        assert reader.rows(0, 10_000) == before
        archive(store, [2, 3])
        assert reader.rows(0, 10_000) == before
