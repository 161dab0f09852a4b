"""INVARIANT journal-is-append-only: whatever is done to the journal's file, verify sees it and names the first bad row."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agentos.abi.records import Row
from agentos.errors import Invalid
from agentos.store import AuditReport
from agentos.store.tables import JOURNAL
from tests.room.store.builders import file_store, row

ROWS = 12
BIG = b"large" * 2_000
OTHER = {int: 77, float: 77.5, str: "other", bytes: b"other bytes"}


def filled(folder: Path) -> str:
    """A store of ROWS rows; returns its head."""
    with file_store(folder) as store:
        for number in range(ROWS):
            store.journal.append(
                row(
                    1 + number % 2,
                    args=bytes([number]),
                    resource=f"path:/{number}",
                    result=BIG if number == 4 else b"r",
                    key="k",
                )
            )
            store.journal.flush()
        return store.verify().head


def verified(folder: Path, head: str | None = None) -> AuditReport:
    with file_store(folder, writer=False) as reader:
        return reader.verify(head)


def tamper(folder: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
    with closing(sqlite3.connect(folder / "store.db", isolation_level=None)) as raw:
        for statement in statements:
            raw.execute(statement, values)


@pytest.mark.parametrize("column", [name for name in JOURNAL.columns if name != "seq"])
@pytest.mark.parametrize("at", [1, 5, ROWS])
def test_a_changed_column_is_seen(tmp_path: Path, column: str, at: int) -> None:
    filled(tmp_path)
    other = OTHER[JOURNAL.kinds[JOURNAL.columns.index(column)]]
    tamper(tmp_path, f"UPDATE journal SET {column} = ? WHERE seq = {at}", values=(other,))
    report = verified(tmp_path)
    assert (report.ok, report.first_bad_seq, report.rows) == (False, at, at - 1)
    assert report.head.startswith(f"{at - 1}:")


@pytest.mark.parametrize("column", ["args", "resource", "result", "salt"])
def test_content_that_is_only_removed_is_seen(tmp_path: Path, column: str) -> None:
    filled(tmp_path)
    tamper(tmp_path, f"UPDATE journal SET {column} = NULL WHERE seq = 3")
    assert verified(tmp_path).first_bad_seq == 3


@pytest.mark.parametrize(
    ("statements", "first_bad"),
    [
        (["DELETE FROM journal WHERE seq = 1"], 1),
        (["DELETE FROM journal WHERE seq = 6"], 6),
        (["DELETE FROM journal WHERE seq IN (6, 7)"], 6),
        (["DELETE FROM journal WHERE seq = 12"], 12),
        (["DELETE FROM journal WHERE seq > 9"], 10),
        (["DELETE FROM journal"], 1),
        (["UPDATE journal SET seq = -seq WHERE seq = 5"], -5),
        ([f"UPDATE journal SET seq = {new} WHERE seq = {old}" for old, new in ((5, 99), (6, 5), (99, 6))], 5),
        (["UPDATE journal SET seq = seq + 100 WHERE seq > 6", "UPDATE journal SET seq = seq - 101 WHERE seq > 106"], 6),
        (["UPDATE head SET seq = 11"], 11),
        (["UPDATE head SET seq = 14"], 13),
        (["UPDATE head SET hash = genesis"], 12),
        (["UPDATE head SET genesis = hash"], 1),
    ],
)  # fmt: skip
def test_removed_reordered_and_lost_rows_are_seen(tmp_path: Path, statements: list[str], first_bad: int) -> None:
    filled(tmp_path)
    if "- 101" in statements[-1]:
        statements = ["DELETE FROM journal WHERE seq = 6", *statements]
    tamper(tmp_path, *statements)
    report = verified(tmp_path)
    assert (report.ok, report.first_bad_seq) == (False, first_bad)


@pytest.mark.parametrize("at", [0, -1, ROWS + 1])
def test_an_inserted_row_is_seen(tmp_path: Path, at: int) -> None:
    filled(tmp_path)
    others = ", ".join(name for name in JOURNAL.columns if name != "seq")
    tamper(tmp_path, f"INSERT INTO journal (seq, {others}) SELECT {at}, {others} FROM journal WHERE seq = 4")
    report = verified(tmp_path)
    assert (report.ok, report.first_bad_seq) == (False, at)


def rewritten(folder: Path) -> None:
    """Replace the whole store by another one that is right in itself."""
    for file in folder.glob("store.db*"):
        file.unlink()
    with file_store(folder) as store:
        for _ in range(ROWS + 3):
            store.journal.append(row(args=b"another past"))


def shortened(folder: Path) -> None:
    """Cut the journal and move the stored head back with it."""
    tamper(
        folder,
        "DELETE FROM journal WHERE seq > 8",
        "UPDATE head SET (seq, hash) = (SELECT seq, hash FROM journal WHERE seq = 8)",
    )


@pytest.mark.parametrize(("attack", "first_bad"), [(rewritten, ROWS), (shortened, 9)])
def test_a_consistent_forgery_is_seen_against_a_head_kept_elsewhere(
    tmp_path: Path, attack: Callable[[Path], None], first_bad: int
) -> None:
    head = filled(tmp_path)
    attack(tmp_path)
    assert verified(tmp_path).ok
    report = verified(tmp_path, head)
    assert (report.ok, report.first_bad_seq) == (False, first_bad)


def test_an_older_head_stays_good_while_the_journal_grows(tmp_path: Path) -> None:
    head = filled(tmp_path)
    with file_store(tmp_path) as store:
        store.journal.append(row())
        assert store.verify(head).ok
        assert store.verify("0:" + store.verify().head.partition(":")[2]).ok is False


@pytest.mark.parametrize("text", ["", "12", "x:00", "12:zz", "-1:" + "00" * 32, "3:00"])
def test_a_text_that_is_no_head_is_invalid(tmp_path: Path, text: str) -> None:
    filled(tmp_path)
    with pytest.raises(Invalid, match="is not a journal head"):
        verified(tmp_path, text)


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("DELETE FROM object", "missing"),
        ("UPDATE object SET body = x'00'", "damaged"),
        ("UPDATE object SET codec = 'pickle'", "unknown codec"),
        ("UPDATE object SET size = size + 1", "damaged"),
    ],
)
def test_a_changed_or_lost_object_is_seen(tmp_path: Path, statement: str, reason: str) -> None:
    filled(tmp_path)
    tamper(tmp_path, statement)
    report = verified(tmp_path)
    assert not report.ok
    assert reason in report.reason


def test_erased_content_keeps_the_chain_whole(tmp_path: Path) -> None:
    filled(tmp_path)
    erase(tmp_path, 5)
    assert verified(tmp_path).ok
    with file_store(tmp_path, writer=False) as reader:
        erased = reader.tape(1, 4, 1)[0]
        assert (erased.seq, erased.args, erased.resource, erased.result) == (5, b"", "", b"")


def erase(folder: Path, seq: int) -> None:
    """Take the content of a row away, as retention does: its hash stays."""
    from agentos.store import chain

    with closing(sqlite3.connect(folder / "store.db", isolation_level=None)) as raw:
        columns = raw.execute(f"SELECT {', '.join(JOURNAL.columns)} FROM journal WHERE seq = ?", (seq,)).fetchone()
        blank = chain.erased(columns, 1)
        raw.execute(f"UPDATE journal SET {' = ?, '.join(JOURNAL.columns)} = ? WHERE seq = {seq}", blank)


def test_the_hashes_of_equal_content_differ_by_their_salt(tmp_path: Path) -> None:
    with file_store(tmp_path) as store:
        for _ in range(50):
            store.journal.append(Row(pid=1, number="1", kind="call", op="x.y", args=b"same"))
        store.journal.flush()
        salts = {salt for (salt,) in store._reader.fetch("SELECT salt FROM journal")}
    assert len(salts) == 50
    assert {len(salt) for salt in salts} == {16}
