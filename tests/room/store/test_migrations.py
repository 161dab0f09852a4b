"""Schema versions: forward only, all or nothing, never guessed at."""

from __future__ import annotations

import gzip
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from agentos.abi.records import AskRecord, ProcessRecord
from agentos.errors import Invalid
from agentos.store import schema, tables
from agentos.store.migrations import MIGRATIONS, Migration, migrate, version_of
from agentos.store.sqlite import Connection, connect
from tests.room.store.builders import change, file_store, row, spawned

V1 = Path(__file__).parents[2] / "fault" / "stores" / "v1.db.gz"


def old_store(folder: Path) -> Path:
    """A store of schema version 1, made by the code of then."""
    path = folder / "store.db"
    path.write_bytes(gzip.decompress(V1.read_bytes()))
    return path


def raw(path: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(path, isolation_level=None))


def writing(path: Path) -> closing[Connection]:
    return closing(connect(path, durability="fast"))


def fail(connection: Connection) -> None:
    MIGRATIONS[1].apply(connection)
    connection.execute("CREATE TABLE half (x)")
    raise RuntimeError("the machine stopped here")


def refused(folder: Path, *, writer: bool = True) -> Invalid:
    with pytest.raises(Invalid) as caught:
        file_store(folder, writer=writer)
    return caught.value


def test_migrations_are_numbered_from_one_and_named() -> None:
    assert [migration.number for migration in MIGRATIONS] == list(range(1, len(MIGRATIONS) + 1))
    assert [migration.name for migration in MIGRATIONS] == [
        "create the journal, state tables and objects",
        "add limits, standing grants and labels of files",
        "add checkpoints, schedules, file overlays and retention",
    ]


def test_the_last_migration_leads_to_the_columns_that_the_records_have() -> None:
    """Whoever changes a record writes the next migration, or corrects the newest one while it is unreleased."""
    assert MIGRATIONS[-1].fingerprint == tables.fingerprint()


def columns_of(path: Path) -> dict[str, list[tuple[str, str, int, int]]]:
    """Name, type, not-null and key position of the columns of each table, in order of names."""
    with raw(path) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        found = {name: connection.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
    return {name: sorted((column[1], column[2], column[3], column[5]) for column in columns) for name, columns in found.items()}


def indexes_of(path: Path) -> set[str]:
    with raw(path) as connection:
        found = connection.execute("SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL").fetchall()
    return {" ".join(text.split()) for (text,) in found}


@pytest.mark.parametrize("make", [old_store, lambda folder: file_store(folder).close()])
def test_old_and_new_stores_end_with_the_schema_that_the_records_describe(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path)
    file_store(tmp_path).close()
    described = tmp_path / "described.db"
    with raw(described) as connection:
        for statement in schema.create_all(schema.sqlite_dialect()):
            connection.execute(statement)
    assert columns_of(tmp_path / "store.db") == columns_of(described)
    assert indexes_of(tmp_path / "store.db") == indexes_of(described)
    with writing(tmp_path / "store.db") as connection:
        assert schema.differences(connection) == []


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("DROP INDEX ask_current", "`ask_current` is missing"),
        ("CREATE TABLE spare (x)", "`spare` is not part of it"),
        ("CREATE TRIGGER t AFTER INSERT ON journal BEGIN SELECT 1; END", "`t` is not part of it"),
        ("ALTER TABLE cap ADD COLUMN spare TEXT", "`cap` differs: spare TEXT"),
        ("DROP INDEX cap_current; CREATE INDEX cap_current ON cap (cap) WHERE until IS NULL", "`cap_current` differs"),
        ("ALTER TABLE ask RENAME COLUMN rule TO rules", "`ask` differs: rule TEXT NOT NULL, rules TEXT NOT NULL"),
    ],
)
def test_an_old_store_that_is_not_as_it_was_made_is_not_brought_forward(tmp_path: Path, statement: str, words: str) -> None:
    with raw(old_store(tmp_path)) as connection:
        connection.executescript(statement)
    error = refused(tmp_path)
    assert (error.reason, words in error.message) == ("corrupt", True), error.message
    with writing(tmp_path / "store.db") as connection:
        assert version_of(connection) == 1


def test_a_check_that_a_table_lost_is_a_difference(tmp_path: Path) -> None:
    file_store(tmp_path).close()
    with writing(tmp_path / "store.db") as connection:
        text = connection.fetch("SELECT sql FROM sqlite_master WHERE name = 'timer'")[0][0]
        connection.execute("DROP TABLE timer")
        connection.execute(text.replace("until IS NULL OR", "until = 0 OR"))
        found = schema.differences(connection)
    assert [difference for difference in found if "`timer` differs: CHECK" in difference]


