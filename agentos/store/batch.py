"""One batch: everything that is buffered between two commits, as columns, and the statements that write it.

Protocol: records are copied to columns when they are added, because the kernel goes on changing them. Several versions of one key
within a batch are all kept; all but the last are inserted closed already, so only the first of each key needs an update. A table
that keeps no versions gets the last one of each key only, and none where that one has ended (`Current`).

INVARIANT rows-are-exact: `write` executes at most one statement for objects, one for the journal, two per touched table and one for
the head, for up to ROWS_PER_STATEMENT_MAX rows of each.
INVARIANT compare-and-set: the number of versions closed equals the number replaced, and head and epoch are the ones read before.
"""

from __future__ import annotations

import os
from typing import Any

from agentos.abi.limits import SALT_BYTES
from agentos.abi.records import Change
from agentos.errors import KernelPanic
from agentos.store import chain
from agentos.store.database import Database
from agentos.store.tables import JOURNAL, OBJECT, Table, table_of

__all__ = ["Batch", "Current", "Versions"]


class Versions:
    """The new versions of one state table."""

    __slots__ = ("closes", "latest", "rows", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.rows: list[list[Any]] = []
        self.closes: list[tuple[Any, ...]] = []
        self.latest: dict[tuple[Any, ...], tuple[int, int]] = {}

    def add(self, columns: tuple[Any, ...], replaces: int, seq: int) -> None:
        """Add the version `columns`, made by row `seq`, in place of the version `replaces` (0: there is none).

        Two changes of one record by one row are one version with the later columns.

        Raises:
            KernelPanic: another version than `replaces` is current.
        """
        key = self.table.key_of(columns)
        known = self.latest.get(key)
        if known is None:
            if replaces:
                self.closes.append((*key, replaces, seq))
        else:
            at, first = known
            buffered = self.rows[at]
            made = buffered[self.table.seq_at]
            if made == seq and replaces in (seq, first):
                self.rows[at] = [*columns, None]
                return
            if made != replaces:
                raise KernelPanic(f"{self.table.name} {key}: version {made} is current, not {replaces}")
            buffered[-1] = seq
        self.latest[key] = (len(self.rows), replaces)
        self.rows.append([*columns, None])


class Current:
    """The current records of one table that keeps no versions: what replaces what is in the file, and what only goes."""

    __slots__ = ("_rows", "closes", "latest", "table")

    def __init__(self, table: Table) -> None:
        self.table = table
        self.closes: list[tuple[Any, ...]] = []
        self.latest: dict[tuple[Any, ...], tuple[int, int, int]] = {}
        self._rows: dict[tuple[Any, ...], list[Any]] = {}

    @property
    def rows(self) -> list[list[Any]]:
        """The columns to be inserted."""
        return list(self._rows.values())

    def add(self, columns: tuple[Any, ...], replaces: int, seq: int) -> None:
        """Add the record `columns`, changed by row `seq`, in place of the version `replaces` (0: there is none).

        A record that has ended leaves the table; its key may come again, as a new record. Two changes by one row are one, as above.

        Raises:
            KernelPanic: another version than `replaces` is current.
        """
        key = self.table.key_of(columns)
        current, changed, first = self.latest.get(key, (replaces, 0, replaces))
        if replaces == current:
            first = replaces
        elif changed != seq or replaces not in (seq, first):
            raise KernelPanic(f"{self.table.name} {key}: version {current} is current, not {replaces}")
        if key not in self.latest and replaces:
            self.closes.append((*key, replaces, seq))
        if columns[self.table.live_at]:
            self._rows[key], current = [*columns, None], seq
        else:
            self._rows.pop(key, None)
            current = 0
        self.latest[key] = (current, seq, first)


class Batch:
    """Rows, versions and objects of one transaction."""

    __slots__ = ("bytes", "epoch", "last", "objects", "pids", "rows", "tables")

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.rows: list[chain.Sealed] = []
        self.tables: dict[str, Versions | Current] = {}
        self.objects: dict[bytes, tuple[bytes, str, int, bytes]] = {}
        self.pids: set[int] = set()
        self.bytes = 0
        self.last = 0

    def __bool__(self) -> bool:
        """Tell whether there is anything to write."""
        return bool(self.rows or self.objects)

    def add_row(self, sealed: chain.Sealed, pid: int, seq: int) -> None:
        """Add a journal row. Rows come in the order of their numbers."""
        assert seq == self.last + 1 or not self.rows, "journal numbers have no gaps"
        self.rows.append(sealed)
        self.pids.add(pid)
        self.last = seq
        self.bytes += len(sealed[1]) + len(sealed[2])

    def add_change(self, change: Change, columns: tuple[Any, ...], seq: int) -> None:
        """Add one version of a state record, as `columns`."""
        table = table_of(type(change.record))
        versions = self.tables.get(table.name)
        if versions is None:
            versions = self.tables[table.name] = Versions(table) if table.versioned else Current(table)
        versions.add(columns, change.replaces, seq)

    def write(self, connection: Database, previous: bytes) -> bytes:
        """Write everything in one transaction and return the new head hash.

        Args:
            connection: The writer's connection, outside a transaction.
            previous: Hash of the row before the first of this batch.

        Raises:
            KernelPanic: a version, the head or the epoch is not what this writer knew it to be; nothing was written.
            Invalid: `invalid.store`, lease_lost: another writer has come; nothing was written.
            Exception: what the driver raises: the database refused; nothing was acknowledged.
        """
        salts = os.urandom(SALT_BYTES * len(self.rows))
        rows, head = chain.link(previous, self.rows, salts, self.epoch)
        with connection.batch():
            connection.insert(OBJECT, list(self.objects.values()), ignore_known=True)
            connection.insert(JOURNAL, rows)
            for versions in self.tables.values():
                connection.replace(versions.table, versions.closes)
                connection.insert(versions.table, versions.rows)
            connection.move_head((self.last, head), previous, self.epoch)
        return head
