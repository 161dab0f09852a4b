"""Schema versions: forward only, all or nothing, never guessed at."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from agentos.abi.records import ProcessRecord
from agentos.errors import Invalid
from agentos.store import migrations
from agentos.store.migrations import MIGRATIONS, Migration, migrate, version_of
from agentos.store.sqlite import Connection, connect
from tests.room.store.builders import file_store, spawned


def add_note(connection: Connection) -> None:
    connection.execute("ALTER TABLE meta ADD COLUMN note TEXT NOT NULL DEFAULT ''")


def fail(connection: Connection) -> None:
    connection.execute("CREATE TABLE half (x)")
    raise RuntimeError("the machine stopped here")


NEXT = (*MIGRATIONS, Migration(2, "give meta facts a note", add_note))


def test_migrations_are_numbered_from_one_and_named() -> None:
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    assert [migration.name for migration in MIGRATIONS] == ["create the journal, state tables and objects"]


def test_an_older_store_is_brought_forward_with_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with file_store(tmp_path) as store:
        spawned(store)
    monkeypatch.setattr(migrations, "MIGRATIONS", NEXT)
    with closing(connect(tmp_path / "store.db", durability="fast")) as connection:
        assert migrate(connection, NEXT) == 1
        assert migrate(connection, NEXT) == 0
        assert version_of(connection) == 2
        assert connection.fetch("SELECT note FROM meta LIMIT 1") == [("",)]
        assert connection.fetch("SELECT pid FROM process") == [(1,)]


def test_a_migration_that_fails_leaves_the_old_version(tmp_path: Path) -> None:
    file_store(tmp_path).close()
    with closing(connect(tmp_path / "store.db", durability="fast")) as connection:
        with pytest.raises(RuntimeError):
            migrate(connection, (*NEXT, Migration(3, "fail", fail)))
        assert version_of(connection) == 1
        assert connection.fetch("SELECT name FROM sqlite_master WHERE name = 'half'") == []
    with file_store(tmp_path) as store:
        assert store.current(ProcessRecord) == []


@pytest.mark.parametrize("writer", [True, False])
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE meta SET value = '2' WHERE name = 'schema'", "schema"),
        ("UPDATE meta SET value = 'other' WHERE name = 'fingerprint'", "schema"),
        ("DELETE FROM meta", "corrupt"),
    ],
)
def test_a_store_of_another_version_is_refused(tmp_path: Path, writer: bool, statement: str, reason: str) -> None:
    file_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "store.db", isolation_level=None)) as raw:
        raw.execute(statement)
    with pytest.raises(Invalid) as caught:
        file_store(tmp_path, writer=writer)
    assert caught.value.reason == reason
