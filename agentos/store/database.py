"""What the store needs of a database: the seam between the one journal and its two ends, `sqlite` and `postgres`.

Protocol: statements are written once, with ``?`` for parameters, in SQL that both understand. What each does in its own way (many
rows in one statement, moving the head, telling what an error means) is a method here.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from agentos.abi.place import Place
from agentos.errors import AgentOSError, KernelPanic
from agentos.store.tables import Table

__all__ = ["Cursor", "Database", "Lease"]


class Cursor(Protocol):
    """What came of one statement."""

    @property
    def rowcount(self) -> int:
        """Rows that were inserted, changed or removed."""
        ...


class Database(Protocol):
    """One connection with its lock. Serves any thread, one at a time.

    Attributes:
        path: Where the store is, None in memory.
        dialect: ``sqlite`` or ``postgresql``.
        failures: What the driver raises.
        keeps_nul: Texts may hold the character NUL.
        statements: Statements executed so far.
    """

    path: Place | None
    dialect: str
    failures: type[Exception]
    keeps_nul: bool
    statements: int

    def execute(self, text: str, parameters: Sequence[Any] = (), /) -> Cursor:
        """Execute one statement; raises what the driver raises."""
        ...

    def fetch(self, text: str, parameters: Sequence[Any] = (), /) -> list[tuple[Any, ...]]:
        """Return all rows of a bounded query.

        Raises:
            Invalid: `invalid.store`, the store failed or is closed.
        """
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Hold the write lock from the first statement and commit at the end, or leave no trace."""
        ...

    def batch(self) -> AbstractContextManager[None]:
        """As `transaction`, for statements that nobody reads the outcome of before the end; it fails there."""
        ...

    def insert(self, table: Table, rows: Sequence[Sequence[Any]], *, ignore_known: bool = False) -> None:
        """Insert all rows; `ignore_known` keeps what is there under the same key. Inside `batch`."""
        ...

    def replace(self, table: Table, replaced: Sequence[Sequence[Any]]) -> None:
        """Close or remove current versions, each given by its keys, its seq and the seq that replaces it. Inside `batch`.

        Raises:
            KernelPanic: one of them was not current; at the latest when the batch ends.
        """
        ...

    def move_head(self, head: tuple[int, bytes], previous: bytes, epoch: int) -> None:
        """Move the stored head to `head`, where it is still what this writer left. The last statement of a batch.

        Raises:
            KernelPanic, Invalid: it is not, or the lease has ended; at the latest when the batch ends.
        """
        ...

    def verdict(self, error: Exception) -> AgentOSError | KernelPanic:
        """Tell a broken invariant (a panic) from a failing disk or server."""
        ...

    def snapshot(self) -> Database:
        """Return another connection, read-only, that sees one state of the store until it is closed, which the caller does.

        Raises:
            Exception: what the driver raises, or `invalid.store`, connection.
        """
        ...

    def table_names(self) -> set[str]:
        """Return the names of the tables that are there."""
        ...

    def size(self) -> int:
        """Return how many bytes the database takes."""
        ...

    def damage(self) -> str:
        """Return what is wrong with the pages below the tables, as far as this database can tell, or an empty text."""
        ...

    def close(self) -> None:
        """Close the connection. Idempotent."""
        ...


class Lease(Protocol):
    """The right to write one store."""

    def check(self) -> None:
        """Refuse when the lease may have ended. Costs next to nothing: it is asked before every effect.

        Raises:
            Invalid: `invalid.store`, lease_lost.
        """
        ...

    async def keep(self) -> None:
        """Renew the lease until cancelled, where it needs that.

        Raises:
            Invalid: `invalid.store`, lease_lost or connection.
        """
        ...

    def release(self) -> None:
        """Give the lease back. Idempotent."""
        ...
