"""Poison: a program that ends its kernel whenever it runs (a crash in a C library, all memory taken) must not end it for ever.

    resumed     at an open each process that is started again gets one durable note before it runs, and `resumes` counts one more
    progress    it made a call that it had not made before, or came to where it waits: the count is 0 again. What was interrupted and only
                ran again is none
    suspect     resumed SUSPECT_RESUMES times in a row without progress: it is resumed alone, once the others have come to rest, so that
                one which only died with the kernel is cleared, and one that kills it dies with nobody else in doubt. Those resumed
                least often come first: kernels that are killed from outside whenever they resume one hit another each time
    poisoned    POISON_RESUMES_MAX times: it is set aside, paused, with a note of the evidence, until somebody says `resume`

INVARIANT nobody-dies-of-another: whatever a program does to its kernel, after POISON_RESUMES_MAX crashes of resuming it the others go on.

A count is judged at the next open, from the process's own rows; a program that only waits writes one row when it is in doubt, else none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import anyio

from agentos.abi.codec import encode
from agentos.abi.limits import POISON_RESUMES_MAX, POISON_ROWS_SHOWN, REPLAY_CACHE_ROWS, SUSPECT_RESUMES, SUSPECT_S
from agentos.abi.probe import reached
from agentos.abi.records import Change, Row
from agentos.kernel.process import AgentProcess, OpenCall

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["POISON", "caught_up", "hold_if_poisoned", "resume_all", "resume_suspects", "retried"]

log = logging.getLogger("agentos.kernel")

POISON: Final = "poison"
"""What a process that was set aside waits for, in words."""

_LOOK_S: Final = 0.005
_OWN_NOTES: Final = frozenset({"note.ask", "note.waits", "note.parked"})


def resume_all(core: Core, ready: Iterable[AgentProcess]) -> list[AgentProcess]:
    """Start the processes that have something to do; those in doubt are returned, for `resume_suspects`, or set aside."""
    begun, suspects = [], []
    for process in ready:
        count = _without_progress(core, process)
        if count >= POISON_RESUMES_MAX:
            _set_aside(core, process, count)
        elif count >= SUSPECT_RESUMES:
            suspects.append(process)
        else:
            _note_resumed(core, process, count)
            begun.append(process)
    if begun:
        core.journal.flush()
        reached("resumed")
    for process in begun:
        core.scheduler.ready(process)
    return sorted(suspects, key=lambda process: process.record.resumes)


async def resume_suspects(core: Core, suspects: Sequence[AgentProcess]) -> None:
    """Start processes in doubt, each once the kernel is at rest; the next when it has made progress or SUSPECT_S are over."""
    core.effects += 1  # the kernel is not idle meanwhile
    try:
        is_restful = True
        for process in suspects:
            if is_restful:  # a kernel that always has work would hold up each of them for so long
                with anyio.move_on_after(SUSPECT_S) as scope:
                    await _at_rest(core)
                is_restful = not scope.cancelled_caught
            if core.closing:
                return
            if process.ended or process.running or process.record.state == "paused":
                continue
            _note_resumed(core, process, _without_progress(core, process))
            core.journal.flush()
            reached("resumed.alone")
            core.scheduler.ready(process)
            with anyio.move_on_after(SUSPECT_S):
                await _come_up(core, process)
    finally:
        core.end_effect()


def caught_up(core: Core, process: AgentProcess) -> None:
    """A process in doubt has come to where it waits."""
    record = process.record
    replaced = record.seq
    record.resumes = 0
    core.note(process.pid, "caught_up", changes=(Change(record, replaced),))


def retried(core: Core, process: AgentProcess) -> None:
    """Somebody has said `resume`: one more try, here and now, or alone in the next kernel that runs programs."""
    record = process.record
    if record.resumes:
        record.waits = b""
        record.resumes = POISON_RESUMES_MAX if core.scheduler.admitting else SUSPECT_RESUMES


def hold_if_poisoned(core: Core, process: AgentProcess) -> None:
    """Show what a process that was set aside waits for."""
    if process.record.state == "paused" and process.record.resumes >= POISON_RESUMES_MAX:
        core.waits.enter(OpenCall(process, "", [("resume", process.pid)], None, POISON))


def _without_progress(core: Core, process: AgentProcess) -> int:
    """Return how often in a row the process was resumed and then did nothing."""
    record = process.record
    if not record.resumes:
        return 0
    rows = core.store.tape(process.pid, record.seq, REPLAY_CACHE_ROWS)
    return 0 if any(_is_progress(row) for row in rows) else record.resumes


def _is_progress(row: Row) -> bool:
    """Say whether a row is the program's own, and new: what is only run again is no progress."""
    if row.kind == "note":
        return row.op in _OWN_NOTES
    if not row.number[:1].isdigit():
        return False  # a call of the host
    if row.kind == "intent":
        return not row.parent
    return row.kind == "call" or row.code != "unavailable.cancelled"


def _note_resumed(core: Core, process: AgentProcess, count: int) -> None:
    record = process.record
    replaced = record.seq
    record.resumes = count + 1
    record.waits = b""  # it runs from here on: a crash must not find it parked where it was
    core.note(process.pid, "resumed", {"resumes": record.resumes} if count else None, (Change(record, replaced),))


def _set_aside(core: Core, process: AgentProcess, count: int) -> None:
    record = process.record
    rows = core.store.newest(process.pid, POISON_ROWS_SHOWN)
    evidence = {
        "resumes": count, "resumed": [row.seq for row in rows if row.op == "note.resumed"], "image": record.image,
        "digest": record.image_digest, "code": record.code,
        "rows": [f"{row.seq} {row.kind} {row.op} {row.outcome}".rstrip() for row in rows],
    }  # fmt: skip
    replaced = record.seq
    record.state = process.state = "paused"
    record.waits = encode([[("resume", process.pid)], None, POISON, True])
    log.error("process_poisoned pid=%d image=%s resumes=%d", process.pid, record.image, count)
    core.note(process.pid, "poisoned", evidence, (Change(record, replaced),))
    hold_if_poisoned(core, process)


async def _at_rest(core: Core) -> None:
    while not core.closing:
        await core.scheduler.quiet()
        await anyio.lowlevel.checkpoint()
        if core.scheduler.is_quiet and core.effects == 1:
            return
        await anyio.sleep(_LOOK_S)


async def _come_up(core: Core, process: AgentProcess) -> None:
    head = core.journal.head
    while not (core.closing or process.ended or not process.record.resumes):
        await anyio.sleep(_LOOK_S)
        if core.journal.head != head:
            head = core.journal.head
            if not _without_progress(core, process):
                return
