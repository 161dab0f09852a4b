"""The lease: one writer per store. The head row counts writers (epoch), and every batch asserts its epoch.

A file: an exclusive lock on `<store>-lease`, which the operating system releases when the process dies, however it dies; the file
holds the holder's pid for the message. A database on a server: `term`.
INVARIANT one-writer: while a lease is held no other process, and no other store of this process, gets one.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from agentos.errors import Invalid
from agentos.store.faults import refusal

__all__ = ["FileLease"]


class FileLease:
    """The held lock of one store file."""

    def __init__(self, path: Path) -> None:
        """Take the lease of the store at `path`.

        Raises:
            Invalid: `invalid.store`, `held` with the holder's pid, or `readonly`.
        """
        try:
            self._fd = os.open(_file(path), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise refusal("readonly", path, str(error.strerror).lower()) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise _held(path) from error
        self._write(str(os.getpid()).encode(), path)

    def _write(self, text: bytes, path: Path) -> None:
        """Put the pid into the file; a full disk must not leave the lock behind."""
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, text, 0)
        except OSError as error:
            self.release()
            raise refusal("full", path, str(error.strerror).lower()) from error

    def check(self) -> None:
        """The lock ends with the process, never before."""

    async def keep(self) -> None:
        """Nothing has to be renewed."""

    def release(self) -> None:
        """Give the lease back. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _file(path: Path) -> Path:
    return path.with_name(path.name + "-lease")


def _held(path: Path) -> Invalid:
    try:
        text = _file(path).read_bytes()[:32]
    except OSError:
        text = b""
    pid = int(text) if text.isdigit() else 0
    return Invalid(
        "store",
        f"the store `{path}` is held by process {pid}",
        hint="stop that kernel, connect to it, or open the store for reading",
        reason="held",
        pid=pid,
    )
