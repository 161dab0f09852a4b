"""fs.read and fs.stat."""

from __future__ import annotations

import os
import stat
from typing import Any, Final

from agentos.abi.permit import Permit
from agentos.devices.fs.fault import translate
from agentos.devices.fs.links import Found
from agentos.devices.fs.mounts import MOUNT_FOLDER, Mounts
from agentos.devices.fs.reach import open_file, reach
from agentos.devices.fs.worker import Worker
from agentos.errors import Invalid

__all__ = ["Reading", "check_encoding", "content_of", "entry_type", "read_bytes"]

_ENCODINGS: Final = frozenset(
    {"utf-8", "utf-8-sig", "ascii", "latin-1", "iso-8859-1", "iso-8859-15", "cp1252", "utf-16", "utf-32"}
)
_CHUNK_BYTES: Final = 1 << 20


class Reading:
    """Serves the ops that look at one path."""

    def __init__(self, mounts: Mounts, worker: Worker) -> None:
        self._mounts = mounts
        self._worker = worker

    async def read(self, permit: Permit, args: dict[str, Any]) -> str | bytes:
        """Read a whole regular file.

        Args:
            permit: Proof of admission; spent here.
            args: `path`, `bytes_max` in bytes, `encoding` (None for bytes).

        Raises:
            Unavailable: missing or unreadable.
            Invalid: not a regular file, longer than `bytes_max`, or not text in `encoding`.
            Denied: the resolved path is not allowed, leads out of the mount, or is a hard link.

        Cancellation: safe at any await.
        """
        permit.spend("fs.read")
        path, bytes_max = args["path"], args["bytes_max"]
        check_encoding(args["encoding"])
        with reach(self._mounts, permit, path, lambda found: open_file(self._mounts, found)) as handle:
            if handle.stat.st_size > bytes_max:
                raise _too_long(path, handle.stat.st_size, bytes_max)
            try:
                data = await self._worker.read(handle.stat.st_size, read_bytes, handle.fd, bytes_max)
            except OSError as error:
                raise translate(error, path) from error
        return content_of(data, args)

    async def stat(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """Describe what a path leads to; a missing one is described as such.

        Args:
            permit: Proof of admission; spent here.
            args: `path`.

        Raises:
            Denied: the resolved path is not allowed or leads out of the mount.
        """
        permit.spend("fs.stat")
        return reach(self._mounts, permit, args["path"], self._describe)

    def _describe(self, found: Found) -> dict[str, Any]:
        status = found.stat
        if status is None and found.path == MOUNT_FOLDER and self._mounts.names:
            return {"path": found.path, "type": "dir", "size": 0, "mtime": 0.0, "mode": "0555"}
        if status is None:
            return {"path": found.path, "type": "missing"}
        mode = f"{stat.S_IMODE(status.st_mode):04o}"
        return {
            "path": found.path, "type": entry_type(status), "size": status.st_size, "mtime": status.st_mtime, "mode": mode,
        }  # fmt: skip


def check_encoding(encoding: str | None) -> None:
    """Refuse a name of an encoding that is none of the known ones.

    Raises:
        Invalid: it is not.
    """
    if encoding is not None and encoding.lower() not in _ENCODINGS:
        hint = f"use one of {', '.join(sorted(_ENCODINGS))}, or encoding=None for bytes"
        raise Invalid("argument", f"`{encoding}` is not a known encoding", field="encoding", hint=hint)


def content_of(data: bytes, args: dict[str, Any]) -> str | bytes:
    """Return a file's content as fs.read gives it.

    Raises:
        Invalid: longer than `bytes_max`, or not text in `encoding`.
    """
    if len(data) > args["bytes_max"]:
        raise _too_long(args["path"], len(data), args["bytes_max"])
    return data if args["encoding"] is None else _text(data, args["path"], args["encoding"])


def entry_type(status: os.stat_result) -> str:
    """Return file, dir, link or other."""
    if stat.S_ISREG(status.st_mode):
        return "file"
    if stat.S_ISDIR(status.st_mode):
        return "dir"
    return "link" if stat.S_ISLNK(status.st_mode) else "other"


def read_bytes(fd: int, bytes_max: int) -> bytes:
    """Read from `fd` to its end, but one byte more than `bytes_max` at most. Runs in any thread.

    Raises:
        OSError: the device failed.
    """
    chunks: list[bytes] = []
    left = bytes_max + 1
    while left > 0 and (chunk := os.read(fd, min(left, _CHUNK_BYTES))):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def _too_long(path: str, size: int, bytes_max: int) -> Invalid:
    hint = "raise bytes_max, or read a smaller file"
    return Invalid("argument", f"`{path}` has {size} bytes or more, over {bytes_max}", field="bytes_max", size=size, hint=hint)


def _text(data: bytes, path: str, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        message = f"`{path}` is not {encoding} text (byte {error.start})"
        raise Invalid("argument", message, field="encoding", hint="read it with encoding=None") from error
