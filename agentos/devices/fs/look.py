"""What lies at a path now: the host's own look at its files, for `undo` and `merge`.

No process asks for it and nothing of it is given to one, so there is no permit. No link is followed: what the journal names are the
places that devices really opened.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from agentos.abi.limits import KIB, LIST_ENTRIES_MAX
from agentos.devices.fs.change import described
from agentos.devices.fs.fault import shown, translate
from agentos.devices.fs.links import Found
from agentos.devices.fs.mounts import Mounts
from agentos.devices.fs.openat import open_beneath
from agentos.devices.fs.reach import FILE_FLAGS, open_slot
from agentos.devices.fs.tree import survey
from agentos.errors import AgentOSError, Unavailable

__all__ = ["SHOWN_BYTES_MAX", "Looking", "Seen"]

SHOWN_BYTES_MAX: Final = 256 * KIB
"""Content up to this size is kept for a difference that people read."""
_CHUNK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Seen:
    """What is at a path.

    Attributes:
        kind: absent, file, folder, link, or other (a FIFO, a file with two names, or what lies behind a link).
        digest: sha256 of a file's content.
        size: Its bytes.
        data: Its content, when it has SHOWN_BYTES_MAX at most.
        names: What a folder holds.
    """

    kind: str
    digest: str = ""
    size: int = 0
    data: bytes | None = None
    names: tuple[str, ...] = ()


class Looking:
    """Looks at one path at a time; blocks for as long as reading it takes, so it belongs into a thread."""

    def __init__(self, mounts: Mounts) -> None:
        self._mounts = mounts

    def look(self, path: str) -> Seen:
        """Return what is at the canonical virtual `path`.

        Raises:
            Unavailable: the device failed, or a folder has more than LIST_ENTRIES_MAX entries.
            Denied: a name that agentos keeps for itself.
        """
        mount = self._mounts.find(path)
        try:
            fd = open_beneath(mount.fd, mount.inner(path), os.O_PATH | os.O_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return Seen("absent")
            if error.errno == errno.ELOOP:
                return Seen("other")
            raise translate(error, path) from error
        try:
            status = os.fstat(fd)
        finally:
            os.close(fd)
        if stat.S_ISREG(status.st_mode):
            return self._guard(path, self._file) if status.st_nlink == 1 else Seen("other", size=status.st_size)
        if stat.S_ISDIR(status.st_mode):
            return self._guard(path, self._folder)
        return Seen("link" if stat.S_ISLNK(status.st_mode) else "other")

    def entries(self, path: str) -> list[list[Any]]:
        """Return what `path` is and holds, as a move keeps it (`change.described`); nothing when it cannot be seen."""
        try:
            with open_slot(self._mounts, Found(path, None)) as slot:
                return described(survey(slot.folder, slot.name))
        except (OSError, AgentOSError):
            return []

    def _guard(self, path: str, look: Callable[[str], Seen]) -> Seen:
        try:
            return look(path)
        except OSError as error:
            raise translate(error, path) from error

    def _file(self, path: str) -> Seen:
        fd = self._mounts.open(path, FILE_FLAGS)
        try:
            total, whole, kept = 0, hashlib.sha256(), bytearray()
            while chunk := os.read(fd, _CHUNK_BYTES):
                total += len(chunk)
                whole.update(chunk)
                if total <= SHOWN_BYTES_MAX:
                    kept += chunk
        finally:
            os.close(fd)
        return Seen("file", whole.hexdigest(), total, bytes(kept) if total <= SHOWN_BYTES_MAX else None)

    def _folder(self, path: str) -> Seen:
        fd = self._mounts.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            names = os.listdir(fd)
        finally:
            os.close(fd)
        if len(names) > LIST_ENTRIES_MAX:
            raise Unavailable("overloaded", f"`{path}` has over {LIST_ENTRIES_MAX} entries", hint="undo a smaller part")
        return Seen("folder", names=tuple(sorted(shown(name) for name in names)))
