"""fs.delete, and how it is reconciled after a crash.

    1 survey    what the path is and holds
    2 decide    every entry, so that a deny inside a folder holds
    3 keep      the content of every file, then a manifest that names them
    4 hide      rename to `.agentos-tmp.KEY`: from here on it is gone for everybody
    5 compare   the survey again; something changed: rename back and start over
    6 seal      rename to `.agentos-gone.KEY`: only now may it be destroyed
    7 destroy

A kill after 4 leaves the unsealed name, which reconcile renames back; after 6 the sealed one, which reconcile destroys.
INVARIANT kept-before-gone: nothing is destroyed that was not kept in exactly that state.
"""

from __future__ import annotations

import os
import stat
from functools import partial
from typing import Any

from agentos.abi import codec
from agentos.abi.limits import BEFORE_IMAGE_BYTES_MAX
from agentos.abi.permit import Permit
from agentos.abi.probe import reached
from agentos.abi.syscall import NOT_STARTED, UNKNOWN
from agentos.devices.fs.atomic import Moved, content_digest, spare_name
from agentos.devices.fs.change import decide_tree
from agentos.devices.fs.fault import RACE, refused_link_count, restless, shown, translate, type_name
from agentos.devices.fs.mounts import Mounts
from agentos.devices.fs.openat import open_beneath, rename
from agentos.devices.fs.reach import FILE_FLAGS, RACES_MAX, Slot, reach
from agentos.devices.fs.read import entry_type, read_bytes
from agentos.devices.fs.tree import Entry, remove, survey
from agentos.devices.fs.worker import Worker
from agentos.devices.fs.write import check_digest, open_slot_for_writing
from agentos.errors import Invalid, Unavailable

__all__ = ["Deleting"]


