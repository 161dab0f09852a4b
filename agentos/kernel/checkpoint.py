"""Checkpoints: names for points of history.

A checkpoint is one row: the state that it names is what the versioned tables and the journal say of a process and its descendants right
after row `seq`; `kernel.past` reads it.

INVARIANT cost-is-local: making a checkpoint costs its row, whatever there is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentos.abi.limits import CHECKPOINTS_PER_TREE_MAX, IDENTIFIER_CHARS_MAX
from agentos.abi.records import Change, CheckpointRecord
from agentos.abi.values import Checkpoint
from agentos.errors import Invalid, Unavailable

if TYPE_CHECKING:
    from agentos.kernel.process import AgentProcess
    from agentos.store import Store

__all__ = ["CheckpointTable", "as_checkpoint", "check_note"]


class CheckpointTable:
    """Id -> checkpoint, for those that live; read from the store when the first is asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read: dict[str, CheckpointRecord] | None = None

    @property
    def _live(self) -> dict[str, CheckpointRecord]:
        if self._read is None:
            self._read = {record.checkpoint: record for record in self._store.current(CheckpointRecord, live=True)}
        return self._read

    def save(self, process: AgentProcess, note: str, changes: list[Change], *, by: int, now: float) -> CheckpointRecord:
        """Name the point right after the next row of the journal.

        Raises:
            Invalid: the note is too long.
            Unavailable: `unavailable.overloaded`, the tree has CHECKPOINTS_PER_TREE_MAX checkpoints of its own, or of the host.
        """
        check_note(note)
        tree, seq = process.record.tree, self._store.journal.head + 1
        # the host's are counted apart, so that a process which fills its tree's leaves the host able to save it
        if sum(r.tree == tree and bool(r.by) == bool(by) for r in self._live.values()) >= CHECKPOINTS_PER_TREE_MAX:
            hint = "drop some: `agentos checkpoints` lists them"
            raise Unavailable("overloaded", f"tree {tree} has {CHECKPOINTS_PER_TREE_MAX} checkpoints", hint=hint, tree=tree)
        record = CheckpointRecord(
            checkpoint=f"c{seq}", tree=tree, pid=process.pid, at_seq=seq, note=note, by=by, at=now,
        )  # fmt: skip
        self._live[record.checkpoint] = record
        changes.append(Change(record))
        return record

    def find(self, checkpoint: str) -> CheckpointRecord:
        """Return a checkpoint.

        Raises:
            Invalid: `invalid.argument`, there is none of that id, or it was dropped.
        """
        record = self._live.get(checkpoint)
        if record is None:
            hint = "see `agentos checkpoints`"
            raise Invalid("argument", f"there is no checkpoint `{checkpoint[:100]}`", hint=hint, field="checkpoint")
        return record

    def drop(self, checkpoint: str, changes: list[Change]) -> CheckpointRecord:
        """End a checkpoint: nothing keeps its state any more.

        Raises:
            Invalid: as `find`.
        """
        record = self.find(checkpoint)
        replaced = record.seq
        record.live = 0
        del self._live[checkpoint]
        changes.append(Change(record, replaced))
        return record

    def of(self, *, pid: int | None = None, tree: int | None = None) -> list[CheckpointRecord]:
        """Return the checkpoints of a process or a tree, or all, oldest first."""
        return sorted(
            (r for r in self._live.values() if (pid is None or r.pid == pid) and (tree is None or r.tree == tree)),
            key=lambda record: record.at_seq,
        )


def check_note(note: str) -> None:
    """Refuse a note that is no short text.

    Raises:
        Invalid: `invalid.argument`.
    """
    if len(note) > IDENTIFIER_CHARS_MAX:
        hint = f"{IDENTIFIER_CHARS_MAX} at most"
        raise Invalid("argument", f"the note has {len(note)} characters", hint=hint, field="note")


def as_checkpoint(record: CheckpointRecord) -> Checkpoint:
    """Return the checkpoint as people and programs see it."""
    return Checkpoint(
        id=record.checkpoint, pid=record.pid, tree=record.tree, seq=record.at_seq, note=record.note, by=record.by, at=record.at
    )
