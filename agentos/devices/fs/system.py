"""FileSystem: the fs device, wired."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentos.abi.ops.fs import FAMILY
from agentos.abi.syscall import Syscall
from agentos.devices.fs.change import Changing
from agentos.devices.fs.delete import Deleting
from agentos.devices.fs.listing import Listing
from agentos.devices.fs.look import Looking
from agentos.devices.fs.mounts import Mounts
from agentos.devices.fs.overlay import OverlayFiles
from agentos.devices.fs.preview import Previews
from agentos.devices.fs.read import Reading
from agentos.devices.fs.worker import Worker
from agentos.devices.fs.write import Writing

__all__ = ["FileSystem"]


class FileSystem:
    """Serves every `fs.*` op beneath a set of mounts.

    INVARIANT no-effect-without-permit: each handler spends its permit before anything else.
    INVARIANT check-before-observe: nothing about a target is looked at before the broker admitted the call, and nothing but metadata
    before it agreed to the resolved path. What a target is, or that it is missing, is told after that only.
    """

    def __init__(self, mounts: Mapping[str, tuple[Path, bool]]) -> None:
        """Open the mounts; they are held until `close`.

        Args:
            mounts: ``/`` for the workspace and ``/mnt/NAME`` for others -> (host folder, read-only).

        Raises:
            Invalid: a prefix is malformed or ``/`` is missing.
            Unavailable: a folder is missing, or this system cannot confine paths (openat2).
        """
        self._mounts = Mounts(mounts)
        self._worker = Worker()
        self.looking = Looking(self._mounts)

    def syscalls(self) -> list[Syscall]:
        """Return the ops of the family `fs` with their handlers, in declared order."""
        reading, listing = Reading(self._mounts, self._worker), Listing(self._mounts, self._worker)
        writing, changing = Writing(self._mounts, self._worker), Changing(self._mounts, self._worker)
        deleting, previews = Deleting(self._mounts, self._worker), Previews(self._mounts, self._worker)
        served = {
            "fs.read": (reading.read, None, None),
            "fs.list": (listing.list, None, None),
            "fs.stat": (reading.stat, None, None),
            "fs.write": (writing.write, writing.reconcile, previews.write),
            "fs.mkdir": (changing.mkdir, changing.reconcile_mkdir, previews.mkdir),
            "fs.move": (changing.move, changing.reconcile_move, previews.move),
            "fs.delete": (deleting.delete, deleting.reconcile, previews.delete),
        }
        assert {op.name for op in FAMILY.ops} == set(served), "every declared fs op is served, and nothing else"
        return [Syscall(op, *served[op.name]) for op in FAMILY.ops]

    def overlay(self, table: Any) -> list[Syscall]:
        """Return the same ops for processes that work on an overlay.

        Args:
            table: The overlays: `kernel.overlay.OverlayTable`.
        """
        return OverlayFiles(self._mounts, self._worker, table).syscalls()

    def close(self) -> None:
        """Close the mounts; later calls are refused with `invalid.state`. Closing twice is fine."""
        self._mounts.close()
