"""SQL texts of the hot path on SQLite: one statement for any number of rows.

Protocol: multi-row VALUES in a few fixed sizes. A batch of n rows takes the next size up and fills the rest with NULL rows, which
the statement drops, so that a handful of prepared statements serves every batch. Measured beside `executemany` (loses the GIL per
row: 0.5k rows/s next to a busy thread), `json_each` (two to three times the CPU) and a statement per exact size (prepares anew).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Final

from agentos.errors import KernelPanic
from agentos.store.tables import Table

__all__ = ["ROWS_PER_STATEMENT_MAX", "close_versions", "drop_versions", "expect_all", "fill", "insert_rows", "size_for"]

_SIZES: Final[tuple[int, ...]] = (
    *range(1, 9), *range(10, 33, 2), *range(36, 65, 4), *range(72, 129, 8), *range(144, 257, 16), *range(288, 513, 32),
)  # fmt: skip
ROWS_PER_STATEMENT_MAX: Final = _SIZES[-1]


@functools.cache
def size_for(rows: int) -> int:
    """Return the number of rows of the statement that takes `rows` rows (1..ROWS_PER_STATEMENT_MAX)."""
    return next(size for size in _SIZES if size >= rows)


@functools.cache
def insert_rows(table: Table, rows: int, *, ignore_known: bool = False) -> str:
    """Return the insertion of up to `rows` rows; `ignore_known` keeps what is there under the same key."""
    names = ", ".join(table.columns)
    values = ", ".join([f"({', '.join('?' * len(table.columns))})"] * rows)
    known = f" ON CONFLICT ({', '.join(table.keys)}) DO NOTHING" if ignore_known else ""
    return f"INSERT INTO {table.name} ({names}) SELECT * FROM (VALUES {values}) WHERE column1 IS NOT NULL{known}"


@functools.cache
def close_versions(table: Table, rows: int) -> str:
    """Return the statement that closes up to `rows` current versions; parameters per row: keys, replaced seq, new seq."""
    width = len(table.keys) + 2
    values = ", ".join([f"({', '.join('?' * width)})"] * rows)
    same_key = " AND ".join(f"{table.name}.{key} = v.column{at}" for at, key in enumerate(table.keys, 1))
    return (
        f"UPDATE {table.name} SET until = v.column{width} FROM (VALUES {values}) AS v "
        f"WHERE {same_key} AND {table.name}.seq = v.column{width - 1} AND {table.name}.until IS NULL"
    )


@functools.cache
def drop_versions(table: Table, rows: int) -> str:
    """Return the statement that removes up to `rows` current versions; parameters as for `close_versions`."""
    width = len(table.keys) + 2
    values = ", ".join([f"({', '.join('?' * width)})"] * rows)
    same_key = " AND ".join(f"old.{key} = v.column{at}" for at, key in enumerate(table.keys, 1))
    return (
        f"DELETE FROM {table.name} WHERE rowid IN (SELECT old.rowid FROM (VALUES {values}) AS v CROSS JOIN {table.name} AS old "
        f"WHERE {same_key} AND old.seq = v.column{width - 1} AND old.until IS NULL)"
    )


def fill(rows: Sequence[Sequence[Any]], width: int) -> list[Any]:
    """Return the parameters of `rows`, filled up with NULL rows to the statement's size."""
    flat: list[Any] = []
    for row in rows:
        flat.extend(row)
    flat.extend((None,) * ((size_for(len(rows)) - len(rows)) * width))
    return flat


def expect_all(table: Table, asked: int, done: int) -> None:
    """Insist that every version that was to be replaced was current.

    Raises:
        KernelPanic: one was not.
    """
    if done != asked:
        raise KernelPanic(f"{table.name}: {asked - done} of {asked} replaced versions were not current")
