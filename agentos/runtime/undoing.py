"""The part of the embedded API for undo of file effects, and the files of speculative processes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio.lowlevel
import anyio.to_thread

from agentos.abi.labels import SECRET, UNTRUSTED
from agentos.abi.limits import RESTORE_LISTED_MAX
from agentos.abi.records import Change, ProcessRecord
from agentos.abi.values import MergeReport, UndoReport
from agentos.errors import Invalid
from agentos.kernel.lifecycle import signal
from agentos.kernel.past import Past
from agentos.kernel.speculation import is_unused, layers_without_speculation
from agentos.runtime.base import KernelBase
from agentos.runtime.fileplan import Plan, make_plan
from agentos.runtime.filerun import Errand, carry_out, unfinished
from agentos.runtime.merge import plan_merge
from agentos.runtime.undo import Effect, Effects, parts_of

if TYPE_CHECKING:
    from agentos.devices.fs.look import Looking

__all__ = ["Undoing"]


class Undoing(KernelBase):
    """Undo of file effects, and the files of speculative processes; a base of `Kernel`."""

    looking: Looking

    async def undo(
        self, *, pid: int | None = None, seq: int | None = None, checkpoint: str | None = None, dry_run: bool = False
    ) -> UndoReport:
        """Take file effects back: of a process with its descendants, of one call, or of everything since a checkpoint.

        What is there must be what was left there, path by path; where it is not, nothing at all is undone and the report shows the
        difference. It is done by a process of its own, through the door: see `agentos.runtime.filerun`. Asking for the same again goes on
        where a crash or a cancel has stopped it, and leaves alone what is restored already.

        Args:
            pid: Process, alive or ended.
            seq: Journal number of a call.
            checkpoint: Id of a checkpoint.
            dry_run: Report what would be done: no effect, no row.

        Raises:
            Invalid: not exactly one of the three, there is no such process, call or checkpoint, or a path that no capability can name.

        Cancellation: the call under way is finished or settled as unknown; its process stays until the same undo is asked for again.
        """
        chosen: dict[str, Any] = {
            name: given for name, given in (("pid", pid), ("seq", seq), ("checkpoint", checkpoint)) if given is not None
        }
        if len(chosen) != 1:
            raise Invalid(
                "argument", "exactly one of `pid`, `seq` and `checkpoint` is needed", field="pid", hint="say what to undo"
            )
        errand = None if dry_run else unfinished(self, "undo", chosen)
        if errand is not None:
            await carry_out(self, errand)
            if not errand.refused:
                return _report(errand.plan, errand)
        effects = await self._effects(**chosen)
        parts, first, missing = parts_of(effects.files, self.core.store, self.core.place)
        plan = await anyio.to_thread.run_sync(make_plan, parts, self.looking, self.core.store.objects.get)
        missing += [
            {"op": "fs.delete", "resource": path, "seq": first[path].intent.seq, "pid": first[path].intent.pid}
            for path in plan.impossible
        ]
        report = replace(
            _report(plan), dry_run=dry_run, not_covered=(*missing, *effects.others)[:RESTORE_LISTED_MAX],
            not_covered_count=len(missing) + effects.others_count,
        )  # fmt: skip
        if dry_run or plan.conflicts or not plan.steps:
            return report
        errand = Errand("undo", chosen, plan, self._labels(first))
        await carry_out(self, errand)
        return replace(report, pid=errand.pid, refused=tuple(errand.refused))

    async def merge(self, pid: int, *, dry_run: bool = False) -> MergeReport:
        """Make what a speculative process has changed in its view of the files true, all of it or nothing, and end its overlay.

        Each file below must be as it was when the process first changed it; where one is not, nothing is done and the report shows the
        difference. It is done by a process of the host's own, as an undo is, under the kernel's policy layers and those that the
        process has but its speculative one; what these ask, the host who merges has answered. Asking again goes on where a crash has
        stopped it.

        Args:
            pid: The speculative process: it and its children have ended, or wait for the host.
            dry_run: Report what would be done: no effect, no row.

        Raises:
            Invalid: it is not speculative, or still runs.

        Cancellation: as `undo`.
        """
        core = self.core
        record = self._speculative(pid)
        if not is_unused(core, pid):
            raise Invalid("state", f"process {pid} or a child of it still runs", hint="wait for it, or drop it", pid=pid)
        errand = None if dry_run else unfinished(self, "merge", {"pid": pid})
        if errand is not None:
            errand.finish = partial(core.overlays.drop, pid)
            await carry_out(self, errand)
        if errand is None or errand.refused:
            changes = list(core.overlays.of(pid))
            plan = await anyio.to_thread.run_sync(plan_merge, changes, self.looking, core.store.objects.get)
            errand = Errand("merge", {"pid": pid}, plan, {each.path: each.labels for each in changes})
            errand.layers = layers_without_speculation(core, record)
        told = _told(errand.plan, None) | {"merged": pid, "dry_run": dry_run}
        if dry_run or errand.plan.conflicts:
            return MergeReport(**told)
        if not errand.pid and errand.plan.steps:
            errand.finish = partial(core.overlays.drop, pid)
            await carry_out(self, errand)
        elif not errand.pid:
            await self._end_overlay(pid, "merged")
        return MergeReport(
            **told | {"pid": errand.pid or None, "refused": tuple(errand.refused), "is_over": not errand.refused}
        )

    async def drop(self, pid: int) -> None:
        """Throw away what a speculative process has changed in its view of the files, and end it if it lives.

        Raises:
            Invalid: it is not speculative.
        """
        self._speculative(pid)
        process = self.core.processes.get(pid)
        if process is not None:
            changes: list[Change] = []
            signal(self.core, process, "kill", changes)
            self.core.note(pid, "state", {"signal": "kill", "state": process.state}, changes)
        for each in [each for each in self.core.processes if each.record.overlay == pid]:
            changes = []
            signal(self.core, each, "kill", changes)
            self.core.note(each.pid, "state", {"signal": "kill", "state": each.state}, changes)
        await self._end_overlay(pid, "dropped")

    async def _end_overlay(self, pid: int, how: str) -> None:
        changes: list[Change] = []
        self.core.overlays.drop(pid, changes)
        await self.core.journal.durable(self.core.note(pid, how, {"overlay": pid}, changes))

    def _speculative(self, pid: int) -> ProcessRecord:
        record = self.core.store.get(ProcessRecord, pid)
        if record is None:
            raise Invalid("argument", f"there is no process {pid}", hint="see `agentos ps --all`", pid=pid)
        if record.overlay != pid:
            hint = "fork with speculative=True, or `agentos fork --speculative`"
            raise Invalid("argument", f"process {pid} is no speculative fork", hint=hint, pid=pid)
        return record

    async def _effects(self, pid: int | None = None, seq: int | None = None, checkpoint: str | None = None) -> Effects:
        """Read the effects of what was chosen."""
        core, found, after, only = self.core, Effects(), 0, 0
        if checkpoint is not None:
            record = core.checkpoints.find(checkpoint)
            after, pids = record.at_seq, Past(core, record.at_seq).members_since(record.pid, record.tree)
        elif seq is not None:
            row = next(iter(core.store.rows(seq - 1, 1)), None)
            if row is not None and row.kind == "result":
                row = next(iter(core.store.rows(row.parent - 1, 1)), None)
            if row is None or row.seq > seq or row.kind != "intent":
                raise Invalid("argument", f"journal row {seq} is no call with an effect", hint="see `agentos log`", field="seq")
            after, pids, only = row.seq - 1, {row.pid}, row.seq
        else:
            pids = self._family(pid or 0)
        for member in sorted(pids):
            for _ in found.read(core.store, member, after, only):
                await anyio.lowlevel.checkpoint()
        return found

    def _family(self, pid: int) -> set[int]:
        """Return a process and its descendants, whoever of them has ended."""
        record = self.core.store.get(ProcessRecord, pid)
        if record is None:
            raise Invalid("argument", f"there is no process {pid}", hint="see `agentos ps --all`", pid=pid)
        parents = {each.pid: each.ppid for each in self.core.store.current(ProcessRecord, live=None, tree=record.tree)}
        found = {pid}
        for each in sorted(parents):  # a child's pid is higher than its parent's
            if parents[each] in found:
                found.add(each)
        return found

    def _labels(self, first: dict[str, Effect]) -> dict[str, int]:
        """Return the label that each path had before the first call on it; where the journal does not say, what it may have had."""
        found = {}
        for path, effect in first.items():
            known = effect.labels
            found[path] = (
                known
                if known is not None
                else self.core.files.at(self.core.place(path)) | effect.intent.labels & (SECRET | UNTRUSTED)
            )
        return found


def _report(plan: Plan, errand: Errand | None = None) -> UndoReport:
    return UndoReport(**_told(plan, errand))


def _told(plan: Plan, errand: Errand | None) -> dict[str, Any]:
    """Return the fields of a report that a plan, and what came of it, say."""
    return {
        "pid": errand.pid if errand is not None else None, "restored": tuple(plan.restored), "created": tuple(plan.created),
        "deleted": tuple(plan.deleted), "moved": tuple(plan.moved), "conflicts": tuple(plan.conflicts),
        "refused": tuple(errand.refused) if errand is not None else (), "diffs": plan.diffs,
    }  # fmt: skip
