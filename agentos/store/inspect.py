"""Is a store in order? Everything that can be looked up is looked up; each finding says what to do about it.

Protocol: one state of the store is read through a connection of its own, in constant memory but for the pages' numbers. `repair` mends only
what follows from the rest of the store (an index, the list of which page has whose rows); everything else is told.
Not here: the machine around the store (`agentos doctor` has it).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentos.abi.codec import decode
from agentos.abi.limits import MIB
from agentos.abi.probe import reached
from agentos.errors import KernelPanic
from agentos.store import blobs, scrub, trees
from agentos.store.collect import names_in_row, states_in
from agentos.store.database import Database
from agentos.store.segment import unpack_page
from agentos.store.tables import JOURNAL, Table
from agentos.store.verify import all_rows, loader, verify

if TYPE_CHECKING:
    from agentos.store.store import Store

__all__ = ["Finding", "inspect", "repair"]

_PID: Final = JOURNAL.columns.index("pid")
_OP: Final = JOURNAL.columns.index("op")
_ROOM_BYTES_MIN: Final = 64 * MIB
_FREE_SHARE_MAX: Final = 0.5
_BACKUP: Final = "keep a copy of the file with its -wal, then restore it from a backup"
_REPAIR: Final = "`agentos doctor --repair` mends it"
_LEADS: Final = (
    ("cap", "parent", "cap", "cap"), ("cap", "pid", "process", "pid"), ("ask", "pid", "process", "pid"),
    ("message", "pid", "process", "pid"), ("process", "ppid", "process", "pid"), ("process", "fork_pid", "process", "pid"),
    ("process", "image_digest", "image", "digest"), ("checkpoint", "pid", "process", "pid"), ("account", "pid", "process", "pid"),
)  # fmt: skip
"""Columns of state records that lead to another record: table, column, and whose key it is. 0 and "" lead nowhere."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: What was looked at.
        state: ok, missing (something will not work) or bad.
        detail: What was found.
        remedy: What to do about it; empty when it is ok.
    """

    what: str
    state: str
    detail: str
    remedy: str = ""


def inspect(store: Store) -> list[Finding]:
    """Look at everything in a store. Any thread; blocks, nobody else does.

    Raises:
        Invalid: `invalid.store`, it is closed or failed.
    """
    with store.scan() as connection:
        looks: tuple[Callable[[], Finding], ...] = (
            lambda: _chain(connection), lambda: _schema(connection), lambda: _pages(connection), lambda: _objects(connection),
            lambda: _records(connection), lambda: _erasure(connection), lambda: _room(store, connection), lambda: _beside(store),
        )  # fmt: skip
        return [look() for look in looks]


def repair(store: Store) -> list[str]:
    """Mend what follows from the rest of the store; returns what was mended. Any thread; blocks.

    Raises:
        Invalid: `invalid.store`, it was opened for reading, or failed; nothing was changed.
    """
    done = []
    missing = _missing_indexes(store.reader)
    strange, lost = _mendable_lists(store.reader)
    with store.upkeep() as connection:
        for statement in missing:
            connection.execute(statement)
            done.append(" ".join(statement.split()))
        for pid, page in strange:
            connection.execute("DELETE FROM segment_pid WHERE pid = ? AND page = ?", (pid, page))
        for pid, page in lost:
            connection.execute("INSERT INTO segment_pid (pid, page) VALUES (?, ?)", (pid, page))
        reached("repair.done")
    if strange or lost:
        done.append(f"the list of archived pages: {len(lost)} entries added, {len(strange)} removed")
    return done


def _chain(connection: Database) -> Finding:
    report = verify(connection)
    if report.ok:
        return Finding("chain", "ok", f"{report.rows} rows, head {report.head[:24]}...")
    where = f"row {report.first_bad_seq}: " if report.first_bad_seq is not None else ""
    return Finding("chain", "bad", f"{where}{report.reason}", _BACKUP)


def _schema(connection: Database) -> Finding:
    if connection.dialect != "sqlite":
        return Finding("schema", "ok", "the server keeps it")
    from agentos.store import schema  # noqa: PLC0415 - SQLAlchemy takes 0.2 s

    found = schema.differences(connection)
    if not found:
        return Finding("schema", "ok", "every table and index is as described")
    mendable = len(_missing_indexes(connection)) == len(found)
    return Finding("schema", "bad", "; ".join(found[:3]), _REPAIR if mendable else _BACKUP)


def _missing_indexes(connection: Database) -> list[str]:
    """Return the statements that make the indexes that are not there."""
    if connection.dialect != "sqlite":
        return []
    from agentos.store import schema  # noqa: PLC0415 - SQLAlchemy takes 0.2 s

    there = {name for (name,) in connection.fetch("SELECT name FROM sqlite_master WHERE type = 'index'")}
    made = [text for text in schema.create_all(schema.sqlite_dialect()) if " INDEX " in text.partition("(")[0]]
    return [text for text in made if text.partition(" ON ")[0].split()[-1].strip('"') not in there]


def _pages(connection: Database) -> Finding:
    try:
        strange, lost = _page_lists(connection)
    except KernelPanic as error:
        return Finding("archive", "bad", str(error), _BACKUP)
    if strange or lost:
        return Finding("archive", "bad", f"{len(strange) + len(lost)} entries of its list do not fit its pages", _REPAIR)
    return Finding("archive", "ok", f"{connection.fetch('SELECT count(*) FROM segment')[0][0]} pages")


def _page_lists(connection: Database) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    """Return the entries (pid, page) that no page explains, and those that are missing.

    Raises:
        KernelPanic: a page is damaged.
    """
    listed = set(connection.fetch("SELECT pid, page FROM segment_pid"))
    held = set()
    after = -1
    while found := connection.fetch(
        "SELECT page, codec, size, body FROM segment WHERE page > ? ORDER BY page LIMIT 1", (after,)
    ):
        after, *stored = found[0]
        held |= {(row[_PID], after) for row in unpack_page(after, *stored)}
    return listed - held, held - listed


def _mendable_lists(connection: Database) -> tuple[set[tuple[int, int]], set[tuple[int, int]]]:
    try:
        return _page_lists(connection)
    except KernelPanic:
        return set(), set()  # beside a damaged page nothing follows; `inspect` tells of it


def _objects(connection: Database) -> Finding:
    """Look whether every object that something refers to is there, and every current value whole."""
    try:
        values = _load_values(connection, loader(connection))
        images = _expect_of_rows(connection)
    except KernelPanic as error:
        return Finding("objects", "bad", str(error), _BACKUP)
    return Finding("objects", "ok", f"{values} values of records and {images} of rows are whole")


def _load_values(connection: Database, load: Callable[[bytes], bytes]) -> int:
    """Load every value of a record that lies in objects, the current ones to their last part; returns how many there are."""
    count = 0
    for table, columns in states_in(connection):
        for value in _values(table, columns):
            name = blobs.name_in(value)
            data = value if name is None else load(name)
            if columns[-1] is None and data[:1] == b"\xc1":
                trees.unpack(data, load)
            count += 1
    return count


def _expect_of_rows(connection: Database) -> int:
    """Look for every object that a row refers to; returns how many there are.

    Raises:
        KernelPanic: one is missing.
    """
    count = 0
    for row in all_rows(connection, -1, 2**62):
        if row[_OP].startswith("note.") and row[_OP] != "note.before":
            continue  # digests in notes may be those of images and policies
        for name in names_in_row(row):
            count += 1
            if not connection.fetch("SELECT 1 FROM object WHERE hash = ?", (name,)):
                raise KernelPanic(f"object {name.hex()} of row {row[JOURNAL.seq_at]} is missing")
    return count


def _values(table: Table, columns: tuple[object, ...]) -> Iterator[bytes]:
    for at in table.blobs:
        value = columns[at]
        if isinstance(value, bytes) and value[:1] == b"\xc1" and table.columns[at] != "digest":  # a hash begins with any byte
            yield value


def _records(connection: Database) -> Finding:
    for table, column, other, key in _LEADS:
        nothing = "''" if column == "image_digest" else "0"
        lost = connection.fetch(
            f"SELECT {table}.{column} FROM {table} WHERE {table}.until IS NULL AND {table}.{column} <> {nothing} AND NOT EXISTS "
            f"(SELECT 1 FROM {other} AS led WHERE led.{key} = {table}.{column}) LIMIT 1"
        )
        for (value,) in lost:
            return Finding(
                "records", "bad", f"`{column}` of a record in {table} leads to {other} {value}, which is not there", _BACKUP
            )
    lost_layer = _lost_layer(connection)
    if lost_layer:
        return Finding("records", "bad", lost_layer, _BACKUP)
    return Finding("records", "ok", "every record that another leads to is there")


def _lost_layer(connection: Database) -> str:
    """Return a complaint when a process that lives is decided by a policy layer that is not there."""
    for pid, layers in connection.fetch(
        "SELECT pid, layers FROM process WHERE until IS NULL AND live = 1 AND layers <> ?", (b"",)
    ):
        for digest in decode(layers) if blobs.name_in(layers) is None else ():
            if not connection.fetch("SELECT 1 FROM policy WHERE digest = ? AND until IS NULL", (digest,)):
                return f"process {pid} is decided by policy layer {digest}, which is not there"
    return ""


def _erasure(connection: Database) -> Finding:
    """Look for an erasure that was begun and did not come to its end."""
    for seq, op in connection.fetch(
        "SELECT seq, op FROM journal WHERE pid = 0 AND op IN ('note.erasing', 'note.erased') ORDER BY seq DESC LIMIT 1"
    ):
        if op == "note.erasing":
            return Finding("erasure", "bad", f"the erasure of row {seq} was interrupted", "say the same `agentos erase` again")
    return Finding("erasure", "ok", "none was interrupted")


def _room(store: Store, connection: Database) -> Finding:
    size = connection.size()
    if not isinstance(store.path, Path):
        return Finding("room", "ok", f"{size:,} bytes")
    free, share = shutil.disk_usage(store.path.parent).free, scrub.free_share(connection)
    said = f"{size:,} bytes, {share:.0%} of them free, {free // MIB:,} MiB left on the disk"
    if free < max(_ROOM_BYTES_MIN, size // 4):
        return Finding(
            "room", "bad", said, "free space on the disk; `agentos archive` and `agentos tidy` make the store smaller"
        )
    if share > _FREE_SHARE_MAX and size > _ROOM_BYTES_MIN:
        return Finding("room", "missing", said, "`agentos tidy` gives the free pages back to the disk")
    return Finding("room", "ok", said)


def _beside(store: Store) -> Finding:
    """Look for what a killed program left beside the store."""
    if not isinstance(store.path, Path):
        return Finding("files", "ok", "there are none beside it")
    left = sorted(path.name for path in store.path.parent.glob(f"{store.path.name}-draft*"))
    if left:
        return Finding("files", "bad", f"left behind: {', '.join(left)}", "remove them while no kernel runs")
    return Finding("files", "ok", "nothing was left behind")
