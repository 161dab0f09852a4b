"""The schema in SQLAlchemy Core: built from the table descriptions, compiled to DDL for one dialect.

Protocol: `create_all(dialect)` gives the statements of schema version 1 in order. Constraints state the invariants: at most one
current version per key, one row per journal number, one head.
Imported only when a store is created or migrated: SQLAlchemy takes 0.2 s to import, which `agentos ps` has not got.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
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
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.types import TypeEngine

from agentos.store import tables

__all__ = ["create_all", "metadata", "sqlite_dialect"]

_TYPES: dict[type, type[TypeEngine[Any]]] = {int: Integer, float: Double, str: Text, bytes: LargeBinary}
_ERASABLE = frozenset({"args", "resource", "result", "salt", "content_hash"})


def sqlite_dialect() -> Dialect:
    """Return the dialect of SQLite."""
    return sqlite.dialect()


def metadata() -> MetaData:
    """Return the whole schema."""
    meta = MetaData()
    _fixed(meta)
    _journal(meta)
    for _, table in tables.state_tables():
        _state(meta, table)
    return meta


def create_all(dialect: Dialect) -> list[str]:
    """Return the statements that make an empty database a store of schema version 1."""
    statements: list[str] = []
    for table in metadata().sorted_tables:
        statements.append(str(CreateTable(table).compile(dialect=dialect)))
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        statements.extend(str(CreateIndex(index).compile(dialect=dialect)) for index in indexes)
    return statements


def _fixed(meta: MetaData) -> None:
    """Meta facts, the head of the chain with the writer's lease, and objects."""
    Table("meta", meta, Column("name", Text, primary_key=True), Column("value", Text, nullable=False))
    Table(
        "head",
        meta,
        Column("id", Integer, CheckConstraint("id = 1"), primary_key=True),
        Column("genesis", LargeBinary, nullable=False),
        Column("seq", Integer, nullable=False),
        Column("hash", LargeBinary, nullable=False),
        Column("epoch", Integer, nullable=False),
        Column("pid", Integer, nullable=False),
    )
    Table(
        "object",
        meta,
        Column("id", Integer, primary_key=True),
        Column("hash", LargeBinary, nullable=False),
        Column("codec", Text, nullable=False),
        Column("size", Integer, nullable=False),
        Column("body", LargeBinary, nullable=False),
        UniqueConstraint("hash"),
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
    """One versioned table: every version by key and seq, the current one by key, the live ones by key."""
    columns = [
        Column(name, _TYPES[kind], nullable=name == "until")
        for name, kind in zip(described.columns, described.kinds, strict=True)
    ]
    table = Table(described.name, meta, *columns, CheckConstraint("until IS NULL OR until > seq"))
    keys = [table.c[key] for key in described.keys]
    current, live = text("until IS NULL"), text("until IS NULL AND live = 1")
    Index(f"{described.name}_version", *keys, table.c.seq, unique=True)
    Index(f"{described.name}_current", *keys, unique=True, sqlite_where=current, postgresql_where=current)
    Index(f"{described.name}_live", *keys, sqlite_where=live, postgresql_where=live)
