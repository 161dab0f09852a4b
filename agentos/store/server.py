"""Opening a store in a database on a server.

Protocol: an empty schema becomes a store, in one transaction, under a lock of its own, so that of two first kernels one makes it; then
the lease is taken, and only under it is an older store brought forward. A kernel has three connections: one writes, one reads, and one
holds the lease, so that a long commit never keeps a renewal waiting.
"""

from __future__ import annotations

import hashlib
from contextlib import ExitStack

import anyio.to_thread
import psycopg

from agentos.abi.limits import STANDBY_POLL_S
from agentos.abi.place import Dsn
from agentos.errors import Invalid
from agentos.store import inbox, migrations, term
from agentos.store.faults import refusal
from agentos.store.postgres import ServerConnection, connect

__all__ = ["freed", "held_on", "is_made", "open_parts"]


def open_parts(
    dsn: Dsn, durability: str, ttl_s: float | None
) -> tuple[ServerConnection | None, ServerConnection, term.Term | None]:
    """Return writer, reader and lease; `ttl_s` None opens an existing store for reading.

    Raises:
        Invalid: `invalid.store`: held (with `pid` and `host`), missing, readonly, corrupt, schema, full, io or connection.
    """
    with ExitStack() as closers:
        reader = connect(dsn, durability=durability, readonly=True)
        closers.callback(reader.close)
        if ttl_s is None:
            if not migrations.version_of(reader):
                raise refusal("missing", dsn)
            migrations.check(reader)
            closers.pop_all()
            return None, reader, None
        writer = connect(dsn, durability=durability, idle_s=ttl_s)
        closers.callback(writer.close)
        try:
            held = _take(writer, dsn, ttl_s)
            closers.callback(held.release)
            migrations.migrate(writer)
        except psycopg.Error as error:
            raise writer.refusal_of(error) from error
        closers.pop_all()
        return writer, reader, held


def _take(writer: ServerConnection, dsn: Dsn, ttl_s: float) -> term.Term:
    """Make the store if there is none, and take its lease."""
    _expect_schema(writer)
    if not migrations.version_of(writer):
        with writer.transaction():
            writer.execute("SELECT pg_advisory_xact_lock(?)", (_lock_number(writer),))
            if not migrations.version_of(writer):
                with writer.raw.pipeline():  # a hundred statements, and few trips
                    migrations.make(writer)
                    term.make(writer)
                    inbox.make(writer)
    connection = connect(dsn, durability="strict", idle_s=ttl_s)
    try:
        return term.Term(connection, dsn, ttl_s, writer=writer.raw.info.backend_pid)
    except BaseException:
        connection.close()
        raise


def _expect_schema(connection: ServerConnection) -> None:
    """Refuse an address whose schema does not exist.

    Raises:
        Invalid: `invalid.store`, missing.
    """
    if connection.fetch("SELECT current_schema()")[0][0] is None:
        raise refusal("missing", connection.path, "its search_path names no schema that exists: CREATE SCHEMA makes it")


def _lock_number(connection: ServerConnection) -> int:
    """Return the number of the lock under which this schema becomes a store."""
    schema = connection.fetch("SELECT current_schema()")[0][0]
    return int.from_bytes(hashlib.blake2b(f"agentos {schema}".encode(), digest_size=8).digest(), "big", signed=True)


def is_made(dsn: Dsn) -> bool:
    """Tell whether there is a store.

    Raises:
        Invalid: `invalid.store`, connection; or the database belongs to something else.
    """
    connection = connect(dsn, durability="strict", readonly=True)
    try:
        return migrations.version_of(connection) > 0
    finally:
        connection.close()


def held_on(dsn: Dsn) -> str | None:
    """Return the host of the kernel that has the store, which there is; None when nobody has.

    Raises:
        Invalid: `invalid.store`, connection.
    """
    connection = connect(dsn, durability="strict", readonly=True)
    try:
        return term.holder_of(connection)
    finally:
        connection.close()


async def freed(dsn: Dsn) -> None:
    """Return when the store's lease seems to be free: it was given back, its term ended, or some time has passed.

    Raises:
        Invalid: `invalid.store`, connection: the server does not answer.

    Cancellation: safe, after STANDBY_POLL_S at most.
    """

    def wait() -> None:
        connection = connect(dsn, durability="strict", readonly=True)
        try:
            term.wait_until_free(connection, STANDBY_POLL_S)
        finally:
            connection.close()

    try:
        await anyio.to_thread.run_sync(wait, limiter=anyio.CapacityLimiter(1))
    except Invalid as error:
        if error.fields.get("reason") != "connection":
            raise
        await anyio.sleep(STANDBY_POLL_S)
