"""A copy of a live store in a new file: consistent, verified, and whole under its name or not there at all.

Protocol: a draft beside the target (0600, locked while it is made) takes one state of the store; it is synced, opened as a store,
verified to the last row and page, and only then linked to its name, which must not exist. Commits go on meanwhile. A store in a
file is copied by SQLite, page by page; any other, table by table through its connection (`copy_tables`).
Not here: keys and sockets beside the store; a copy has none.

INVARIANT a-backup-verifies: what has its name was verified under its draft's name, with the head that is reported.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.limits import UPKEEP_ROWS
from agentos.abi.probe import reached
from agentos.errors import Invalid
from agentos.store import migrations
from agentos.store.database import Database
from agentos.store.faults import refusal, translate, unmade
from agentos.store.sqlite import Connection, connect
from agentos.store.tables import JOURNAL, OBJECT, state_tables
from agentos.store.verify import verify

if TYPE_CHECKING:
    from agentos.store.store import Store

__all__ = ["BackupReport", "backup", "copy_tables"]


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup holds.

    Attributes:
        path: The new file.
        rows: Journal rows in it, all verified.
        head: Number and hash of the last one, as `verify` prints it.
        bytes: Size of the file.
        seconds: How long it took.
    """

    path: str
    rows: int
    head: str
    bytes: int
    seconds: float


def backup(store: Store, target: Path) -> BackupReport:
    """Copy what is committed into the new file `target`. Any thread; blocks, the store's writer does not.

    Raises:
        Invalid: `invalid.argument`, there is something at `target`, or another backup makes it; `invalid.store`, the store or the disk
            failed, or the copy does not verify. No file is left at `target` then.
    """
    begun, target = time.monotonic(), target.expanduser().absolute()
    try:
        _expect_free(target)
        with _draft(target) as draft:
            _fill(store, draft)
            reached("backup.copied")
            rows, head = _verified(draft)
            _sync(draft)
            reached("backup.verified")
            os.link(draft, target)
            _sync(target.parent)
            reached("backup.named")
            return BackupReport(str(target), rows, head, target.stat().st_size, round(time.monotonic() - begun, 3))
    except FileExistsError as error:
        raise _taken(target) from error
    except sqlite3.Error as error:
        raise translate(error, target) from error
    except OSError as error:
        raise unmade(target, error) from error


def copy_tables(source: Database, target: Connection) -> None:
    """Copy every row of every table of a store into one that has the same tables, all empty or as they are made.

    Args:
        source: It sees one state of the store until this returns.
        target: A new store; in one transaction.
    """
    with target.transaction():
        for name in ("meta", "head"):
            target.execute(f"DELETE FROM {name}")
        for name, columns, order in _tables():
            for row in _rows(source, name, columns, order):
                target.execute(f"INSERT INTO {name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})", row)


def _fill(store: Store, draft: Path) -> None:
    copy = connect(draft, durability="fast")
    try:
        with store.scan() as source:
            if isinstance(source, Connection):
                copy.execute("PRAGMA journal_mode = DELETE")
                with source.lock:
                    source.raw.backup(copy.raw)
            else:
                migrations.migrate(copy)
                copy_tables(source, copy)
        copy.execute("PRAGMA journal_mode = DELETE")
    finally:
        copy.close()


def _verified(draft: Path) -> tuple[int, str]:
    """Check the copy as a store, from its file."""
    copy = connect(draft, durability="strict", readonly=True)
    try:
        migrations.check(copy)
        report = verify(copy)
    finally:
        copy.close()
    if not report.ok:
        raise refusal("corrupt", draft, f"the copy does not verify: {report.reason}")
    return report.rows, report.head


@contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """Make the draft of `target`, locked; gone when the block ends. One that a killed backup left is made anew."""
    draft = target.with_name(f".{target.name}.agentos-draft")  # nobody else names a file so: what it overwrites is a draft
    fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not stat.S_ISREG((made := os.fstat(fd)).st_mode) or made.st_nlink != 1:
            raise Invalid("argument", f"`{draft}` is no draft", hint="remove it, or give another path", field="path")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Invalid("argument", f"another backup makes `{target}`", hint="wait for it", field="path") from error
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
        try:
            yield draft
        finally:
            for left in (draft, *(draft.with_name(draft.name + end) for end in ("-wal", "-shm", "-journal"))):
                with contextlib.suppress(FileNotFoundError):
                    left.unlink()
    finally:
        os.close(fd)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _expect_free(target: Path) -> None:
    if target.exists() or target.is_symlink():
        raise _taken(target)


def _taken(target: Path) -> Invalid:
    return Invalid(
        "argument", f"there is something at `{target}` already", hint="a backup is a new file: give another path", field="path"
    )


_FIXED: Final = (
    ("meta", ("name", "value"), ("name",)),
    ("head", ("id", "genesis", "seq", "hash", "epoch", "pid"), ("id",)),
    ("object", ("id", *OBJECT.columns), ("id",)),
    ("segment", ("page", "codec", "size", "body"), ("page",)),
    ("segment_pid", ("pid", "page"), ("pid", "page")),
    ("journal", JOURNAL.columns, ("seq",)),
)


def _tables() -> Iterator[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Yield name, columns and an order of each table."""
    yield from _FIXED
    for _, table in state_tables():
        yield table.name, table.columns, (*table.keys, "seq")


def _rows(source: Database, name: str, columns: tuple[str, ...], order: tuple[str, ...]) -> Iterator[tuple[Any, ...]]:
    text, rest = f"SELECT {_quoted(columns)} FROM {name}", f" ORDER BY {_quoted(order)} LIMIT {UPKEEP_ROWS}"
    page = source.fetch(text + rest)
    while page:
        yield from page
        last = [page[-1][columns.index(key)] for key in order]
        page = source.fetch(f"{text} WHERE ({_quoted(order)}) > ({', '.join('?' * len(order))}){rest}", last)


def _quoted(columns: tuple[str, ...]) -> str:
    return ", ".join(f'"{column}"' for column in columns)
