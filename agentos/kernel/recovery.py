"""Recovery at open: bring back every process that has not ended, and nothing else.

Reads what lives (processes, accounts, capabilities, asks, unread messages, timers), never history. A process that was parked and
has no row of its own since then has nothing to do: it is entered under the waits it left. Any other program is ready: it runs
again from its save point with its tape, once `poison` has looked at it. Open intents of the host's calls are left for the broker, because
only it may finish a call. What waits of the host's calls without a key has nobody to come back for it, and ends (`end_host_waits`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentos.abi.codec import decode
from agentos.abi.limits import REPLAY_CACHE_ROWS
from agentos.abi.records import (
    AccountRecord,
    AskRecord,
    CapRecord,
    Change,
    FileLabelRecord,
    ImageRecord,
    MessageRecord,
    PolicyRecord,
    ProcessRecord,
    QuotaRecord,
    Row,
    ScheduleRecord,
    StandingRecord,
    TimerRecord,
)  # fmt: skip
from agentos.abi.syscall import Wait
from agentos.errors import Invalid
from agentos.kernel.budget import Account, used_by
from agentos.kernel.lifecycle import link
from agentos.kernel.poison import hold_if_poisoned
from agentos.kernel.process import AgentProcess, OpenCall
from agentos.policy import CapSpec, parse_capability

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["Recovered", "end_host_waits", "load", "wake_dormant"]

log = logging.getLogger("agentos.kernel")


@dataclass(frozen=True, slots=True)
class Recovered:
    """What is left to do after `load`: open intents of the host with their processes, and the processes whose programs run again."""

    orphans: list[tuple[AgentProcess, Row]]
    ready: list[AgentProcess]


def load(core: Core, *, resume: bool = True) -> Recovered:
    """Fill the tables from the store. Nothing runs because of it.

    Args:
        core: A core with empty tables.
        resume: False leaves programs where they are until the host says otherwise.
    """
    for image in sorted(core.store.current(ImageRecord), key=lambda record: record.seq):
        core.images.load(image)  # in the order of registration, for a name means the newest
    for policy in core.store.current(PolicyRecord):
        core.layers.load(policy)
    records = core.store.current(ProcessRecord, live=True)
    last_seqs = core.store.last_seqs([record.pid for record in records])
    _load_processes(core, records, last_seqs)
    _load_belongings(core)
    found = Recovered([], [])
    for process in core.processes:
        process.last_seq = last_seqs.get(process.pid, 0)
        floor = process.account.record.floor
        open_intents = core.store.open_intents(process.pid, floor - 1) if process.last_seq >= floor else []
        process.intents = {row.seq: None for row in open_intents}
        found.orphans.extend((process, row) for row in open_intents if not row.number[0].isdigit())
        hold_if_poisoned(core, process)
        if resume and not process.hosted and process.record.state != "paused" and _has_to_run(core, process):
            found.ready.append(process)
    return found


def end_host_waits(core: Core) -> None:
    """End the approvals and timers of host calls without a key: after a crash nobody can come back for them."""
    for record in core.asks:
        process = core.processes.get(record.pid)
        if process is not None and record.number.startswith("h") and record.kind != "unknown_outcome":
            changes: list[Change] = []
            core.asks.close(record, "withdrawn", changes)
            core.note(record.pid, "withdrawn", {"call": record.number}, changes, ask=record.ask)
    ended: list[Change] = []
    for timer in core.timers:
        if timer.number.startswith("h"):
            core.timers.end(timer.pid, timer.number, ended)
    if ended:
        core.note(0, "withdrawn", {"timers": len(ended)}, ended)


def _load_processes(core: Core, records: Iterable[ProcessRecord], last_seqs: dict[int, int]) -> None:
    accounts = {record.pid: record for record in core.store.current(AccountRecord, live=True)}
    loaded: list[AgentProcess] = []
    dead: dict[int, Account | None] = {}
    for record in records:
        parent = living_parent(core, record)
        limits = decode(record.limits) if record.limits else {}
        account = Account(accounts[record.pid], limits, account_above(core, record.ppid, dead))
        if last_seqs.get(record.pid, 0) > account.record.seq:
            _count_tail(core, record.pid, account)
        loaded.append(link(core, record, account, core.images.by_digest(record.image_digest), parent))
    for process in reversed(loaded):
        for above in process.account.counted_in():
            above.adopt(process.account)


def account_above(core: Core, ppid: int, dead: dict[int, Account | None]) -> Account | None:
    """Return the account of a parent, alive or ended: what bounded it bounds its descendants."""
    parent = core.processes.get(ppid)
    if parent is not None:
        return parent.account
    if ppid not in dead:
        record, account = core.store.get(ProcessRecord, ppid), core.store.get(AccountRecord, ppid)
        if record is None or account is None:
            return None
        limits = decode(record.limits) if record.limits else {}
        dead[ppid] = Account(account, limits, account_above(core, record.ppid, dead))
    return dead[ppid]


def living_parent(core: Core, record: ProcessRecord) -> AgentProcess | None:
    """Return the nearest ancestor that lives."""
    ppid = record.ppid
    while ppid:
        parent = core.processes.get(ppid)
        if parent is not None:
            return parent
        dead = core.store.get(ProcessRecord, ppid)
        ppid = dead.ppid if dead else 0
    return None


def _count_tail(core: Core, pid: int, account: Account) -> None:
    """Add the calls that were made after the account was last written down."""
    after = account.record.seq
    while True:
        rows = core.store.tape(pid, after, REPLAY_CACHE_ROWS)
        for row in rows:
            for name, amount in used_by(row).items():
                account.own[name] = account.own.get(name, 0) + amount
                account.used[name] = account.used.get(name, 0) + amount
            after = row.seq
        if len(rows) < REPLAY_CACHE_ROWS:
            return


def _load_belongings(core: Core) -> None:
    for cap in core.store.current(CapRecord, live=True):
        holder = core.processes.get(cap.pid)
        spec = known_spec(core, cap)
        if holder is not None and spec is not None:
            core.caps.load(cap, spec, holder)
        elif holder is not None:
            core.caps.dormant[cap.cap] = cap
    for ask in core.store.current(AskRecord, live=True):
        core.asks.load(ask)
    for grant in core.store.current(StandingRecord, live=True):
        core.standing.load(grant)
    _load_tables(core)


def _load_tables(core: Core) -> None:
    for message in core.store.current(MessageRecord, live=True):
        if core.processes.get(message.pid):
            core.mail.load(message)
    for timer in core.store.current(TimerRecord, live=True):
        core.timers.load(timer)
    for quota in core.store.current(QuotaRecord, live=True):
        core.quotas.load(quota)
    for label in core.store.current(FileLabelRecord, live=True):
        core.files.load(label)
    for schedule in core.store.current(ScheduleRecord, live=True):
        core.schedules.load(schedule)


def known_spec(core: Core, cap: CapRecord) -> CapSpec | None:
    """Return what a capability covers, None when a device that it names is not mounted: it then covers nothing until it is."""
    try:
        return parse_capability(cap.text, core.ops)
    except Invalid as error:
        log.warning("capability_dormant cap=%d pid=%d error=%s", cap.cap, cap.pid, error.message)
        return None


def wake_dormant(core: Core) -> None:
    """A device was mounted: capabilities and policy layers that name its ops mean something from now on."""
    for cap in list(core.caps.dormant.values()):
        holder, spec = core.processes.get(cap.pid), known_spec(core, cap)
        if holder is None:
            continue
        if spec is not None:
            core.caps.load(cap, spec, holder)
    if core.layers.wake_dormant():
        for process in core.processes:
            process.stack = core.layers.stack_of(process.record)
            process.forget_decisions()


def _has_to_run(core: Core, process: AgentProcess) -> bool:
    """Say whether a program runs again now; one that has nothing to do is entered under the waits it left."""
    record = process.record
    if not core.runner.can_run(process):
        if not core.runner.has_program(process.image):
            log.warning("program_missing pid=%d image=%s", process.pid, record.image)
        else:
            log.warning("model_missing pid=%d image=%s profile=%s", process.pid, record.image, process.image.profile)
            missing = f"model {process.image.profile}"
            core.waits.enter(OpenCall(process, "", [("model", process.image.profile)], None, missing))
        return False  # it stays as it is, for a kernel that has its program, and the model that drives it
    if record.state != "waiting" or not record.waits or process.last_seq > record.seq:
        return True
    waits, due, doing, was_parked = decode(record.waits)
    parked = OpenCall(process, "", [tuple(wait) for wait in waits], due, doing)
    if not was_parked or any(_has_come(core, wait) for wait in parked.waits):
        return True
    core.waits.enter(parked)
    return False


def _has_come(core: Core, wait: Wait) -> bool:
    """Say whether a reason to wake came while nobody was looking, or could not be told from one."""
    kind, *key = wait
    if kind == "child":
        return core.processes.get(int(key[0])) is None
    if kind == "ask":
        return not core.asks.is_pending(int(key[0]))
    if kind == "message":
        return core.mail.has(int(key[0]), str(key[1]))
    return kind != "never"
