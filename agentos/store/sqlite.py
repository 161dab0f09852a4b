"""The SQLite end: connections, their settings, transactions, and counting. The seam where another database differs.

Protocol: one writer connection in autocommit mode with explicit ``BEGIN IMMEDIATE``; readers have connections of their own, opened
read-only, and hold no cursor over a return. WAL, so that readers and the writer never wait for each other.
Not here: statements (`sql`, `reads`), the order of commits (`journal`).
"""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final

from agentos.abi.limits import BUSY_TIMEOUT_S
from agentos.abi.place import Place
from agentos.errors import AgentOSError, KernelPanic
from agentos.store import sql
from agentos.store.faults import refusal, translate
from agentos.store.tables import Table

__all__ = ["SYNCHRONOUS", "Connection", "connect", "eager"]

SYNCHRONOUS: Final = {"strict": "FULL", "fast": "NORMAL", "memory": "OFF"}
"""What each durability means: strict survives a power cut, fast a killed process, memory nothing."""
_EAGER_INTERVAL_S: Final = 0.0005
_CHECKPOINT_PAGES: Final = 1000  # a checkpoint copies at most about 4 MiB back, so no commit pays for more


_eager_lock = threading.Lock()
_eager_count = 0
_usual_interval_s = 0.0


@contextmanager
def eager() -> Iterator[None]:
    """Ask busy threads for the interpreter ten times sooner while a batch is written.

    Every statement gives the interpreter's lock away and waits for it again, up to the switch interval where another thread computes: with
    Python's 5 ms a commit of 200 rows took 24 ms (p99 39), with 0.5 ms it takes 6 (p99 11). The usual interval is put back.
    """
    global _eager_count, _usual_interval_s  # noqa: PLW0603 - the interval itself is global; the count lets stores overlap
    with _eager_lock:
        if _eager_count == 0:
            _usual_interval_s = sys.getswitchinterval()
            sys.setswitchinterval(min(_usual_interval_s, _EAGER_INTERVAL_S))
        _eager_count += 1
    try:
        yield
    finally:
        with _eager_lock:
            _eager_count -= 1
            if _eager_count == 0:
                sys.setswitchinterval(_usual_interval_s)


