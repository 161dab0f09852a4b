"""Reads of versioned state: what is current, what was, and what has changed.

Protocol: as `reads`, which adds the journal's rows. A record that is still buffered is committed before the answer could depend on it.

INVARIANT cost-is-local: no read here scans a versioned table (tests ask EXPLAIN QUERY PLAN).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, TypeVar

from agentos.abi.records import StateRecord
from agentos.store.database import Database
from agentos.store.journal import Journal
from agentos.store.objects import Objects
from agentos.store.tables import Table, table_of

__all__ = ["StateReads"]

Record = TypeVar("Record", bound=StateRecord)


class StateReads:
    """Reads of state; a base of `Reads`."""

    def __init__(self, reader: Database, journal: Journal, objects: Objects) -> None:
        self._reader = reader
        self.journal = journal
        self.objects = objects

    def current(
        self, record: type[Record], *, live: bool | None = True, after: Any = None, limit: int | None = None, **equals: Any
    ) -> list[Record]:
        """Return current records ordered by key.

        Args:
            record: Which kind.
            live: Only live ones (True), only ended ones (False), or both (None).
            after: Only keys greater than this one (a tuple where the key has several columns): the last key of the page before.
            limit: At most this many.
            equals: Columns that must have the given values; key columns first in the key use its index, others filter.
        """
        table = table_of(record)
        self._see_table(table)
        key = () if after is None else after if isinstance(after, tuple) else (after,)
        text = _current(table, live, tuple(equals), len(key), limit is not None)
        found = self._reader.fetch(text, (*equals.values(), *key, *(() if limit is None else (limit,))))
        return [self._record(record, table, columns) for columns in found]

    def get(self, record: type[Record], *key: Any, at: int | None = None) -> Record | None:
        """Return the record with this key: the current one, or the one that was current right after row `at`."""
        table = table_of(record)
        assert at is None or table.versioned, f"{table.name} keeps no versions"
        assert len(key) == len(table.keys), f"the key of {table.name} is {table.keys}"
        self._see_key(table, key)
        found = self._reader.fetch(_get(table), key) if at is None else self._reader.fetch(_get_at(table), (*key, at))
        return self._record(record, table, found[0]) if found else None

    def current_at(self, record: type[Record], at: int, **equals: Any) -> list[Record]:
        """Return the records that were current right after row `at`, live or ended, ordered by key: the state of then.

        Args:
            record: Which kind; its table keeps versions.
            at: Journal number.
            equals: Columns that must have the given values; the first must begin an index of the table.
        """
        return self._versions(record, equals, "seq <= ? AND (until IS NULL OR until > ?)", (at, at))

    def changed_since(self, record: type[Record], at: int, **equals: Any) -> list[Record]:
        """Return the current records whose newest version was made after row `at`, ordered by key; arguments as of `current_at`."""
        return self._versions(record, equals, "seq > ? AND until IS NULL", (at,))

    def _versions(self, record: type[Record], equals: dict[str, Any], when: str, parameters: tuple[int, ...]) -> list[Record]:
        table = table_of(record)
        assert table.versioned, f"{table.name} keeps no versions"
        assert equals, "without a column to look by this would read the whole table"
        self._see_table(table)
        same = " AND ".join(f"{name} = ?" for name in equals)
        text = f"SELECT {_columns(table)} FROM {table.name} WHERE {same} AND {when} ORDER BY {', '.join(table.keys)}"
        found = self._reader.fetch(text, (*equals.values(), *parameters))
        return [self._record(record, table, columns) for columns in found]

    def max_key(self, record: type[StateRecord]) -> int:
        """Return the largest first key column ever used, 0 when there is none."""
        table = table_of(record)
        self._see_table(table)
        found = self._reader.fetch(f"SELECT max({table.keys[0]}) FROM {table.name}")
        return int(found[0][0] or 0)

    # --- seeing what is buffered ---------------------------------------------------------------------------------------

    def _see_table(self, table: Table) -> None:
        if self.journal.buffers(lambda batch: table.name in batch.tables):
            self.journal.flush()

    def _see_key(self, table: Table, key: tuple[Any, ...]) -> None:
        if self.journal.buffers(lambda batch: table.name in batch.tables and key in batch.tables[table.name].latest):
            self.journal.flush()

    # --- from columns to records ---------------------------------------------------------------------------------------

    def _record(self, record: type[Record], table: Table, columns: tuple[Any, ...]) -> Record:
        return record(**dict(zip(table.columns[:-1], self._resolved(columns, table.blobs), strict=True)))

    def _resolved(self, columns: tuple[Any, ...], blobs: tuple[int, ...]) -> Sequence[Any]:
        """Replace references by the bytes of their objects; erased content reads as empty."""
        values = list(columns)
        for at in blobs:
            values[at] = self.objects.resolve(values[at]) if values[at] else b""
        return values


def _columns(table: Table) -> str:
    return ", ".join(table.columns[:-1])


@functools.cache
def _get(table: Table) -> str:
    same = " AND ".join(f"{key} = ?" for key in table.keys)
    return f"SELECT {_columns(table)} FROM {table.name} WHERE {same} AND until IS NULL"


@functools.cache
def _get_at(table: Table) -> str:
    same = " AND ".join(f"{key} = ?" for key in table.keys)
    return f"SELECT {_columns(table)} FROM {table.name} WHERE {same} AND seq <= ? ORDER BY seq DESC LIMIT 1"


@functools.cache
def _current(table: Table, live: bool | None, equals: tuple[str, ...], after: int, limited: bool) -> str:
    """Return the query of `current`."""
    unknown = [name for name in equals if name not in table.columns]
    assert not unknown, f"{table.name} has no column {unknown}"
    tests = ["until IS NULL"]
    if live is not None:
        tests.append(f"live = {int(live)}")
    tests += [f"{name} = ?" for name in equals]
    if after:
        keys = table.keys[:after]
        tests.append(f"({', '.join(keys)}) > ({', '.join('?' * after)})" if after > 1 else f"{keys[0]} > ?")
    text = f"SELECT {_columns(table)} FROM {table.name} WHERE {' AND '.join(tests)} ORDER BY {', '.join(table.keys)}"
    return f"{text} LIMIT ?" if limited else text
