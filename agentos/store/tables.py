"""What the tables look like, derived from the records: names, columns, kinds, keys. Plain data.

Protocol: one `Table` per `StateRecord` subclass plus the journal. A state table has the record's fields and `until`; the journal has
the fields of `Row` and what the chain adds. Most state tables keep every version; those of UNVERSIONED keep the current one.
`fingerprint` names the exact columns, so that a file made for other records is refused.
Not here: SQL of any kind (`sql`, `schema`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import msgspec

from agentos.abi import records
from agentos.abi.records import Row, StateRecord

__all__ = ["CHAIN_COLUMNS", "JOURNAL", "OBJECT", "UNVERSIONED", "Table", "fingerprint", "state_tables", "table_of"]

CHAIN_COLUMNS: Final = (("epoch", int), ("salt", bytes), ("content_hash", bytes), ("hash", bytes))
"""What the chain adds to a journal row. `salt` and the content become NULL, and `content_hash` not NULL, once content is erased."""
UNVERSIONED: Final = frozenset({"quota", "file_label"})
"""Tables of what is only ever asked as it is now, under keys that come and go: a replaced or ended version leaves the file at once."""
_ADDED_BY_STORE: Final = frozenset({"until", "epoch"})


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        name: Table name.
        columns: Column names in order; a state table's last one is `until`.
        kinds: Python type per column: int, float, str or bytes.
        keys: Key columns (state tables).
        blobs: Positions of the bytes columns, which may hold a reference to an object instead.
        key_of: Gives the key tuple of a tuple of columns.
        numbers_of: Gives the int and float columns of a record's columns.
        versioned: True when replaced and ended versions are kept.
    """

    name: str
    columns: tuple[str, ...]
    kinds: tuple[type, ...]
    keys: tuple[str, ...]
    blobs: tuple[int, ...]
    key_of: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    numbers_of: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    versioned: bool

    @property
    def seq_at(self) -> int:
        """Position of the column `seq`."""
        return self.columns.index("seq")

    @property
    def live_at(self) -> int:
        """Position of the column `live` of a state table."""
        return self.columns.index("live")


def _table(name: str, fields: Iterable[tuple[str, type]], keys: tuple[str, ...]) -> Table:
    """Build the description of one table."""
    columns, kinds = zip(*fields, strict=True)
    at = [columns.index(key) for key in keys]
    key_of: Callable[[tuple[Any, ...]], tuple[Any, ...]]
    if len(at) == 1:
        only = at[0]
        key_of = lambda values: (values[only],)  # noqa: E731 - one of two shapes of the same function
    else:
        key_of = itemgetter(*at) if at else lambda _values: ()
    blobs = tuple(i for i, kind in enumerate(kinds) if kind is bytes)
    numbers = [i for i, kind in enumerate(kinds) if kind in (int, float) and columns[i] not in _ADDED_BY_STORE]
    return Table(name, columns, kinds, keys, blobs, key_of, itemgetter(*numbers), name not in UNVERSIONED)


def _fields(record: type[msgspec.Struct]) -> list[tuple[str, type]]:
    """Return name and type of each field; every field of a record is a plain column type."""
    found = [(field.name, field.type) for field in msgspec.structs.fields(record)]
    assert all(kind in {int, float, str, bytes} for _, kind in found), f"{record.__name__} has a field that is no column"
    return found


def _with_chain() -> list[tuple[str, type]]:
    return [*_fields(Row), *CHAIN_COLUMNS]


JOURNAL: Final = _table("journal", _with_chain(), ())
OBJECT: Final = _table("object", [("hash", bytes), ("codec", str), ("size", int), ("body", bytes)], ("hash",))


@functools.cache
def table_of(record: type[StateRecord]) -> Table:
    """Return the table of a record type."""
    assert record.table, f"{record.__name__} names no table"
    assert record.keys, f"{record.__name__} names no keys"
    return _table(record.table, [*_fields(record), ("until", int)], record.keys)


def state_tables() -> list[tuple[type[StateRecord], Table]]:
    """Return every record type of the vocabulary with its table, by table name."""
    kinds = [kind for kind in vars(records).values() if isinstance(kind, type) and issubclass(kind, StateRecord) and kind.table]
    return sorted(((kind, table_of(kind)) for kind in kinds), key=lambda pair: pair[1].name)


@functools.cache
def fingerprint() -> str:
    """Return a hash of every table's columns and keys as this code expects them."""
    tables = [JOURNAL, OBJECT, *(table for _, table in state_tables())]
    text = "\n".join(
        f"{t.name}({t.keys}): {[(c, k.__name__) for c, k in zip(t.columns, t.kinds, strict=True)]}" for t in tables
    )
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
