"""Restore in place: a process and its descendants are again what they were at a checkpoint, under their pids.

    stop      the running programs of the family; what they were doing outside settles by effect class
    look      at what was then and what has changed since; whatever can be refused is refused here
    replace   everything at once in memory, in one append with one row

History is appended to, never rewound: each process goes on from its program state of then, and the calls that it made since are no longer
its past. What binds is not rewound either: revocations, counted uses, policy layers, budgets, limits, standing grants.

INVARIANT revoke-wins: a capability that lives now stays as it is; of the others only those come back that ended with their holder, each
derived anew from what it came from. What was granted since is dropped.
INVARIANT one-shot-once: asks that are open, answered or not, are withdrawn; an approval of before a restore is never used after it.
INVARIANT committed-survives: the append is the restore; before it nothing has changed, after it everything has.
INVARIANT labels-join: a process has the label of then, which is that of its state; what it is left from later carries its own. Where an
agent goes back by itself, which point it chose may tell what it knew: the label that it had then stays.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import msgspec

from agentos.abi.codec import decode, encode
from agentos.abi.probe import reached
from agentos.abi.records import (
    AccountRecord,
    CapRecord,
    Change,
    CheckpointRecord,
    MessageRecord,
    NameRecord,
    OverlayRecord,
    ProcessRecord,
    TimerRecord,
)
from agentos.abi.values import ErrorData
from agentos.kernel.budget import Account
from agentos.kernel.lifecycle import decode_layers, end, link, own_goal
from agentos.kernel.past import Past
from agentos.kernel.process import AgentProcess
from agentos.kernel.recovery import account_above, known_spec, living_parent

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage
    from agentos.kernel.core import Core
    from agentos.policy import Stack

__all__ = ["Restored", "merged_layers", "replace", "restarted", "stopped"]

_POLL_S = (0.0, 0.001, 0.01)


@dataclass(slots=True)
class Restored:
    """What a restore did, for its row and its report."""

    pids: dict[int, int] = field(default_factory=dict)
    killed: list[int] = field(default_factory=list)
    revived: list[int] = field(default_factory=list)
    withdrawn: list[int] = field(default_factory=list)
    not_restored: list[dict[str, Any]] = field(default_factory=list)
    members: set[int] = field(default_factory=set)

    def leave_out(self, record: CapRecord, reason: str) -> None:
        """Say of a capability of then why it is not held now."""
        self.not_restored.append({"pid": record.pid, "cap": record.cap, "text": record.text, "reason": reason})


async def _stop(core: Core, processes: Iterable[AgentProcess]) -> None:
    """Stop the programs of processes where they are, and wait until what they did outside has settled.

    Cancellation: those that were stopped stay so; `core.scheduler.ready` starts them again where they were.
    """
    family = list(processes)
    polls = iter(_POLL_S)
    poll_s = next(polls)
    while running := [process for process in family if process.running or process.queued]:
        for process in running:
            core.scheduler.withdraw(process)
            process.rerun = False
            if process.scope is not None and not process.unwinding:
                process.unwinding = True
                process.scope.cancel()
        await anyio.sleep(poll_s)  # an effect that has to be waited for takes its time, and says nothing when it is over
        poll_s = next(polls, poll_s)
    reached("restore.stopped")


@asynccontextmanager
async def stopped(core: Core, checkpoint: CheckpointRecord, *, caller: AgentProcess | None = None) -> AsyncIterator[None]:
    """Hold the programs of a checkpoint's family for the block, which awaits nothing; when it fails, they go on where they were.

    Args:
        core: The kernel's state.
        checkpoint: Whose family.
        caller: A process of it that asks for this itself: it goes on running, to its end or its unwinding.
    """
    held: dict[AgentProcess, None] = {}
    try:
        while busy := _busy(core, checkpoint, caller):
            held |= dict.fromkeys(busy)
            await _stop(core, busy)
        yield
    except BaseException:
        for process in held:
            if not process.ended:
                core.scheduler.ready(process)
        raise


def _busy(core: Core, checkpoint: CheckpointRecord, caller: AgentProcess | None) -> list[AgentProcess]:
    """Return the processes of a family that run or are about to."""
    past = Past(core, checkpoint.at_seq)
    return [
        process
        for process in core.processes
        if (process.running or process.queued) and process is not caller and past.descends(process.pid, checkpoint.pid)
    ]


def restarted(core: Core, done: Restored, *, caller: AgentProcess | None = None) -> None:
    """Have the programs of a family run again, from where they were taken back to, once the row of the restore is appended."""
    for pid in done.pids.values():
        process = core.processes.find(pid)
        if process.hosted or not core.runner.can_run(process):
            continue
        core.scheduler.ready(process)
        if process is caller and process.scope is not None:
            process.unwinding = True
            process.scope.cancel()


class _Plan(NamedTuple):
    """One process of the family: its record of then, its record now, and what the two make."""

    then: ProcessRecord
    record: ProcessRecord
    image: AgentImage
    layers: list[str]
    stack: Stack


def replace(core: Core, checkpoint: CheckpointRecord, changes: list[Change], *, caller: AgentProcess | None = None) -> Restored:
    """Take a process and its descendants back; the caller appends `changes` with the next row. None of their programs runs.

    Args:
        core: The kernel's state.
        checkpoint: Where to.
        changes: Gets every change.
        caller: The process that goes back, None for the host. For an agent, who is paused stays paused, and the choice of the point is
            the caller's: everybody gets its label.

    Raises:
        Invalid: the process did not live then, or a stack of policy layers would be too high; nothing was changed.
    """
    past = Past(core, checkpoint.at_seq)
    past.process(checkpoint.pid)
    family = [_plan(core, then) for then in past.family(checkpoint.pid, checkpoint.tree)]
    look = _Look(core, past, [plan.then.pid for plan in family])
    chosen_by = caller.label if caller is not None else 0
    done = Restored({pid: pid for pid in look.pids}, members=past.members_since(checkpoint.pid, checkpoint.tree))
    _kill_born(core, done, checkpoint, changes)
    done.revived = _revive(core, family, changes)
    _restore_caps(core, look, done, changes)
    for plan in family:
        pid = plan.then.pid
        done.withdrawn += [ask.ask for ask in core.asks if ask.pid == pid]
        core.asks.withdraw_all(pid, changes)
        _restore_timers(core, look.timers[pid], pid, changes)
        if _put_back(look.names[pid], changes):
            core.forget_names(f"proc/{pid}")
        if _put_back(look.overlays[pid], changes):
            core.overlays.forget(pid)
        _restore_mailbox(core, look.messages[pid], pid, done.members, changes)
        _reset(core, plan, checkpoint, changes, caller, chosen_by)
    reached("restore.before")
    return done


def merged_layers(then: ProcessRecord, now: ProcessRecord) -> list[str]:
    """Return the policy layers that a process has now, and those of then that it has no more: what bound it binds it."""
    layers = decode_layers(now)
    held = {*layers, now.own_layer}
    return layers + [digest for digest in (*decode_layers(then), then.own_layer) if digest and digest not in held]


def _plan(core: Core, then: ProcessRecord) -> _Plan:
    process = core.processes.get(then.pid)
    record = process.record if process is not None else core.store.get(ProcessRecord, then.pid)
    assert record is not None, "no process is ever forgotten"
    layers = merged_layers(then, record)
    stack = core.layers.stack([*layers, record.own_layer] if record.own_layer else layers, record.endorsing)
    return _Plan(then, record, core.images.by_digest(then.image_digest), layers, stack)


class _Look:
    """What has changed since a checkpoint of what belongs to a family, as (then, now) pairs; read before anything is changed."""

    def __init__(self, core: Core, past: Past, pids: list[int]) -> None:
        store, at = core.store, past.at
        self.pids = pids
        self.caps: list[tuple[CapRecord | None, CapRecord]] = []
        self.timers: dict[int, list[tuple[TimerRecord, TimerRecord]]] = {}
        self.names: dict[int, list[tuple[NameRecord | None, NameRecord]]] = {}
        self.messages: dict[int, list[tuple[MessageRecord | None, MessageRecord]]] = {}
        self.overlays: dict[int, list[tuple[OverlayRecord | None, OverlayRecord]]] = {}
        for pid in pids:
            self.caps += [(store.get(CapRecord, r.cap, at=at), r) for r in store.changed_since(CapRecord, at, pid=pid)]
            self.names[pid] = [
                (store.get(NameRecord, r.namespace, r.name, at=at), r)
                for r in store.changed_since(NameRecord, at, namespace=f"proc/{pid}")
            ]
            self.messages[pid] = [
                (store.get(MessageRecord, r.message, at=at), r) for r in store.changed_since(MessageRecord, at, pid=pid)
            ]
            self.overlays[pid] = [
                (store.get(OverlayRecord, pid, r.path, at=at), r) for r in store.changed_since(OverlayRecord, at, pid=pid)
            ]
            if core.processes.get(pid) is None:  # its unread ones left the memory with it
                changed = {now.message for _, now in self.messages[pid]}
                unread = store.current(MessageRecord, live=True, pid=pid)
                self.messages[pid] += [(r, r) for r in unread if r.message not in changed]
            self.timers[pid] = [(r, store.get(TimerRecord, pid, r.number) or r) for r in past.timers(pid)]
        self.caps.sort(key=lambda pair: pair[1].cap)


def _kill_born(core: Core, done: Restored, checkpoint: CheckpointRecord, changes: list[Change]) -> None:
    """End what was started since, children first."""
    error = ErrorData(
        code="unavailable.cancelled", message=f"checkpoint {checkpoint.checkpoint}, of before its start, was restored",
        hint="it did not exist then",
    )  # fmt: skip
    for pid in sorted(done.members - done.pids.keys(), reverse=True):
        process = core.processes.get(pid)
        if process is not None:
            end(core, process, "killed", changes, error=error)
            done.killed.insert(0, pid)


# --- processes ----------------------------------------------------------------------------------------------------------------


def _revive(core: Core, family: list[_Plan], changes: list[Change]) -> list[int]:
    """Let those live again that have ended, parents first, and hang those below them that had been left to others."""
    ended = [plan for plan in family if core.processes.get(plan.then.pid) is None]
    if not ended:
        return []
    core.caps.plans.clear()  # they are remembered by pid and generation, which begin anew
    relatives = [process for process in core.processes if process.record.tree == ended[0].then.tree]
    accounts: dict[int, Account | None] = {}
    for process in relatives:
        above: Account | None = process.account
        while above is not None:
            accounts[above.record.pid] = above
            above = above.parent
    for plan in ended:
        _bring_back(core, plan, relatives, accounts, changes)
    for process in relatives:
        _hang(process, living_parent(core, process.record))
    return [plan.then.pid for plan in ended]


def _bring_back(
    core: Core, plan: _Plan, relatives: list[AgentProcess], accounts: dict[int, Account | None], changes: list[Change]
) -> None:
    record = plan.record
    account = accounts.get(record.pid)
    if account is None:
        kept = core.store.get(AccountRecord, record.pid)
        assert kept is not None, "every process has an account"
        above = accounts.get(record.ppid) or account_above(core, record.ppid, accounts)
        account = accounts[record.pid] = Account(kept, decode(record.limits) if record.limits else {}, above)
    for above in account.counted_in():
        above.unfold(account)
        changes.append(Change(above.snapshot(), above.record.seq))
    account.record.live = 1
    record.live, record.state, record.exit = 1, "ready", b""
    process = link(core, record, account, plan.image, living_parent(core, record))
    if relatives:
        process.tree = relatives[0].tree
    relatives.append(process)
    changes.append(core.account_change(process))


def _hang(process: AgentProcess, parent: AgentProcess | None) -> None:
    """Hang a process below its nearest ancestor that lives."""
    if process.parent is parent:
        return
    if process.parent is not None:
        process.parent.children.pop(process.pid, None)
    process.parent = parent
    if parent is not None:
        parent.children[process.pid] = process


def _reset(
    core: Core,
    plan: _Plan,
    checkpoint: CheckpointRecord,
    changes: list[Change],
    caller: AgentProcess | None,
    label: int,
) -> None:
    """Give a process its program state of then; its calls since are its past no more."""
    then, record, process = plan.then, plan.record, core.processes.find(plan.then.pid)
    replaced = record.seq
    for name in _OF_THEN:
        setattr(record, name, getattr(then, name))
    record.label |= label
    if caller is None or record.state != "paused":
        record.state = process.state = "ready"
    record.layers = encode(plan.layers) if plan.layers else b""
    record.fork_pid, record.fork_seq, record.save_seq = record.pid, checkpoint.at_seq + 1, core.journal.head + 1
    record.waits, record.resumes, record.restored = b"", 0, checkpoint.checkpoint
    process.image, process.stack = plan.image, plan.stack
    process.label, process.cwd, process.tape, process.fresh = record.label, record.cwd, None, False
    process.facts |= {"proc.image": record.image, "proc.goal": own_goal(record)}
    process.facts["flow"].forget()
    core.timers.repeating.add(record.pid)
    process.queries.clear()
    process.interrupted.clear()
    process.forget_decisions()
    _leave_calls(core, process)
    changes.append(Change(record, replaced))


_OF_THEN = (
    "image", "image_digest", "program", "args", "goal", "cwd", "label", "birth_label", "save_number", "save_state", "options", "code",
    "id_map",
)  # fmt: skip
"""What of a process's record is its program state, or what that follows from."""


