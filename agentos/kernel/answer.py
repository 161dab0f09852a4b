"""An answer: what a person decided about one ask, and everything that follows from it, in one append.

    may they?       `kernel.people`; a no changes nothing and is noted
    does it fit?    the ask is pending, the value or the edited arguments are the op's, the scope is one that the rule lets them choose
    decide          the ask; with a scope beyond ``once`` also the standing grant, and every pending ask that it covers

Who waits is woken by the caller, once the row is durable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentos.abi.codec import decode, plain
from agentos.abi.records import AskRecord, Change, StandingRecord
from agentos.errors import Denied, Invalid
from agentos.kernel.ask import COVERED, Answer, verdict_of
from agentos.kernel.standing import Asking, asked_of
from agentos.policy import parse_capability

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["catch_up", "decide"]


def decide(core: Core, ask: int, answer: Answer) -> tuple[AskRecord, list[int], int]:
    """Answer an ask.

    Returns:
        The ask, the numbers of all asks that were decided, and the number of the row: they wake once that is durable.

    Raises:
        Invalid: it is not pending, or the answer does not fit.
        Denied: `denied.human`, who answers has no right to; `seq` is the row that says so.
    """
    record = core.asks.find(ask)
    _check_right(core, record, answer)
    _check_value(core, record, answer)
    changes: list[Change] = []
    core.asks.check(ask, answer)
    data: dict[str, Any] = {"verdict": answer.verdict, "by": answer.by}
    settled = [ask]
    if answer.scope != "once":
        process = core.processes.find(record.pid)
        grant = core.standing.open(record, process.record, answer, changes)
        core.asks.answer(ask, answer, changes)
        settled += _settle_covered(core, grant, changes)
        data |= {"scope": answer.scope, "standing": grant.standing, "rule": grant.text, "settled": settled}
    else:
        core.asks.answer(ask, answer, changes)
    return record, settled, core.note(record.pid, "answered", data, changes, ask=ask, rule=record.rule)


def _check_right(core: Core, record: AskRecord, answer: Answer) -> None:
    if core.people is None:
        return
    try:
        core.people.check(answer.by, record, core.processes.get(record.pid), answer.edit)
    except Denied as error:
        data = {"verdict": answer.verdict, "by": answer.by[:200], "why": error.message}
        error.seq = core.note(record.pid, "refused", data, ask=record.ask)
        raise


def _check_value(core: Core, record: AskRecord, answer: Answer) -> None:
    """Refuse an answer that its call could not use, while the person is there to correct it.

    Raises:
        Invalid: edited arguments or the value of an effect that happened do not fit the op.
    """
    if answer.edit is None and not (answer.has_value and record.kind == "unknown_outcome"):
        return
    op = core.ops.find(record.op)
    if answer.edit is not None:
        op.validate({**decode(record.args), **answer.edit})
        if record.kind == "capability":
            parse_capability(str({**decode(record.args), **answer.edit}["text"]), core.ops)
        return
    try:
        op.restore(plain(answer.value))
    except ValueError as error:
        hint = "give the result it had"
        raise Invalid("argument", f"`{op.name}` does not return that: {error}", hint=hint, field="value") from error


def _settle_covered(core: Core, grant: StandingRecord, changes: list[Change]) -> list[int]:
    """Decide the pending asks that a new grant covers. One without an offer was asked for more than one rule, and stays."""
    now = core.clock.now()
    answer = Answer("approve", grant.by, f"{COVERED}{grant.ask}", at=now)
    settled: list[int] = []
    for record in core.asks:
        process = core.processes.get(record.pid)
        if record.kind != "approval" or record.state != "pending" or not record.offer or process is None:
            continue
        call = asked_of(record, process, core.ops)
        asking = Asking(record.rule, record.layer, record.remember)
        if call is not None and core.standing.covers(grant, call, asking, now, core.people):
            core.asks.settle(record, answer, changes)
            settled.append(record.ask)
    return settled


def catch_up(core: Core) -> None:
    """Act on what was answered while no kernel ran: nothing knew then who may answer, or which other asks a new grant covers."""
    _review(core)
    for grant in core.standing:
        changes: list[Change] = []
        settled = _settle_covered(core, grant, changes)
        if settled:
            data = {"verdict": "approve", "by": grant.by, "standing": grant.standing, "settled": settled}
            core.note(0, "answered", data, changes, ask=grant.ask, rule=grant.rule)
        for ask in settled:
            core.waits.wake(("ask", ask))


def _review(core: Core) -> None:
    """Have asks wait again that were answered by somebody who may not."""
    if core.people is None:
        return
    for record in core.asks:
        if record.state != "decided":
            continue
        answer = verdict_of(record)
        try:
            core.people.check(answer.by, record, core.processes.get(record.pid), answer.edit)
        except Denied as error:
            changes: list[Change] = []
            core.asks.reopen(record, changes)
            data = {"verdict": answer.verdict, "by": answer.by, "why": error.message}
            core.note(record.pid, "refused", data, changes, ask=record.ask)
