"""Every read of rows and state, one function per sentence.

Protocol: SQL texts are made once per shape from the table descriptions and run on the reader's connection; SQLAlchemy would cost 0.2 s
of import on `agentos ps`, which has 0.5 s in all. What is still buffered is committed first when the answer could depend on it.
Every list is bounded and has its index; values that lie in objects are given back as bytes.

INVARIANT cost-is-local: no read here scans the journal or a versioned table (tests ask EXPLAIN QUERY PLAN).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeVar

from agentos.abi.limits import PAGE_ROWS
from agentos.abi.records import Row, StateRecord
from agentos.store.journal import Journal
from agentos.store.objects import Objects
from agentos.store.sqlite import Connection
from agentos.store.tables import JOURNAL, Table, table_of

__all__ = ["ENTRIES_LOOKED_AT_MAX", "Reads"]

Record = TypeVar("Record", bound=StateRecord)

ENTRIES_LOOKED_AT_MAX: Final = 10_000
"""Journal numbers that one audit page looks at when its filter lets few rows pass."""

_ROW_COLUMNS: Final = ", ".join(Row.__struct_fields__)
_ROW_BLOBS: Final = tuple(at for at in JOURNAL.blobs if at < len(Row.__struct_fields__))
_TAPE: Final = f"SELECT {_ROW_COLUMNS} FROM journal WHERE pid = ? AND seq > ? AND seq <= ? ORDER BY seq LIMIT ?"
_NEWEST: Final = f"SELECT {_ROW_COLUMNS} FROM journal WHERE pid = ? AND seq <= ? ORDER BY seq DESC LIMIT ?"
_LAST_SEQ: Final = "SELECT seq FROM journal WHERE pid = ? ORDER BY seq DESC LIMIT 1"
_OPEN_INTENTS: Final = (
    f"SELECT {_ROW_COLUMNS} FROM journal AS i WHERE pid = ? AND seq > ? AND kind = 'intent' AND NOT EXISTS "
    "(SELECT 1 FROM journal AS r WHERE r.kind = 'result' AND r.parent = i.seq) ORDER BY seq"
)
_KEYED: Final = (
    f"SELECT {_ROW_COLUMNS} FROM journal WHERE pid = ? AND key = ? AND key <> '' AND kind <> 'result' ORDER BY seq DESC LIMIT 1"
)
_AFTER: Final = f"SELECT {_ROW_COLUMNS} FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
_RESULT_OF: Final = f"SELECT {_ROW_COLUMNS} FROM journal WHERE kind = 'result' AND parent = ? ORDER BY seq DESC LIMIT 1"
_HEADS: Final = f"SELECT {_ROW_COLUMNS} FROM journal WHERE seq > ? AND seq <= ? AND kind IN ('call', 'intent')"
_SEQ_MAX: Final = 2**63 - 1


class Reads:
    """Reads of one store; a base of `Store`."""

    def __init__(self, reader: Connection, journal: Journal, objects: Objects) -> None:
        self._reader = reader
        self.journal = journal
        self.objects = objects

    # --- state ---------------------------------------------------------------------------------------------------------

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

    def max_key(self, record: type[StateRecord]) -> int:
        """Return the largest first key column ever used, 0 when there is none."""
        table = table_of(record)
        self._see_table(table)
        found = self._reader.fetch(f"SELECT max({table.keys[0]}) FROM {table.name}")
        return int(found[0][0] or 0)

    # --- journal -------------------------------------------------------------------------------------------------------

    def tape(self, pid: int, after_seq: int, limit: int, upto: int | None = None) -> list[Row]:
        """Return at most `limit` rows of process `pid` numbered after `after_seq` and not after `upto`, in order."""
        self._see_pid(pid)
        return self._rows(_TAPE, (pid, after_seq, _SEQ_MAX if upto is None else upto, limit))

    def newest(self, pid: int, limit: int, upto: int | None = None) -> list[Row]:
        """Return the last `limit` rows of process `pid` that are not after `upto`, in order."""
        self._see_pid(pid)
        return self._rows(_NEWEST, (pid, _SEQ_MAX if upto is None else upto, limit))[::-1]

    def rows(self, after_seq: int, limit: int) -> list[Row]:
        """Return at most `limit` rows of any process numbered after `after_seq`, in order."""
        self._see_rows()
        return self._rows(_AFTER, (after_seq, limit))

    def last_seqs(self, pids: Iterable[int]) -> dict[int, int]:
        """Return the number of the last row of each process that has one; one index probe each."""
        last: dict[int, int] = {}
        for pid in pids:
            self._see_pid(pid)
            found = self._reader.fetch(_LAST_SEQ, (pid,))
            if found:
                last[pid] = found[0][0]
        return last

    def open_intents(self, pid: int, after_seq: int) -> list[Row]:
        """Return the intents of process `pid` after `after_seq` that have no result."""
        self._see_pid(pid)
        return self._rows(_OPEN_INTENTS, (pid, after_seq))

    def keyed(self, pid: int, key: str) -> Row | None:
        """Return the latest call or intent that process `pid` issued under `key`."""
        self._see_pid(pid)
        return self._row(_KEYED, (pid, key))

    def result_of(self, seq: int) -> Row | None:
        """Return the (last) result of intent `seq`."""
        self._see_rows()
        return self._row(_RESULT_OF, (seq,))

    def entries(
        self, since: int, limit: int, pid: int | None = None, op: str | None = None, outcome: str | None = None
    ) -> tuple[list[tuple[Row, Row | None]], int]:
        """Return one page of the audit trail: each call or intent with its result, in order.

        Args:
            since: Number after which to look.
            limit: At most this many entries.
            pid: Only this process.
            op: Only this op.
            outcome: Only this outcome; `pending` is an intent without result.

        Returns:
            The entries, and the number to pass as the next `since`. There is nothing further when that equals `since`; a page of a
            rare filter may be empty before, because one page looks at ENTRIES_LOOKED_AT_MAX numbers at most.
        """
        self._see_rows()
        last = self._last_seq()
        end = last if pid is not None else min(since + ENTRIES_LOOKED_AT_MAX, last)  # the rows of one process have their index
        found: list[tuple[Row, Row | None]] = []
        looked_at = 0
        while since < end and looked_at < ENTRIES_LOOKED_AT_MAX:
            heads = self._heads(since, end, pid, op)
            looked_at += len(heads)
            for head, result in self._paired(heads):
                since = head.seq
                if outcome is None or outcome == _outcome(head, result):
                    found.append((head, result))
                    if len(found) == limit:
                        return found, since
            if len(heads) < PAGE_ROWS:
                since = end
        return found, since

    def _heads(self, since: int, end: int, pid: int | None, op: str | None) -> list[Row]:
        """Return the next calls and intents."""
        text = _HEADS
        parameters: list[Any] = [since, end]
        for column, value in (("pid", pid), ("op", op)):
            if value is not None:
                text += f" AND {column} = ?"
                parameters.append(value)
        return self._rows(f"{text} ORDER BY seq LIMIT {PAGE_ROWS}", parameters)

    def _paired(self, heads: Sequence[Row]) -> list[tuple[Row, Row | None]]:
        """Return each head with its last result."""
        intents = [head.seq for head in heads if head.kind == "intent"]
        results: dict[int, Row] = {}
        if intents:
            marks = ", ".join("?" * len(intents))
            text = f"SELECT {_ROW_COLUMNS} FROM journal WHERE kind = 'result' AND parent IN ({marks}) ORDER BY parent, seq"
            results = {row.parent: row for row in self._rows(text, intents)}
        return [(head, results.get(head.seq)) for head in heads]

    def _last_seq(self) -> int:
        """Return the number of the last row in the file."""
        return int(self._reader.fetch("SELECT seq FROM head")[0][0])

    # --- seeing what is buffered ---------------------------------------------------------------------------------------

    def _see_table(self, table: Table) -> None:
        if self.journal.buffers(lambda batch: table.name in batch.tables):
            self.journal.flush()

    def _see_key(self, table: Table, key: tuple[Any, ...]) -> None:
        if self.journal.buffers(lambda batch: table.name in batch.tables and key in batch.tables[table.name].latest):
            self.journal.flush()

    def _see_pid(self, pid: int) -> None:
        if self.journal.buffers(lambda batch: pid in batch.pids):
            self.journal.flush()

    def _see_rows(self) -> None:
        if self.journal.buffers(lambda batch: bool(batch.rows)):
            self.journal.flush()

    # --- from columns to records ---------------------------------------------------------------------------------------

    def _rows(self, text: str, parameters: Sequence[Any]) -> list[Row]:
        rows = [Row(*self._resolved(columns, _ROW_BLOBS)) for columns in self._reader.fetch(text, parameters)]
        for row in rows:
            row.resource = row.resource or ""  # NULL once erased
        return rows

    def _row(self, text: str, parameters: Sequence[Any]) -> Row | None:
        rows = self._rows(text, parameters)
        return rows[0] if rows else None

    def _record(self, record: type[Record], table: Table, columns: tuple[Any, ...]) -> Record:
        return record(**dict(zip(table.columns[:-1], self._resolved(columns, table.blobs), strict=True)))

    def _resolved(self, columns: tuple[Any, ...], blobs: tuple[int, ...]) -> Sequence[Any]:
        """Replace references by the bytes of their objects; erased content reads as empty."""
        values = list(columns)
        for at in blobs:
            values[at] = self.objects.resolve(values[at]) if values[at] else b""
        return values


def _outcome(head: Row, result: Row | None) -> str:
    """Return the outcome of an entry as the audit shows it."""
    if head.kind != "intent":
        return head.outcome
    return "pending" if result is None else result.outcome


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
