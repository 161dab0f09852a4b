"""Schema versions: numbered, named, forward only.

Protocol: `migrate` brings an older (or empty) database to the newest version in one transaction, step by step: a new store goes the same
way as an old one. Each step is frozen text (`v1.sql`, `v2.sql`...), so what an old store becomes does not depend on today's records;
before the transaction ends, what came out is compared with what today's records describe (`schema`). Version and fingerprint of the
columns are kept in `meta`. A newer version is refused, never guessed at.
PostgreSQL came with version 3: a store there is made at once, from the description (`make`); each later step has its text twice,
``v4.sql`` and ``v4.postgresql.sql``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from agentos.abi.limits import HASH_BYTES
from agentos.store import tables
from agentos.store.database import Database
from agentos.store.faults import refusal

__all__ = ["MIGRATIONS", "Migration", "check", "make", "migrate", "version_of"]

_KEEP: Final = "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value"
_COMMENT: Final = re.compile(r"^--.*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Migration:
    """One step.

    Attributes:
        number: The version it leads to, one more than the version it starts from.
        name: What it does, in words.
        fingerprint: `tables.fingerprint` of the version it leads to.
        apply: Changes the database of the given connection, inside the migration's transaction.
    """

    number: int
    name: str
    fingerprint: str
    apply: Callable[[Database], None]


def _first(connection: Database) -> None:
    """Make the tables of version 1, and a random genesis."""
    _run(connection, "v1")
    _begin_chain(connection)


def _second(connection: Database) -> None:
    """Add the tables and columns of version 2; nothing is rewritten."""
    _run(connection, "v2")


def _third(connection: Database) -> None:
    """Add the tables and columns of version 3; nothing is rewritten."""
    _run(connection, "v3")


def _begin_chain(connection: Database) -> None:
    genesis = os.urandom(HASH_BYTES)
    connection.execute("INSERT INTO head (id, genesis, seq, hash, epoch, pid) VALUES (1, ?, 0, ?, 0, 0)", (genesis, genesis))


MIGRATIONS: Final = (
    Migration(1, "create the journal, state tables and objects", "f292caf0e285f9325a59879cb76edda8", _first),
    Migration(2, "add limits, standing grants and labels of files", "cf67db7f33dc06c4db4a00dd6534ac8d", _second),
    Migration(3, "add checkpoints, schedules, file overlays and retention", "77bec95200904639cc7a5ba701549d42", _third),
)


def version_of(connection: Database) -> int:
    """Return the schema version of a database, 0 when it is empty.

    Raises:
        Invalid: `invalid.store`, `corrupt`: it is a database, but not a store.
    """
    names = connection.table_names()
    if not names:
        return 0
    if not {"meta", "head", "journal"} <= names:
        raise refusal("corrupt", connection.path, "it is a database, but no agentos store")
    found = connection.fetch("SELECT value FROM meta WHERE name = 'schema'")
    if not found or not found[0][0].isdigit():
        raise refusal("corrupt", connection.path, "it does not say its schema version")
    return int(found[0][0])


def migrate(connection: Database, migrations: Sequence[Migration] = MIGRATIONS) -> int:
    """Apply what is missing, all or nothing, and return how many steps that were.

    Raises:
        Invalid: `invalid.store`, `schema` (made by a newer version, or with other columns) or `corrupt` (tables or indexes are not
            those of its version).
        Exception: what the driver raises: the database refused; nothing was changed.
    """
    assert [m.number for m in migrations] == list(range(1, len(migrations) + 1)), "migrations are numbered without gaps"
    version = version_of(connection)
    missing = migrations[version:]
    if missing:
        if version:
            _expect_fingerprint(connection, migrations[version - 1].fingerprint)
        with connection.transaction():
            for migration in missing:
                migration.apply(connection)
            _name(connection, missing[-1].number, missing[-1].fingerprint)
            _expect_described(connection)
    check(connection, len(migrations))
    return len(missing)


def make(connection: Database) -> None:
    """Make the newest version at once, as it is described today, inside a transaction: the start of every PostgreSQL store."""
    from agentos.store import schema  # noqa: PLC0415 - SQLAlchemy takes 0.2 s: only who creates or migrates a store pays

    for statement in schema.create_all(schema.postgres_dialect()):
        connection.execute(statement)
    _begin_chain(connection)
    _name(connection, len(MIGRATIONS), tables.fingerprint())
    _expect_described(connection)


def check(connection: Database, newest: int = len(MIGRATIONS)) -> None:
    """Refuse a database whose schema is not exactly the one this code was written for.

    Raises:
        Invalid: `invalid.store`, `schema` or `corrupt`.
    """
    version = version_of(connection)
    if version != newest:
        older = "; opening it for writing brings it there, for good, as `agentos tidy` does" if version < newest else ""
        raise refusal("schema", connection.path, f"it has schema version {version}, this agentos knows version {newest}{older}")
    _expect_fingerprint(connection, tables.fingerprint())


def _name(connection: Database, version: int, fingerprint: str) -> None:
    """Write down which version this is."""
    for name, value in (("schema", str(version)), ("fingerprint", fingerprint)):
        connection.execute(_KEEP, (name, value))


def _run(connection: Database, name: str) -> None:
    """Execute the statements of one of the frozen files beside this module."""
    file = f"{name}.sql" if connection.dialect == "sqlite" else f"{name}.{connection.dialect}.sql"
    text = _COMMENT.sub("", resources.files("agentos.store").joinpath(file).read_text("utf-8"))
    for statement in text.split(";"):
        if statement.strip():
            connection.execute(statement)


def _expect_fingerprint(connection: Database, fingerprint: str) -> None:
    found = connection.fetch("SELECT value FROM meta WHERE name = 'fingerprint'")
    if not found or found[0][0] != fingerprint:
        raise refusal("schema", connection.path, "its columns are not the ones this agentos knows")


def _expect_described(connection: Database) -> None:
    """Compare what the migrations made with what the records describe; a difference undoes the migration."""
    from agentos.store import schema  # noqa: PLC0415 - SQLAlchemy takes 0.2 s: only who creates or migrates a store pays

    for difference in schema.differences(connection):
        raise refusal("corrupt", connection.path, f"its schema is not the one of its version: {difference}")
