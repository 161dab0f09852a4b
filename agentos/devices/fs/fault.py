"""What the operating system says, as errors of agentos. One table, so that equal faults read equally in every op."""

from __future__ import annotations

import errno
import stat

from agentos.errors import AgentOSError, Denied, Invalid, Unavailable

__all__ = [
    "RACE",
    "differs",
    "exists",
    "leads_out",
    "not_regular",
    "refused_link_count",
    "restless",
    "shown",
    "translate",
    "type_name",
]

RACE = frozenset({errno.ELOOP, errno.EAGAIN, errno.ESTALE})
"""The tree changed between two looks: resolve and decide again."""

_ARGUMENT = {
    errno.ENAMETOOLONG: "is too long for the file system",
    errno.EISDIR: "is a folder",
    errno.ENXIO: "is not a regular file",
    errno.ENOTEMPTY: "is not empty",
    errno.EBUSY: "is in use by the system",
    errno.EXDEV: "lies on another file system",
}


def translate(error: OSError, path: str, *, may_have_happened: bool = False) -> AgentOSError:
    """Return the error for what the system said about the virtual path `path`.

    Args:
        error: The foreign error; raise the result `from` it.
        path: Virtual path, never a host path.
        may_have_happened: The effect may exist all the same.
    """
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Unavailable("missing", f"`{path}` does not exist", hint="look with `fs.list`", path=path)
    if error.errno in _ARGUMENT:
        return Invalid("argument", f"`{path}` {_ARGUMENT[error.errno]}", field="path", hint="check the path with `fs.stat`")
    text = (error.strerror or "input/output error").lower()
    name = errno.errorcode.get(error.errno or 0, "EIO")
    return Unavailable(
        "device", f"`{path}`: {text}", may_have_happened=may_have_happened, errno=name, path=path,
        hint="free some space" if name in ("ENOSPC", "EDQUOT") else "check the mount and its permissions",
    )  # fmt: skip


def leads_out(path: str) -> Denied:
    """Return the refusal of a link that leaves its mount."""
    hint = "a link must be relative and stay in its mount; mount the other folder instead"
    return Denied("capability", f"`{path}` leads out of the mount through a link", hint=hint, resource=path)


def restless(path: str) -> Denied:
    """Return the refusal of a path that changed each time it was looked at."""
    hint = "something replaces links or files on this path; wait until it is done"
    return Denied("capability", f"`{path}` changed every time it was resolved", hint=hint, resource=path)


def refused_link_count(path: str) -> Denied:
    """Return the refusal of a file that has another name, which may lie outside of the mount."""
    hint = "it may have a name outside of the mount; copy it to a new file first"
    return Denied("capability", f"`{path}` is a hard link", hint=hint, resource=path)


def not_regular(path: str, mode: int) -> Invalid:
    """Return the refusal of what is no regular file: folder, FIFO, socket, device."""
    return Invalid(
        "argument", f"`{path}` is a {type_name(mode)}, not a file", field="path", hint="only regular files have content"
    )


def exists(path: str, field: str) -> Invalid:
    """Return the refusal of a target that is taken."""
    return Invalid("state", f"`{path}` exists already", field=field, hint="delete it first or choose another name")


def differs(path: str, wanted: str, found: str) -> Invalid:
    """Return the refusal of a call whose `if_digest` is not the content's: "" stands for nothing."""
    is_there = f"has the sha256 {found}" if found else "does not exist"
    message = f"`{path}` {is_there}, not {wanted or 'free'}"
    return Invalid(
        "state", message, field="if_digest", path=path, wanted=wanted, found=found, hint="read it again, then decide"
    )


def shown(name: str) -> str:
    """Return a name as text: bytes that are not UTF-8 are written as hexadecimal escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "folder",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


def type_name(mode: int) -> str:
    """Return the word for a file type."""
    return _TYPES.get(stat.S_IFMT(mode), "special file")
