"""Verification of a whole store: the file, every row wherever it lies, the head, and every object.

Protocol: everything is read through one connection, which sees one state of the store; rows of the journal and of the archive are merged
by number, a page at a time: constant memory, time linear in the store.
Not here: what a row has to be (`chain`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import merge
from operator import itemgetter
from typing import Any, Final

from agentos.abi.limits import HASH_BYTES, MIB, PAGE_ROWS
from agentos.errors import KernelPanic
from agentos.store import blobs, chain, trees
from agentos.store.database import Database
from agentos.store.faults import refusal
from agentos.store.segment import Columns, page_of, unpack_page
from agentos.store.tables import JOURNAL

__all__ = ["all_rows", "first_bad_object", "head_of", "loader", "salted_from", "verify"]

_FIRST: Final = -(2**63)
_AT_HAND_BYTES: Final = 8 * MIB
_ROWS: Final = f"SELECT {', '.join(JOURNAL.columns)} FROM journal WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT {PAGE_ROWS}"
_PAGES: Final = "SELECT page, codec, size, body FROM segment WHERE page > ? ORDER BY page LIMIT 4"
_STRAY: Final = "SELECT journal.seq FROM head JOIN journal ON journal.seq > head.seq ORDER BY journal.seq LIMIT 1"
_OBJECTS: Final = f"SELECT id, hash, codec, size, body FROM object WHERE id > ? ORDER BY id LIMIT {PAGE_ROWS // 10}"
_SEQ: Final = JOURNAL.columns.index("seq")


def verify(connection: Database, head: str | None = None) -> chain.AuditReport:
    """Check the store that `connection` sees; nothing is changed.

    Args:
        connection: It sees one state of the store until this returns.
        head: A head that an earlier check printed (``"SEQ:HEX"``): shows that the journal was not rewritten since.

    Raises:
        Invalid: `invalid.argument`, `head` is no head; `invalid.store`, the store failed.
    """
    kept = chain.parse_head(head) if head is not None else None
    genesis, seq, digest, _ = head_of(connection)
    heads = [(seq, digest)] if kept is None else [(seq, digest), kept]
    try:
        rows = all_rows(connection, _FIRST, seq)
        report = chain.check(rows, (0, genesis), heads, _lost_in(connection), salted_from=salted_from(connection))
    except KernelPanic as error:
        return chain.AuditReport(False, 0, None, str(error), f"{seq}:{digest.hex()}")
    if not report.ok:
        return report
    for stray in connection.fetch(_STRAY):
        return chain.AuditReport(False, report.rows, stray[0], f"row {stray[0]} lies after the head", report.head)
    bad = connection.damage() or first_bad_object(connection)
    return chain.AuditReport(False, report.rows, None, bad, report.head) if bad else report


def head_of(connection: Database) -> tuple[bytes, int, bytes, int]:
    """Return genesis, last number, last hash and epoch of the store.

    Raises:
        Invalid: `invalid.store`, `corrupt`: there is no head, or it holds something else.
    """
    found = connection.fetch("SELECT genesis, seq, hash, epoch FROM head")
    if [tuple(map(type, head)) for head in found] != [(bytes, int, bytes, int)]:
        raise refusal("corrupt", connection.path, "it has no whole head")
    return found[0]


def all_rows(connection: Database, after: int, upto: int) -> Iterator[Columns]:
    """Yield every row after number `after` up to `upto` in order, whether archived or not.

    Raises:
        KernelPanic: a page of archived rows is damaged.
    """
    archived = (row for row in _archived(connection, after) if after < row[_SEQ] <= upto)
    return merge(_journal(connection, after, upto), archived, key=itemgetter(_SEQ))


def salted_from(connection: Database) -> int:
    """Return the first epoch whose rows have the newer layout; a store that does not say was made with it."""
    found = connection.fetch("SELECT value FROM meta WHERE name = 'salted_from'")
    return int(found[0][0]) if found and found[0][0].isdigit() else 1


def first_bad_object(connection: Database) -> str:
    """Return what is wrong with the first damaged object, or an empty text."""
    after = _FIRST
    while page := connection.fetch(_OBJECTS, (after,)):
        for _, name, codec, size, body in page:
            try:
                blobs.unpack_body(name, codec, size, body)
            except KernelPanic as error:
                return str(error)
        after = page[-1][0]
    return ""


def _journal(connection: Database, after: int, upto: int) -> Iterator[Columns]:
    while page := connection.fetch(_ROWS, (after, upto)):
        yield from page
        after = page[-1][_SEQ]


def _archived(connection: Database, after: int) -> Iterator[Columns]:
    page = page_of(after) - 1
    while found := connection.fetch(_PAGES, (page,)):
        for number, *stored in found:
            yield from unpack_page(number, *stored)
        page = found[-1][0]


def loader(connection: Database, bytes_max: int = 0) -> Callable[[bytes], bytes]:
    """Return a function that loads the object of a name; the small ones among the last `bytes_max` bytes are kept at hand.

    It raises KernelPanic: the object is damaged or missing.
    """
    kept: dict[bytes, bytes] = {}
    room = bytes_max

    def load(name: bytes) -> bytes:
        nonlocal room
        data = kept.get(name)
        if data is None:
            found = connection.fetch("SELECT hash, codec, size, body FROM object WHERE hash = ?", (name,))
            if not found:
                raise KernelPanic(f"object {name.hex()} is missing")
            data = blobs.unpack_body(*found[0])
            room -= len(data) + 2 * HASH_BYTES
            if room < 0:
                kept.clear()
                room = bytes_max
            if len(data) <= bytes_max // 64:
                kept[name] = data
        return data

    return load


def _lost_in(connection: Database) -> Callable[[Any], bool]:
    """Return the test for columns whose value cannot be read, for an object is missing or not what it was."""
    load = loader(connection, _AT_HAND_BYTES)

    def is_lost(column: Any) -> bool:
        name = blobs.name_in(column)
        if name is not None:
            return not connection.fetch("SELECT 1 FROM object WHERE hash = ?", (name,))
        try:
            trees.resolve(column, load)
        except KernelPanic:
            return True
        return False

    return is_lost