class Deleting:
    """Serves fs.delete."""

    def __init__(self, mounts: Mounts, worker: Worker) -> None:
        self._mounts = mounts
        self._worker = worker

    async def delete(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """Delete a file, a link itself, or a folder; what is lost is kept first.

        Args:
            permit: Proof of admission; spent here.
            args: `path`, `recursive` for a folder that is not empty; `if_digest` where it is given.

        Returns:
            `path`, `type`, `entries` (number of things removed) and `before`: the digest of the kept manifest, a list of
            ``[path beneath, type, mode, digest of the kept content or target of the link]``.

        Raises:
            Unavailable: missing, or the device failed.
            Invalid: a folder that is not empty without `recursive`, a FIFO, socket or device, or more than
                BEFORE_IMAGE_BYTES_MAX; `invalid.state` when it is not a file with the content of `if_digest`.
            Denied: read-only mount, a hard link, or a path in it that is not allowed.

        Cancellation: before the thread that removes has started nothing is done, afterwards it is waited for.
        """
        permit.spend("fs.delete")
        self._mounts.writable(args["path"])
        for _ in range(RACES_MAX):
            with reach(self._mounts, permit, args["path"], partial(open_slot_for_writing, self._mounts), follow=False) as slot:
                try:
                    return await self._once(permit, slot, args["recursive"], args.get("if_digest"))
                except Moved:
                    continue
                except OSError as error:
                    if error.errno not in RACE:
                        raise translate(error, slot.path) from error
        raise restless(args["path"])

    async def _once(self, permit: Permit, slot: Slot, recursive: bool, if_digest: str | None) -> dict[str, Any]:
        entries = await self._worker.run(survey, slot.folder, slot.name)
        _check(slot.path, entries, recursive)
        decide_tree(permit, slot.path, entries)
        if if_digest is not None:
            check_digest(slot.path, if_digest, await self._worker.run(_digest, slot, slot.name, entries[0]))
        manifest = [await self._keep(permit, slot, entry) for entry in entries]
        before = await permit.keep(codec.encode(manifest))
        reached("fs.delete.kept")
        hidden, sealed = spare_name(permit, slot), spare_name(permit, slot, "gone")
        await self._worker.run(_remove, slot, (hidden, sealed), entries, if_digest)
        return {"path": slot.path, "type": entry_type(entries[0].stat), "entries": len(entries), "before": before}

    async def _keep(self, permit: Permit, slot: Slot, entry: Entry) -> list[Any]:
        kept = entry.target
        if stat.S_ISREG(entry.stat.st_mode):
            data = await self._worker.read(entry.stat.st_size, _read, slot, slot.name, entry)
            kept = await permit.keep(data)
        return [shown(entry.inner), entry_type(entry.stat), stat.S_IMODE(entry.stat.st_mode), shown(kept)]

    async def reconcile(self, permit: Permit, args: dict[str, Any]) -> Any:
        """Tell after a crash whether a delete happened, and finish or take back what it left.

        Returns:
            The result of `delete` with `before` None when the path is gone, NOT_STARTED when it is there, UNKNOWN when it was hidden
            and something else has its name now.
        """
        permit.spend("fs.delete")
        self._mounts.writable(args["path"])
        gone = {"path": args["path"], "type": "missing", "entries": 0, "before": None}
        try:
            slot = reach(self._mounts, permit, args["path"], partial(open_slot_for_writing, self._mounts), follow=False)
        except Unavailable as error:
            if error.code != "unavailable.missing":
                raise
            return gone
        with slot:
            hidden, sealed = spare_name(permit, slot), spare_name(permit, slot, "gone")
            verdict = await self._worker.run(_settle, slot, hidden, sealed)
        return gone if verdict is None else verdict


def _check(path: str, entries: list[Entry], recursive: bool) -> None:
    if len(entries) > 1 and not recursive:
        raise Invalid(
            "argument", f"`{path}` is not empty", field="recursive", hint="pass recursive=True to delete what it holds"
        )
    size = 0
    for entry in entries:
        status, where = entry.stat, f"{path}/{shown(entry.inner)}".rstrip("/")
        if entry_type(status) == "other":
            message = f"`{where}` is a {type_name(status.st_mode)}, which is not kept for undo"
            raise Invalid("argument", message, field="path", hint="only files, links and folders are deleted")
        if stat.S_ISREG(status.st_mode):
            size += status.st_size
            if status.st_nlink > 1:
                raise refused_link_count(where)
    if size > BEFORE_IMAGE_BYTES_MAX:
        message = f"`{path}` holds {size} bytes, more than the {BEFORE_IMAGE_BYTES_MAX} that are kept for undo"
        raise Invalid("argument", message, field="path", hint="delete its parts, or use `exec.run`")


def _digest(slot: Slot, name: str, entry: Entry) -> str:
    """Return the sha256 of a file; of anything else what it is, which no digest equals."""
    if not stat.S_ISREG(entry.stat.st_mode):
        return f"of a {type_name(entry.stat.st_mode)}"
    return content_digest(_read(slot, name, entry))


def _read(slot: Slot, name: str, entry: Entry) -> bytes:
    """Read one surveyed file; Moved when it is not that file any more."""
    try:
        fd = open_beneath(slot.folder, f"{name}/{entry.inner}".rstrip("/"), FILE_FLAGS)
    except OSError as error:
        raise Moved from error
    try:
        status = os.fstat(fd)
        if (status.st_ino, status.st_dev) != (entry.stat.st_ino, entry.stat.st_dev):
            raise Moved
        return read_bytes(fd, entry.stat.st_size)
    finally:
        os.close(fd)


def _remove(slot: Slot, names: tuple[str, str], entries: list[Entry], if_digest: str | None) -> None:
    hidden, sealed = names
    rename((slot.folder, slot.name), (slot.folder, hidden), replace=False)
    reached("fs.delete.hidden")
    found = survey(slot.folder, hidden)
    is_same = [entry.identity for entry in found] == [entry.identity for entry in entries]
    if not is_same or (if_digest is not None and _digest(slot, hidden, found[0]) != if_digest):
        rename((slot.folder, hidden), (slot.folder, slot.name), replace=False)
        raise Moved
    rename((slot.folder, hidden), (slot.folder, sealed), replace=False)
    reached("fs.delete.sealed")
    try:
        remove(slot.folder, sealed)
        os.fsync(slot.folder)
    except OSError as error:
        raise translate(error, slot.path, may_have_happened=True) from error


def _settle(slot: Slot, hidden: str, sealed: str) -> Any:
    """Finish or take back a delete that a crash cut; None when it has happened."""
    try:
        if _is_there(slot, sealed):
            remove(slot.folder, sealed)
            return None
        if not _is_there(slot, hidden):
            return None if slot.look() is None else NOT_STARTED
        if slot.look() is not None:
            return UNKNOWN
        rename((slot.folder, hidden), (slot.folder, slot.name), replace=False)
    except OSError as error:
        raise translate(error, slot.path, may_have_happened=True) from error
    return NOT_STARTED


def _is_there(slot: Slot, name: str) -> bool:
    try:
        os.stat(name, dir_fd=slot.folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
