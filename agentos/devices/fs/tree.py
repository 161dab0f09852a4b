"""Surveys: what a path holds, so that each entry can be decided and kept before a tree is moved or removed."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from agentos.abi.limits import LIST_ENTRIES_MAX
from agentos.devices.fs.openat import open_beneath
from agentos.errors import Unavailable

__all__ = ["Entry", "remove", "survey"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a tree. `inner` is its path beneath the surveyed name, "" for that itself; `target` is a link's."""

    inner: str
    stat: os.stat_result
    target: str = ""

    @property
    def is_folder(self) -> bool:
        """True for a folder."""
        return stat.S_ISDIR(self.stat.st_mode)

    @property
    def identity(self) -> tuple[object, ...]:
        """What must be equal for the entry to count as unchanged; a folder is compared by what it holds."""
        status = self.stat
        content = () if self.is_folder else (status.st_size, status.st_mtime_ns)
        return (self.inner, self.target, status.st_dev, status.st_ino, status.st_mode, *content)


def survey(folder: int, name: str) -> list[Entry]:
    """Return what `name` in `folder` is and holds, folders before their content, names sorted. Runs in any thread.

    Links are described, never followed.

    Raises:
        OSError: ENOENT when nothing has the name, EAGAIN when the tree changed meanwhile, or something cannot be read.
        Unavailable: more than LIST_ENTRIES_MAX entries.
    """
    entries: list[Entry] = []
    todo = [""]
    while todo:
        inner = todo.pop()
        try:
            entry = _entry(folder, name, inner)
        except FileNotFoundError as error:
            raise OSError(errno.EAGAIN if inner else errno.ENOENT, "changed during the survey", inner) from error
        entries.append(entry)
        if len(entries) + len(todo) > LIST_ENTRIES_MAX:
            raise Unavailable("overloaded", f"there are over {LIST_ENTRIES_MAX} entries", hint="take its folders one by one")
        if entry.is_folder:
            fd = open_beneath(folder, _join(name, inner), _FOLDER)
            try:
                todo.extend(_join(inner, child) for child in sorted(os.listdir(fd), reverse=True))
            finally:
                os.close(fd)
    return entries


def remove(folder: int, name: str) -> None:
    """Remove `name` in `folder` with everything in it; links are removed themselves. Runs in any thread.

    Raises:
        OSError: something cannot be removed; what was removed stays so.
    """
    for entry in reversed(survey(folder, name)):
        parent, _, last = _join(name, entry.inner).rpartition("/")
        fd = open_beneath(folder, parent or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            if entry.is_folder:
                os.rmdir(last, dir_fd=fd)
            else:
                os.unlink(last, dir_fd=fd)
        finally:
            os.close(fd)


def _entry(folder: int, name: str, inner: str) -> Entry:
    fd = open_beneath(folder, _join(name, inner), os.O_PATH | os.O_NOFOLLOW)
    try:
        status = os.fstat(fd)
        return Entry(inner, status, os.readlink("", dir_fd=fd) if stat.S_ISLNK(status.st_mode) else "")
    finally:
        os.close(fd)


def _join(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent and name else parent or name
