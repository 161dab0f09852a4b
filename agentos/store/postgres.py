"""The PostgreSQL end: connections, their settings, transactions, and many rows in one statement.

Protocol: autocommit with explicit BEGIN, as in `sqlite`. A batch is sent as a pipeline, without waiting for each statement: two trips to
the server in all, one for everything that is written and one for COMMIT, which is sent only when every count was the expected one. Rows
travel as one array per column (``unnest``). Sequential scans are off for every session, so that plans do not depend on statistics that
nobody has gathered yet. Each wait for the server is bounded; a connection that was lost or kept waiting is never used again.
Not here: who may write (`lease`), what happens after a failure (`journal`).

INVARIANT compare-and-set: COMMIT is sent only after the head was moved from where this writer left it, under its own lease.
"""

from __future__ import annotations

import functools
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.pq import TransactionStatus
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

from agentos.abi.limits import SERVER_CONNECT_S, SERVER_REPLY_S
from agentos.abi.place import Dsn, Place
from agentos.errors import AgentOSError, Invalid, KernelPanic
from agentos.store import sql
from agentos.store.faults import refusal
from agentos.store.tables import Table

__all__ = ["ServerConnection", "connect"]

T = TypeVar("T")

logging.getLogger("psycopg").addHandler(logging.NullHandler())  # what it would write to stderr is raised here as an error

_BY_STATE: Final = {
    "53100": "full",
    "25006": "readonly",
    "42501": "readonly",
    "XX001": "corrupt",
    "XX002": "corrupt",
}
_BY_FAMILY: Final = {
    "08": "connection",
    "57": "connection",
    "22": "corrupt",  # every statement is ours and tested: what it names is not there, or is something else
    "42": "corrupt",
}
_OURS: Final = (psycopg.errors.IntegrityError, psycopg.errors.ProgrammingError, psycopg.errors.DataError)
_KINDS: Final = {int: "bigint", float: "double precision", str: "text", bytes: "bytea"}
_MARKS: Final = re.compile(r"'[^']*'|\?|%")
_PREPARED_MAX: Final = 500
_HEAD: Final = (
    "UPDATE head SET seq = %s, hash = %s FROM lease WHERE head.id = 1 AND head.epoch = %s AND head.hash = %s "
    "AND lease.epoch = head.epoch AND lease.expires > clock_timestamp()"
)
_OWNED: Final = (
    "SELECT 1 FROM head JOIN lease ON lease.epoch = head.epoch AND lease.expires > clock_timestamp() WHERE head.epoch = ?"
)
_SIZE: Final = (
    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace "
    "WHERE n.nspname = current_schema() AND c.relkind = 'r'"
)
_SETTINGS: Final = {"enable_seqscan": "off", "jit": "off", "default_transaction_isolation": "read committed"}


