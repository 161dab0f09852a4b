"""The store: opens one database and gives access to its journal, objects and state.

Protocol: a writer takes the lease, migrates, counts one epoch further and checks that the journal ends at the stored head. Readers
open the same file read-only, at any time. A database in memory has one connection for everything and is gone when it is closed.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Final

import anyio

from agentos.abi.limits import LEASE_TTL_S, STANDBY_POLL_S
from agentos.abi.place import Dsn, Place, place_of
from agentos.abi.protocols import Clock
from agentos.errors import Invalid, KernelPanic
from agentos.store import chain, migrations, scrub
from agentos.store import verify as verification
from agentos.store.database import Database, Lease
from agentos.store.faults import refusal, translate
from agentos.store.journal import Journal
from agentos.store.lease import FileLease
from agentos.store.objects import Objects
from agentos.store.reads import Reads
from agentos.store.sqlite import SYNCHRONOUS, Connection, connect
from agentos.store.tables import state_tables

if TYPE_CHECKING:
    from agentos.store.inbox import Inbox

__all__ = ["Store", "freed", "held_on", "inbox_of", "is_made", "open_store", "post"]

_HEADER: Final = b"SQLite format 3\x00"


class Store(Reads):
    """One open store. Made by `open_store`; also a context manager.

    Attributes:
        path: The database file or address, None in memory.
        epoch: Number of this writer (of the last writer, for a reader).
        identity: Random name of this store, in hex: no other store has it.
        salted_from: First epoch whose journal rows have digest and key among their content (`chain`).
        journal: Where rows and changes are appended; refuses in a reader.
        objects: Content-addressed bytes and big values.
    """

    def __init__(self, writer: Database | None, reader: Database, lease: Lease | None, clock: Clock) -> None:
        self._writer = writer
        self._lease = lease
        self._closed = False
        self.path: Place | None = reader.path
        genesis, seq, digest, self.epoch = verification.head_of(reader)
        self.identity = genesis[:8].hex()
        self.salted_from = verification.salted_from(reader)
        journal = Journal(writer, clock, self.epoch, (seq, digest), path=self.path)
        journal.lease = lease
        super().__init__(reader, journal, Objects(reader, journal))

    @property
    def reader(self) -> Database:
        """The connection that everything short is read through; any thread."""
        return self._reader

    def __enter__(self) -> Store:
        """Return the store itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close the store."""
        self.close()

    def verify(self, head: str | None = None) -> chain.AuditReport:
        """Check the file, every row of the journal, the stored head and every object. Streams: constant memory, time linear in the store.

        Args:
            head: A head that an earlier check printed (``"SEQ:HEX"``): shows that the journal was not rewritten since.

        Raises:
            Invalid: `invalid.argument`, `head` is no head; `invalid.store`, the store failed.
        """
        if self.journal.buffers(bool):
            self.journal.flush()
        return self.verify_stored(head)

    def verify_stored(self, head: str | None = None) -> chain.AuditReport:
        """As `verify`, of what is committed; in any thread, beside the writer."""
        with self.scan() as connection:
            return verification.verify(connection, head)

    @contextmanager
    def scan(self) -> Iterator[Database]:
        """Give a connection for long reads that sees the store as it is now until the block ends, and holds nobody up.

        In memory there is but one connection, which everybody shares.

        Raises:
            Invalid: `invalid.store`, it is closed or failed.
        """
        self._reader.fetch("SELECT 1")
        if self.path is None:
            yield self._reader
            return
        connection = self._reader.snapshot()
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def upkeep(self) -> Iterator[Database]:
        """Hold the write lock for a change of what is stored already, as the writer of this epoch. What goes is overwritten in the file.

        Raises:
            Invalid: `invalid.store`: it was opened for reading, or failed; nothing was changed.
            KernelPanic: another writer has come; nothing was changed.
        """
        writer = self._writer
        if writer is None:
            raise refusal("readonly", self.path, "it was opened for reading")
        self.journal.check()
        try:
            scrub.overwrite(writer)
            with writer.transaction():
                mine = writer.execute("UPDATE head SET epoch = epoch WHERE id = 1 AND epoch = ?", (self.epoch,))
                if mine.rowcount != 1:
                    raise KernelPanic("another writer has come")
                yield writer
        except writer.failures as error:
            raise self.journal.verdict(error) from error

    def rewrite(self) -> None:
        """Write the whole file anew, so that nothing of what was erased is left in it. Writers wait meanwhile. Any thread.

        Raises:
            Invalid: `invalid.store`, it was opened for reading, or failed.
            Unavailable: `unavailable.overloaded`, somebody reads an older state: its log still has what was erased.
        """
        if self._writer is None:
            raise refusal("readonly", self.path, "it was opened for reading")
        if self.path is not None:
            scrub.rewrite(self._writer)

    def counts(self) -> dict[str, int]:
        """Return a few figures for `doctor`: last journal number, epoch, bytes of the file, and live records per table."""
        self._see_rows()
        counts = {"rows": self._last_seq(), "epoch": self.epoch, "bytes": self._reader.size()}
        for _, table in state_tables():
            text = f"SELECT count(*) FROM {table.name} WHERE until IS NULL AND live = 1"
            counts[f"live {table.name}"] = self._reader.fetch(text)[0][0]
        return counts

    async def keep_lease(self) -> None:
        """Keep the right to write, where it ends by itself: until cancelled, or until it is lost.

        Raises:
            Invalid: `invalid.store`, lease_lost or connection; from now on everything is refused.

        Cancellation: safe.
        """
        if self._lease is None:
            return
        try:
            await self._lease.keep()
        except Invalid as error:
            self.journal.stop(error)
            raise

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


def open_store(
    where: str | Path | Dsn, *, durability: str = "strict", clock: Clock, writer: bool = True, lease_ttl_s: float = LEASE_TTL_S
) -> Store:
    """Open the store at `where`, made if it is missing; the caller closes it.

    Args:
        where: Path of the database file, ``":memory:"``, or the address of a PostgreSQL database (``postgresql://...``).
        durability: `strict` (survives a power cut), `fast` (survives a killed process) or `memory` (a database in memory).
        clock: Stamps rows that carry no time.
        writer: False opens an existing store for reading, beside a writer or without one.
        lease_ttl_s: Seconds after which a writer that is not heard of any more has lost a database on a server (`keep_lease`).

    Raises:
        Invalid: `invalid.store` with `reason` held (and `pid`), readonly, corrupt, schema, missing, full, io, connection or
            backend; `invalid.argument`, unknown durability.
    """
    if durability not in SYNCHRONOUS:
        raise Invalid(
            "argument", f"`{durability}` is no durability", hint=f"use one of {', '.join(SYNCHRONOUS)}", field="durability"
        )
    place = place_of(where)
    if isinstance(place, Dsn):
        return _on_server(place, durability, clock, lease_ttl_s if writer else None)
    path = None if str(where) == ":memory:" or durability == "memory" else place.resolve()
    try:
        if path is None:
            return _open_memory(clock)
        return _open_writer(path, durability, clock) if writer else _open_reader(path, clock)
    except sqlite3.Error as error:
        raise translate(error, path) from error


def is_made(place: Place) -> bool:
    """Tell whether there is a store at `place`.

    Raises:
        Invalid: `invalid.store`, connection, backend or corrupt: a database that cannot be asked, or is something else's.
    """
    return _server().is_made(place) if isinstance(place, Dsn) else place.is_file()


def held_on(place: Place) -> str | None:
    """Return the host of the kernel that has the store in a database now; None when nobody has, or it is a file.

    Raises:
        Invalid: `invalid.store`, connection, backend.
    """
    found: str | None = _server().held_on(place) if isinstance(place, Dsn) else None
    return found


async def freed(place: Place) -> None:
    """Return when the store at `place`, which somebody has, may be free: told so by its server, or after STANDBY_POLL_S.

    Cancellation: safe.
    """
    if isinstance(place, Dsn):
        await _server().freed(place)
    else:
        await anyio.sleep(STANDBY_POLL_S)


def inbox_of(dsn: Dsn) -> Inbox:
    """Return the requests of other machines for the kernel that has the store; the caller closes it.

    Raises:
        Invalid: `invalid.store`, connection or backend.
    """
    found: Inbox = _server().inbox.Inbox(dsn)
    return found


def post(dsn: Dsn, body: bytes) -> bytes | None:
    """Leave a request for the kernel that has the store, and return its reply; None when there is none. Blocks.

    Raises:
        Invalid: `invalid.store`, connection, backend or held.
    """
    reply: bytes | None = _server().inbox.post(dsn, body)
    return reply


def _server() -> ModuleType:
    """Return the module for databases on a server.

    Raises:
        Invalid: `invalid.store`, backend: psycopg is not installed.
    """
    try:
        from agentos.store import server  # noqa: PLC0415 - psycopg takes 0.1 s, and is an extra
    except ImportError as error:
        hint = "pip install 'agentos-kernel[postgres]'"
        raise Invalid("store", "psycopg is not installed", hint=hint, reason="backend") from error
    return server


def _on_server(dsn: Dsn, durability: str, clock: Clock, ttl_s: float | None) -> Store:
    """Open a database on a server; `ttl_s` None for reading.

    Raises:
        Invalid: as `open_store`; also when psycopg is not installed.
    """
    if durability == "memory":
        raise Invalid("argument", "a database on a server is not in memory", hint="use strict or fast", field="durability")
    writer, reader, lease = _server().open_parts(dsn, durability, ttl_s)
    try:
        if writer is not None:
            _expect_whole(writer)
        return Store(writer, reader, lease, clock)
    except BaseException:
        for opened in (writer, reader):
            if opened is not None:
                opened.close()
        if lease is not None:
            lease.release()
        raise


def _open_memory(clock: Clock) -> Store:
    """Open a database in memory: one connection serves as writer and reader."""
    connection = connect(None, durability="memory")
    migrations.migrate(connection)
    _next_epoch(connection)
    return Store(connection, connection, None, clock)


def _open_writer(path: Path, durability: str, clock: Clock) -> Store:
    """Open a file for writing, under its lease."""
    _make_folder(path)
    lease = FileLease(path)
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
            # closing copies the WAL back, too, but says nothing when the disk has no room for it
            if connection.fetch("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
                raise refusal("io", draft, "what was written could not be copied into it")
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


def _expect_whole(connection: Database) -> None:
    """Check that the journal ends at its head, so that nothing is appended to a damaged one.

    Raises:
        Invalid: `invalid.store`, `corrupt`: rows are missing at the end, or there are more than the head knows.
    """
    seq, digest = connection.fetch("SELECT seq, hash FROM head")[0]
    last = connection.fetch("SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1")
    if (last[0] if last else (0, digest)) != (seq, digest):
        raise refusal("corrupt", connection.path, f"the journal does not end at its head, row {seq}")
