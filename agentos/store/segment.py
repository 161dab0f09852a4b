"""Archived journal rows: pages of them, packed, and reading them as if they still lay in the journal.

Protocol: a page holds those rows of SEGMENT_NUMBERS consecutive journal numbers that were archived, with every column that the journal
has, so that the chain is verified over both. `segment_pid` says which pages have rows of a process. A row lies in the journal or in a
page, never in both; rows move one way. Who reads both reads the journal first: a row that moves meanwhile is then seen at least once.
Not here: what is moved, and when (`archive`).

INVARIANT archived-is-still-read: every read of rows gives the same rows, in the same order, wherever they lie.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from agentos.abi.limits import MIB, SEGMENT_NUMBERS, SEGMENT_PAGES_KEPT
from agentos.errors import KernelPanic
from agentos.store.database import Database
from agentos.store.tables import JOURNAL

__all__ = ["Columns", "Segments", "pack_page", "page_of", "unpack_page"]

Columns = tuple[Any, ...]
"""One row, in the columns of the journal."""

_PAGES_AT_ONCE: Final = 64
_PAGE_BYTES_MAX: Final = 256 * MIB
_LEVEL: Final = 6
_SEQ, _PID = JOURNAL.columns.index("seq"), JOURNAL.columns.index("pid")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[Any, ...]]).decode


def page_of(seq: int) -> int:
    """Return the page that row `seq` belongs to."""
    return seq // SEGMENT_NUMBERS


def pack_page(rows: Sequence[Columns]) -> tuple[str, int, bytes]:
    """Return codec, size and body of a page of rows, which are in order."""
    data = _encode(rows)
    return "zlib", len(data), zlib.compress(data, _LEVEL)


def unpack_page(page: int, codec: str, size: int, body: bytes) -> list[Columns]:
    """Return the rows of a page, in order.

    Raises:
        KernelPanic: the page is damaged. What a row says, only the chain can tell.
    """
    try:
        if codec != "zlib" or not 0 <= size <= _PAGE_BYTES_MAX:
            raise ValueError(f"codec `{codec}`, {size} bytes")
        data = zlib.decompressobj().decompress(body, size + 1)
        rows = _decode(data)
        if len(data) != size or not all(len(row) == len(JOURNAL.columns) and page_of(row[_SEQ]) == page for row in rows):
            raise ValueError("its rows are not of this page")
    except (ValueError, TypeError, zlib.error, msgspec.DecodeError, RecursionError) as error:
        raise KernelPanic(f"page {page} of archived rows is damaged: {error}") from error
    return rows


class Segments:
    """The archived rows of one store, through one connection."""

    def __init__(self, reader: Database) -> None:
        self._reader = reader
        self._seen = False
        self._kept: OrderedDict[int, tuple[bytes, list[Columns]]] = OrderedDict()

    def __bool__(self) -> bool:
        """Tell whether anything was ever archived; one probe until something was."""
        self._seen = self._seen or self._reader.fetch("SELECT max(page) FROM segment")[0][0] is not None
        return self._seen

    def rows(self, after: int, upto: int, pid: int | None = None) -> Iterator[Columns]:
        """Yield the archived rows numbered after `after` and not after `upto`, in order; only those of process `pid` if it is given."""
        for page in self._pages(page_of(after + 1), page_of(upto), pid):
            for row in self.page(page):
                if after < row[_SEQ] <= upto and pid in (None, row[_PID]):
                    yield row

    def newest(self, pid: int, upto: int) -> Iterator[Columns]:
        """Yield the archived rows of process `pid` that are not after `upto`, newest first."""
        for page in self._pages_back(page_of(upto), pid):
            for row in reversed(self.page(page)):
                if row[_SEQ] <= upto and row[_PID] == pid:
                    yield row

    def row(self, seq: int) -> Columns | None:
        """Return the archived row `seq`."""
        return next((row for row in self.page(page_of(seq)) if row[_SEQ] == seq), None)

    def page(self, page: int) -> list[Columns]:
        """Return all rows of a page, none where there is no such page.

        Raises:
            KernelPanic: the page is damaged.
        """
        found = self._reader.fetch("SELECT codec, size, body FROM segment WHERE page = ?", (page,))
        if not found:
            return []
        codec, size, body = found[0]
        kept = self._kept.get(page)
        if kept is None or kept[0] != body:  # a page grows, and loses content that is erased
            kept = self._kept[page] = body, unpack_page(page, codec, size, body)
        self._kept.move_to_end(page)
        if len(self._kept) > SEGMENT_PAGES_KEPT:
            self._kept.popitem(last=False)
        return kept[1]

    def _pages(self, first: int, last: int, pid: int | None) -> Iterator[int]:
        """Yield the pages from `first` to `last` in order, a few at a time."""
        text, of = _pages_text(pid)
        while first <= last:
            found = self._reader.fetch(
                f"{text} AND page >= ? AND page <= ? ORDER BY page LIMIT {_PAGES_AT_ONCE}", (*of, first, last)
            )
            yield from (page for (page,) in found)
            if len(found) < _PAGES_AT_ONCE:
                return
            first = found[-1][0] + 1

    def _pages_back(self, last: int, pid: int) -> Iterator[int]:
        """Yield the pages of a process that are not after `last`, newest first."""
        while True:
            found = self._reader.fetch(
                f"SELECT page FROM segment_pid WHERE pid = ? AND page <= ? ORDER BY page DESC LIMIT {_PAGES_AT_ONCE}",
                (pid, last),
            )
            yield from (page for (page,) in found)
            if len(found) < _PAGES_AT_ONCE:
                return
            last = found[-1][0] - 1


def _pages_text(pid: int | None) -> tuple[str, Iterable[int]]:
    """Return the beginning of a query for pages, and its parameters."""
    if pid is None:
        return "SELECT page FROM segment WHERE 1 = 1", ()
    return "SELECT page FROM segment_pid WHERE pid = ?", (pid,)
