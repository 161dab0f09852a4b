"""The schema in SQLAlchemy Core: built from the table descriptions, compiled to DDL for one dialect.

Protocol: `create_all(dialect)` gives the statements of the newest schema in order; `differences` names what a database that went through
all migrations has otherwise. Migrations are frozen text, this is not: the two are written independently and compared whenever a
store is made or brought forward. Constraints state the invariants: at most one current version per key, one row per journal number,
one head.
Imported only when a store is created or migrated: SQLAlchemy takes 0.2 s to import, which `agentos ps` has not got.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)  # fmt: skip
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeEngine

from agentos.store import tables
from agentos.store.database import Database

__all__ = ["create_all", "differences", "metadata", "postgres_dialect", "sqlite_dialect"]

_INTEGER: Final = Integer().with_variant(BigInteger(), "postgresql")
_TEXT: Final = Text().with_variant(Text(collation="C"), "postgresql")  # ordered by code point everywhere
_TYPES: dict[type, TypeEngine[Any]] = {int: _INTEGER, float: Double(), str: _TEXT, bytes: LargeBinary()}
_ERASABLE = frozenset({"args", "resource", "result", "salt", "content_hash"})
_SEARCHED: Final = {
    "cap": ("pid", "seq"),
    "message": ("pid", "seq"),
    "name": ("namespace", "seq"),
    "process": ("tree", "seq"),
}
"""What versions are looked for by, beside their key: what belongs to a process or a namespace, as it was or as it has changed."""
_STATEMENTS: Final = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
_COLUMNS: Final = (
    "SELECT table_name, column_name || ' ' || data_type || CASE is_nullable WHEN 'NO' THEN ' not null' ELSE '' END "
    "FROM information_schema.columns WHERE table_schema = current_schema() AND table_name NOT IN ('lease', 'inbox') "
    "UNION ALL SELECT i.relname, 'index of ' || t.relname FROM pg_index AS x JOIN pg_class AS i ON i.oid = x.indexrelid "
    "JOIN pg_class AS t ON t.oid = x.indrelid JOIN pg_namespace AS n ON n.oid = t.relnamespace "
    "WHERE n.nspname = current_schema() AND NOT EXISTS (SELECT 1 FROM pg_constraint AS c WHERE c.conindid = i.oid) "
)
_DEFAULT: Final = re.compile(r" DEFAULT (?:'[^']*'|\S+)")  # an added column has one for the rows that were there before it
_BETWEEN_PARTS: Final = re.compile(r",(?![^()]*\))")


def sqlite_dialect() -> Dialect:
    """Return the dialect of SQLite."""
    return sqlite.dialect()


def postgres_dialect() -> Dialect:
    """Return the dialect of PostgreSQL."""
    return postgresql.dialect()  # type: ignore[no-untyped-call]


def metadata() -> MetaData:
    """Return the whole schema."""
    meta = MetaData()
    _fixed(meta)
    _archive(meta)
    _journal(meta)
    for _, table in tables.state_tables():
        _state(meta, table)
    return meta


def create_all(dialect: Dialect) -> list[str]:
    """Return the statements that make an empty database what this code expects."""
    statements: list[str] = []
    for table in metadata().sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements.extend(str(CreateIndex(index).compile(dialect=dialect)) for index in indexes)
    return statements


def differences(connection: Database) -> list[str]:
    """Return what a database has otherwise than described, in words; empty when it is exactly that.

    The order of columns does not matter, nor does a default, which an added column needs and a described one has not. PostgreSQL keeps no
    statements: there the columns with their types are compared, and which indexes there are.
    """
    if connection.dialect == "sqlite":
        found = {name: _parts(statement) for name, statement in connection.fetch(_STATEMENTS)}
        expected = _expected()
    else:
        found, expected = {}, _expected_columns()
        for name, part in connection.fetch(_COLUMNS):
            found[name] = found.get(name, frozenset()) | {part}
    missing = [f"`{name}` is missing" for name in expected if name not in found]
    strange = [f"`{name}` is not part of it" for name in found if name not in expected]
    other = [
        f"`{name}` differs: {', '.join(sorted(found[name] ^ expected[name]))}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    return missing + strange + other


@functools.cache
def _expected_columns() -> dict[str, frozenset[str]]:
    """Return the columns of each table with their PostgreSQL types, and the names of indexes, each for itself."""
    expected, dialect = {}, postgres_dialect()
    for table in metadata().sorted_tables:
        kinds = {column.name: column.type.compile(dialect).partition(" COLLATE")[0].lower() for column in table.columns}
        nulls = {column.name: "" if column.nullable else " not null" for column in table.columns}
        expected[table.name] = frozenset(f"{name} {kind}{nulls[name]}" for name, kind in kinds.items())
        expected |= {str(index.name): frozenset({f"index of {table.name}"}) for index in table.indexes}
    return expected


@functools.cache
def _expected() -> dict[str, frozenset[str]]:
    """Return the parts of each table and index as described, by name."""
    expected = {}
    for statement in create_all(sqlite_dialect()):
        head = statement.partition("(")[0].split(" ON ")[0]
        expected[head.split()[-1].strip('"')] = _parts(statement)
    return expected


def _parts(statement: str) -> frozenset[str]:
    """Cut a CREATE statement into what it says, whatever its spacing: the head, and each column or constraint."""
    head, _, body = " ".join(statement.replace('"', "").split()).partition("(")
    parts = _BETWEEN_PARTS.split(body.removesuffix(")")) if head.startswith("CREATE TABLE") else [body]
    return frozenset((head.strip(), *(_DEFAULT.sub("", part).strip() for part in parts)))


def _fixed(meta: MetaData) -> None:
    """Meta facts, the head of the chain with the writer's lease, and objects."""
    Table("meta", meta, Column("name", _TEXT, primary_key=True), Column("value", _TEXT, nullable=False))
    Table(
        "head",
        meta,
        Column("id", _INTEGER, CheckConstraint("id = 1"), primary_key=True),
        Column("genesis", LargeBinary, nullable=False),
        Column("seq", _INTEGER, nullable=False),
        Column("hash", LargeBinary, nullable=False),
        Column("epoch", _INTEGER, nullable=False),
        Column("pid", _INTEGER, nullable=False),
    )
    Table(
        "object",
        meta,
        Column("id", _INTEGER, primary_key=True),
        Column("hash", LargeBinary, nullable=False),
        Column("codec", _TEXT, nullable=False),
        Column("size", _INTEGER, nullable=False),
        Column("body", LargeBinary, nullable=False),
        UniqueConstraint("hash"),
    )


