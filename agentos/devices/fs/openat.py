"""openat2(2) and renameat2(2) through ctypes: the two calls that Python's os module lacks.

Every lookup goes beneath a directory handle with RESOLVE_BENEATH, NO_MAGICLINKS and NO_SYMLINKS: the kernel itself refuses `..`
above the handle, absolute paths and any link, also when the tree changes during the lookup. There is no weaker fallback: where the
call is missing, `require` refuses.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys

from agentos.errors import Unavailable

__all__ = ["open_beneath", "rename", "require"]

_OPENAT2 = 437  # the same number on every architecture
_BENEATH, _NO_MAGICLINKS, _NO_SYMLINKS = 0x08, 0x02, 0x04
_NOREPLACE = 0x01


class _How(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]  # type: ignore[mutable-override]


_libc = ctypes.CDLL(None, use_errno=True)


def require() -> None:
    """Refuse to work on a system where paths cannot be confined.

    Raises:
        Unavailable: `unavailable.missing`, this is not Linux, or openat2 or renameat2 is missing or filtered.
    """
    missing = "" if sys.platform == "linux" else f"the system is {platform.system()}"
    if not missing and not hasattr(_libc, "renameat2"):
        missing = "the C library has no renameat2"
    if not missing:
        try:
            os.close(open_beneath(os.open("/", os.O_PATH | os.O_DIRECTORY), ".", os.O_PATH, close_root=True))
        except OSError as error:
            missing = f"openat2 answers `{error.strerror}`"
    if missing:
        raise Unavailable("missing", f"files cannot be confined here: {missing}", hint="run on Linux 5.6 or newer")


def open_beneath(root: int, path: str, flags: int, mode: int = 0, *, close_root: bool = False) -> int:
    """Open `path` beneath the directory handle `root` without following any link; close-on-exec.

    Args:
        root: Descriptor of a directory, O_PATH is enough.
        path: Relative path, "." for the root itself.
        flags: As for open(2).
        mode: Permission bits of a file that O_CREAT makes.
        close_root: Close `root` afterwards.

    Raises:
        OSError: ELOOP when a component is a link (a final one only without O_PATH and O_NOFOLLOW), EAGAIN when the tree changed
            during the lookup, else as open(2).
    """
    how = _How(flags | os.O_CLOEXEC, mode, _BENEATH | _NO_MAGICLINKS | _NO_SYMLINKS)
    try:
        while True:
            fd: int = _libc.syscall(_OPENAT2, root, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
            if fd >= 0:
                return fd
            code = ctypes.get_errno()
            if code != errno.EINTR:
                raise OSError(code, os.strerror(code), path)
    finally:
        if close_root:
            os.close(root)


def rename(source: tuple[int, str], target: tuple[int, str], *, replace: bool) -> None:
    """Rename one name in one folder handle to another, atomically; links are renamed themselves.

    Args:
        source: Folder descriptor and name.
        target: Folder descriptor and name.
        replace: Replace an existing target; otherwise that is EEXIST.

    Raises:
        OSError: as renameat2(2).
    """
    flags = 0 if replace else _NOREPLACE
    if _libc.renameat2(source[0], os.fsencode(source[1]), target[0], os.fsencode(target[1]), flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), source[1], None, target[1])
