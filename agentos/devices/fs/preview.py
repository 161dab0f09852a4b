"""What a person sees before a file is changed: plain data, bounded, without an effect.

A preview observes the target, so the broker asks for it only once capability and policy have agreed to ask. Where a link lies on the
path, the place it leads to was not decided yet: then the preview names that place and shows nothing of what is there.
What cannot be looked at is said in `problem`; the call itself will say it again.
"""

from __future__ import annotations

import difflib
import io
from typing import Any, Final

from agentos.abi.limits import BEFORE_IMAGE_BYTES_MAX, KIB, PREVIEW_BYTES_MAX
from agentos.devices.fs.atomic import Before, before_image
from agentos.devices.fs.fault import shown
from agentos.devices.fs.links import Found, resolve
from agentos.devices.fs.mounts import Mounts
from agentos.devices.fs.reach import open_slot
from agentos.devices.fs.read import entry_type
from agentos.devices.fs.tree import survey
from agentos.devices.fs.worker import Worker
from agentos.devices.fs.write import content, digest
from agentos.errors import AgentOSError

__all__ = ["Previews", "difference"]

_DIFF_BYTES_MAX: Final = 256 * KIB
_DIFF_LINES_MAX: Final = 4_000


class Previews:
    """Describes fs.write, fs.mkdir, fs.move and fs.delete before they happen."""

    def __init__(self, mounts: Mounts, worker: Worker) -> None:
        self._mounts = mounts
        self._worker = worker

    async def write(self, args: dict[str, Any], _facts: Any = None) -> dict[str, Any]:
        """Show a write as a unified diff with the sha256 of the content before and after.

        Returns:
            `summary`, `path`, `before`, `after`, `diff` (PREVIEW_BYTES_MAX at most), `cut` when the diff is longer, and `resolved` or
            `problem` where they apply.
        """
        return await self._worker.run(self._guard, self._write, args)

    async def mkdir(self, args: dict[str, Any], _facts: Any = None) -> dict[str, Any]:
        """Show a mkdir: one line, and where it leads."""
        return await self._worker.run(self._guard, self._mkdir, args)

    async def move(self, args: dict[str, Any], _facts: Any = None) -> dict[str, Any]:
        """Show a move: one line, and where both paths lead."""
        return await self._worker.run(self._guard, self._move, args)

    async def delete(self, args: dict[str, Any], _facts: Any = None) -> dict[str, Any]:
        """Show a delete: one line with the number of entries and bytes, and a hash of names, sizes and times."""
        return await self._worker.run(self._guard, self._delete, args)

    def _guard(self, show: Any, args: dict[str, Any]) -> dict[str, Any]:
        try:
            data: dict[str, Any] = show(args)
        except AgentOSError as error:
            return {"path": args["path"], "summary": f"cannot be previewed: {error.message}", "problem": error.code}
        except OSError as error:
            text = (error.strerror or "input/output error").lower()
            return {"path": args["path"], "summary": f"cannot be previewed: {text}", "problem": "unavailable.device"}
        return data

    def _write(self, args: dict[str, Any]) -> dict[str, Any]:
        data, mode = content(args), args["mode"]
        found = resolve(self._mounts, args["path"], follow=True)
        linked = found.path != args["path"]
        before = None if linked else self._before(found)
        whole = before.data + data if before and mode == "append" else data
        verb = {"append": "append to", "create": "create"}.get(mode, "replace" if found.stat else "create")
        shown_diff, cut = difference(before.data if before else b"", whole, found.path)
        preview = {
            "path": args["path"], "summary": f"{verb} `{args['path']}` ({len(data)} bytes)", "before": _hash(before),
            "after": digest(whole), "diff": shown_diff,
        }  # fmt: skip
        return preview | ({"cut": True} if cut else {}) | ({"resolved": found.path} if linked else {})

    def _before(self, found: Found) -> Before | None:
        if found.stat is None:
            return None
        with open_slot(self._mounts, found) as slot:
            return before_image(slot, BEFORE_IMAGE_BYTES_MAX)

    def _mkdir(self, args: dict[str, Any]) -> dict[str, Any]:
        found = resolve(self._mounts, args["path"], follow=True)
        return {"path": args["path"], "summary": f"make the folder `{args['path']}`", "resolved": found.path}

    def _move(self, args: dict[str, Any]) -> dict[str, Any]:
        source = resolve(self._mounts, args["path"], follow=False)
        target = resolve(self._mounts, args["to"], follow=False)
        summary = f"move `{args['path']}` to `{args['to']}`"
        return {"path": args["path"], "summary": summary, "resolved": source.path, "resolved_to": target.path}

    def _delete(self, args: dict[str, Any]) -> dict[str, Any]:
        found = resolve(self._mounts, args["path"], follow=False)
        preview: dict[str, Any] = {"path": args["path"], "summary": f"delete `{args['path']}`", "resolved": found.path}
        if found.stat is None or found.path != args["path"]:
            return preview
        with open_slot(self._mounts, found) as slot:
            entries = survey(slot.folder, slot.name)
        size = sum(entry.stat.st_size for entry in entries if entry_type(entry.stat) == "file")
        lines = [
            f"{shown(entry.inner)}\0{entry.stat.st_size}\0{entry.stat.st_mtime_ns}\0{shown(entry.target)}" for entry in entries
        ]
        many = "1 entry" if len(entries) == 1 else f"{len(entries)} entries"
        preview["summary"] += f" ({entry_type(found.stat)}, {many}, {size} bytes)"
        return preview | {"before": digest("\n".join(lines).encode())}


def _hash(before: Before | None) -> str | None:
    return digest(before.data) if before else None


def difference(old: bytes, new: bytes, path: str) -> tuple[str, bool]:
    """Return a unified diff and whether it was cut; content that is not text or is large is described instead."""
    try:
        before, after = _lines(old), _lines(new)
    except UnicodeDecodeError:
        return f"binary content, {len(old)} bytes before, {len(new)} bytes after", False
    if len(old) + len(new) > _DIFF_BYTES_MAX or len(before) + len(after) > _DIFF_LINES_MAX:
        begin = new[:PREVIEW_BYTES_MAX].decode(errors="ignore")
        return _cut(f"large content, {len(old)} bytes before, {len(new)} bytes after; it begins:\n{begin}")
    lines = difflib.unified_diff(before, after, f"{path} (before)", f"{path} (after)")
    return _cut("".join(line if line.endswith("\n") else f"{line}\n\\ no newline at end of file\n" for line in lines))


def _lines(data: bytes) -> list[str]:
    """Return the lines of a text as a file has them: other separators than a line feed are characters of a line."""
    return list(io.StringIO(data.decode(), newline="\n"))


def _cut(text: str) -> tuple[str, bool]:
    data = text.encode()
    if len(data) <= PREVIEW_BYTES_MAX:
        return text, False
    return data[:PREVIEW_BYTES_MAX].decode(errors="ignore"), True