def _archive(meta: MetaData) -> None:
    """Pages of archived journal rows, and which page has rows of which process."""
    Table(
        "segment",
        meta,
        Column("page", _INTEGER, primary_key=True, autoincrement=False),
        Column("codec", _TEXT, nullable=False),
        Column("size", _INTEGER, nullable=False),
        Column("body", LargeBinary, nullable=False),
    )
    Table(
        "segment_pid",
        meta,
        Column("pid", _INTEGER, primary_key=True, autoincrement=False),
        Column("page", _INTEGER, primary_key=True, autoincrement=False),
    )


def _journal(meta: MetaData) -> None:
    """The journal: rowid is the journal number, so a page by number needs no index."""
    columns = [
        Column(name, _TYPES[kind], nullable=name in _ERASABLE, primary_key=name == "seq", autoincrement=False)
        for name, kind in zip(tables.JOURNAL.columns, tables.JOURNAL.kinds, strict=True)
    ]
    table = Table("journal", meta, *columns)
    Index("journal_of_pid", table.c.pid, table.c.seq)
    Index("journal_by_key", table.c.pid, table.c.key, sqlite_where=text("key <> ''"), postgresql_where=text("key <> ''"))
    is_result = text("kind = 'result'")
    Index("journal_result", table.c.parent, table.c.seq, sqlite_where=is_result, postgresql_where=is_result)


def _state(meta: MetaData, described: tables.Table) -> None:
    """One state table: the current version by key; where all versions are kept also each by key and seq, and the live ones by key."""
    columns = [
        Column(name, _TYPES[kind], nullable=name == "until")
        for name, kind in zip(described.columns, described.kinds, strict=True)
    ]
    table = Table(described.name, meta, *columns, CheckConstraint("until IS NULL OR until > seq"))
    keys = [table.c[key] for key in described.keys]
    current, live = text("until IS NULL"), text("until IS NULL AND live = 1")
    Index(f"{described.name}_current", *keys, unique=True, sqlite_where=current, postgresql_where=current)
    if described.versioned:
        Index(f"{described.name}_version", *keys, table.c.seq, unique=True)
        Index(f"{described.name}_live", *keys, sqlite_where=live, postgresql_where=live)
    if described.name in _SEARCHED:
        first, second = _SEARCHED[described.name]
        Index(f"{described.name}_of_{first}", table.c[first], table.c[second])
