"""The mounts of one kernel: virtual prefixes and the directory handles behind them.

A mount is held as an O_PATH handle from open to close, so renaming or replacing the host folder moves nobody.

INVARIANT beneath-the-mount: every descriptor that fs uses was opened beneath a mount handle, on a path without links.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentos.devices.fs.openat import open_beneath, require
from agentos.errors import Denied, Invalid, Unavailable

__all__ = ["MOUNT_FOLDER", "RESERVED_PREFIX", "Mount", "Mounts"]

MOUNT_FOLDER: Final = "/mnt"
RESERVED_PREFIX: Final = ".agentos-"
"""Names of unfinished work (a file being written, a folder being removed). No process can address or list them: they hold content
whose own path was decided, not theirs."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One host folder in the virtual root. `prefix` is "" for the workspace, else ``/mnt/NAME``."""

    prefix: str
    fd: int
    readonly: bool

    def inner(self, path: str) -> str:
        """Return the virtual `path` relative to the mount, "." for its root."""
        return path[len(self.prefix) + 1 :] or "."

    def outer(self, parts: list[str]) -> str:
        """Return the virtual path of components beneath the mount."""
        return "/".join((self.prefix, *parts)) if parts else self.prefix or "/"


class Mounts:
    """The table of mounts; the longest prefix wins, so ``/mnt/NAME`` hides a folder of that name in the workspace."""

    def __init__(self, mounts: Mapping[str, tuple[Path, bool]]) -> None:
        """Open every mount.

        Args:
            mounts: Virtual prefix (``/`` or ``/mnt/NAME``) -> host folder and whether it is read-only. ``/`` must be there.

        Raises:
            Invalid: a prefix is malformed, or `/` is missing.
            Unavailable: a folder is not there, or the system cannot confine paths.
        """
        require()
        self._by_name: dict[str, Mount] = {}
        self._closed = False
        try:
            for prefix, (folder, readonly) in mounts.items():
                name = _mount_name(prefix)
                self._by_name[name] = Mount(f"{MOUNT_FOLDER}/{name}" if name else "", _open_root(prefix, folder), readonly)
            if "" not in self._by_name:
                raise Invalid("argument", "there is no mount `/`", field="mounts", hint="give the workspace as `/`")
        except (Invalid, Unavailable):
            self.close()
            raise
        self._workspace = self._by_name[""]

    @property
    def names(self) -> list[str]:
        """Names of the mounts under ``/mnt``, sorted."""
        return sorted(name for name in self._by_name if name)

    def find(self, path: str) -> Mount:
        """Return the mount that holds the canonical virtual `path`.

        Raises:
            Denied: the path names unfinished work.
            Invalid: `invalid.state`, the mounts are closed.
        """
        if self._closed:
            raise Invalid("state", "the file system is closed", hint="open the kernel again")
        if f"/{RESERVED_PREFIX}" in path.casefold():
            raise Denied(
                "capability", f"`{path}` is a name that agentos keeps for itself", resource=path, hint="use another name"
            )
        if path.startswith(f"{MOUNT_FOLDER}/"):
            return self._by_name.get(path.split("/", 3)[2], self._workspace)
        return self._workspace

    def open(self, path: str, flags: int, mode: int = 0) -> int:
        """Open the canonical virtual `path`, refusing every link on it.

        Raises:
            OSError: as `open_beneath`.
        """
        mount = self.find(path)
        return open_beneath(mount.fd, mount.inner(path), flags, mode)

    def writable(self, path: str) -> Mount:
        """Return the mount that holds `path`.

        Raises:
            Denied: it is read-only.
        """
        mount = self.find(path)
        if mount.readonly:
            hint = "write in the workspace, or mount the folder without `ro`"
            raise Denied("capability", f"`{path}` lies in a read-only mount", resource=path, hint=hint)
        return mount

    def is_root(self, path: str) -> bool:
        """Say whether `path` is a mount itself, or the folder that shows the mounts."""
        return self.find(path).inner(path) == "." or (path == MOUNT_FOLDER and bool(self.names))

    def close(self) -> None:
        """Close the handles; later calls are refused. Closing twice is fine."""
        self._closed = True
        for mount in self._by_name.values():
            os.close(mount.fd)
        self._by_name = {}


def _mount_name(prefix: str) -> str:
    if prefix == "/":
        return ""
    name = prefix.removeprefix(f"{MOUNT_FOLDER}/")
    if name == prefix or not name or "/" in name or name in (".", "..") or "\0" in name or name.startswith(RESERVED_PREFIX):
        raise Invalid("argument", f"`{prefix}` is not a mount", field="mounts", hint="use `/` or `/mnt/NAME`")
    return name


def _open_root(prefix: str, folder: Path) -> int:
    try:
        return os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        message = f"mount `{prefix}`: `{folder}` is not a folder that can be opened"
        raise Unavailable("missing", message, hint="make the folder first") from error
