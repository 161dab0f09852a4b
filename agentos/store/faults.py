"""How a failure of the database becomes an error of agentos.

One table from SQLite's result codes (PostgreSQL's are in `postgres`) to the reason of `invalid.store`, each with a message and what
to do. Not here: when to stop.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from agentos.abi.place import Place
from agentos.errors import Invalid

__all__ = ["refusal", "translate", "unmade"]

_NO_PLACE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG})

_BY_CODE: Final = {
    sqlite3.SQLITE_FULL: "full",
    sqlite3.SQLITE_READONLY: "readonly",
    sqlite3.SQLITE_PERM: "readonly",
    sqlite3.SQLITE_CANTOPEN: "readonly",
    sqlite3.SQLITE_CORRUPT: "corrupt",
    sqlite3.SQLITE_NOTADB: "corrupt",
    sqlite3.SQLITE_ERROR: "corrupt",  # every statement is ours and tested: what it names is not there, or text is no text
    sqlite3.SQLITE_BUSY: "held",
    sqlite3.SQLITE_LOCKED: "held",
}
_WORDS: Final = {
    "full": ("no space is left for the store", "free space on its disk, then open it again: what was acknowledged is kept"),
    "readonly": ("the store cannot be written", "make the file and its folder writable, or open it for reading"),
    "corrupt": ("the store is damaged", "keep a copy of the file with its -wal, then restore it from a backup"),
    "held": ("the store is locked by another program", "close the program that holds the database file"),
    "schema": ("the store was made by another version of agentos", "open it with the version that wrote it, or a later one"),
    "io": ("the disk failed under the store", "check the disk, then open the store again: what was acknowledged is kept"),
    "missing": ("there is no store at", "give another path, or start a kernel there"),
    "closed": ("the store is closed", "open it again"),
    "connection": (
        "the database server does not answer for the store",
        "see that it runs and can be reached, then open the store again: what was acknowledged is kept",
    ),
    "lease_lost": (
        "the lease ended, another kernel may have the store",
        "open it again, with standby=True to wait for the other: what was acknowledged is kept",
    ),
}


def refusal(reason: str, path: Place | None, detail: str = "") -> Invalid:
    """Return the `invalid.store` error for `reason` about the store at `path`."""
    message, hint = _WORDS[reason]
    named = f" `{path}`" if path is not None else ""
    return Invalid("store", f"{message}{named}{f': {detail}' if detail else ''}", hint=hint, reason=reason)


def translate(error: sqlite3.Error, path: Place | None) -> Invalid:
    """Return the `invalid.store` error that tells what `error` means for the store at `path`."""
    code = getattr(error, "sqlite_errorcode", None) or sqlite3.SQLITE_ERROR
    reason = _BY_CODE.get(code & 0xFF, "io")
    if reason == "io" and _disk_is_full(path):
        reason = "full"
    return refusal(reason, path, str(error).lower())


def unmade(path: Path, error: OSError) -> Invalid:
    """Return the error of a file that could not be made at `path`: a place that is none is the caller's, all else is the disk's."""
    said = str(error.strerror).lower()
    if error.errno in _NO_PLACE:
        hint = "give a path in a folder that exists and can be written"
        return Invalid("argument", f"`{path}` cannot be made: {said}", hint=hint, field="path")
    return refusal("io", path, said)


def _disk_is_full(path: Place | None) -> bool:
    """Tell whether the disk has no room for one more page: some failed writes are reported as plain I/O errors."""
    if not isinstance(path, Path):
        return False
    try:
        room = os.statvfs(path.parent)
    except OSError:
        return False
    return room.f_bavail * room.f_frsize < 64 * 1024
