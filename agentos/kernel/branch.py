"""Branches of history: a fork of a process as it was at any row, and the copy of a whole family from a checkpoint.

A branch gets new pids and goes on from the program state of then: it reads the past of whom it came from up to that row, then its own. Its
private namespace is copied as it was. Nothing of it touches the process that it came from.

INVARIANT children-are-never-wider: a branch gets capabilities from the host, or derived from those of the process that made it. Where the
host names none, it gets what was held then and has not been revoked since; what counts its uses is not copied: nothing is multiplied.
INVARIANT labels-join: a branch has the label of then joined with the one that the process got since, and its parent's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace as with_fields
from typing import TYPE_CHECKING, Any

import msgspec

from agentos.abi.codec import decode, encode
from agentos.abi.records import CapRecord, Change, CheckpointRecord, NameRecord, ProcessRecord, TimerRecord
from agentos.errors import Denied, Invalid
from agentos.kernel.budget import Account
from agentos.kernel.capability import bounded, is_within
from agentos.kernel.grant import give, plan
from agentos.kernel.lifecycle import check_family, link, own_goal, passed_on
from agentos.kernel.past import Past
from agentos.kernel.process import AgentProcess, Cap
from agentos.kernel.recovery import known_spec
from agentos.kernel.restore import Restored, merged_layers
from agentos.policy.capability import named

if TYPE_CHECKING:
    from agentos.kernel.core import Core
    from agentos.policy import CapSpec

__all__ = ["copy_family", "fork_at", "kept_back", "last_row_of"]


def last_row_of(core: Core, pid: int) -> int:
    """Return the row to fork a process at by default: the newest, or, once it has ended, the last one of its life.

    Raises:
        Invalid: there never was such a process.
    """
    if core.processes.get(pid) is not None:
        return core.journal.head
    record = core.store.get(ProcessRecord, pid)
    if record is None:
        raise Invalid("argument", f"there is no process {pid}", hint="see `agentos ps --all`", pid=pid)
    while not record.live:
        before = core.store.get(ProcessRecord, pid, at=record.seq - 1)
        if before is None or before.live:
            return record.seq - 1
        record = before
    return core.journal.head


def fork_at(
    core: Core,
    pid: int,
    at: int,
    changes: list[Change],
    *,
    parent: AgentProcess | None = None,
    grant: Sequence[str] | None = None,
) -> AgentProcess:
    """Start a process that goes on from what process `pid`, alive or ended, was right after row `at`.

    Args:
        core: The kernel's state.
        pid: Whose state.
        at: Journal number.
        changes: Gets every change; the caller appends them with the next row.
        parent: Whose child it is; None is the host.
        grant: What it is granted; None (the host only) is what was held then and has not been revoked since.

    Raises:
        Invalid: the process did not live then, or `at` is no row yet.
        Denied: as `lifecycle.spawn`.
    """
    if not 0 < at <= core.journal.head:
        hint = f"rows are numbered 1 to {core.journal.head}"
        raise Invalid("argument", f"there is no journal row {at}", hint=hint, field="seq")
    past = Past(core, at)
    then = past.process(pid)
    past.expect_kept(then)
    image = core.images.by_digest(then.image_digest)
    grants = plan(core, image, tuple(grant), parent) if grant is not None else []
    if parent is not None:
        check_family(parent)
    held = past.caps(pid) if grant is None else []
    names = past.names(f"proc/{pid}")
    process = _born(core, then, at, parent, adopted=parent is not None)
    give(core, process, grants, changes)
    if grant is None:
        _copy_caps(core, held, {pid: process}, Restored(), changes)
    _copy_names(names, process.pid, changes)
    _enter(core, process, changes)
    return process


def copy_family(core: Core, checkpoint: CheckpointRecord, changes: list[Change]) -> Restored:
    """Start the family of a checkpoint once more as a tree of its own, under new pids: the host only.

    Raises:
        Invalid: the process did not live then, or works on a file overlay.
    """
    past = Past(core, checkpoint.at_seq)
    past.process(checkpoint.pid)
    family = past.family(checkpoint.pid, checkpoint.tree)
    for then in family:
        past.expect_kept(then)
    speculative = next((then.pid for then in family if then.overlay), 0)
    if speculative:
        hint = "merge or drop it, or restore in place"
        raise Invalid(
            "state", f"process {speculative} works on a file overlay, which is not copied", hint=hint, pid=speculative
        )
    belongings = [
        (then, past.caps(then.pid), past.names(f"proc/{then.pid}"), past.messages(then.pid), past.timers(then.pid))
        for then in family
    ]
    born: dict[int, AgentProcess] = {}
    for then in family:
        born[then.pid] = _born(core, then, checkpoint.at_seq, born.get(_nearest(past, then, born)), adopted=False)
        born[then.pid].record.restored = checkpoint.checkpoint
    done = Restored({pid: process.pid for pid, process in born.items()})
    caps = _copy_caps(core, [cap for _, held, *_ in belongings for cap in held], born, done, changes)
    for then, _, names, messages, timers in belongings:
        process = born[then.pid]
        _copy_names(names, process.pid, changes)
        for message in messages:
            core.mail.send(
                process.pid, decode(message.value), message.channel, changes, sender=done.pids.get(message.sender, message.sender),
                labels=message.labels, reply_to=message.reply_to, now=message.at,
            )  # fmt: skip
        for timer in timers:
            core.timers.load(record := TimerRecord(pid=process.pid, number=timer.number, due=timer.due))
            changes.append(Change(record))
        _translate(process, then, {"pid": done.pids, "cap": caps})
        _enter(core, process, changes)
    return done


def _nearest(past: Past, then: ProcessRecord, born: dict[int, AgentProcess]) -> int:
    """Return the nearest ancestor of a process that is copied, 0 for the first."""
    ppid = then.ppid
    while ppid and ppid not in born:
        ppid = past.parent(ppid)
    return ppid


def _born(core: Core, then: ProcessRecord, at: int, parent: AgentProcess | None, *, adopted: bool) -> AgentProcess:
    """Make the process, without anything that it holds. One that is `adopted` gets the layers and the label of a parent it did not have."""
    living = core.processes.get(then.pid)
    today = living.record if living is not None else core.store.get(ProcessRecord, then.pid)
    assert today is not None, "no process is ever forgotten"
    layers, endorsing, given = merged_layers(then, today), today.endorsing, 0
    if parent is not None and adopted:
        inherited = passed_on(parent.record)
        layers, endorsing = [*inherited, *(digest for digest in layers if digest not in inherited)], parent.record.endorsing
        given = parent.label
    pid, now = core.new_pid(), core.clock.now()
    ends = [now + then.deadline - then.created if then.deadline else 0.0, parent.record.deadline if parent is not None else 0.0]
    record = msgspec.structs.replace(
        then, pid=pid, seq=0, live=1, state="ready", created=now, deadline=min((t for t in ends if t), default=0.0),
        label=then.label | today.label | given, birth_label=then.birth_label | given, layers=encode(layers) if layers else b"",
        own_layer=today.own_layer, endorsing=endorsing, save_seq=0, fork_pid=then.pid, fork_seq=at + 1, waits=b"", exit=b"",
        resumes=0, overlay=then.overlay or (parent.record.overlay if parent is not None else 0), ppid=0, tree=pid, depth=0,
    )  # fmt: skip
    if parent is not None:
        record.ppid, record.tree, record.depth = parent.pid, parent.record.tree, parent.record.depth + 1
    limits = decode(then.limits) if then.limits else {}
    account = Account(core.new_account(pid), limits, parent.account if parent is not None else None)
    return link(core, record, account, core.images.by_digest(then.image_digest), parent)


def _enter(core: Core, process: AgentProcess, changes: list[Change]) -> None:
    """Have the process written down, and run once its row is appended."""
    process.facts["proc.goal"] = own_goal(process.record)
    changes += [Change(process.record), Change(process.account.record)]
    if not process.hosted and core.runner.can_run(process):
        core.scheduler.ready(process)


def _copy_names(names: Sequence[NameRecord], pid: int, changes: list[Change]) -> None:
    """Give a branch copies of private objects; they are its own, so that who erases the origin leaves them."""
    changes += [Change(msgspec.structs.replace(name, namespace=f"proc/{pid}", pid=pid, seq=0)) for name in names]


def _translate(process: AgentProcess, then: ProcessRecord, known: dict[str, dict[int, int]]) -> None:
    """Have a process go on under the ids that it knows: those of then, and those it knew by another name even then."""
    before: dict[str, dict[str, int]] = decode(then.id_map) if then.id_map else {}
    ids = {
        kind: {
            **{old: new.get(at, at) for old, at in before.get(kind, {}).items()},
            **{str(old): at for old, at in new.items()},
        }
        for kind, new in known.items()
    }
    process.ids, process.record.id_map = ids, encode(ids)


# --- capabilities -----------------------------------------------------------------------------------------------------------------


def _copy_caps(
    core: Core, held: Sequence[CapRecord], born: dict[int, AgentProcess], done: Restored, changes: list[Change]
) -> dict[int, int]:
    """Give each branch what was held then and has not been revoked since; returns capability of then -> its copy."""
    now = core.clock.now()
    copies: dict[int, Cap] = {}
    for then in sorted(held, key=lambda record: record.cap):
        living = core.caps.get(then.cap)
        today = living.record if living is not None else core.store.get(CapRecord, then.cap) or then
        spec = known_spec(core, today)
        why = kept_back(core, then, today, now)
        if why or spec is None:
            done.leave_out(then, why or "its device is not mounted")
            continue
        try:
            copies[then.cap] = _copy_cap(
                core, today, _renamed(core, spec, born), born[then.pid], copies.get(then.parent), changes
            )
        except Denied as error:
            done.leave_out(then, error.message)
    return {old: copy.cap for old, copy in copies.items()}


def kept_back(core: Core, then: CapRecord, today: CapRecord, now: float) -> str:
    """Return why a capability of then is not given to a branch, or an empty text."""
    if not today.live and today.state != "ended":
        return "it was used up" if today.state == "spent" else f"it was {today.state}"
    if 0 < min(then.expires or now + 1, today.expires or now + 1) <= now:
        return "its time is over"
    return "its uses are counted" if then.uses_left >= 0 or today.uses_left >= 0 else _lost_above(core, today, now)


def _lost_above(core: Core, today: CapRecord, now: float) -> str:
    """Return why what a capability came from gives it no more: what happened to that after its holder had ended has not reached it."""
    spec, handle = known_spec(core, today), today.parent
    while handle:
        living = core.caps.get(handle)
        above = living.record if living is not None else core.store.get(CapRecord, handle)
        if above is None:
            return ""
        outer = known_spec(core, above)
        if not above.live and above.state != "ended":
            return f"capability {handle}, which it was derived from, was {'used up' if above.state == 'spent' else above.state}"
        if 0 < above.expires <= now or (spec is not None and outer is not None and not is_within(spec, outer)):
            return f"capability {handle}, which it was derived from, gives it no more"
        if above.uses_left >= 0:
            return "its uses are counted"
        handle = above.parent
    return ""


def _copy_cap(
    core: Core, today: CapRecord, spec: CapSpec, holder: AgentProcess, above: Cap | None, changes: list[Change]
) -> Cap:
    now = core.clock.now()
    copy = (
        core.caps.mint(holder, spec, changes, now=now)
        if above is None
        else core.caps.derive(above, spec, holder, changes, now=now)
    )
    copy.record.expires = bounded(today.expires, None, now) if today.expires else copy.record.expires
    if today.depth >= 0:
        copy.record.depth = today.depth if copy.record.depth < 0 else min(copy.record.depth, today.depth)
    return copy


def _renamed(core: Core, spec: CapSpec, born: dict[int, AgentProcess]) -> CapSpec:
    """Return a capability over processes of the family with their new pids for the old ones."""
    over_pids = all("pid" in core.ops.find(op).ids.values() for op in spec.ops)
    old: Any = {str(pid): str(process.pid) for pid, process in born.items()}
    if not (over_pids and spec.patterns and any(pattern in old for pattern in spec.patterns)):
        return spec
    return named(with_fields(spec, patterns=tuple(old.get(pattern, pattern) for pattern in spec.patterns), text=""))
