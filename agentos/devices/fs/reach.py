"""Reach: from a permit and a virtual path to a handle that may be used.

    1 look      the path without links (`links.resolve`); nothing is opened but O_PATH handles
    2 decide    `permit.recheck("resolved", path, index)`: the broker decides capability and policy again on what was found
    3 open      exactly that path, links refused by the kernel; it changed meanwhile: from 1 again, a bounded number of times

What is missing, or of the wrong type, is reported after step 2 only.
INVARIANT decided-is-opened: the path that `recheck` agreed to is the path that was opened, whatever happens to links in between.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from typing import Final, TypeVar

from agentos.abi.permit import Permit
from agentos.devices.fs.fault import RACE, not_regular, refused_link_count, restless, translate
from agentos.devices.fs.links import Found, resolve
from agentos.devices.fs.mounts import Mounts
from agentos.errors import Unavailable

__all__ = ["FILE_FLAGS", "RACES_MAX", "Handle", "Slot", "check_regular", "open_file", "open_slot", "reach"]

RACES_MAX: Final = 16
FILE_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY

T = TypeVar("T")


class Handle:
    """An open descriptor and the path that was decided for it. A context manager that closes it."""

    __slots__ = ("fd", "path", "stat")

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path
        self.stat = os.fstat(fd)

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)


class Slot:
    """A name in an open folder: where something is made, replaced or removed. A context manager that closes the folder."""

    __slots__ = ("folder", "name", "path")

    def __init__(self, folder: int, path: str) -> None:
        self.folder = folder
        self.path = path
        self.name = path.rpartition("/")[2]

    def __enter__(self) -> Slot:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.folder)

    @property
    def identity(self) -> tuple[int, int, str]:
        """What is equal for every path that leads to this name."""
        status = os.fstat(self.folder)
        return status.st_dev, status.st_ino, self.name

    def look(self) -> os.stat_result | None:
        """Describe what has the name now, a link itself; None when nothing has."""
        try:
            return os.stat(self.name, dir_fd=self.folder, follow_symlinks=False)
        except FileNotFoundError:
            return None


def reach(mounts: Mounts, permit: Permit, path: str, use: Callable[[Found], T], *, index: int = 0, follow: bool = True) -> T:
    """Resolve, decide and use one path. Runs on the event loop; looks only at metadata before `use`.

    Args:
        mounts: The mounts.
        permit: The spent permit of the call.
        path: Canonical virtual path, the call's resource number `index`.
        use: Opens what was found, links refused. OSError of a race means: try again.
        index: Number of the resource that `path` is.
        follow: Follow a link in the final component.

    Raises:
        Denied: by the decision, or since the path changed each time.
        Unavailable: missing, or the device failed.
        Invalid: too many links, or not usable as what `use` wants.
    """
    for _ in range(RACES_MAX):
        try:
            found = resolve(mounts, path, follow=follow)
        except OSError as error:
            if error.errno in RACE:
                continue
            raise translate(error, path) from error
        permit.recheck("resolved", found.path, index)
        try:
            return use(found)
        except OSError as error:
            if error.errno not in RACE:
                raise translate(error, path) from error
    raise restless(path)


def open_file(mounts: Mounts, found: Found) -> Handle:
    """Open a found regular file for reading.

    The type is checked before the open too, so that no FIFO or device is ever opened by mistake.

    Raises:
        OSError: missing, not readable, or a race.
        Invalid: not a regular file.
        Denied: it has a second name.
    """
    if found.stat is not None:
        check_regular(found.stat, found.path)
    handle = Handle(mounts.open(found.path, FILE_FLAGS), found.path)
    try:
        check_regular(handle.stat, found.path)
    except BaseException:
        os.close(handle.fd)
        raise
    return handle


def open_slot(mounts: Mounts, found: Found) -> Slot:
    """Open the folder that a found path lies in.

    Raises:
        OSError: a race, or the folder cannot be opened.
        Unavailable: the folder is missing.
    """
    folder = found.path.rpartition("/")[0] or "/"
    try:
        return Slot(mounts.open(folder, _FOLDER_FLAGS), found.path)
    except (FileNotFoundError, NotADirectoryError) as error:
        message = f"the folder of `{found.path}` does not exist"
        raise Unavailable("missing", message, hint="make it with `fs.mkdir`", path=found.path) from error


def check_regular(status: os.stat_result, path: str) -> None:
    """Refuse what is not a regular file with one name.

    Raises:
        Invalid: a folder, FIFO, socket or device.
        Denied: a hard link.
    """
    if not stat.S_ISREG(status.st_mode):
        raise not_regular(path, status.st_mode)
    if status.st_nlink > 1:
        raise refused_link_count(path)