def _leave_calls(core: Core, process: AgentProcess) -> None:
    """Nothing of its program waits any more; calls that the host made for it and that wait end as interrupted."""
    for call in list(process.open_calls):
        if call.event is None:
            core.waits.leave(call)
        elif not call.number[0].isdigit():
            call.interrupted = True
            core.waits.wake_call(call)


# --- what they hold -------------------------------------------------------------------------------------------------------------


def _restore_caps(core: Core, look: _Look, done: Restored, changes: list[Change]) -> None:
    now = core.clock.now()
    for then, record in look.caps:
        if then is None:
            core.caps.end(record.cap, changes, "dropped")
        elif then.live and record.state == "ended" and not record.live:
            spec, holder = known_spec(core, record), core.processes.find(record.pid)
            why = "its device is not mounted" if spec is None else core.caps.revive(record, spec, holder, changes, now=now)
            if why:
                done.leave_out(then, why)
        elif then.live and not record.live:
            done.leave_out(then, f"it was {_SAID.get(record.state, record.state)}")
        elif then.live and record.uses_left != then.uses_left:
            done.leave_out(then, f"{record.uses_left} of its {then.uses_left} uses are left")


_SAID = {"spent": "used up"}


def _restore_timers(core: Core, pairs: list[tuple[TimerRecord, TimerRecord]], pid: int, changes: list[Change]) -> None:
    """A call that waited then is due when it was due, however often it is made."""
    kept = {then.number for then, _ in pairs}
    held = {timer.number for timer in core.timers.of(pid)}
    for number in held - kept:
        core.timers.end(pid, number, changes)
    for _, record in pairs:
        if record.number not in held:
            replaced = record.seq
            record.live = 1
            core.timers.load(record)
            changes.append(Change(record, replaced))


