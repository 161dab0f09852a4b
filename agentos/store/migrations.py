"""Schema versions: numbered, named, forward only.

Protocol: `migrate` brings an older (or empty) database to the newest version in one transaction, step by step; the version and the
fingerprint of the columns are kept in `meta`. A newer version is refused, never guessed at.
A migration gets `run`, which executes one statement; statements are compiled from SQLAlchemy Core for the dialect at hand.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agentos.abi.limits import HASH_BYTES
from agentos.store import tables
from agentos.store.faults import refusal
from agentos.store.sqlite import Connection

__all__ = ["MIGRATIONS", "Migration", "migrate", "version_of"]


@dataclass(frozen=True, slots=True)
class Migration:
    """One step.

    Attributes:
        number: The version it leads to, one more than the version it starts from.
        name: What it does, in words.
        apply: Changes the database of the given connection, inside the migration's transaction.
    """

    number: int
    name: str
    apply: Callable[[Connection], None]


def _create(connection: Connection) -> None:
    """Make the tables of version 1, and a random genesis."""
    from agentos.store import schema  # noqa: PLC0415 - SQLAlchemy takes 0.2 s: only who creates a store pays

    for statement in schema.create_all(schema.sqlite_dialect()):
        connection.execute(statement)
    genesis = os.urandom(HASH_BYTES)
    connection.execute("INSERT INTO head (id, genesis, seq, hash, epoch, pid) VALUES (1, ?, 0, ?, 0, 0)", (genesis, genesis))
    connection.execute("INSERT INTO meta (name, value) VALUES ('fingerprint', ?)", (tables.fingerprint(),))


MIGRATIONS: Final = (Migration(1, "create the journal, state tables and objects", _create),)


def version_of(connection: Connection) -> int:
    """Return the schema version of a database, 0 when it is empty.

    Raises:
        Invalid: `invalid.store`, `corrupt`: it is a database, but not a store.
    """
    names = {name for (name,) in connection.fetch("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not names:
        return 0
    if not {"meta", "head", "journal"} <= names:
        raise refusal("corrupt", connection.path, "the file is a database, but no agentos store")
    found = connection.fetch("SELECT value FROM meta WHERE name = 'schema'")
    if not found or not found[0][0].isdigit():
        raise refusal("corrupt", connection.path, "the file does not say its schema version")
    return int(found[0][0])


def migrate(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Apply what is missing, all or nothing, and return how many steps that were.

    Raises:
        Invalid: `invalid.store`, `schema` (made by a newer version, or with other columns) or `corrupt`.
        sqlite3.Error: the database refused; nothing was changed.
    """
    assert [m.number for m in migrations] == list(range(1, len(migrations) + 1)), "migrations are numbered without gaps"
    version = version_of(connection)
    missing = [migration for migration in migrations if migration.number > version]
    if missing:
        with connection.transaction():
            for migration in missing:
                migration.apply(connection)
            connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES ('schema', ?)", (str(missing[-1].number),))
    check(connection, len(migrations))
    return len(missing)


def check(connection: Connection, newest: int = len(MIGRATIONS)) -> None:
    """Refuse a database whose schema is not exactly the one this code was written for.

    Raises:
        Invalid: `invalid.store`, `schema` or `corrupt`.
    """
    version = version_of(connection)
    if version != newest:
        raise refusal("schema", connection.path, f"its schema has version {version}, this agentos knows version {newest}")
    found = connection.fetch("SELECT value FROM meta WHERE name = 'fingerprint'")
    if not found or found[0][0] != tables.fingerprint():
        raise refusal("schema", connection.path, "its columns are not the ones this agentos knows")
