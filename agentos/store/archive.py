"""Moving journal rows of processes that have ended into pages.

Protocol: one transaction per page: it writes the page anew, with what it had and what comes, and removes exactly the rows that came from
the journal. What is read and packed for it is read before, outside of the transaction; nobody but the upkeep ever changes a stored
row, and only one upkeep runs at a time (the caller sees to that). The last row stays: the head is checked against it.

INVARIANT archiving-loses-nothing: each row that leaves the journal is in a page in the same commit; counts are asserted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agentos.abi.limits import SEGMENT_NUMBERS, UPKEEP_ROWS
from agentos.abi.probe import reached
from agentos.errors import KernelPanic
from agentos.store.database import Database
from agentos.store.segment import Columns, pack_page, unpack_page
from agentos.store.tables import JOURNAL

if TYPE_CHECKING:
    from agentos.store.store import Store

__all__ = ["Moved", "archive", "count_rows", "pids_in_journal", "write_page"]

_COLUMNS: Final = ", ".join(JOURNAL.columns)
_SEQ, _PID = JOURNAL.columns.index("seq"), JOURNAL.columns.index("pid")


@dataclass(frozen=True, slots=True)
class Moved:
    """What an archiving moved: rows, into how many pages, of how many bytes."""

    rows: int
    pages: int
    bytes: int


def pids_in_journal(store: Store, after: int = 0) -> Iterable[int]:
    """Yield the pids that have rows in the journal, in order; one index probe each, whatever the number of rows."""
    while True:
        found = store.reader.fetch("SELECT min(pid) FROM journal WHERE pid > ?", (after,))[0][0]
        if found is None:
            return
        yield found
        after = found


def archive(store: Store, pids: Sequence[int]) -> Moved:
    """Move all rows of `pids` out of the journal, a page at a time. Any thread; blocks.

    What was moved before a crash or an error stays moved; the rest moves next time.

    Raises:
        Invalid: `invalid.store`, the store failed.
        KernelPanic: a page is damaged, or another writer has come.
    """
    rows = pages = size = 0
    for start in range(0, len(pids), UPKEEP_ROWS):
        some = pids[start : start + UPKEEP_ROWS]
        for page in _pages(store, some):
            moved, body = _move(store, page, some)
            rows, pages, size = rows + moved, pages + 1, size + body
    return Moved(rows, pages, size)


def count_rows(store: Store, pids: Sequence[int]) -> int:
    """Return how many rows of `pids` are in the journal."""
    return sum(store.reader.fetch("SELECT count(*) FROM journal WHERE pid = ?", (pid,))[0][0] for pid in pids)


def write_page(connection: Database, page: int, rows: Sequence[Columns]) -> int:
    """Write a page anew, in the caller's transaction; returns its bytes."""
    codec, size, body = pack_page(rows)
    connection.execute("DELETE FROM segment WHERE page = ?", (page,))
    connection.execute("INSERT INTO segment (page, codec, size, body) VALUES (?, ?, ?, ?)", (page, codec, size, body))
    return len(body)


def _pages(store: Store, pids: Sequence[int]) -> list[int]:
    """Return the pages that rows of `pids` in the journal belong to."""
    text = f"SELECT DISTINCT seq / {SEGMENT_NUMBERS} FROM journal WHERE pid = ?"
    return sorted({page for pid in pids for (page,) in store.reader.fetch(text, (pid,))})


def _move(store: Store, page: int, pids: Sequence[int]) -> tuple[int, int]:
    """Move the rows of `pids` that belong to one page. Returns how many, and the bytes of the page."""
    head = store.reader.fetch("SELECT seq FROM head")[0][0]
    first, end = page * SEGMENT_NUMBERS, min((page + 1) * SEGMENT_NUMBERS, head)
    text = f"SELECT {_COLUMNS} FROM journal WHERE seq >= ? AND seq < ? AND pid IN ({_marks(pids)}) ORDER BY seq"
    coming = store.reader.fetch(text, (first, end, *pids))
    if not coming:
        return 0, 0
    old = store.reader.fetch("SELECT codec, size, body FROM segment WHERE page = ?", (page,))
    rows = [*(unpack_page(page, *old[0]) if old else ()), *coming]
    rows.sort(key=lambda row: row[_SEQ])
    if len({row[_SEQ] for row in rows}) != len(rows):
        raise KernelPanic(f"page {page}: a row is in the archive and in the journal")
    reached("archive.packed")
    with store.upkeep() as connection:
        size = write_page(connection, page, rows)
        for pid in sorted({row[_PID] for row in coming}):
            connection.execute(
                "INSERT INTO segment_pid (pid, page) VALUES (?, ?) ON CONFLICT (pid, page) DO NOTHING", (pid, page)
            )
        reached("archive.copied")
        gone = connection.execute(f"DELETE FROM journal WHERE seq IN ({_marks(coming)})", [row[_SEQ] for row in coming])
        if gone.rowcount != len(coming):
            raise KernelPanic(f"page {page}: {len(coming) - gone.rowcount} rows to be archived were not in the journal")
    reached("archive.moved")
    return len(coming), size


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))
