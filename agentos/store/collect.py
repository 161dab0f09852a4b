"""Collection of objects that nothing refers to any more.

Protocol: mark, then sweep. Marking reads every state version, every row of the journal and every page, and follows what objects refer
to; sweeping removes unmarked objects in small batches. Both run beside the writer, without a long transaction:

    barrier up    on the event loop, with everything committed: from here on the journal remembers each object it is given
    mark          rows and versions are only ever added meanwhile, so what was referred to when the barrier went up is marked
    sweep         each batch looks at the barrier under the write lock: an object is either named there, or written anew after

What counts as a reference: in a row a column that is one (`blobs`), with exactly what the tree leads to that keeps its value; in a state
the same, the links and names in roots and nodes (`trees`) wherever they stand in a column or in an object that one leads to, and a text
column that is an object's name; names in the arguments of the kernel's notes, and of processes of the host that live. In a state, bytes
that only look like one keep an object too long, never too short. Marks are bits by object number, nothing is written down: a crash
starts from scratch.

INVARIANT collection-keeps-what-is-referred-to: an object is removed only when no row, page or version leads to it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.limits import HASH_BYTES, MIB, UPKEEP_ROWS
from agentos.abi.probe import reached
from agentos.store import blobs, trees
from agentos.store.database import Database
from agentos.store.segment import Columns
from agentos.store.tables import JOURNAL, Table, state_tables
from agentos.store.verify import all_rows, loader

if TYPE_CHECKING:
    from agentos.store.store import Store

__all__ = ["Collected", "Marks", "collect", "names_in_row", "names_in_state", "names_in_value", "state_rows", "states_in"]

_LINK: Final = re.compile(rb"(?=\xc7\x20[\x01-\x05](.{32}))", re.DOTALL)  # MessagePack: an extension of 32 bytes
_NAME: Final = re.compile(rb"(?=\xc4\x20(.{32}))", re.DOTALL)  # MessagePack: 32 bytes
_HEX: Final = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_OP, _ARGS = JOURNAL.columns.index("op"), JOURNAL.columns.index("args")
_FIRST: Final = -(2**63)
_AT_HAND_BYTES: Final = 8 * MIB


@dataclass(frozen=True, slots=True)
class Collected:
    """What a collection removed: objects, and the bytes that they took."""

    objects: int
    bytes: int


class Marks:
    """Which objects are referred to: a bit each, by number."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.last = store.reader.fetch("SELECT max(id) FROM object")[0][0] or 0
        self._marked = bytearray(self.last // 8 + 1)
        self._followed = bytearray(self.last // 8 + 1)

    def has(self, number: int) -> bool:
        """Tell whether the object of that number is referred to."""
        return bool(self._marked[number >> 3] & 1 << (number & 7))

    def mark(self, names: Iterable[bytes], *, follow: bool) -> None:
        """Mark the objects of these names; with `follow` also what they lead to."""
        todo = set(names)
        while todo:
            some = [todo.pop() for _ in range(min(UPKEEP_ROWS, len(todo)))]
            marks = ", ".join("?" * len(some))
            fresh = [
                number
                for (number,) in self._store.reader.fetch(f"SELECT id FROM object WHERE hash IN ({marks})", some)
                if number <= self.last and self._set(number, follow=follow)
            ]
            if follow:
                for data in self._bodies(fresh):
                    todo.update(names_in_value(data))

    def _set(self, number: int, *, follow: bool) -> bool:
        """Set the bit of an object; tells whether it is still to be followed."""
        at, bit = number >> 3, 1 << (number & 7)
        self._marked[at] |= bit
        if not follow or self._followed[at] & bit:
            return False
        self._followed[at] |= bit
        return True

    def _bodies(self, numbers: Sequence[int]) -> Iterator[bytes]:
        for start in range(0, len(numbers), UPKEEP_ROWS // 10):
            some = numbers[start : start + UPKEEP_ROWS // 10]
            text = f"SELECT hash, codec, size, body FROM object WHERE id IN ({', '.join('?' * len(some))})"
            for found in self._store.reader.fetch(text, some):
                yield blobs.unpack_body(*found)


def collect(store: Store, *, dry_run: bool = False) -> Collected:
    """Remove every object that nothing refers to. Any thread; blocks. The barrier is up (`Journal.watch`), all before it is committed.

    Args:
        store: The store, opened for writing.
        dry_run: Count only.

    Raises:
        Invalid: `invalid.store`, the store failed.
        KernelPanic: something in it is damaged: then nothing can be said to be unused.
    """
    marks = Marks(store)
    for table, columns in states_in(store.reader):
        marks.mark(names_in_state(table, columns), follow=True)
    batch: set[bytes] = set()
    walk = trees.Walk(loader(store.reader, _AT_HAND_BYTES))
    last = store.reader.fetch("SELECT seq FROM head")[0][0]
    for row in all_rows(store.reader, _FIRST, last):
        batch.update(names_in_row(row), *map(walk.names, trees_in_row(row)))
        if len(batch) > UPKEEP_ROWS:
            marks.mark(batch, follow=False)
            batch = set()
    marks.mark(batch, follow=False)
    reached("collect.marked")
    return _sweep(store, marks, dry_run=dry_run)


def trees_in_row(row: Columns) -> list[bytes]:
    """Return the items of the trees that keep values of a journal row."""
    return [found[1] for at in JOURNAL.blobs if blobs.is_tree(row[at]) and (found := blobs.tree_in(row[at])) is not None]


def names_in_row(row: Columns) -> set[bytes]:
    """Return the names of the objects that a journal row refers to, not what those lead to.

    Raises:
        KernelPanic: the row is damaged.
    """
    names = {name for at in JOURNAL.blobs if isinstance(row[at], bytes) and (name := blobs.name_in(row[at])) is not None}
    names.update(*map(trees.links, trees_in_row(row)))
    if row[_ARGS] and row[_OP].startswith("note."):
        names |= _named(row[_ARGS])
    return names


def names_in_state(table: Table, columns: Columns) -> set[bytes]:
    """Return the names of the objects that one version of a state record refers to, not what those lead to."""
    names: set[bytes] = set()
    for value, kind in zip(columns, table.kinds, strict=True):
        if kind is bytes and value:
            name = blobs.name_in(value)
            names.update(names_in_value(value) if name is None else (name,))
        elif kind is str and len(value) == 2 * HASH_BYTES and _HEX.fullmatch(value.encode()):
            names.add(bytes.fromhex(value))
    if table.name == "process":
        record = dict(zip(table.columns, columns, strict=True))
        if record["live"] and not record["ppid"]:  # what the host works on, such as a plan that a crash has cut
            names |= _named(record["args"])
    return names


def _named(data: bytes) -> set[bytes]:
    """Return the names of objects that stand in an encoded value as texts."""
    return {bytes.fromhex(found.decode()) for found in _HEX.findall(data)}


def names_in_value(data: bytes) -> set[bytes]:
    """Return what may be names of objects in a value, a root or a node."""
    if len(data) <= HASH_BYTES:
        return set()
    return {*_LINK.findall(data), *_NAME.findall(data)}


def state_rows(connection: Database, table: Table, where: str = "1 = 1", parameters: Sequence[Any] = ()) -> Iterator[Columns]:
    """Yield every version of a state table that `where` holds for, in order of key and seq, a page at a time."""
    order = (*table.keys, "seq")
    text = f"SELECT {', '.join(table.columns)} FROM {table.name} WHERE {where}"
    rest = f" ORDER BY {', '.join(order)} LIMIT {UPKEEP_ROWS}"
    page = connection.fetch(text + rest, parameters)
    while page:
        yield from page
        last = [page[-1][table.columns.index(name)] for name in order]
        after = f" AND ({', '.join(order)}) > ({', '.join('?' * len(order))})"
        page = connection.fetch(text + after + rest, (*parameters, *last))


def states_in(connection: Database) -> Iterator[tuple[Table, Columns]]:
    """Yield every version of every state record with its table."""
    for _, table in state_tables():
        for columns in state_rows(connection, table):
            yield table, columns


def _sweep(store: Store, marks: Marks, *, dry_run: bool) -> Collected:
    """Remove the objects that have no mark and were not given to the journal meanwhile."""
    objects = size = after = 0
    text = "SELECT id, hash, length(body) FROM object WHERE id > ? AND id <= ? ORDER BY id LIMIT ?"
    while page := store.reader.fetch(text, (after, marks.last, UPKEEP_ROWS * 4)):
        after = page[-1][0]
        unused = [found for found in page if not marks.has(found[0])]
        for start in range(0, len(unused), UPKEEP_ROWS):
            gone = unused[start : start + UPKEEP_ROWS]
            gone = _unwatched(store, gone) if dry_run else _remove(store, gone)
            objects, size = objects + len(gone), size + sum(found[2] for found in gone)
    return Collected(objects, size)


def _remove(store: Store, unused: list[Columns]) -> list[Columns]:
    with store.upkeep() as connection:
        gone = _unwatched(store, unused)
        if gone:
            marks = ", ".join("?" * len(gone))
            connection.execute(f"DELETE FROM object WHERE id IN ({marks})", [number for number, _, _ in gone])
        reached("collect.removed")
    reached("collect.swept")
    return gone


def _unwatched(store: Store, unused: list[Columns]) -> list[Columns]:
    return [found for found in unused if not store.journal.is_watched(found[1])]