def _put_back(
    pairs: Sequence[tuple[NameRecord | OverlayRecord | None, NameRecord | OverlayRecord]], changes: list[Change]
) -> bool:
    """Give each name or overlaid path that has changed a new version that equals the one of then; says whether there were any."""
    for then, record in pairs:
        if then is not None and then.live:
            changes.append(Change(msgspec.structs.replace(then), record.seq))
        elif record.live:
            changes.append(Change(msgspec.structs.replace(record, live=0), record.seq))
    return bool(pairs)


def _restore_mailbox(
    core: Core, pairs: list[tuple[MessageRecord | None, MessageRecord]], pid: int, members: set[int], changes: list[Change]
) -> None:
    """Unread are those of then and what came since from outside of the family; what came from within will be sent again."""
    unread = {record.message: record for record in core.mail.unread(pid)}
    for then, found in pairs:
        record = unread.setdefault(found.message, found)
        replaced, was_live = record.seq, record.live
        if then is None and record.sender in members:
            record.live, record.state = 0, "withdrawn" if was_live else record.state
        elif then is None or then.live:
            record.live, record.state = 1, "unread"
        if not record.live:
            del unread[record.message]
        if record.live != was_live:
            changes.append(Change(record, replaced))
    core.mail.forget(pid)
    for _, record in sorted(unread.items()):
        core.mail.load(record)
