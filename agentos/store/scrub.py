"""What SQLite has to be told so that what was erased is gone from the bytes of the file as well.

Protocol: `overwrite` once per connection, before the first removal: freed cells and pages are zeroed from then on. What was copied about
inside pages before that is only gone once the file is written anew (`rewrite`), and the old bytes of pages once the write-ahead log
is empty (`empty_log`). On PostgreSQL the server does this with its own vacuum; here is nothing to do.
Not here: what is erased (`erase`).
"""

from __future__ import annotations

import time
from typing import Final

from agentos.errors import Unavailable
from agentos.store.database import Database

__all__ = ["empty_log", "free_share", "overwrite", "rewrite"]

_LOG_S: Final = 10.0  # how long readers of an older state are waited for


def overwrite(connection: Database) -> None:
    """Have the connection zero what it removes."""
    if connection.dialect == "sqlite":
        connection.fetch("PRAGMA secure_delete = ON")


def rewrite(connection: Database) -> None:
    """Write the whole file anew, which also gives free pages back to the disk. Writers wait: about a second per 100 MB."""
    if connection.dialect == "sqlite":
        connection.fetch("VACUUM")
        empty_log(connection)


def free_share(connection: Database) -> float:
    """Return which part of the file is free pages, 0 to 1: what `rewrite` would give back."""
    if connection.dialect != "sqlite":
        return 0.0
    free, pages = (int(connection.fetch(f"PRAGMA {name}_count")[0][0]) for name in ("freelist", "page"))
    return free / max(pages, 1)


def empty_log(connection: Database) -> None:
    """Copy the write-ahead log into the file and cut it to nothing.

    Raises:
        Unavailable: `unavailable.overloaded`: readers held on to an older state. All is erased, but the log still has it.
    """
    end = time.monotonic() + _LOG_S
    while connection.fetch("PRAGMA wal_checkpoint(TRUNCATE)")[0][0]:
        if time.monotonic() > end:
            raise Unavailable(
                "overloaded",
                "the store's log cannot be emptied: somebody reads an older state",
                hint="close the readers and say `tidy` again",
            )
        time.sleep(0.02)
