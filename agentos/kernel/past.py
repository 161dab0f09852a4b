"""The state of processes right after a row, read by what has changed since, never by what was before.

What lives now and has not changed since is in memory, or current; of what has changed the version of then is looked up by its key.

INVARIANT cost-is-local: reading the state of then costs what lives of it and what has changed since, not what ever happened.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from agentos.abi.codec import decode
from agentos.abi.records import (
    CapRecord,
    CheckpointRecord,
    MessageRecord,
    NameRecord,
    ProcessRecord,
    StateRecord,
    TimerRecord,
)
from agentos.errors import Invalid

if TYPE_CHECKING:
    from agentos.kernel.core import Core
    from agentos.kernel.process import AgentProcess
    from agentos.store import Store

__all__ = ["Past", "origins", "own_checkpoint"]

Record = TypeVar("Record", bound=StateRecord)
_Key = Callable[[Any], tuple[Any, ...]]


def own_checkpoint(core: Core, process: AgentProcess, checkpoint: str) -> CheckpointRecord:
    """Return a checkpoint of a process or of one that descends from it; of those of others it is not said whether they exist.

    Raises:
        Invalid: `invalid.argument`, it has none of that id.
    """
    past = Past(core, core.journal.head)
    for record in core.checkpoints.of(tree=process.record.tree):
        if record.checkpoint == checkpoint and past.descends(record.pid, process.pid):
            return record
    said = f"process {process.pid} and its descendants have no checkpoint `{checkpoint[:100]}`"
    raise Invalid("argument", said, hint="see `ckpt.list`", field="checkpoint")


def origins(store: Store, record: ProcessRecord) -> Iterator[tuple[int, ProcessRecord | None]]:
    """Yield what a process of any time goes on from, step by step back: the pid, and its record of then, None where that was erased."""
    found: ProcessRecord | None = record
    while found is not None and found.fork_pid:
        pid = found.fork_pid
        found = store.get(ProcessRecord, pid, at=found.fork_seq - 1)
        yield pid, found


class Past:
    """The state of processes right after row `at`."""

    def __init__(self, core: Core, at: int) -> None:
        self._core = core
        self._store = core.store
        self.at = at
        self._parents: dict[int, int] = {}

    def process(self, pid: int) -> ProcessRecord:
        """Return the record of a process that lived then.

        Raises:
            Invalid: it did not, or what it did was erased.
        """
        record = self._store.get(ProcessRecord, pid, at=self.at)
        if record is None or not record.live:
            today = self._store.get(ProcessRecord, pid)
            if record is None and today is not None and today.exit and decode(today.exit).get("erased"):
                raise Invalid("state", f"what process {pid} did was erased", hint="start another from its image", pid=pid)
            said = "did not exist yet" if record is None else "had ended"
            hint = "choose a row of its life: `agentos log` numbers them"
            raise Invalid("state", f"process {pid} {said} at journal row {self.at}", hint=hint, pid=pid, at=self.at)
        return record

    def expect_kept(self, then: ProcessRecord) -> None:
        """Refuse a process that goes on from what another one did, where that is not in the store any more.

        Raises:
            Invalid: it was erased.
        """
        for pid, before in origins(self._store, then):
            if before is None:
                said = f"process {then.pid} went on from what process {pid} did, which was erased"
                raise Invalid("state", said, hint="start another from its image", pid=then.pid)

    def family(self, pid: int, tree: int) -> list[ProcessRecord]:
        """Return the records of a process and its descendants that lived then, parents before children."""
        found = {
            process.pid: process.record
            for process in self._core.processes
            if process.record.tree == tree and process.record.seq <= self.at
        }
        for changed in self._store.changed_since(ProcessRecord, self.at, tree=tree):
            then = self._store.get(ProcessRecord, changed.pid, at=self.at)
            if then is not None and then.live:
                found[then.pid] = then
        return [found[member] for member in sorted(found) if self.descends(member, pid)]

    def members_since(self, pid: int, tree: int) -> set[int]:
        """Return the pids of a process and of all its descendants that have lived since then, if only for a while."""
        lately = [record.pid for record in self._store.changed_since(ProcessRecord, self.at, tree=tree)]
        living = [process.pid for process in self._core.processes if process.record.tree == tree]
        return {member for member in (*lately, *living) if self.descends(member, pid)}

    def descends(self, pid: int, ancestor: int) -> bool:
        """Say whether a process is `ancestor` or descends from it, whoever of them has ended."""
        while pid and pid != ancestor:
            pid = self.parent(pid)
        return pid == ancestor

    def parent(self, pid: int) -> int:
        """Return the pid that a process was started by, alive or not; 0 is the host."""
        if pid not in self._parents:
            living = self._core.processes.get(pid)
            record = living.record if living is not None else self._store.get(ProcessRecord, pid)
            self._parents[pid] = record.ppid if record is not None else 0
        return self._parents[pid]

    def caps(self, pid: int) -> list[CapRecord]:
        """Return the capabilities that a process held then, in order of making."""
        holder = self._core.processes.get(pid)
        live = [cap.record for cap in holder.caps.values()] if holder is not None else []
        live += [record for record in self._core.caps.dormant.values() if record.pid == pid]
        changed = self._store.changed_since(CapRecord, self.at, pid=pid)
        return sorted(self._then(live, changed, lambda record: (record.cap,)), key=lambda record: record.cap)

    def names(self, namespace: str) -> list[NameRecord]:
        """Return the objects that a namespace had then."""
        live = self._store.current(NameRecord, live=True, namespace=namespace)
        changed = self._store.changed_since(NameRecord, self.at, namespace=namespace)
        return self._then(live, changed, lambda record: (record.namespace, record.name))

    def messages(self, pid: int) -> list[MessageRecord]:
        """Return the messages that a process had not received then, oldest first."""
        lives = self._core.processes.get(pid) is not None
        live = self._core.mail.unread(pid) if lives else self._store.current(MessageRecord, live=True, pid=pid)
        changed = self._store.changed_since(MessageRecord, self.at, pid=pid)
        return sorted(self._then(live, changed, lambda record: (record.message,)), key=lambda record: record.message)

    def timers(self, pid: int) -> list[TimerRecord]:
        """Return the timers of calls that waited then."""
        return self._store.current_at(TimerRecord, self.at, pid=pid, live=1)

    def _then(self, live: Iterable[Record], changed: Iterable[Record], key: _Key) -> list[Record]:
        """Return what lived then, of what lives now and what has changed since."""
        then = [record for record in live if record.seq <= self.at]
        for record in changed:
            old: Any = self._store.get(type(record), *key(record), at=self.at)
            if old is not None and old.live:
                then.append(old)
        return then
