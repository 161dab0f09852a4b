"""Links, resolved in user space: from a virtual path with links to the canonical one that is decided and then opened without links.

The kernel follows no link for us (see `openat`). Here each component is looked at as itself through a handle beneath the mount, and
the target of a link is spliced in. The answer is only a proposal: nothing is opened for use until it was decided again, and then
the kernel is asked for exactly that path with links refused.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from dataclasses import dataclass
from typing import Final

from agentos.abi.limits import PATH_SEGMENTS_MAX
from agentos.devices.fs.fault import leads_out
from agentos.devices.fs.mounts import Mount, Mounts
from agentos.devices.fs.openat import open_beneath
from agentos.errors import Invalid

__all__ = ["LINKS_MAX", "Found", "resolve"]

LINKS_MAX: Final = 40


@dataclass(frozen=True, slots=True)
class Found:
    """A path without links, and what was there when it was looked at (None: nothing, or not allowed to look)."""

    path: str
    stat: os.stat_result | None


def resolve(mounts: Mounts, path: str, *, follow: bool) -> Found:
    """Return the path without links that `path` leads to.

    Components that are not there are kept as they are, so that a missing target is decided on before it is reported.

    Args:
        mounts: The mounts.
        path: Canonical virtual path.
        follow: Follow a link in the final component too; otherwise the link itself is found.

    Raises:
        Denied: a link is absolute, leads out of its mount, or leads under a place where another mount lies.
        Invalid: more than LINKS_MAX links.
        OSError: ELOOP or EAGAIN, the tree changed meanwhile: resolve again.
    """
    mount = mounts.find(path)
    status = _look(mount, mount.inner(path))
    if isinstance(status, os.stat_result) and not (follow and stat.S_ISLNK(status.st_mode)):
        return Found(path, status)
    if status is None:
        return Found(path, None)
    parts = _splice(mount, path, follow)
    resolved = mount.outer(parts)
    if mounts.find(resolved) is not mount:
        raise leads_out(path)
    last = _look(mount, mount.inner(resolved))
    if last == errno.ELOOP:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), resolved)
    return Found(resolved, last if isinstance(last, os.stat_result) else None)


def _look(mount: Mount, inner: str) -> os.stat_result | int | None:
    """Describe what `inner` names itself: its stat, None when it cannot be seen, ELOOP when a link lies before it."""
    try:
        fd = open_beneath(mount.fd, inner, os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            raise
        return errno.ELOOP if error.errno == errno.ELOOP else None
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def _splice(mount: Mount, path: str, follow: bool) -> list[str]:
    todo = deque(mount.inner(path).split("/"))
    done: list[str] = []
    links = 0
    while todo:
        part = todo.popleft()
        if part in ("", "."):
            continue
        if part == "..":
            if not done:
                raise leads_out(path)
            done.pop()
            continue
        done.append(part)
        target = _target(mount, "/".join(done)) if todo or follow else None
        if target is None:
            continue
        links += 1
        if target.startswith("/"):
            raise leads_out(path)
        if links > LINKS_MAX or len(done) + len(todo) > 2 * PATH_SEGMENTS_MAX:
            raise Invalid("argument", f"`{path}` has more than {LINKS_MAX} links", field="path", hint="the links form a loop")
        done.pop()
        todo.extendleft(reversed(target.split("/")))
    return done


def _target(mount: Mount, inner: str) -> str | None:
    """Return what the link `inner` points to, None when it is no link or cannot be seen."""
    try:
        fd = open_beneath(mount.fd, inner, os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EAGAIN):
            raise
        return None
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            return None
        target = os.readlink("", dir_fd=fd)
    finally:
        os.close(fd)
    try:
        target.encode()
    except UnicodeEncodeError as error:
        raise Invalid(
            "argument", "a link on the path leads to a name that is not text", field="path", hint="replace the link"
        ) from error
    return target
