"""The part of the embedded API for checkpoints, restore, fork, and what has changed since."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio.lowlevel

from agentos.abi.limits import LIST_LIMIT_MAX
from agentos.abi.ops.ckpt import NOW
from agentos.abi.probe import reached
from agentos.abi.records import Change, CheckpointRecord, ProcessRecord
from agentos.abi.values import Checkpoint, Diff, RestoreReport
from agentos.errors import Invalid
from agentos.kernel.branch import copy_family, fork_at, last_row_of
from agentos.kernel.checkpoint import as_checkpoint
from agentos.kernel.compare import compare
from agentos.kernel.doings import Doings
from agentos.kernel.restore import Restored, replace, restarted, stopped
from agentos.kernel.seed import commit_image
from agentos.kernel.speculation import speculate
from agentos.runtime.base import KernelBase
from agentos.runtime.process import Process

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage

__all__ = ["History"]

_MODES = ("replace", "new")


class History(KernelBase):
    """Checkpoints, restore, fork, and what has changed since; a base of `Kernel`."""

    async def checkpoints(self, pid: int | None = None) -> list[Checkpoint]:
        """Return the checkpoints of a process, or all, oldest first. `Process.checkpoint` makes one."""
        return [as_checkpoint(record) for record in self.core.checkpoints.of(pid=pid)]

    async def drop_checkpoint(self, checkpoint: str) -> None:
        """Forget a checkpoint: nothing keeps the state that it names any more.

        Raises:
            Invalid: there is none of that id.
        """
        core = self.core
        changes: list[Change] = []
        record = core.checkpoints.drop(checkpoint, changes)
        await core.journal.durable(core.note(record.pid, "dropped", {"checkpoint": checkpoint}, changes))

    async def restore(self, checkpoint: str, *, mode: str = "replace") -> RestoreReport:
        """Take a process and its descendants back to a checkpoint, or start them once more from there.

        Args:
            checkpoint: Its id.
            mode: ``replace`` keeps pids and handles: programs are stopped first, and what has happened since stays in the journal.
                ``new`` copies them as a tree of its own, under new pids, beside those that go on.

        Returns:
            What was done, what of then is not there again, and what was done outside since, which no restore takes back.

        Raises:
            Invalid: there is no such checkpoint or mode.

        Cancellation: before the append nothing has changed but that programs run again from their save point; after it, the restore
            is done.
        """
        if mode not in _MODES:
            raise Invalid("argument", f"there is no mode `{mode}`", hint="replace or new", field="mode")
        core = self.core
        record = core.checkpoints.find(checkpoint)
        if mode == "new":
            changes: list[Change] = []
            done = copy_family(core, record, changes)
            first = done.pids[record.pid]
            data = {"checkpoint": checkpoint, "mode": mode, "from": record.pid, "pids": list(done.pids.values())}
            seq = core.note(first, "restored", data, changes)
            self._tell(done, "spawned", {"parent": 0, "restored": checkpoint})
        else:
            done, seq = await self._replace(record)
        await core.journal.durable(seq)
        return await self._report(record, mode, seq, done)

    async def _replace(self, record: CheckpointRecord) -> tuple[Restored, int]:
        core = self.core
        changes: list[Change] = []
        async with stopped(core, record):
            done = replace(core, record, changes)
            data = {"checkpoint": record.checkpoint, "mode": "replace", "at": record.at_seq, "pids": sorted(done.pids)}
            seq = core.note(record.pid, "restored", {**data, "killed": done.killed, "revived": done.revived}, changes)
        reached("restore.appended")
        self._tell(done, "restored", {**data, "seq": seq})
        self._tell(done, "exited", {"state": "killed", "error": f"checkpoint {record.checkpoint} was restored"}, done.killed)
        restarted(core, done)
        return done, seq

    def _tell(self, done: Restored, what: str, data: dict[str, Any], pids: Sequence[int] | None = None) -> None:
        """Let the followers of each process see what became of it; the restore itself is one row, of its first process."""
        for pid in [*done.pids.values()][1:] if pids is None else pids:
            self.core.note(pid, what, data)

    async def _report(self, record: CheckpointRecord, mode: str, seq: int, done: Restored) -> RestoreReport:
        members = done.members or set(done.pids)
        doings = Doings()
        for _ in doings.look(self.core.store, members, record.at_seq, seq):
            await anyio.lowlevel.checkpoint()
        return RestoreReport(
            checkpoint=record.checkpoint, mode=mode, seq=seq, pids=done.pids, killed=tuple(done.killed), revived=tuple(done.revived),
            effects=tuple(doings.effects), effects_count=doings.count, not_restored=tuple(done.not_restored),
            shared=doings.shared_names(), withdrawn=tuple(done.withdrawn),
        )  # fmt: skip

    async def fork(
        self,
        *,
        pid: int | None = None,
        checkpoint: str | None = None,
        seq: int | None = None,
        speculative: bool = False,
        grant: Sequence[str] | None = None,
    ) -> Process:
        """Start a process that goes on from what another was: now, at a checkpoint, or right after any row of its life.

        It has a pid and a tree of its own, the program state and the private objects of then, and an empty mailbox. Calls in flight are not
        copied: it makes them again, as its own.

        Args:
            pid: Whose state, alive or ended; or name a `checkpoint`.
            checkpoint: Its process and point.
            seq: Journal row, with `pid`: the state right after it. None is now, or the end of its life.
            speculative: Its effects go to an overlay.
            grant: Capability texts, as for `spawn`; None is what was held then and not revoked since, but nothing that counts uses.

        Raises:
            Invalid: neither or both are named, or the process did not live then.
            Denied: the image bounds what is granted.
        """
        core = self.core
        if (pid is None) == (checkpoint is None) or (checkpoint is not None and seq is not None):
            hint = "pid=..., pid=... with seq=..., or checkpoint=..."
            raise Invalid("argument", "a fork is of one process at one point", hint=hint, field="pid")
        if checkpoint is not None:
            record = core.checkpoints.find(checkpoint)
            pid, seq = record.pid, record.at_seq
        assert pid is not None
        at = last_row_of(core, pid) if seq is None else seq
        then = core.store.get(ProcessRecord, pid, at=at)
        if speculative and then is not None and then.overlay:
            hint = "fork without it"
            raise Invalid("state", "what is tried within a try goes to the same overlay", field="speculative", hint=hint)
        changes: list[Change] = []
        child = fork_at(core, pid, at, changes, grant=grant)
        if speculative:
            speculate(core, child, changes)
        data = {"image": child.record.image, "parent": 0, "fork": True, "from": pid, "at": at}
        await core.journal.durable(core.note(child.pid, "spawned", data, changes))
        return Process(core, self.broker, child.pid)

    async def diff(self, a: str, b: str | None = None, *, limit: int = LIST_LIMIT_MAX, cursor: str | None = None) -> Diff:
        """Return what differs between two checkpoints of one tree, or between one and now, a page at a time.

        Args:
            a: The older checkpoint: its process and descendants are compared.
            b: The newer one; None or ``now`` is now.
            limit: Items of a page, 1 to 1,000.
            cursor: `Diff.cursor` of the page before.

        Raises:
            Invalid: there is no such checkpoint, or the two do not compare.
        """
        find = self.core.checkpoints.find
        newer = None if b is None or b == NOW else find(b)
        return compare(self.core, find(a), newer, limit=limit, cursor=cursor)[0]

    async def commit_image(self, checkpoint: str, name: str, version: str = "1") -> str:
        """Make an image of a checkpoint and return its digest: its process's image with the state and objects it had.

        It requests no more than the process held, and grants nothing.

        Raises:
            Invalid: there is no such checkpoint, a bad name, or another image has it.
        """
        core = self.core
        changes: list[Change] = []
        image: AgentImage = commit_image(core, core.checkpoints.find(checkpoint), name, version, changes)
        note = core.note(0, "image", {"image": image.ref, "digest": image.digest, "checkpoint": checkpoint}, changes)
        await core.journal.durable(note)
        return image.digest