class _Bounded(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for its server for a bounded time."""

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """As psycopg's, with SERVER_REPLY_S where no time is given."""
        return super().wait(gen, interval=interval, timeout=SERVER_REPLY_S if timeout is None else timeout)


class ServerConnection:
    """One connection with its lock: a `Database`."""

    dialect = "postgresql"
    failures: type[Exception] = psycopg.Error
    keeps_nul = False

    def __init__(self, raw: psycopg.Connection[tuple[Any, ...]], dsn: Dsn) -> None:
        self.raw = raw
        self.path: Place | None = dsn
        self._dsn = dsn
        self.lock = threading.RLock()
        self.statements = 0
        self._closed = False
        self._expected: list[tuple[psycopg.Cursor[tuple[Any, ...]], Table, int]] = []
        self._moved: tuple[psycopg.Cursor[tuple[Any, ...]], int] | None = None

    def execute(self, text: str, parameters: Sequence[Any] = ()) -> psycopg.Cursor[tuple[Any, ...]]:
        """Execute one statement with ``?`` for parameters; the caller holds the lock while it uses the cursor."""
        return self._execute(_translated(text) if parameters else text, parameters)

    def _execute(self, text: str, parameters: Sequence[Any]) -> psycopg.Cursor[tuple[Any, ...]]:
        self.statements += 1
        return self.raw.execute(text.encode(), parameters or None, binary=True)

    def fetch(self, text: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a bounded query.

        Raises:
            Invalid: `invalid.store`, the server failed, or the connection is lost or closed.
        """
        with self.lock:
            if self._closed:
                raise refusal("closed", self.path)
            try:
                return self.execute(text, parameters).fetchall()
            except psycopg.Error as error:
                raise self.refusal_of(error) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit at the end, or leave no trace."""
        with self.lock:
            self._execute("BEGIN", ())
            try:
                yield
                self._execute("COMMIT", ())
            except BaseException:
                self._roll_back()
                raise

    @contextmanager
    def batch(self) -> Iterator[None]:
        """Send what is executed inside together; commit when every count is the expected one."""
        with self.lock:
            self._expected, self._moved = [], None
            try:
                with self.raw.pipeline():
                    self._execute("BEGIN", ())
                    yield
                self._expect()
                self._execute("COMMIT", ())
            except BaseException:
                self._roll_back()
                raise

    def _expect(self) -> None:
        """Look at the counts of a batch."""
        for cursor, table, asked in self._expected:
            sql.expect_all(table, asked, cursor.rowcount)
        if self._moved is not None and self._moved[0].rowcount != 1:
            raise self._not_ours(self._moved[1])

    def _not_ours(self, epoch: int) -> AgentOSError | KernelPanic:
        """Return why the head did not move: the lease has ended or is another's, or the head is not where we left it."""
        if self.execute(_OWNED, (epoch,)).fetchall():
            return KernelPanic("the head of the journal is not where this writer left it")
        return refusal("lease_lost", self.path)

    def _roll_back(self) -> None:
        """End the transaction; a connection on which that fails, or that still waits for its server, is of no use any more."""
        if self.raw.info.transaction_status is TransactionStatus.ACTIVE:
            self.raw.close()
            return
        try:
            self.raw.rollback()
        except psycopg.Error:
            self.raw.close()

    def insert(self, table: Table, rows: Sequence[Sequence[Any]], *, ignore_known: bool = False) -> None:
        """Insert all rows; `ignore_known` keeps what is there under the same key."""
        if rows:
            columns = zip(table.kinds, zip(*rows, strict=True), strict=True)
            # the driver refuses an array of int and float; a record may hold 60 where a column has 60.0
            arrays = [list(map(float, column)) if kind is float else list(column) for kind, column in columns]
            self._execute(_insert(table, ignore_known=ignore_known), arrays)

    def replace(self, table: Table, replaced: Sequence[Sequence[Any]]) -> None:
        """Close or remove current versions; counted when the batch ends."""
        if replaced:
            cursor = self._execute(_replace(table), [list(column) for column in zip(*replaced, strict=True)])
            self._expected.append((cursor, table, len(replaced)))

    def move_head(self, head: tuple[int, bytes], previous: bytes, epoch: int) -> None:
        """Move the stored head; counted when the batch ends."""
        self._moved = self._execute(_HEAD, (*head, epoch, previous)), epoch

    def verdict(self, error: Exception) -> AgentOSError | KernelPanic:
        """Tell a broken invariant from a failing server."""
        assert isinstance(error, psycopg.Error), "only what the driver raises is judged"
        if isinstance(error, _OURS) and error.sqlstate not in _BY_STATE:
            return KernelPanic(f"the store refused a batch: {_line(error)}")
        return self.refusal_of(error)

    def refusal_of(self, error: psycopg.Error) -> Invalid:
        """Return the `invalid.store` error that tells what `error` means for this store."""
        reason = _BY_STATE.get(error.sqlstate or "")
        if reason is None:
            family = (error.sqlstate or "08")[:2]
            reason = "connection" if self.raw.closed else _BY_FAMILY.get(family, "io")
        return refusal(reason, self.path, _line(error))

    def snapshot(self) -> ServerConnection:
        """Return another connection, read-only, that sees one state of the store until it is closed."""
        connection = connect(self._dsn, durability="strict", readonly=True)
        try:
            connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        except psycopg.Error as error:
            connection.close()
            raise connection.refusal_of(error) from error
        return connection

    def table_names(self) -> set[str]:
        """Return the names of the tables of the schema, which belongs to the store alone."""
        return {name for (name,) in self.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")}

    def size(self) -> int:
        """Return the bytes of the tables with their indexes."""
        return int(self.fetch(_SIZE)[0][0])

    def damage(self) -> str:
        """Nothing: PostgreSQL checks its pages itself (``data_checksums``), and the rows are checked by `verify`."""
        return ""

    def close(self) -> None:
        """Close the connection. Idempotent."""
        with self.lock:
            self._closed = True
            self.raw.close()


def connect(dsn: Dsn, *, durability: str, readonly: bool = False, idle_s: float = 0.0) -> ServerConnection:
    """Open a connection.

    Args:
        dsn: Where to.
        durability: `strict` waits until a commit is on the server's disk (or further, where the server is set so), `fast` does not.
        readonly: Refuse every change.
        idle_s: The server ends a transaction that was left alone for so long, with its locks; 0 never.

    Raises:
        Invalid: `invalid.store`, connection: the server does not answer, or does not let us in.
    """
    try:
        raw = _Bounded.connect(
            dsn.secret, autocommit=True, connect_timeout=int(SERVER_CONNECT_S), application_name="agentos", client_encoding="utf8",
            keepalives_idle=5, keepalives_interval=2, keepalives_count=3, tcp_user_timeout=int(SERVER_REPLY_S * 1000),
        )  # fmt: skip
    except psycopg.ProgrammingError:
        raise refusal("connection", dsn, "its address cannot be read") from None  # what psycopg says repeats it
    except psycopg.Error as error:
        raise refusal("connection", dsn, _line(error)) from error
    raw.adapters.register_dumper(int, Int8Dumper)
    raw.adapters.register_dumper(int, Int8BinaryDumper)
    raw.prepared_max = _PREPARED_MAX
    connection = ServerConnection(raw, dsn)
    settings = {**_SETTINGS, "default_transaction_read_only": "on" if readonly else "off"}
    settings["idle_in_transaction_session_timeout"] = str(int(idle_s * 1000))
    try:
        if durability == "fast":
            settings["synchronous_commit"] = "off"
        elif connection.execute("SHOW synchronous_commit").fetchall()[0][0] in ("off", "local"):
            settings["synchronous_commit"] = "on"
        calls = ", ".join(["set_config(?, ?, false)"] * len(settings))
        connection.execute(f"SELECT {calls}", [word for pair in settings.items() for word in pair])
    except psycopg.Error as error:
        connection.close()
        raise connection.refusal_of(error) from error
    return connection


@functools.cache
def _translated(text: str) -> str:
    """Return a statement with psycopg's marks: ``%s`` for ``?``, and a literal ``%`` doubled."""
    return _MARKS.sub(lambda found: "%s" if found[0] == "?" else found[0].replace("%", "%%"), text)


def _arrays(kinds: Sequence[type]) -> str:
    return f"unnest({', '.join(f'%b::{_KINDS[kind]}[]' for kind in kinds)})"


@functools.cache
def _insert(table: Table, *, ignore_known: bool) -> str:
    """Return the insertion of any number of rows; parameters: one array per column."""
    known = f" ON CONFLICT ({', '.join(table.keys)}) DO NOTHING" if ignore_known else ""
    return f"INSERT INTO {table.name} ({', '.join(table.columns)}) SELECT * FROM {_arrays(table.kinds)}{known}"


@functools.cache
def _replace(table: Table) -> str:
    """Return the statement that closes or removes any number of current versions; arrays: keys, replaced seq, new seq."""
    kinds = [table.kinds[table.columns.index(key)] for key in table.keys]
    names = [f"k{at}" for at in range(len(kinds))]
    given = f"{_arrays([*kinds, int, int])} AS v ({', '.join([*names, 'was', 'now'])})"
    same = " AND ".join(f"old.{key} = v.{name}" for key, name in zip(table.keys, names, strict=True))
    current = f"{same} AND old.seq = v.was AND old.until IS NULL"
    if table.versioned:
        return f"UPDATE {table.name} AS old SET until = v.now FROM {given} WHERE {current}"
    return f"DELETE FROM {table.name} AS old USING {given} WHERE {current}"


def _line(error: psycopg.Error) -> str:
    """Return the first line of what the server or the driver said."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].lower()
