"""File overlays: what speculative processes have changed in their own view, path by path, while the files stay as they are.

    birth      a fork that may be thrown away gets an overlay: `kernel.speculation`
    work       `fs.*` of it and of its children is served from the overlay (`devices.fs.overlay`); a change is one record
    end        killed: the overlay is dropped; merged or dropped by the host: its records end; exited: it waits for one of these

An overlay belongs to the process that was forked, its root. Paths are kept under their one name, also where two mounts show a file.

INVARIANT overlay-is-local: a change of an overlay is a state record in the append of its call, so it is exactly once and crash-proof.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import anyio

from agentos.abi.limits import OVERLAY_BYTES_MAX, OVERLAY_FILES_MAX
from agentos.abi.records import Change, OverlayRecord
from agentos.errors import Denied, Unavailable
from agentos.kernel.filelabel import FileLabels

if TYPE_CHECKING:
    from agentos.store import Store

__all__ = ["Overlay", "OverlayTable", "describe"]


class Overlay:
    """The changes of one root. A record with `base` "" is of a path that does not exist below."""

    def __init__(self, root: int, store: Store, labels: Callable[[str], int]) -> None:
        self.root = root
        self.is_over = False
        self.lock = anyio.Lock(fast_acquire=True)
        self.label_below = labels
        self._objects = store.objects
        self._get = store.get
        self._records = {record.path: record for record in store.current(OverlayRecord, pid=root)}

    def __iter__(self) -> Iterator[OverlayRecord]:
        """Iterate over the live records, by path."""
        return iter([self._records[path] for path in sorted(self._records) if self._records[path].live])

    def get(self, path: str) -> OverlayRecord | None:
        """Return the record of one path."""
        record = self._records.get(path)
        return record if record is not None and record.live else None

    def covers(self, path: str) -> bool:
        """Say whether the overlay alone says what is at `path`: it, or a folder that it lies in, was changed."""
        if self.get(path) is not None:
            return True
        while path != "/":
            path = path.rpartition("/")[0] or "/"
            record = self.get(path)
            if record is not None:
                return True
        return False

    def below(self, path: str) -> list[OverlayRecord]:
        """Return the live records of `path` and of what lies in it, by path. Cost: the records of the overlay."""
        prefix = path.rstrip("/") + "/"
        return [record for record in self if record.path == path or record.path.startswith(prefix)]

    def check_room(self, more: int, more_bytes: int) -> None:
        """Refuse what would make the overlay too large.

        Raises:
            Denied: `denied.budget`, over OVERLAY_FILES_MAX paths or OVERLAY_BYTES_MAX bytes.
        """
        count, size = 0, 0
        for record in self._records.values():
            count, size = count + record.live, size + record.size * record.live
        if count + more > OVERLAY_FILES_MAX or size + more_bytes > OVERLAY_BYTES_MAX:
            message = f"an overlay holds {OVERLAY_FILES_MAX} paths and {OVERLAY_BYTES_MAX} bytes at most"
            raise Denied("budget", message, hint="merge or drop it, or try less at once", limit="overlay")

    def keep(self, data: bytes) -> str:
        """Keep a content; durable with the append of the record that names it."""
        return self._objects.put(data)

    def load(self, record: OverlayRecord) -> bytes:
        """Return the content of a file."""
        return self._objects.get(record.object)

    def put(  # noqa: PLR0913 - the columns of a record
        self,
        path: str,
        kind: str,
        changes: list[Change],
        *,
        base: str,
        content: str = "",
        size: int = 0,
        labels: int = 0,
    ) -> None:
        """Write down what `path` is from now on: file, folder or gone. `base` is what is below, for a path not changed before.

        What then is as it is below has no record.

        Raises:
            Unavailable: the overlay was dropped, merged or taken back while the call was under way; nothing was changed.
        """
        if self.is_over:
            raise Unavailable("cancelled", "the overlay has ended", hint="nothing of it is left to change")
        record = self._records.get(path) or self._get(OverlayRecord, self.root, path)
        if record is None:
            record = OverlayRecord(pid=self.root, path=path, live=0)
        if not record.live:
            record.base = base
        replaced = record.seq
        as_below = (kind == "gone" and record.base == "") or (kind == "folder" and record.base == "folder")
        if as_below and not record.live:
            return
        record.kind, record.object, record.size, record.labels = kind, content, size, labels
        record.live = 0 if as_below else 1
        self._records[path] = record
        changes.append(Change(record, replaced))

    def end(self, changes: list[Change], upto: int | None = None) -> None:
        """End every record; with `upto`, only those that were written by that row."""
        for record in self:
            if upto is None or record.seq <= upto:
                replaced = record.seq
                record.live = 0
                changes.append(Change(record, replaced))


class OverlayTable:
    """Root -> overlay; read from the store when it is first needed."""

    def __init__(self, store: Store, labels: FileLabels, place: Callable[[str], str]) -> None:
        self._store = store
        self._labels = labels
        self.place = place
        self._overlays: dict[int, Overlay] = {}

    def of(self, root: int) -> Overlay:
        """Return the overlay of a root; an empty one when it has changed nothing."""
        if root not in self._overlays:
            self._overlays[root] = Overlay(root, self._store, self._labels.at)
        return self._overlays[root]

    def labels_under(self, path: str) -> int:
        """Return the join of the labels that the files in a folder carry below the overlay."""
        return self._labels.under(path) if len(self._labels) else 0

    def drop(self, root: int, changes: list[Change]) -> None:
        """End the overlay of a root: its files are as if they had never been."""
        self.of(root).end(changes)
        self.forget(root)

    def forget(self, root: int) -> None:
        """Read the overlay of a root anew when it is next needed: its records were changed elsewhere, or are needed no more."""
        known = self._overlays.pop(root, None)
        if known is not None:
            known.is_over = True


def describe(record: OverlayRecord) -> dict[str, Any]:
    """Return a change as `proc.overlay` shows it."""
    return {"path": record.path, "kind": record.kind, "size": record.size, "base": record.base, "ref": record.object}
