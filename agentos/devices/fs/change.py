"""fs.mkdir and fs.move, and how they are reconciled after a crash."""

from __future__ import annotations

import errno
import os
from functools import partial
from typing import Any

from agentos.abi import codec
from agentos.abi.permit import Permit
from agentos.abi.probe import reached
from agentos.abi.syscall import NOT_STARTED, UNKNOWN
from agentos.devices.fs.fault import RACE, exists, restless, shown, translate
from agentos.devices.fs.links import Found
from agentos.devices.fs.mounts import Mounts
from agentos.devices.fs.openat import open_beneath, rename
from agentos.devices.fs.reach import RACES_MAX, Slot, reach
from agentos.devices.fs.read import entry_type
from agentos.devices.fs.tree import Entry, survey
from agentos.devices.fs.worker import Worker
from agentos.devices.fs.write import open_slot_for_writing
from agentos.errors import Invalid, Unavailable

__all__ = ["Changing", "decide_tree", "described"]


class Changing:
    """Serves the ops that change names but no content."""

    def __init__(self, mounts: Mounts, worker: Worker) -> None:
        self._mounts = mounts
        self._worker = worker

    async def mkdir(self, permit: Permit, args: dict[str, Any]) -> None:
        """Make a folder and its missing parents, each decided by itself; an existing folder is fine.

        Args:
            permit: Proof of admission; spent here.
            args: `path`.

        Raises:
            Invalid: something on the path is not a folder.
            Unavailable: the device failed; some of the parents may exist.
            Denied: read-only mount, or a path that is not allowed.

        Cancellation: before the thread starts nothing is done, afterwards it is waited for.
        """
        permit.spend("fs.mkdir")
        self._mounts.writable(args["path"])
        for _ in range(RACES_MAX):
            found = reach(self._mounts, permit, args["path"], lambda found: found)
            if found.stat is not None and entry_type(found.stat) == "dir":
                return
            try:
                missing = self._missing(permit, found.path)
                await permit.keep(codec.encode({"made": missing}))
                await self._worker.run(self._make, missing)
            except OSError as error:
                if error.errno not in RACE:
                    raise translate(error, found.path) from error
            else:
                return
        raise restless(args["path"])

    def _missing(self, permit: Permit, path: str) -> list[str]:
        """Return the folders to make, outermost first; each but the last is decided here, `path` was already."""
        missing: list[str] = []
        mount = self._mounts.writable(path)
        while True:
            try:
                os.close(open_beneath(mount.fd, mount.inner(path), os.O_PATH | os.O_DIRECTORY))
            except FileNotFoundError:
                missing.insert(0, path)
                path = path.rpartition("/")[0] or "/"
            except NotADirectoryError as error:
                message = f"`{path}` or a folder before it is not a folder"
                raise Invalid("state", message, field="path", hint="choose another path") from error
            else:
                break
        for parent in missing[:-1]:
            permit.recheck("resolved", parent, 0)
        return missing

    def _make(self, missing: list[str]) -> None:
        for path in missing:
            with _slot(self._mounts, path) as slot:
                try:
                    os.mkdir(slot.name, dir_fd=slot.folder)
                except FileExistsError:
                    if (status := slot.look()) is None or entry_type(status) != "dir":
                        raise OSError(errno.ELOOP, "changed meanwhile", path) from None
                reached("fs.mkdir.made")
                os.fsync(slot.folder)

    async def reconcile_mkdir(self, permit: Permit, args: dict[str, Any]) -> Any:
        """Tell after a crash whether a folder was made: it is there or not. Making it again is harmless."""
        permit.spend("fs.mkdir")
        found = reach(self._mounts, permit, args["path"], lambda found: found)
        return None if found.stat is not None and entry_type(found.stat) == "dir" else NOT_STARTED

    async def move(self, permit: Permit, args: dict[str, Any]) -> None:
        """Rename a file, link or folder within one mount; links are moved themselves.

        For a folder each entry in it is decided too, where it is and where it will be.

        Args:
            permit: Proof of admission; spent here.
            args: `path`, `to`.

        Raises:
            Unavailable: the source or the target's folder is missing, or the device failed.
            Invalid: the target exists, lies in another mount, or inside the source.
            Denied: read-only mount, or a path that is not allowed.

        Cancellation: before the thread starts nothing is done, afterwards it is waited for.
        """
        permit.spend("fs.move")
        source, target = self._slots(permit, args)
        with source, target:
            if target.look() is not None:
                raise exists(args["to"], "to")
            try:
                entries = await self._worker.run(survey, source.folder, source.name)
                decide_tree(permit, source.path, entries)
                decide_tree(permit, target.path, entries, index=1)
                await permit.keep(codec.encode({"from": source.path, "to": target.path, "entries": described(entries)}))
                await self._worker.run(_rename, source, target)
            except FileExistsError as error:
                raise exists(args["to"], "to") from error
            except OSError as error:
                if error.errno == errno.EINVAL:
                    message = f"`{args['to']}` lies inside `{args['path']}`"
                    raise Invalid("argument", message, field="to", hint="move it elsewhere") from error
                raise translate(error, args["path"]) from error

    def _slots(self, permit: Permit, args: dict[str, Any]) -> tuple[Slot, Slot]:
        for name in ("path", "to"):
            self._mounts.writable(args[name])
        open_slot = partial(open_slot_for_writing, self._mounts)
        source = reach(self._mounts, permit, args["path"], open_slot, follow=False)
        try:
            target = reach(self._mounts, permit, args["to"], open_slot, index=1, follow=False)
        except BaseException:
            os.close(source.folder)
            raise
        if self._mounts.find(source.path) is not self._mounts.find(target.path):
            os.close(source.folder)
            os.close(target.folder)
            hint = "read it here, write it there, then delete it"
            raise Invalid("argument", f"`{args['to']}` lies in another mount than `{args['path']}`", field="to", hint=hint)
        return source, target

    async def reconcile_move(self, permit: Permit, args: dict[str, Any]) -> Any:
        """Tell after a crash whether a move happened.

        Returns:
            None when only the target is there, NOT_STARTED when only the source is, else UNKNOWN.
        """
        permit.spend("fs.move")
        try:
            source, target = self._slots(permit, args)
        except Unavailable as error:
            if error.code != "unavailable.missing":
                raise
            return UNKNOWN
        with source, target:
            there = (source.look() is not None, target.look() is not None)
        return {(False, True): None, (True, False): NOT_STARTED}.get(there, UNKNOWN)


def described(entries: list[Entry]) -> list[list[Any]]:
    """Return what a rename leaves as it is of each entry, for `undo`: ``[path beneath, type, bytes, time of change in ns]``."""
    return [
        [shown(e.inner), entry_type(e.stat), *((0, 0) if e.is_folder else (e.stat.st_size, e.stat.st_mtime_ns))]
        for e in entries
    ]


def decide_tree(permit: Permit, root: str, entries: list[Entry], *, index: int = 0) -> None:
    """Have every entry beneath `root` decided; `root` itself was already.

    Raises:
        Denied: for the first entry that is not allowed.
    """
    for entry in entries:
        if entry.inner:
            permit.recheck("resolved", f"{root}/{shown(entry.inner)}", index)


def _slot(mounts: Mounts, path: str) -> Slot:
    return open_slot_for_writing(mounts, Found(path, None))


def _rename(source: Slot, target: Slot) -> None:
    rename((source.folder, source.name), (target.folder, target.name), replace=False)
    reached("fs.move.renamed")
    try:
        os.fsync(target.folder)
        os.fsync(source.folder)
    except OSError as error:
        raise translate(error, source.path, may_have_happened=True) from error
