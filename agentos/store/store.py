"""The store: opens one database and gives access to its journal, objects and state.

Protocol: a writer takes the lease, migrates, counts one epoch further and checks that the journal ends at the stored head. Readers
open the same file read-only, at any time. A database in memory has one connection for everything and is gone when it is closed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from agentos.abi.limits import PAGE_ROWS
from agentos.abi.protocols import Clock
from agentos.errors import Invalid, KernelPanic
from agentos.store import blobs, chain, migrations
from agentos.store.faults import refusal, translate
from agentos.store.journal import Journal
from agentos.store.lease import Lease
from agentos.store.objects import Objects
from agentos.store.reads import Reads
from agentos.store.sqlite import SYNCHRONOUS, Connection, connect
from agentos.store.tables import JOURNAL, state_tables

__all__ = ["Store", "open_store"]

_ALL_ROWS: Final = f"SELECT {', '.join(JOURNAL.columns)} FROM journal WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT {PAGE_ROWS}"
_STRAY: Final = "SELECT journal.seq FROM head JOIN journal ON journal.seq > head.seq ORDER BY journal.seq LIMIT 1"
_ALL_OBJECTS: Final = f"SELECT id, hash, codec, size, body FROM object WHERE id > ? ORDER BY id LIMIT {PAGE_ROWS // 10}"
_HEADER: Final = b"SQLite format 3\x00"


class Store(Reads):
    """One open store. Made by `open_store`; also a context manager.

    Attributes:
        path: The database file, None in memory.
        epoch: Number of this writer (of the last writer, for a reader).
        identity: Random name of this store, in hex: no other store has it.
        journal: Where rows and changes are appended; refuses in a reader.
        objects: Content-addressed bytes and big values.
    """

    def __init__(self, writer: Connection | None, reader: Connection, lease: Lease | None, clock: Clock) -> None:
        self._writer = writer
        self._lease = lease
        self._closed = False
        self.path = reader.path
        genesis, seq, digest, self.epoch = reader.fetch("SELECT genesis, seq, hash, epoch FROM head")[0]
        self.identity = genesis[:8].hex()
        journal = Journal(writer, clock, self.epoch, (seq, digest), path=self.path)
        super().__init__(reader, journal, Objects(reader, journal))

    def __enter__(self) -> Store:
        """Return the store itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the store."""
        self.close()

    def verify(self, head: str | None = None) -> chain.AuditReport:
        """Check every row of the journal, the stored head and every object. Streams: constant memory, time linear in the store.

        Args:
            head: A head that an earlier check printed (``"SEQ:HEX"``): shows that the journal was not rewritten since.

        Raises:
            Invalid: `invalid.argument`, `head` is no head; `invalid.store`, the store failed.
        """
        kept = chain.parse_head(head) if head is not None else None
        if self.journal.buffers(bool):
            self.journal.flush()
        genesis, seq, digest = self._reader.fetch("SELECT genesis, seq, hash FROM head")[0]
        heads = [(seq, digest)] if kept is None else [(seq, digest), kept]
        report = chain.check(self._rows_until(seq), genesis, heads, self.objects.missing)
        if not report.ok:
            return report
        for stray in self._reader.fetch(_STRAY):
            return chain.AuditReport(False, report.rows, stray[0], f"row {stray[0]} lies after the head", report.head)
        bad = self._bad_object()
        return chain.AuditReport(False, report.rows, None, bad, report.head) if bad else report

    def counts(self) -> dict[str, int]:
        """Return a few figures for `doctor`: last journal number, epoch, bytes of the file, and live records per table."""
        self._see_rows()
        counts = {"rows": self._last_seq(), "epoch": self.epoch, "bytes": self._bytes()}
        for _, table in state_tables():
            text = f"SELECT count(*) FROM {table.name} WHERE until IS NULL AND live = 1"
            counts[f"live {table.name}"] = self._reader.fetch(text)[0][0]
        return counts

    def close(self) -> None:
        """Commit what is buffered and close. Idempotent. A store that has failed before only closes.

        Raises:
            Invalid: `invalid.store`, the last rows could not be committed; the store is closed all the same.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self.journal.close()
        finally:
            self._reader.close()
            if self._writer is not None:
                self._writer.close()
            if self._lease is not None:
                self._lease.release()

    def _bytes(self) -> int:
        pages, size = self._reader.fetch("PRAGMA page_count")[0][0], self._reader.fetch("PRAGMA page_size")[0][0]
        return int(pages * size)

    def _rows_until(self, last: int) -> Iterator[tuple[Any, ...]]:
        """Yield every journal row up to number `last` in order, a page at a time: a writer may append meanwhile."""
        seq_at, after = JOURNAL.seq_at, -(2**63)
        while page := self._reader.fetch(_ALL_ROWS, (after, last)):
            yield from page
            after = page[-1][seq_at]

    def _bad_object(self) -> str:
        """Return what is wrong with the first damaged object, or an empty text."""
        after = -(2**63)
        while page := self._reader.fetch(_ALL_OBJECTS, (after,)):
            for _, name, codec, size, body in page:
                try:
                    blobs.unpack_body(name, codec, size, body)
                except KernelPanic as error:
                    return str(error)
            after = page[-1][0]
        return ""