class Connection:
    """One connection with its lock: a `Database`.

    Attributes:
        statements: Statements executed so far.
    """

    dialect = "sqlite"
    failures: type[Exception] = sqlite3.Error
    keeps_nul = True

    def __init__(self, raw: sqlite3.Connection, path: Path | None) -> None:
        self.raw = raw
        self.path: Place | None = path
        self.lock = threading.RLock()
        self.statements = 0
        self._closed = False

    def execute(self, text: str, parameters: Sequence[Any] = ()) -> sqlite3.Cursor:
        """Execute one statement; the caller holds the lock while it uses the cursor."""
        self.statements += 1
        return self.raw.execute(text, parameters)

    def fetch(self, text: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return all rows of a bounded query.

        Raises:
            Invalid: `invalid.store`, the file is damaged, gone or closed.
        """
        with self.lock:
            if self._closed:
                raise refusal("closed", self.path)
            try:
                return self.execute(text, parameters).fetchall()
            except (sqlite3.OperationalError, sqlite3.DatabaseError) as error:
                raise translate(error, self.path) from error
            except UnicodeDecodeError as error:  # what SQLite says about a damaged schema may itself be no text
                raise refusal("corrupt", self.path, "a text in it is no text") from error

    def damage(self) -> str:
        """Return what is wrong with the pages, tables and indexes of the file, or an empty text. Reads it all."""
        found = str(self.fetch("PRAGMA integrity_check(1)")[0][0])
        return "" if found == "ok" else f"the file is damaged: {found.strip().splitlines()[-1].lower()}"

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the write lock from the first statement and commit at the end, or leave no trace."""
        with self.lock:
            self.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.execute("COMMIT")
            except BaseException:
                if self.raw.in_transaction:
                    self.raw.rollback()
                raise

    def batch(self) -> AbstractContextManager[None]:
        """A transaction: nothing is gained by sending statements together."""
        return self.transaction()

    def insert(self, table: Table, rows: Sequence[Sequence[Any]], *, ignore_known: bool = False) -> None:
        """Insert all rows; `ignore_known` keeps what is there under the same key."""
        for page in _pages(rows):
            text = sql.insert_rows(table, sql.size_for(len(page)), ignore_known=ignore_known)
            self.execute(text, sql.fill(page, len(table.columns)))

    def replace(self, table: Table, replaced: Sequence[Sequence[Any]]) -> None:
        """Close or remove current versions.

        Raises:
            KernelPanic: one of them was not current.
        """
        width = len(table.keys) + 2
        text_of = sql.close_versions if table.versioned else sql.drop_versions
        for page in _pages(replaced):
            done = self.execute(text_of(table, sql.size_for(len(page))), sql.fill(page, width)).rowcount
            sql.expect_all(table, len(page), done)

    def move_head(self, head: tuple[int, bytes], previous: bytes, epoch: int) -> None:
        """Move the stored head.

        Raises:
            KernelPanic: it is not where this writer left it, or another writer has come.
        """
        text = "UPDATE head SET seq = ?, hash = ? WHERE id = 1 AND epoch = ? AND hash = ?"
        if self.execute(text, (*head, epoch, previous)).rowcount != 1:
            raise KernelPanic("another writer has moved the head of the journal")

    def verdict(self, error: Exception) -> AgentOSError | KernelPanic:
        """Tell a broken invariant from a failing disk."""
        assert isinstance(error, sqlite3.Error), "only what the driver raises is judged"
        if isinstance(error, sqlite3.IntegrityError | sqlite3.InterfaceError | sqlite3.ProgrammingError):
            return KernelPanic(f"the store refused a batch: {error}")
        return translate(error, self.path)

    def snapshot(self) -> Connection:
        """Return another connection, read-only, that sees one state of the store until it is closed."""
        assert isinstance(self.path, Path), "a database in memory has one connection"
        connection = connect(self.path, durability="strict", readonly=True)
        connection.execute("BEGIN")
        return connection

    def table_names(self) -> set[str]:
        """Return the names of the tables that are there."""
        return {name for (name,) in self.fetch("SELECT name FROM sqlite_master WHERE type = 'table'")}

    def size(self) -> int:
        """Return the bytes of the file."""
        return int(self.fetch("PRAGMA page_count")[0][0] * self.fetch("PRAGMA page_size")[0][0])

    def close(self) -> None:
        """Close the connection. Idempotent."""
        with self.lock:
            self._closed = True
            self.raw.close()


def _pages(rows: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """Cut `rows` into what one statement takes."""
    for start in range(0, len(rows), sql.ROWS_PER_STATEMENT_MAX):
        yield rows[start : start + sql.ROWS_PER_STATEMENT_MAX]


def connect(path: Path | None, *, durability: str, readonly: bool = False) -> Connection:
    """Open a connection; `path` None is a database in memory.

    Raises:
        sqlite3.Error: the file cannot be opened, is no database or is damaged at its start.
    """
    target = ":memory:" if path is None else f"{path.absolute().as_uri()}?mode={_mode(path, readonly=readonly)}"
    raw = sqlite3.connect(
        target,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=512,
        uri=path is not None,
    )
    try:
        for setting in _settings(durability, readonly=readonly, file=path is not None):
            raw.execute(setting)
    except BaseException:
        raw.close()
        raise
    return Connection(raw, path)


def _mode(path: Path, *, readonly: bool) -> str:
    """Return how to open the file: a store that nobody can write and nobody has open is read without its helper files."""
    if not readonly:
        return "rw"
    wal = path.with_name(path.name + "-wal")
    alone = not wal.exists() and not _writable(path.parent)
    return "ro&immutable=1" if alone else "ro"


def _writable(folder: Path) -> bool:
    """Tell whether files can be made in `folder`."""
    return os.access(folder, os.W_OK)


def _settings(durability: str, *, readonly: bool, file: bool) -> Iterator[str]:
    """Yield the settings of a connection, in order."""
    yield "PRAGMA foreign_keys = ON"
    yield "PRAGMA trusted_schema = OFF"
    if readonly:
        yield "PRAGMA query_only = ON"
        return
    if file:
        yield "PRAGMA journal_mode = WAL"
    yield f"PRAGMA synchronous = {SYNCHRONOUS[durability]}"
    yield f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}"
