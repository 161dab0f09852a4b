"""fs.write, and how it is reconciled after a crash."""

from __future__ import annotations

import os
from contextlib import suppress
from functools import partial
from typing import Any

from agentos.abi.limits import BEFORE_IMAGE_BYTES_MAX, WRITE_BYTES_MAX
from agentos.abi.permit import Permit
from agentos.abi.probe import reached
from agentos.abi.syscall import NOT_STARTED, UNKNOWN
from agentos.devices.fs.atomic import MARK, Before, Filling, Moved, before_image, content_digest, drop, replace, spare_name
from agentos.devices.fs.fault import RACE, differs, exists, restless, translate
from agentos.devices.fs.links import Found
from agentos.devices.fs.mounts import Mounts
from agentos.devices.fs.openat import open_beneath
from agentos.devices.fs.reach import FILE_FLAGS, RACES_MAX, Slot, open_slot, reach
from agentos.devices.fs.worker import Worker
from agentos.errors import Denied, Invalid, Unavailable

__all__ = ["Writing", "check_digest", "content", "digest", "open_slot_for_writing"]


class Writing:
    """Serves fs.write."""

    def __init__(self, mounts: Mounts, worker: Worker) -> None:
        self._mounts = mounts
        self._worker = worker

    async def write(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """Write a whole file atomically; its earlier content is kept first.

        Args:
            permit: Proof of admission; spent here.
            args: `path`, one of `text` and `data`, `mode`; `if_digest` and `permissions` where they are given.

        Returns:
            `path` (resolved), `bytes` and `digest` (sha256) of the new content, `before` (digest of the kept content or None).

        Raises:
            Unavailable: the folder is missing, or the device failed (full, read-only, input/output); the file is as it was unless
                `may_have_happened`.
            Invalid: both or neither of `text` and `data`, too long, not a regular file, or exists in mode `create`;
                `invalid.state` when the content is not that of `if_digest`.
            Denied: read-only mount, a hard link, or the resolved path is not allowed.

        Cancellation: safe at any await; once the thread that renames has started, it is waited for and its result reported.
        """
        permit.spend("fs.write")
        content(args)
        self._mounts.writable(args["path"])
        for _ in range(RACES_MAX):
            with (
                reach(self._mounts, permit, args["path"], partial(open_slot_for_writing, self._mounts)) as slot,
                suppress(Moved),
            ):
                async with self._worker.turn(slot.identity):
                    return await self._once(permit, slot, args)
        raise restless(args["path"])

    async def _once(self, permit: Permit, slot: Slot, args: dict[str, Any]) -> dict[str, Any]:
        data, mode, if_digest = content(args), args["mode"], args.get("if_digest")
        before = await self._before(slot, mode)
        check_digest(slot.path, if_digest, content_digest(before.data) if before else "")
        whole = before.data + data if mode == "append" and before else data
        if len(whole) > BEFORE_IMAGE_BYTES_MAX:
            raise Invalid(
                "argument", f"`{slot.path}` would be over {BEFORE_IMAGE_BYTES_MAX} bytes", field="data", hint="start a new file"
            )
        kept = await permit.keep(before.data) if before else None
        reached("fs.write.kept")
        filling = Filling(
            whole, before.stat if before else None, new=mode == "create",
            mark=digest(permit.key.encode()) if mode == "append" and permit.key else "", if_digest=if_digest,
            permissions=int(args["permissions"], 8) if args.get("permissions") else None,
        )  # fmt: skip
        await self._worker.run(replace, slot, spare_name(permit, slot), filling)
        return {"path": slot.path, "bytes": len(whole), "digest": digest(whole), "before": kept}

    async def _before(self, slot: Slot, mode: str) -> Before | None:
        try:
            status = slot.look()
            if status is not None and mode == "create":
                raise exists(slot.path, "path")
            return await self._worker.read(status.st_size if status else 0, before_image, slot, BEFORE_IMAGE_BYTES_MAX)
        except OSError as error:
            if error.errno in RACE:
                raise Moved from error
            raise translate(error, slot.path) from error

    async def reconcile(self, permit: Permit, args: dict[str, Any]) -> Any:
        """Tell after a crash whether a write happened, by content.

        Removes the temporary file that the crash may have left. Args and errors are those of `write`.

        Returns:
            The result of `write` (with `before` None), NOT_STARTED, or UNKNOWN: an append whose bytes are there but not provably
            by this call, or a `create` whose file is there with other content.
        """
        permit.spend("fs.write")
        data, mode = content(args), args["mode"]
        self._mounts.writable(args["path"])
        try:
            slot = reach(self._mounts, permit, args["path"], partial(open_slot_for_writing, self._mounts))
        except Unavailable as error:
            if error.code != "unavailable.missing":
                raise
            return NOT_STARTED
        with slot:
            mark, if_digest = digest(permit.key.encode()), args.get("if_digest")
            return await self._worker.run(_judge, slot, spare_name(permit, slot), data, (mode, mark, if_digest))


def open_slot_for_writing(mounts: Mounts, found: Found) -> Slot:
    """Open the folder of a found path that will be written.

    Raises:
        OSError: a race, or the folder cannot be opened.
        Unavailable: the folder is missing.
        Denied: the path resolved into a read-only mount.
        Invalid: it is a mount itself.
    """
    mounts.writable(found.path)
    if mounts.is_root(found.path):
        raise Invalid("argument", f"`{found.path}` is a mount", field="path", hint="name something inside it")
    return open_slot(mounts, found)


def content(args: dict[str, Any]) -> bytes:
    """Return the bytes of a write.

    Raises:
        Invalid: both or neither of `text` and `data`, more than WRITE_BYTES_MAX bytes, or text that is not UTF-8.
    """
    text, data = args.get("text"), args.get("data")
    if (text is None) == (data is None):
        raise Invalid("argument", "exactly one of `text` and `data` is needed", field="text", hint="give text=... or data=...")
    try:
        whole = str(text).encode() if data is None else bytes(data)
    except UnicodeEncodeError as error:
        raise Invalid("argument", "the text cannot be written as UTF-8", field="text", hint="give bytes as data=...") from error
    if len(whole) > WRITE_BYTES_MAX:
        raise Invalid("argument", f"{len(whole)} bytes are over {WRITE_BYTES_MAX}", field="data", hint="append in parts")
    return whole


digest = content_digest


def check_digest(path: str, if_digest: str | None, found: str) -> None:
    """Refuse a call whose condition does not hold: `found` is the sha256 of what is there, "" for nothing.

    Raises:
        Invalid: `invalid.state`, naming both.
    """
    if if_digest is not None and if_digest != found:
        raise differs(path, if_digest, found)


def _judge(slot: Slot, temp: str, data: bytes, how: tuple[str, str, str | None]) -> Any:
    mode, mark, if_digest = how
    try:
        drop(slot.folder, temp)
        before = before_image(slot, BEFORE_IMAGE_BYTES_MAX)
        found = _mark(slot) if mode == "append" and before else ""
    except (Invalid, Denied):
        return UNKNOWN  # something else than a file of ours has the name now
    except OSError as error:
        raise translate(error, slot.path) from error
    if before is None:
        return NOT_STARTED
    happened = found == mark if mode == "append" else before.data == data
    if happened:
        return {"path": slot.path, "bytes": len(before.data), "digest": digest(before.data), "before": None}
    if mode == "append":
        if if_digest == digest(before.data):
            return NOT_STARTED
        return UNKNOWN if data in before.data else NOT_STARTED
    return NOT_STARTED if mode == "replace" else UNKNOWN


def _mark(slot: Slot) -> str:
    fd = open_beneath(slot.folder, slot.name, FILE_FLAGS)
    try:
        return os.getxattr(fd, MARK).decode("ascii", "replace")
    except OSError:
        return ""  # never marked, or a file system without attributes
    finally:
        os.close(fd)
