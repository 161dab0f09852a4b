"""INVARIANT committed-survives: after SIGKILL at any statement the store holds a prefix that contains all that was acknowledged.

Torn files are in `test_torn_store`, failing writes in `test_failing_disk`.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from agentos.abi.records import ProcessRecord
from agentos.errors import Invalid
from agentos.store import Store
from agentos.store.sqlite import Connection
from tests.fault.store_crash import PROCESSES, TURNS
from tests.room.store.builders import file_store, row, spawned


def check_prefix(store: Store) -> int:
    """Check that state and journal are one prefix of the work of `store_crash`; return its last number."""
    assert store.verify().ok
    rows = store._reader.fetch("SELECT seq, pid, kind FROM journal ORDER BY seq")
    assert [seq for seq, _, _ in rows] == list(range(1, len(rows) + 1))
    changed = {(seq, pid) for seq, pid, kind in rows if pid >= 10 or seq == 1}
    assert set(store._reader.fetch("SELECT seq, pid FROM process")) == changed
    for pid in {pid for _, pid in changed}:
        assert store.get(ProcessRecord, pid).seq == max(seq for seq, other in changed if other == pid)
        assert all(found.args in (b"", found.args[:1] * 3_000) for found in store.tape(pid, 0, 99))
    return len(rows)


def test_a_writer_killed_at_any_statement_loses_nothing_acknowledged(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.fault.store_crash", str(tmp_path)], check=True, capture_output=True, text=True
    )
    told = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(told) > 20
    for number, acknowledged in told:
        with file_store(tmp_path / str(number)) as store:
            held = check_prefix(store)
            assert held >= acknowledged
            store.journal.append(row())
            assert store.verify().ok
    assert held == 1 + PROCESSES + TURNS * (PROCESSES + 1)


REASONS = {sqlite3.SQLITE_FULL: "full", sqlite3.SQLITE_IOERR: "io"}


def three_commits(store: Store) -> tuple[int, str]:
    """Commit three times; returns the last acknowledged number and why it stopped, if it did."""
    acknowledged = 0
    try:
        for pid in (1, 2, 3):
            spawned(store, pid, goal=b"g" * 3_000)
            store.journal.flush()
            acknowledged = store.journal.durable_seq
    except Invalid as error:
        return acknowledged, error.reason
    return acknowledged, ""


@pytest.mark.parametrize("code", list(REASONS))
def test_a_failure_at_any_statement_acknowledges_nothing_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    execute = Connection.execute
    survived = False
    number = 0
    while not survived:
        number += 1
        folder = tmp_path / str(number)
        store = file_store(folder)
        left = [number]

        def failing(connection: Connection, *args: object, left: list[int] = left) -> sqlite3.Cursor:
            left[0] -= 1
            if left[0] == 0:
                error = sqlite3.OperationalError("the disk says no")
                error.sqlite_errorcode = code
                raise error
            return execute(connection, *args)

        monkeypatch.setattr(Connection, "execute", failing)
        acknowledged, reason = three_commits(store)
        survived = not reason
        if reason:
            assert reason == REASONS[code]
            with pytest.raises(Invalid):
                store.journal.append(row())
        monkeypatch.setattr(Connection, "execute", execute)
        store.close()
        with file_store(folder) as reopened:
            assert reopened.verify().ok
            assert reopened.journal.head == acknowledged
    assert number > 12


def write_without_end(store: Store) -> None:
    """Commit every 20 processes until something stops it."""
    for pid in range(1, 100_000):
        spawned(store, pid, goal=bytes([pid % 251]) * 900)
        if pid % 20 == 0:
            store.journal.flush()


def test_a_full_disk_stops_the_store_and_loses_nothing(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(tmp_path)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        filler = tmp_path / "filler"
        filler.write_bytes(bytes(400 * 1024))
        store = file_store(tmp_path, durability="strict")
        with pytest.raises(Invalid) as caught:
            write_without_end(store)
        assert caught.value.reason == "full"
        acknowledged = store.journal.durable_seq
        with pytest.raises(Invalid):
            store.journal.append(row())
        store.close()
        filler.unlink()
        with file_store(tmp_path) as reopened:
            assert reopened.journal.head >= acknowledged > 0
            assert len(reopened.current(ProcessRecord)) == reopened.journal.head
            assert reopened.verify().ok
            reopened.journal.append(row())
            reopened.journal.flush()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_store_on_a_file_system_mounted_read_only_is_read_but_not_written(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a file system cannot be mounted here")
    try:
        with file_store(tmp_path) as store:
            spawned(store, 1)
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        with pytest.raises(Invalid) as caught:
            file_store(tmp_path)
        assert caught.value.reason == "readonly"
        with file_store(tmp_path, writer=False) as reader:
            assert [found.pid for found in reader.current(ProcessRecord)] == [1]
            assert reader.verify().ok
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