def open_store(where: str | Path, *, durability: str = "strict", clock: Clock, writer: bool = True) -> Store:
    """Open the store at `where`, made if it is missing; the caller closes it.

    Args:
        where: Path of the database file, or ``":memory:"``.
        durability: `strict` (survives a power cut), `fast` (survives a killed process) or `memory` (a database in memory).
        clock: Stamps rows that carry no time.
        writer: False opens an existing store for reading, beside a writer or without one.

    Raises:
        Invalid: `invalid.store` with `reason` held (and `pid`), readonly, corrupt, schema, missing, full, io or backend;
            `invalid.argument`, unknown durability.
    """
    if durability not in SYNCHRONOUS:
        raise Invalid(
            "argument", f"`{durability}` is no durability", hint=f"use one of {', '.join(SYNCHRONOUS)}", field="durability"
        )
    if "://" in str(where):
        raise Invalid("store", f"there is no backend for `{where}`", hint="give the path of a file", reason="backend")
    path = None if str(where) == ":memory:" or durability == "memory" else Path(where).expanduser().resolve()
    try:
        if path is None:
            return _open_memory(clock)
        return _open_writer(path, durability, clock) if writer else _open_reader(path, clock)
    except sqlite3.Error as error:
        raise translate(error, path) from error


def _open_memory(clock: Clock) -> Store:
    """Open a database in memory: one connection serves as writer and reader."""
    connection = connect(None, durability="memory")
    migrations.migrate(connection)
    _next_epoch(connection)
    return Store(connection, connection, None, clock)


def _open_writer(path: Path, durability: str, clock: Clock) -> Store:
    """Open a file for writing, under its lease."""
    _make_folder(path)
    lease = Lease(path)
    opened: list[Connection] = []
    try:
        if not path.exists() or not path.stat().st_size:
            _make(path, durability)
        _look(path)
        opened.append(connect(path, durability=durability))
        migrations.migrate(opened[0])
        _expect_whole(opened[0])
        _next_epoch(opened[0])
        opened.append(connect(path, durability=durability, readonly=True))
        return Store(opened[0], opened[1], lease, clock)
    except BaseException:
        for connection in opened:
            connection.close()
        lease.release()
        raise


def _open_reader(path: Path, clock: Clock) -> Store:
    """Open a file for reading only."""
    if not path.is_file():
        raise refusal("missing", path)
    _look(path)
    reader = connect(path, durability="strict", readonly=True)
    try:
        migrations.check(reader)
        return Store(None, reader, None, clock)
    except BaseException:
        reader.close()
        raise


def _make_folder(path: Path) -> None:
    """Make the store's folder (0700) if it is missing."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise refusal("readonly", path, str(error.strerror).lower()) from error


def _make(path: Path, durability: str) -> None:
    """Make an empty store (0600), under the lease: whole under its name or not there at all, whenever the maker is killed."""
    draft = path.with_name(f"{path.name}-draft")
    try:
        for left in (draft, draft.with_name(f"{draft.name}-wal"), draft.with_name(f"{draft.name}-shm")):
            left.unlink(missing_ok=True)
        os.close(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        connection = connect(draft, durability=durability)
        try:
            migrations.migrate(connection)
        finally:
            connection.close()
        draft.replace(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise refusal("readonly", path, str(error.strerror).lower()) from error


def _look(path: Path) -> None:
    """Refuse a file that is no database before anything else touches it."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_HEADER))
    except OSError as error:
        raise refusal("io", path, str(error.strerror).lower()) from error
    if start and start != _HEADER:
        raise refusal("corrupt", path, "the file is no database")


def _next_epoch(connection: Connection) -> None:
    """Become the next writer."""
    with connection.transaction():
        connection.execute("UPDATE head SET epoch = epoch + 1, pid = ? WHERE id = 1", (os.getpid(),))


def _expect_whole(connection: Connection) -> None:
    """Check that the journal ends at its head, so that nothing is appended to a damaged one.

    Raises:
        Invalid: `invalid.store`, `corrupt`: rows are missing at the end, or there are more than the head knows.
    """
    seq, digest = connection.fetch("SELECT seq, hash FROM head")[0]
    last = connection.fetch("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1")
    if (last[0] if last else (0, digest)) != (seq, digest):
        raise refusal("corrupt", connection.path, f"the journal does not end at its head, row {seq}")
