"""fs for speculative processes: a view of the files in which changes are records of an overlay, and no file is touched.

    where      the path without links, decided again on what it leads to, as outside; what the overlay has changed hides what is below
    read       from the overlay where it says what is there, else through the ordinary handler
    change     read what is below if it is the first change there (`base`), then records, in the append of the call

The ops are those of `fs` with the effect class local: nothing outside happens. What could not be done to the files is refused here too: a
read-only mount, a hard link, a path that leads out, a name that agentos keeps for itself.
INVARIANT overlay-touches-nothing: nothing here opens a host file for writing, makes, renames or removes one.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from agentos.abi.labels import SECRET
from agentos.abi.limits import BEFORE_IMAGE_BYTES_MAX, LIST_ENTRIES_MAX
from agentos.abi.op import Effect, Op
from agentos.abi.ops.fs import FAMILY
from agentos.abi.permit import Permit
from agentos.abi.probe import reached
from agentos.abi.resource import Resource
from agentos.abi.syscall import Syscall
from agentos.devices.fs.fault import exists, not_regular, shown, translate
from agentos.devices.fs.links import Found
from agentos.devices.fs.listing import Listing, after_cursor, open_folder, walk
from agentos.devices.fs.mounts import Mounts
from agentos.devices.fs.reach import Slot, open_file, open_slot, reach
from agentos.devices.fs.read import Reading, check_encoding, content_of, entry_type, read_bytes
from agentos.devices.fs.tree import survey
from agentos.devices.fs.worker import Worker
from agentos.devices.fs.write import check_digest, content, digest
from agentos.errors import Invalid, Unavailable

__all__ = ["OverlayFiles"]

_KINDS: Final = {"dir": "folder"}


@dataclass(frozen=True, slots=True)
class _Sight:
    """What is at a path in the view. `record` is the overlay's, where it says so; `found` is what is below, where that shows.

    `path` is where it really is, `name` the one name under which the overlay keeps it.
    """

    path: str
    name: str
    kind: str
    record: Any = None
    found: Found | None = None


class OverlayFiles:
    """Serves `fs.*` of processes that work on an overlay.

    Args:
        mounts: The mounts.
        worker: Threads for what takes long.
        table: The overlays: `kernel.overlay.OverlayTable`.
    """

    def __init__(self, mounts: Mounts, worker: Worker, table: Any) -> None:
        self._mounts = mounts
        self._worker = worker
        self._table = table
        self._reading = Reading(mounts, worker)
        self._listing = Listing(mounts, worker)

    def syscalls(self) -> list[Syscall]:
        """Return the ops of `fs` with their handlers for an overlay."""
        served: dict[str, Callable[..., Any]] = {
            "fs.read": self.read, "fs.list": self.list_, "fs.stat": self.stat, "fs.write": self.write, "fs.mkdir": self.mkdir,
            "fs.move": self.move, "fs.delete": self.delete,
        }  # fmt: skip
        return [Syscall(_local(op), served[op.name]) for op in FAMILY.ops]

    # --- looking --------------------------------------------------------------------------------------------------------

    async def read(self, permit: Permit, args: dict[str, Any]) -> str | bytes:
        """Read a whole file of the view; arguments and errors as outside."""
        check_encoding(args["encoding"])
        overlay, sight = self._sight(permit, args["path"])
        if sight.record is None and sight.found is not None:
            permit.labels |= overlay.label_below(sight.name)
            return await self._reading.read(permit, args)
        permit.spend("fs.read")
        _check_file(sight)
        permit.labels |= sight.record.labels
        return content_of(overlay.load(sight.record), args)

    async def stat(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """Describe one path of the view; what the overlay made has no time."""
        overlay, sight = self._sight(permit, args["path"])
        if sight.found is not None:
            permit.labels |= overlay.label_below(sight.name)
            return await self._reading.stat(permit, args)
        permit.spend("fs.stat")
        if sight.record is None:
            return {"path": sight.path, "type": "missing"}
        permit.labels |= sight.record.labels
        return {**_item(sight.path, sight.record), "mode": "0644" if sight.kind == "file" else "0755"} | {"path": sight.path}

    async def list_(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """List a folder of the view, in pages; arguments and errors as outside."""
        overlay, sight = self._sight(permit, args["path"])
        permit.spend("fs.list")
        if sight.kind != "folder":
            raise _no_folder(sight)
        after = after_cursor(sight.path, args["cursor"])
        permit.labels |= self._table.labels_under(sight.name)
        items: dict[str, dict[str, Any]] = {}
        if sight.found is not None:
            root = reach(self._mounts, permit, sight.path, partial(open_folder, self._mounts), follow=False)
            below = await walk((self._mounts, self._worker), permit, root, recursive=args["recursive"], limit=LIST_ENTRIES_MAX)
            items = {item["path"]: item for item in below if not overlay.covers(self._table.place(item["path"]))}
        for record in overlay.below(sight.name):
            path = sight.path.rstrip("/") + record.path[len(sight.name.rstrip("/")) :]
            inner = path[len(sight.path.rstrip("/")) + 1 :]
            if record.kind != "gone" and inner and (args["recursive"] or "/" not in inner):
                permit.labels |= record.labels
                items[path] = _item(path, record)
        prefix = len(sight.path.rstrip("/")) + 1
        ordered = sorted((tuple(path[prefix:].split("/")), path) for path in items)
        page = [items[path] for parts, path in ordered if parts > after][: args["limit"] + 1]
        more = len(page) > args["limit"]
        return {"items": page[: args["limit"]], "cursor": page[args["limit"] - 1]["path"] if more else None}

    # --- changing -------------------------------------------------------------------------------------------------------

    async def write(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """Write a whole file of the view; arguments, result and errors as outside."""
        permit.spend("fs.write")
        data, mode = content(args), args["mode"]
        async with self._overlay(permit).lock:
            overlay, sight = self._sight(permit, args["path"], change=True)
            self._check_parent(overlay, sight.path)
            if sight.kind != "absent":
                if mode == "create":
                    raise exists(sight.path, "path")
                _check_file(sight)
            old = await self._content(overlay, sight)
            self._tell(overlay, permit, sight, args)
            check_digest(sight.path, args.get("if_digest"), digest(old) if old is not None else "")
            whole = old + data if mode == "append" and old is not None else data
            if len(whole) > BEFORE_IMAGE_BYTES_MAX:
                message = f"`{sight.path}` would be over {BEFORE_IMAGE_BYTES_MAX} bytes"
                raise Invalid("argument", message, field="data", hint="start a new file")
            overlay.check_room(1, len(whole))
            labels = permit.process.call_label | (self._labels(overlay, sight) if mode == "append" else 0)
            base = digest(old) if old is not None and sight.found is not None else ""
            reached("overlay.write")
            kept = overlay.keep(old) if old is not None else None
            overlay.put(
                sight.name, "file", permit.changes, base=base, content=overlay.keep(whole), size=len(whole), labels=labels
            )
        return {"path": sight.path, "bytes": len(whole), "digest": digest(whole), "before": kept}

    async def mkdir(self, permit: Permit, args: dict[str, Any]) -> None:
        """Make a folder of the view and its missing parents; errors as outside."""
        permit.spend("fs.mkdir")
        async with self._overlay(permit).lock:
            overlay, sight = self._sight(permit, args["path"], change=True)
            missing: list[str] = []
            path, kind = sight.path, sight.kind
            while kind == "absent":
                missing.append(path)
                path = path.rpartition("/")[0] or "/"
                kind = self._look(overlay, path).kind
            if kind != "folder":
                message = f"`{sight.path}` or a folder before it is not a folder"
                raise Invalid("state", message, field="path", hint="choose another path")
            for parent in missing[1:]:
                permit.recheck("resolved", parent, 0)
            overlay.check_room(len(missing), 0)
            for each in reversed(missing):
                overlay.put(self._table.place(each), "folder", permit.changes, base="", labels=permit.process.call_label)

    async def delete(self, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
        """Delete a file, link or folder of the view; arguments and errors as outside."""
        permit.spend("fs.delete")
        async with self._overlay(permit).lock:
            overlay, sight = self._sight(permit, args["path"], change=True, follow=False)
            if sight.kind == "absent":
                raise Unavailable("missing", f"`{sight.path}` does not exist", hint="look with `fs.list`", path=sight.path)
            entries = await self._entries(overlay, permit, sight)
            for entry in entries:
                self._tell(overlay, permit, entry, args)
            if len(entries) > 1 and not args["recursive"]:
                hint = "pass recursive=True to delete what it holds"
                raise Invalid("argument", f"`{sight.path}` is not empty", field="recursive", hint=hint)
            old = await self._contents(overlay, entries)
            if args.get("if_digest") is not None:
                check_digest(
                    sight.path, args["if_digest"], digest(old[sight.name]) if sight.name in old else f"of a {sight.kind}"
                )
            overlay.check_room(len(entries), 0)
            self._remove(overlay, permit, entries, old)
        kind = {"folder": "dir"}.get(sight.kind, sight.kind)
        return {"path": sight.path, "type": kind, "entries": len(entries), "before": None}

    async def move(self, permit: Permit, args: dict[str, Any]) -> None:
        """Rename a file or folder of the view within one mount; errors as outside. A link is not moved here."""
        permit.spend("fs.move")
        async with self._overlay(permit).lock:
            overlay, source = self._sight(permit, args["path"], change=True, follow=False)
            _, target = self._sight(permit, args["to"], change=True, follow=False, index=1)
            self._check_move(overlay, source, target)
            entries = await self._entries(overlay, permit, source)
            for entry in entries[1:]:
                permit.recheck("resolved", target.path + entry.path[len(source.path) :], 1)
            old = await self._contents(overlay, entries)
            if any(entry.kind not in ("file", "folder") for entry in entries):
                raise Invalid("argument", f"`{source.path}` is or holds a link", field="path", hint="move what is not a link")
            overlay.check_room(2 * len(entries), sum(len(data) for data in old.values()))
            for entry in entries:
                data = old.get(entry.name)
                overlay.put(
                    self._table.place(target.path + entry.path[len(source.path) :]), entry.kind, permit.changes, base="",
                    content=overlay.keep(data) if data is not None else "", size=len(data or b""),
                    labels=self._labels(overlay, entry) | _said_of(permit, entry) | permit.process.call_label,
                )  # fmt: skip
            self._remove(overlay, permit, entries, old)

    def _check_move(self, overlay: Any, source: _Sight, target: _Sight) -> None:
        self._check_parent(overlay, source.path)
        self._check_parent(overlay, target.path)
        if self._mounts.find(source.path) is not self._mounts.find(target.path):
            message = f"`{target.path}` lies in another mount than `{source.path}`"
            raise Invalid("argument", message, field="to", hint="read it here, write it there, then delete it")
        if target.kind != "absent":
            raise exists(target.path, "to")
        if source.kind == "absent":
            raise Unavailable("missing", f"`{source.path}` does not exist", hint="look with `fs.list`", path=source.path)
        if target.path.startswith(source.path + "/"):
            raise Invalid("argument", f"`{target.path}` lies inside `{source.path}`", field="to", hint="move it elsewhere")

    def _remove(self, overlay: Any, permit: Permit, entries: list[_Sight], old: dict[str, bytes]) -> None:
        for entry in reversed(entries):
            base = digest(old[entry.name]) if entry.name in old else entry.kind
            overlay.put(entry.name, "gone", permit.changes, base=base if entry.found is not None else "")

    # --- the view -------------------------------------------------------------------------------------------------------

    def _overlay(self, permit: Permit) -> Any:
        return self._table.of(permit.process.record.overlay)

    def _sight(
        self, permit: Permit, path: str, *, change: bool = False, follow: bool = True, index: int = 0
    ) -> tuple[Any, _Sight]:
        """Find out where a path leads in the view and what is there, and have that decided."""
        overlay = self._overlay(permit)
        if change:
            self._mounts.writable(path)
        if overlay.covers(self._table.place(path)):
            self._mounts.find(path)
            permit.recheck("resolved", path, index)
            sight = self._look(overlay, path)
        else:
            found = reach(self._mounts, permit, path, lambda found: found, index=index, follow=follow)
            sight = self._look(overlay, found.path, found)
        if change:
            self._mounts.writable(sight.path)
            if self._mounts.is_root(sight.path) and (permit.op != "fs.mkdir" or sight.kind != "folder"):
                raise Invalid("argument", f"`{sight.path}` is a mount", field="path", hint="name something inside it")
        return overlay, sight

    def _look(self, overlay: Any, path: str, found: Found | None = None) -> _Sight:
        """Say what is at a path without links, which was decided."""
        name = self._table.place(path)
        record = overlay.get(name)
        if record is not None:
            return _Sight(
                path, name, "absent" if record.kind == "gone" else record.kind, record if record.kind != "gone" else None
            )
        if overlay.covers(name):
            return _Sight(path, name, "absent")
        if found is None:
            found = Found(path, self._stat(path))
        if found.stat is None:
            is_stand_in = self._mounts.is_root(path)
            return _Sight(path, name, "folder" if is_stand_in else "absent", found=found)
        kind = entry_type(found.stat)
        return _Sight(path, name, _KINDS.get(kind, kind), found=found)

    def _stat(self, path: str) -> os.stat_result | None:
        try:
            fd = self._mounts.open(path, os.O_PATH | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            return os.fstat(fd)
        finally:
            os.close(fd)

    def _check_parent(self, overlay: Any, path: str) -> None:
        if self._look(overlay, path.rpartition("/")[0] or "/").kind != "folder":
            raise Unavailable("missing", f"the folder of `{path}` does not exist", hint="make it with `fs.mkdir`", path=path)

    async def _content(self, overlay: Any, sight: _Sight) -> bytes | None:
        """Return the content of a file of the view, None when there is none."""
        if sight.record is not None:
            return bytes(overlay.load(sight.record)) if sight.kind == "file" else None
        if sight.kind != "file" or sight.found is None:
            return None
        try:
            with open_file(self._mounts, sight.found) as handle:
                data = await self._worker.read(handle.stat.st_size, read_bytes, handle.fd, BEFORE_IMAGE_BYTES_MAX)
        except OSError as error:
            raise translate(error, sight.path) from error
        if len(data) > BEFORE_IMAGE_BYTES_MAX:
            message = f"`{sight.path}` is over {BEFORE_IMAGE_BYTES_MAX} bytes, more than is kept for undo"
            raise Invalid("argument", message, field="path", hint="leave it to a process that is not speculative")
        return data

    async def _contents(self, overlay: Any, entries: list[_Sight]) -> dict[str, bytes]:
        """Return name -> content of the files among some entries."""
        found: dict[str, bytes] = {}
        size = 0
        for entry in entries:
            data = await self._content(overlay, entry)
            if data is not None:
                found[entry.name] = data
                size += len(data)
            if size > BEFORE_IMAGE_BYTES_MAX:
                message = f"`{entries[0].path}` holds more than {BEFORE_IMAGE_BYTES_MAX} bytes"
                raise Invalid("argument", message, field="path", hint="take its parts one by one")
        return found

    async def _entries(self, overlay: Any, permit: Permit, sight: _Sight) -> list[_Sight]:
        """Return what a path of the view is and holds, folders first; what lies beneath is decided entry by entry."""
        entries = {sight.path: sight}
        if sight.kind == "folder" and sight.found is not None:
            try:
                with open_slot(self._mounts, sight.found) as slot:
                    below = await self._worker.run(_survey, slot)
            except OSError as error:
                raise translate(error, sight.path) from error
            for inner, status in below:
                path = f"{sight.path}/{inner}"
                if not overlay.covers(self._table.place(path)):
                    entries[path] = self._look(overlay, path, Found(path, status))
        for record in overlay.below(sight.name):
            path = sight.path + record.path[len(sight.name) :]
            if record.kind != "gone":
                entries[path] = _Sight(path, record.path, record.kind, record)
        for path, entry in entries.items():
            if path != sight.path:
                permit.recheck("resolved", path, 0)
            if entry.kind == "other" and entry.found is not None and entry.found.stat is not None:
                raise not_regular(path, entry.found.stat.st_mode)
        return [entries[path] for path in sorted(entries)]

    def _tell(self, overlay: Any, permit: Permit, sight: _Sight, args: dict[str, Any]) -> None:
        """The result tells a digest of what is there, and a condition more; as outside, where the broker sees to it."""
        permit.labels |= self._labels(overlay, sight) & (SECRET if args.get("if_digest") is None else ~0)

    def _labels(self, overlay: Any, sight: _Sight) -> int:
        """Return what a file of the view carries."""
        return int(sight.record.labels if sight.record is not None else overlay.label_below(sight.name))


def _said_of(permit: Permit, sight: _Sight) -> int:
    """Return what label statements say of a place: it stays with what is moved away from there."""
    labels = permit.process.stack.labels
    return int(
        labels.resource(Resource("path", sight.path, sight.path)) | labels.resource(Resource("path", sight.name, sight.name))
    )


def _local(op: Op) -> Op:
    """Return the op as it is for an overlay: an effect inside the store, in the very append of its call."""
    own = copy.copy(op)
    own.effect, own.slot = Effect.LOCAL, ""
    own.inside = own.effect.inside
    return own


def _survey(slot: Slot) -> list[tuple[str, os.stat_result]]:
    return [(shown(entry.inner), entry.stat) for entry in survey(slot.folder, slot.name) if entry.inner]


def _check_file(sight: _Sight) -> None:
    if sight.kind == "absent":
        raise Unavailable("missing", f"`{sight.path}` does not exist", hint="look with `fs.list`", path=sight.path)
    if sight.kind != "file":
        message = f"`{sight.path}` is a {sight.kind}, not a file"
        raise Invalid("argument", message, field="path", hint="only regular files have content")


def _no_folder(sight: _Sight) -> Exception:
    if sight.kind == "absent":
        return Unavailable("missing", f"`{sight.path}` does not exist", hint="look with `fs.list`", path=sight.path)
    return Invalid("argument", f"`{sight.path}` is not a folder", field="path", hint="read it with `fs.read`")


def _item(path: str, record: Any) -> dict[str, Any]:
    kind = {"folder": "dir"}.get(record.kind, record.kind)
    return {"path": path, "name": path.rpartition("/")[2], "type": kind, "size": record.size, "mtime": 0.0}
