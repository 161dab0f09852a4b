"""INVARIANT a-backup-verifies: a copy of a live store is whole under its name or not there; an export proves itself."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from agentos.abi.codec import encode
from agentos.errors import Invalid
from agentos.store import AuditReport, Store, open_store
from agentos.store import backup as backups
from agentos.store.archive import archive
from agentos.store.backup import backup, copy_tables
from agentos.store.export import export, export_lines, verify_lines
from agentos.store.migrations import migrate
from agentos.store.sqlite import connect
from agentos.store.verify import verify
from tests.room.store.builders import FixedClock, file_store, row, spawned

BIG = encode("large" * 2_000)


def filled(store: Store, rows: int = 40) -> None:
    for pid in (1, 2):
        spawned(store, pid, goal=encode("go") if pid == 1 else BIG)
    for number in range(rows):
        store.journal.append(
            row(1 + number % 2, args=encode({"n": number, "x": 1.0}), result=BIG if number == 7 else encode([None, b"\x00"]))
        )
    store.journal.flush()
    archive(store, [1])


def test_a_backup_verifies_and_is_the_store(store: Store, tmp_path: Path) -> None:
    filled(store)
    target = tmp_path / "copy" / "b.db"
    target.parent.mkdir()
    report = backup(store, target)
    assert target.stat().st_mode & 0o777 == 0o600
    assert (report.rows, report.head) == (42, store.verify().head)
    assert report.bytes == target.stat().st_size
    assert [path.name for path in target.parent.iterdir()] == ["b.db"]
    with open_store(target, clock=FixedClock()) as copy:
        assert copy.rows(0, 1_000) == store.rows(0, 1_000)
        assert copy.verify(report.head).ok


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("nowhere")])
def test_what_is_there_is_never_overwritten(tmp_path: Path, make: Callable[[Path], object]) -> None:
    target = tmp_path / "b.db"
    make(target)
    with file_store(tmp_path) as store:
        with pytest.raises(Invalid, match="already"):
            backup(store, target)
        with pytest.raises(Invalid, match="already"):
            export(store, target)
    assert not target.is_file() or not target.stat().st_size


def test_a_backup_of_a_damaged_store_gets_no_name(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        filled(store)
        with store.upkeep() as connection:
            connection.execute("UPDATE journal SET op = 'other' WHERE seq = 6")
        with pytest.raises(Invalid, match="does not verify: row 6"):
            backup(store, tmp_path / "b.db")
    assert not list(tmp_path.glob("b.db*"))


def test_a_draft_that_a_killed_backup_left_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / ".b.db.agentos-draft").write_bytes(b"half a copy")
    with file_store(tmp_path) as store:
        filled(store)
        assert backup(store, tmp_path / "b.db").rows == 42


@pytest.mark.parametrize("name", ["b.db-draft", "b.db-draft-wal", "b.db-journal"])
def test_a_backup_touches_no_file_of_somebody_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a letter that is not finished")
    with file_store(tmp_path) as store:
        filled(store)
        backup(store, tmp_path / "b.db")
    assert (tmp_path / name).read_bytes() == b"a letter that is not finished"


def test_a_draft_with_two_names_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "letter").write_bytes(b"dear")
    (tmp_path / ".b.db.agentos-draft").hardlink_to(tmp_path / "letter")
    with file_store(tmp_path) as store, pytest.raises(Invalid, match="no draft"):
        backup(store, tmp_path / "b.db")
    assert (tmp_path / "letter").read_bytes() == b"dear"


def test_two_backups_do_not_make_one_file(tmp_path: Path) -> None:
    with file_store(tmp_path) as store, backups._draft(tmp_path / "b.db"), pytest.raises(Invalid, match="another backup"):
        backup(store, tmp_path / "b.db")


def test_a_backup_beside_a_writer_is_one_state(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        filled(store, 2_000)
        made: list[backups.BackupReport] = []
        copying = threading.Thread(target=lambda: made.append(backup(store, tmp_path / "b.db")))
        copying.start()
        while copying.is_alive():
            store.journal.append(row(1))
            store.journal.flush()
        assert made[0].rows >= 2_002
        assert store.verify(made[0].head).ok
        assert store.journal.head > made[0].rows


def test_a_store_is_copied_table_by_table_through_any_connection(store: Store, tmp_path: Path) -> None:
    """How a store that is no SQLite file gets into one."""
    filled(store)
    target = connect(None, durability="memory")
    migrate(target)
    with store.scan() as source:
        copy_tables(source, target)
    assert verify(target) == store.verify()


# --- exports --------------------------------------------------------------------------------------------------------------


def exported(store: Store, **options: int) -> list[bytes]:
    filled(store)
    return list(export_lines(store, **options))


def test_an_export_proves_itself_without_its_store(store: Store) -> None:
    lines = exported(store)
    report = verify_lines(lines)
    assert report == store.verify()
    assert verify_lines(lines, report.head).ok


def test_an_export_shows_what_was_called(store: Store) -> None:
    shown = json.loads(exported(store)[5])["shown"]
    assert shown == {"args": {"n": 2, "x": 1.0}, "result": [None, "AA=="]}


def test_an_export_can_begin_later_or_be_of_one_process(store: Store) -> None:
    since = exported(store, since=10)
    assert (verify_lines(since).rows, verify_lines(since).ok) == (32, True)
    one = list(export_lines(store, pid=2))
    assert (verify_lines(one).rows, verify_lines(one).ok) == (21, True)
    with pytest.raises(Invalid, match="there is no row 99"):
        list(export_lines(store, since=99))


def other(line: bytes, **fields: object) -> bytes:
    return json.dumps({**json.loads(line), **fields}).encode() + b"\n"


CHANGES: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "op": lambda lines: [*lines[:9], other(lines[9], op="other"), *lines[10:]],
    "args": lambda lines: [*lines[:9], other(lines[9], args="gA==", shown={}), *lines[10:]],
    "shown": lambda lines: [*lines[:9], other(lines[9], shown={"args": "nice"}), *lines[10:]],
    "large result": lambda lines: [
        other(each, result="o" * 4_000, shown={}) if b'"seq":10,' in each else each for each in lines
    ],
    "a row is missing": lambda lines: [*lines[:9], *lines[10:]],
    "two rows changed places": lambda lines: [*lines[:9], lines[10], lines[9], *lines[11:]],
    "the end is missing": lambda lines: lines[:-1],
    "the last rows are missing": lambda lines: [*lines[:-5], lines[-1]],
    "a line is no JSON": lambda lines: [*lines[:9], b"{\n", *lines[10:]],
    "a column is missing": lambda lines: [*lines[:9], b'{"seq": 9}\n', *lines[10:]],
    "a row says more": lambda lines: [*lines[:9], other(lines[9], approved_by="pat"), *lines[10:]],
    "the start says more": lambda lines: [other(lines[0], approved_by="pat"), *lines[1:]],
    "the end says more": lambda lines: [*lines[:-1], other(lines[-1], approved_by="pat")],
    "a line is nested without end": lambda lines: [
        *lines[:9],
        b'{"op":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
        *lines[10:],
    ],
    "something follows": lambda lines: [*lines, lines[9]],
    "another start": lambda lines: [other(lines[0], previous="00" * 32), *lines[1:]],
    "another layout": lambda lines: [other(lines[0], salted_from=9), *lines[1:]],
}


@pytest.mark.parametrize("what", list(CHANGES))
def test_a_changed_export_is_seen(tmp_path: Path, what: str) -> None:
    with file_store(tmp_path) as store:
        lines = exported(store)
    if what == "the start says more":
        with pytest.raises(Invalid, match="no export"):
            verify_lines(CHANGES[what](lines))
        return
    assert not verify_lines(CHANGES[what](lines)).ok


@pytest.mark.parametrize(
    "text", [b"", b"{}\n", b"text\n", b'{"journal": 2, "pid": null, "after": 0, "previous": "", "salted_from": 1}\n']
)
def test_what_is_no_export_is_refused(text: bytes) -> None:
    with pytest.raises(Invalid, match="no export"):
        verify_lines([text])


def test_the_head_of_one_process_is_of_its_last_row_whatever_the_last_line_says(store: Store) -> None:
    whole = exported(store)
    lines = list(export_lines(store, pid=2))
    own = max((json.loads(line) for line in lines[1:-1]), key=lambda row: int(row["seq"]))
    forged = verify_lines([*lines[:-1], other(lines[-1], head="99:" + "00" * 32)])
    assert forged.head == verify_lines(lines).head
    assert forged.head.startswith(f"{own['seq']}:")
    assert verify_lines(whole, forged.head).ok


def test_an_export_with_another_head_is_seen(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        lines = exported(store)
    report: AuditReport = verify_lines(lines, f"9:{'00' * 32}")
    assert (report.ok, report.first_bad_seq) == (False, 9)


def test_a_file_that_is_not_finished_is_not_left(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        with pytest.raises(Invalid):
            export(store, tmp_path / "e.jsonl", since=99)
        assert not (tmp_path / "e.jsonl").exists()
