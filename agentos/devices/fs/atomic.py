"""Atomic replacement of one file: temporary file, fsync, rename, fsync of the folder.

    1 temp      `.agentos-tmp.KEY` in the target's folder, made new (an older one is this call's own leftover and goes first)
    2 fill      all bytes, permission bits of the file that is replaced, fsync
    3 compare   the target is still what the before-image was taken of, else nothing is done
    4 rename    old or new, nothing between; `create` renames without replacing
    5 fsync     of the folder: from here on it survives a power cut

INVARIANT old-or-new: whoever opens the target, at any crash point, finds the whole old or the whole new content.
A kill between 1 and 4 leaves the temporary file; its name follows from the call's key, so the same call removes it when it is
reconciled or run again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from itertools import count

from agentos.abi.limits import BEFORE_IMAGE_BYTES_MAX
from agentos.abi.permit import Permit
from agentos.abi.probe import reached
from agentos.devices.fs.fault import exists, translate
from agentos.devices.fs.mounts import RESERVED_PREFIX
from agentos.devices.fs.openat import open_beneath, rename
from agentos.devices.fs.reach import FILE_FLAGS, Slot, check_regular
from agentos.devices.fs.read import read_bytes
from agentos.errors import Invalid

__all__ = ["MARK", "Before", "Filling", "Moved", "before_image", "content_digest", "drop", "replace", "same", "spare_name"]

MARK = "user.agentos.append"
"""Extended attribute with the hash of the key of the append that made the file: it tells a repeated append from a first one."""

_serial = count(1)


class Moved(Exception):
    """The target is not what it was when its before-image was taken: take it again."""


@dataclass(frozen=True, slots=True)
class Before:
    """A file as it was: its content and how to see that it still is that file."""

    data: bytes
    stat: os.stat_result


@dataclass(frozen=True, slots=True)
class Filling:
    """What a file is to become: its whole content, and what must hold at the instant it does.

    Attributes:
        data: The content.
        before: What was there when the before-image was taken, None for nothing.
        new: Refuse when something is there.
        mark: Hash of the call's key to remember on the file, see MARK.
        if_digest: sha256 that the content there must have when it is replaced, None for any.
        permissions: Permission bits of a new file, None for the usual ones.
    """

    data: bytes
    before: os.stat_result | None = None
    new: bool = False
    mark: str = ""
    if_digest: str | None = None
    permissions: int | None = None


def content_digest(data: bytes) -> str:
    """Return the sha256 of a content in hex."""
    return hashlib.sha256(data).hexdigest()


def spare_name(permit: Permit, slot: Slot, kind: str = "tmp") -> str:
    """Return the reserved name that this call uses beside `slot`: the same on every attempt of the call."""
    key = permit.key or f"{os.getpid()}.{next(_serial)}"
    return f"{RESERVED_PREFIX}{kind}.{hashlib.sha256(f'{key}/{slot.name}'.encode()).hexdigest()[:24]}"


def before_image(slot: Slot, bytes_max: int) -> Before | None:
    """Read the file in `slot`; None when there is none. Runs in any thread.

    Raises:
        Invalid: not a regular file, or longer than `bytes_max`.
        Denied: a hard link.
        OSError: not readable; ELOOP when it has become a link.
    """
    status = slot.look()
    if status is None:
        return None
    if not stat.S_ISLNK(status.st_mode):
        check_regular(status, slot.path)
    try:
        fd = open_beneath(slot.folder, slot.name, FILE_FLAGS)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(fd)
        check_regular(status, slot.path)
        data = read_bytes(fd, bytes_max)
    finally:
        os.close(fd)
    if len(data) > bytes_max:
        message = f"`{slot.path}` is over {bytes_max} bytes, more than is kept for undo"
        raise Invalid("argument", message, field="path", hint="change such a file with `exec.run`")
    return Before(data, status)


def same(a: os.stat_result | None, b: os.stat_result | None) -> bool:
    """Say whether two looks saw the same, unchanged thing."""
    if a is None or b is None:
        return a is b
    return _identity(a) == _identity(b)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_dev, status.st_ino, status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def replace(slot: Slot, temp: str, filling: Filling) -> None:
    """Make `filling` the content of `slot`. Blocks for two fsyncs; runs in a worker thread and is never abandoned.

    Args:
        slot: Folder and name.
        temp: Reserved name for the temporary file.
        filling: The whole new content, and on what condition.

    Raises:
        Moved: the target changed since its before-image; nothing was done.
        Invalid: something is there that must not be.
        Unavailable: the device failed. Nothing was done, or `may_have_happened` after the rename.
    """
    try:
        _fill(slot.folder, temp, filling)
        reached("fs.write.filled")
        new = filling.new or filling.if_digest == ""
        if filling.if_digest:
            there = before_image(slot, BEFORE_IMAGE_BYTES_MAX)
            if there is None or content_digest(there.data) != filling.if_digest:
                raise Moved
        if not new and not same(filling.before, slot.look()):
            raise Moved
        rename((slot.folder, temp), (slot.folder, slot.name), replace=not new)
    except BaseException as error:
        with suppress(OSError):
            os.unlink(temp, dir_fd=slot.folder)
        if isinstance(error, FileExistsError):
            raise exists(slot.path, "path") from error  # noqa: ASYNC104 - an OSError, not a cancellation
        if isinstance(error, OSError):
            raise translate(error, slot.path) from error  # noqa: ASYNC104 - an OSError, not a cancellation
        raise
    reached("fs.write.renamed")
    try:
        os.fsync(slot.folder)
    except OSError as error:
        raise translate(error, slot.path, may_have_happened=True) from error


def _fill(folder: int, temp: str, filling: Filling) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    try:
        fd = open_beneath(folder, temp, flags, 0o666)
    except FileExistsError:
        os.unlink(temp, dir_fd=folder)
        fd = open_beneath(folder, temp, flags, 0o666)
    try:
        reached("fs.write.made")
        view = memoryview(filling.data)
        while view:
            view = view[os.write(fd, view) :]
        if filling.before is not None:
            _copy_owner(fd, filling.before)
        elif filling.permissions is not None:
            os.fchmod(fd, filling.permissions)
        if filling.mark:
            with suppress(OSError):  # a file system without attributes: reconcile then says UNKNOWN where it cannot tell
                os.setxattr(fd, MARK, filling.mark.encode())
        os.fsync(fd)
    finally:
        os.close(fd)


def _copy_owner(fd: int, before: os.stat_result) -> None:
    if (before.st_uid, before.st_gid) != (os.geteuid(), os.getegid()):
        with suppress(PermissionError):  # only root may give files away; the content is what the call is about
            os.fchown(fd, before.st_uid, before.st_gid)
    os.fchmod(fd, before.st_mode & 0o777)


def drop(folder: int, name: str) -> None:
    """Remove a leftover file; that it is not there is fine.

    Raises:
        OSError: as unlink(2).
    """
    try:
        os.unlink(name, dir_fd=folder)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
