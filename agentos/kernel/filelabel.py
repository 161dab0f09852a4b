"""File labels: what a file carries from the process that wrote it.

A path has an entry only while its label is not empty. Keys are resolved virtual paths: the ones that the device opened.

    ADMIT     what is about to be written carries the writer's label from now on, joined with what it had
    SETTLE    a file that was replaced as a whole has the writer's label alone; a moved one takes its label along; a deleted one loses it
    read      the result carries the labels of what was read; a listing those of all the names it may show

INVARIANT labels-join: between ADMIT and SETTLE a path has at least the join of both labels, so nobody reads laundered bytes meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator

from agentos.abi.limits import FILE_LABELS_MAX
from agentos.abi.records import Change, FileLabelRecord
from agentos.errors import Denied

__all__ = ["FileLabels"]


class FileLabels:
    """Path -> label, for files whose label is not empty."""

    def __init__(self) -> None:
        self._live: dict[str, FileLabelRecord] = {}
        self._written: dict[str, tuple[int, bool]] = {}  # path -> writers under way, and whether there were two at a time

    def load(self, record: FileLabelRecord) -> None:
        """Enter a label read from the store."""
        self._live[record.path] = record

    def __len__(self) -> int:
        """Return the number of labelled paths."""
        return len(self._live)

    def at(self, path: str) -> int:
        """Return the label of one path."""
        record = self._live.get(path)
        return record.labels if record is not None else 0

    def under(self, path: str) -> int:
        """Return the join of the labels of a path and of everything below it. Cost: the number of labelled paths."""
        label = 0
        for record in self._below(path):
            label |= record.labels
        return label

    def begin(self, path: str) -> None:
        """A writer of this path is under way: until it ends, nobody takes the path's label away."""
        writers, _ = self._written.get(path, (0, False))
        self._written[path] = writers + 1, writers > 0 or self._written.get(path, (0, False))[1]

    def end(self, path: str) -> bool:
        """The writer is done; says whether it was the only one all the time."""
        writers, overlapped = self._written[path]
        if writers > 1:
            self._written[path] = writers - 1, overlapped
        else:
            del self._written[path]
        return not overlapped

    def raise_to(self, path: str, label: int, changes: list[Change]) -> None:
        """Add bits to the label of a path.

        Raises:
            Denied: `denied.label`, FILE_LABELS_MAX paths are labelled already: what could not be remembered is not written.
        """
        record = self._live.get(path)
        if record is not None:
            if label & ~record.labels:
                self._set(record, record.labels | label, changes)
        elif label:
            if len(self._live) >= FILE_LABELS_MAX:
                raise Denied(
                    "label",
                    f"{FILE_LABELS_MAX} files carry labels, the most that are kept",
                    hint="write fewer files, or delete some",
                    resource=path,
                )
            self._live[path] = record = FileLabelRecord(path=path, labels=label)
            changes.append(Change(record))

    def replace(self, path: str, label: int, changes: list[Change]) -> None:
        """Give a path exactly this label: its content was replaced as a whole, or it is gone (0)."""
        record = self._live.get(path)
        if record is None:
            self.raise_to(path, label, changes)
        elif record.labels != label:
            self._set(record, label, changes)

    def move(self, path: str, to: str, changes: list[Change]) -> None:
        """Take the labels of a path and of everything below it to another path."""
        for record in list(self._below(path)):
            self.raise_to(to + record.path[len(path) :], record.labels, changes)
            self._drop(record, changes)

    def remove(self, path: str, changes: list[Change]) -> None:
        """Forget the labels of a path and of everything below it: it is gone."""
        for record in list(self._below(path)):
            self._drop(record, changes)

    def _drop(self, record: FileLabelRecord, changes: list[Change]) -> None:
        if record.path not in self._written:
            self._set(record, 0, changes)

    def _below(self, path: str) -> Iterator[FileLabelRecord]:
        prefix = path if path.endswith("/") else path + "/"
        return (record for at, record in self._live.items() if at == path or at.startswith(prefix))

    def _set(self, record: FileLabelRecord, label: int, changes: list[Change]) -> None:
        replaced = record.seq
        record.labels, record.live = label, 1 if label else 0
        if not label:
            del self._live[record.path]
        changes.append(Change(record, replaced))
