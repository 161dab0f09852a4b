"""fs.list: one folder or a tree, in pages.

The order is that of a walk: names of one folder sorted, a folder before what it holds; the cursor is the last path shown. A page
costs the folders it shows, not the tree. Links are shown, never followed. Each folder of a tree is decided by itself before it is
opened: one that is denied is shown with ``closed: True`` and not entered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from anyio.lowlevel import checkpoint

from agentos.abi.limits import LIST_ENTRIES_MAX
from agentos.abi.permit import Permit
from agentos.devices.fs.fault import shown, translate
from agentos.devices.fs.links import Found
from agentos.devices.fs.mounts import MOUNT_FOLDER, RESERVED_PREFIX, Mounts
from agentos.devices.fs.reach import Handle, reach
from agentos.devices.fs.read import entry_type
from agentos.devices.fs.worker import Worker
from agentos.errors import Denied, Invalid, Unavailable

__all__ = ["Listing", "after_cursor", "open_folder", "walk"]


class _StandIn(Handle):
    """The folder of the mounts, where the workspace has none of that name."""


@dataclass(slots=True)
class _Frame:
    """One folder being walked. `skip` is the name in it that the page before ended at or within, "" for none."""

    folder: Handle
    parts: tuple[str, ...]
    names: Iterator[tuple[str, str]]
    skip: str


class _Walk:
    """One page of one listing: a depth-first walk with its open folders on a stack."""

    def __init__(self, mounts: Mounts, worker: Worker, permit: Permit, after: tuple[str, ...]) -> None:
        self._mounts = mounts
        self._worker = worker
        self._permit = permit
        self._after = after
        self._frames: list[_Frame] = []

    async def page(self, root: Handle, recursive: bool, limit: int) -> list[dict[str, Any]]:
        """Return up to `limit` items after the cursor."""
        items: list[dict[str, Any]] = []
        try:
            await self._push(root, ())
            while self._frames and len(items) < limit:
                frame = self._frames[-1]
                text, name = next(frame.names, ("", ""))
                if not name:
                    os.close(self._frames.pop().folder.fd)
                elif text >= frame.skip and (item := self._item(frame.folder, text, name)) is not None:
                    if text != frame.skip:
                        items.append(item)
                    if recursive and item["type"] == "dir":
                        await self._enter(item, (*frame.parts, text))
        finally:
            for frame in self._frames:
                os.close(frame.folder.fd)
        return items

    async def _push(self, folder: Handle, parts: tuple[str, ...]) -> None:
        skip = self._after[len(parts)] if self._after[: len(parts)] == parts and len(self._after) > len(parts) else ""
        self._frames.append(_Frame(folder, parts, iter(()), skip))
        self._frames[-1].names = iter(await self._names(folder))

    async def _enter(self, item: dict[str, Any], parts: tuple[str, ...]) -> None:
        """Walk into a folder of the tree, or mark its item as closed."""
        await checkpoint()
        try:
            folder = reach(self._mounts, self._permit, item["path"], partial(open_folder, self._mounts), follow=False)
        except (Denied, Unavailable, Invalid):
            item["closed"] = True  # denied, unreadable or gone: that is the answer for it, and the rest is still listed
        else:
            await self._push(folder, parts)

    async def _names(self, folder: Handle) -> list[tuple[str, str]]:
        """Return the names of a folder as shown and as they are, sorted as shown."""
        names: set[str] = set()
        if not isinstance(folder, _StandIn):
            try:
                names.update(await self._worker.read(folder.stat.st_size, os.listdir, folder.fd))
            except OSError as error:
                raise translate(error, folder.path) from error
        if len(names) > LIST_ENTRIES_MAX:
            message = f"`{folder.path}` has {len(names)} entries, over {LIST_ENTRIES_MAX}"
            raise Unavailable("overloaded", message, hint="list a smaller folder")
        mounted = self._mounts.names
        if mounted and folder.path in ("/", MOUNT_FOLDER):
            names.update([MOUNT_FOLDER[1:]] if folder.path == "/" else mounted)
        return sorted((shown(name), name) for name in names if not name.casefold().startswith(RESERVED_PREFIX))

    def _item(self, folder: Handle, text: str, name: str) -> dict[str, Any] | None:
        path = f"{folder.path.rstrip('/')}/{text}"
        if text == name and self._mounts.is_root(path):
            return {"path": path, "name": name, "type": "dir", "size": 0, "mtime": 0.0}
        try:
            status = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None  # removed since the folder was read
        except OSError as error:
            raise translate(error, path) from error
        item = {"path": path, "name": text, "type": entry_type(status), "size": status.st_size, "mtime": status.st_mtime}
        if text != name:
            item |= {"type": "other", "unnameable": True}
        return item


class Listing:
    """Serves fs.list."""

    def __init__(self, mounts: Mounts, worker: Worker) -> None:
        self._mounts = mounts
        self._worker = worker

    async def list(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """List a folder or, with `recursive`, the tree beneath it.

        Args:
            permit: Proof of admission; spent here.
            args: `path`, `recursive`, `limit` in entries, `cursor` from the page before.

        Raises:
            Unavailable: missing, or one folder has more than LIST_ENTRIES_MAX entries.
            Invalid: not a folder, or a cursor of another listing.
            Denied: the resolved path is not allowed or leads out of the mount.

        Cancellation: safe at any await.
        """
        permit.spend("fs.list")
        limit = args["limit"]
        root = reach(self._mounts, permit, args["path"], partial(open_folder, self._mounts))
        try:
            after = after_cursor(root.path, args["cursor"])
        except Invalid:
            os.close(root.fd)
            raise
        items = await walk(
            (self._mounts, self._worker), permit, root, recursive=args["recursive"], limit=limit + 1, after=after
        )
        return {"items": items[:limit], "cursor": items[limit - 1]["path"] if len(items) > limit else None}


async def walk(
    system: tuple[Mounts, Worker], permit: Permit, root: Handle, *, recursive: bool, limit: int, after: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Return up to `limit` items of the open folder `root`, which is closed; `permit` decides on each folder that is entered."""
    return await _Walk(*system, permit, after).page(root, recursive, limit)


def open_folder(mounts: Mounts, found: Found) -> Handle:
    """Open a found folder for listing; ``/mnt`` shows the mounts even where the workspace has no such folder.

    Raises:
        OSError: missing, not readable, or a race.
        Invalid: not a folder.
    """
    if found.stat is None and found.path == MOUNT_FOLDER and mounts.names:
        return _StandIn(mounts.open("/", os.O_PATH), found.path)
    if found.stat is not None and entry_type(found.stat) != "dir":
        raise Invalid("argument", f"`{found.path}` is not a folder", field="path", hint="read it with `fs.read`")
    return Handle(mounts.open(found.path, os.O_RDONLY | os.O_DIRECTORY), found.path)


def after_cursor(root: str, cursor: str | None) -> tuple[str, ...]:
    """Return the names, beneath `root`, of the last path of the page before; none for the first page.

    Raises:
        Invalid: a cursor of another listing.
    """
    if cursor is None:
        return ()
    prefix = root.rstrip("/") + "/"
    if not cursor.startswith(prefix) or cursor == prefix:
        raise Invalid(
            "argument", f"`{cursor}` is not a cursor of `{root}`", field="cursor", hint="pass the cursor of the page before"
        )
    return tuple(cursor[len(prefix) :].split("/"))