def test_an_older_store_is_brought_forward_with_its_content(tmp_path: Path) -> None:
    with writing(old_store(tmp_path)) as connection:
        before = connection.fetch("SELECT pid, goal, label FROM process ORDER BY seq")
        assert (migrate(connection), migrate(connection), version_of(connection)) == (len(MIGRATIONS) - 1, 0, len(MIGRATIONS))
        assert connection.fetch("SELECT pid, goal, label FROM process ORDER BY seq") == before
        assert connection.fetch("SELECT DISTINCT own_layer, endorsing FROM process") == [("", 0)]
        assert connection.fetch("SELECT resource, effect, layer, remember, question, offer, batch FROM ask") == [("",) * 7] * 2


def test_a_migrated_record_can_be_changed(tmp_path: Path) -> None:
    old_store(tmp_path)
    with file_store(tmp_path) as store:
        ask = store.current(AskRecord)[0]
        ask.remember, ask.batch = "tree", "b"
        store.journal.append(row(), [change(ask)])
    with file_store(tmp_path) as store:
        assert store.get(AskRecord, ask.ask) == ask
        assert store.verify().ok


def test_a_head_that_was_kept_before_fits_after(tmp_path: Path) -> None:
    with raw(old_store(tmp_path)) as connection:
        seq, digest = connection.execute("SELECT seq, hash FROM head").fetchone()
    with file_store(tmp_path) as store:
        store.journal.append(row())
        assert store.verify(f"{seq}:{digest.hex()}").ok
        assert not store.verify(f"{seq}:{'0' * 64}").ok


def test_a_migration_that_fails_leaves_the_old_version(tmp_path: Path) -> None:
    with writing(old_store(tmp_path)) as connection:
        with pytest.raises(RuntimeError):
            migrate(connection, (MIGRATIONS[0], Migration(2, "fail", "f", fail)))
        assert version_of(connection) == 1
        assert connection.fetch("SELECT name FROM sqlite_master WHERE name IN ('half', 'quota')") == []
    with file_store(tmp_path) as store:
        assert len(store.current(ProcessRecord)) == 6


def test_a_store_killed_while_it_is_brought_forward_is_whole(tmp_path: Path) -> None:
    path, copy = old_store(tmp_path), tmp_path / "copy"
    copy.mkdir()

    def apply(connection: Connection) -> None:
        MIGRATIONS[-1].apply(connection)
        for name in ("store.db", "store.db-wal"):
            shutil.copy(path.with_name(name), copy / name)

    with writing(path) as connection:
        connection.execute("PRAGMA cache_size = 1")  # so that uncommitted pages are in the files
        migrate(connection, (*MIGRATIONS[:-1], Migration(len(MIGRATIONS), "copy", tables.fingerprint(), apply)))
    assert (copy / "store.db-wal").stat().st_size > 0
    with file_store(copy) as store:
        assert (len(store.current(ProcessRecord)), store.verify().ok) == (6, True)


def test_a_reader_says_that_an_old_store_has_to_be_brought_forward(tmp_path: Path) -> None:
    old_store(tmp_path)
    error = refused(tmp_path, writer=False)
    assert error.reason == "schema"
    assert "opening it for writing brings it there" in error.message


@pytest.mark.parametrize("writer", [True, False])
@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE meta SET value = '99' WHERE name = 'schema'", "schema"),
        ("UPDATE meta SET value = 'other' WHERE name = 'fingerprint'", "schema"),
        ("DELETE FROM meta", "corrupt"),
    ],
)
def test_a_store_of_another_version_is_refused(tmp_path: Path, writer: bool, statement: str, reason: str) -> None:
    with file_store(tmp_path) as store:
        spawned(store)
    with raw(tmp_path / "store.db") as connection:
        connection.execute(statement)
    assert refused(tmp_path, writer=writer).reason == reason


def test_an_old_store_with_columns_of_its_own_is_refused_untouched(tmp_path: Path) -> None:
    with raw(old_store(tmp_path)) as connection:
        connection.execute("UPDATE meta SET value = 'other' WHERE name = 'fingerprint'")
    assert refused(tmp_path).reason == "schema"
    with raw(tmp_path / "store.db") as connection:
        assert connection.execute("SELECT value FROM meta WHERE name = 'schema'").fetchone() == ("1",)
