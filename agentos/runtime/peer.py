"""Who may be at the other end of the control socket: this user, or root. Both ends check.

Not here: what they say to each other (`wire`), and any right: whoever may open the store file is the host.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from pathlib import Path
from typing import Final

from agentos.errors import Invalid

__all__ = ["check_folder", "is_ours", "make_folder"]

_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid


def make_folder(folder: Path) -> None:
    """Make the folder of control sockets, 0700, and check it.

    Raises:
        Invalid: `invalid.state`, as `check_folder`, or it cannot be made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)
    except OSError as error:
        reason = (error.strerror or "it cannot be made").lower()
        raise Invalid("state", f"`{folder}`: {reason}", hint="set AGENTOS_STATE to a folder of yours") from error
    check_folder(folder)


def check_folder(folder: Path) -> None:
    """Check that nobody else can put a socket into the folder.

    Raises:
        FileNotFoundError: there is none.
        Invalid: `invalid.state`, it is a link, another user's, or open to others.
    """
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise _refused(folder, "is not a folder", "remove it")
    if found.st_uid != os.getuid():
        raise _refused(folder, f"belongs to user {found.st_uid}", "set AGENTOS_STATE to a folder of yours")
    if found.st_mode & 0o077:
        raise _refused(folder, "is open to other users", f"look who wrote there, then `chmod 700 {folder}`")


def is_ours(connected: socket.socket) -> bool:
    """Say whether the process at the other end of a Unix socket is this user's or root's, as the system saw it connect or listen."""
    data = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _, uid, _ = _CREDENTIALS.unpack(data)
    return uid in (0, os.getuid())


def _refused(folder: Path, why: str, hint: str) -> Invalid:
    return Invalid("state", f"the folder of the control socket, `{folder}`, {why}", hint=hint)
