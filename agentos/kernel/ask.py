"""Asks: durable questions to people, each bound to one exact pending call.

    pending -> decided -> consumed          (approval, unknown_outcome, capability: consumed by the call they were given for)
            -> withdrawn | expired          (the call was cancelled, the process ended; nobody answered in time)

Every step is a compare-and-set on the version that was read. An approval may reach further than its call (`Answer.scope`): how far is
bounded by the rule that asked and by what its offer can say; the standing grant that it then makes is `kernel.standing`'s.

INVARIANT one-shot-once: an approval is consumed by the append that admits the call whose digest it bears, and by no other: the
digest covers op, arguments, resource and preview, and a consumed ask is never looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentos.abi.codec import decode, encode
from agentos.abi.labels import names
from agentos.abi.limits import ASKS_PENDING_MAX, IDENTIFIER_CHARS_MAX, STANDING_GRANT_S_MAX
from agentos.abi.records import AskRecord, Change
from agentos.abi.units import parse_duration_s
from agentos.errors import Denied, Invalid, Unavailable

if TYPE_CHECKING:
    from agentos.kernel.process import AgentProcess

__all__ = ["Answer", "Ask", "AskTable", "Standing", "admits", "batch_of", "duration_of", "scopes_of"]

KINDS = ("approval", "question", "unknown_outcome", "capability", "widening")
SCOPES = ("once", "process", "tree", "image", "project")
"""How far an approval reaches, the narrowest first. A duration reaches as far as `tree`, for that long."""
COVERED = "covered by ask "
"""Begins the scope of an answer that a standing grant gave; the number of the ask it was given with follows."""
IRREVERSIBLE = frozenset({"once", "keyed"})
"""Effect classes that nothing takes back."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person decided. `verdict` is approve or deny; `edit` replaces arguments; `value` answers a question.

    `scope` is one of SCOPES or a duration; ``covered by ask N`` where a standing grant answered, which the answer to ask N made.
    """

    verdict: str
    by: str
    scope: str = "once"
    edit: dict[str, Any] | None = None
    value: Any = None
    has_value: bool = False
    reason: str | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Ask:
    """One question as a person sees it. Everything in `args`, `preview` and a question's text was written by the agent.

    Attributes:
        resource: The canonical resources, one per line.
        effect: Effect class of the op; empty where no op waits.
        irreversible: True when nothing takes the effect back (``once``, ``keyed``).
        question: What the rule asks (`else ask "..."`), with the agent's values filled in; empty when it does not say.
        remember: The widest scope that the rule lets a person give; empty = any.
        scopes: The scopes that a person may choose; where `tree` is among them, a duration such as ``8h`` may be given too.
        offer: The exact rule that any scope but ``once`` stores; empty when there is none to offer.
        would_cover: Recent calls that the offer would have covered, the newest first, as ``{seq, pid, op, resource, at}``: filled in by
            `Kernel.ask` only.
        batch: The same for asks of calls that were made together; empty for a call made by itself.
    """

    id: int
    kind: str
    pid: int
    op: str
    args: dict[str, Any]
    preview: Any
    digest: str
    rule: str
    because: str
    labels: list[str]
    lineage: list[str]
    created: float
    expires: float | None
    state: str
    answer: dict[str, Any] | None = None
    number: str = ""
    rule_name: str = ""
    resource: str = ""
    effect: str = ""
    irreversible: bool = False
    question: str = ""
    remember: str = ""
    scopes: tuple[str, ...] = ("once",)
    offer: str = ""
    would_cover: tuple[dict[str, Any], ...] = ()
    batch: str = ""


@dataclass(frozen=True, slots=True)
class Standing:
    """A standing grant as people see it: an approval for more than one call.

    Attributes:
        id: Its number.
        scope: process, tree, image, project or a duration.
        holder: What it is bound to: a pid, the pid of a tree's root, an image digest, or nothing for the project.
        op: The op it is for.
        offer: The rule that says which calls it covers.
        rule: The policy rule, as ``file:line``, whose asks it answers; those of no other.
        ask: The ask that it was given with.
        by: Who gave it.
        reason: Why, if they said so.
        created: When, in seconds since the epoch.
        expires: When it lapses, or None.
        state: live, revoked, expired or ended.
        uses: Calls that it has let through, counted in the journal.
    """

    id: int
    scope: str
    holder: str
    op: str
    offer: str
    rule: str
    ask: int
    by: str
    reason: str
    created: float
    expires: float | None
    state: str
    uses: int = 0


def as_ask(record: AskRecord, would_cover: tuple[dict[str, Any], ...] = ()) -> Ask:
    """Return the ask as people and programs see it."""
    return Ask(
        id=record.ask, kind=record.kind, pid=record.pid, op=record.op, args=decode(record.args) if record.args else {},
        preview=decode(record.preview) if record.preview else None, digest=record.digest.hex(), rule=record.rule,
        because=record.because, labels=names(record.labels), lineage=decode(record.lineage) if record.lineage else [],
        created=record.created, expires=record.expires or None, state=record.state,
        answer=decode(record.answer) if record.answer else None, number=record.number,
        rule_name=record.rule_name, resource=record.resource, effect=record.effect, irreversible=record.effect in IRREVERSIBLE,
        question=record.question, remember=record.remember, scopes=scopes_of(record), offer=record.offer, would_cover=would_cover,
        batch=record.batch,
    )  # fmt: skip


# --- scopes -----------------------------------------------------------------------------------------------------------------


def duration_of(scope: str) -> float | None:
    """Return the seconds that a scope such as ``8h`` means, None for one that is no duration or is out of bounds."""
    try:
        seconds = parse_duration_s(scope)
    except ValueError:
        return None
    return seconds if 0 < seconds <= STANDING_GRANT_S_MAX else None


def admits(remember: str, scope: str) -> bool:
    """Say whether a rule that may be remembered for `remember` lets a person choose `scope`. What is no scope is never let through.

    A duration bounds a grant in time as well as in reach: within ``8h`` lie shorter durations, and the process for so long.
    """
    seconds = duration_of(scope)
    if scope not in SCOPES and seconds is None:
        return False
    if scope == "once" or not remember:
        return True
    longest = duration_of(remember)
    if longest is not None:
        return scope == "process" if seconds is None else seconds <= longest
    widest = SCOPES.index(remember) if remember in SCOPES else 0
    return (SCOPES.index("tree") if seconds is not None else SCOPES.index(scope)) <= widest


def scopes_of(record: AskRecord) -> tuple[str, ...]:
    """Return the scopes that a person may choose for an ask, the narrowest first; of durations the longest that the rule names."""
    if not record.offer:
        return SCOPES[:1]
    chosen = tuple(scope for scope in SCOPES if admits(record.remember, scope))
    return (*chosen, record.remember) if duration_of(record.remember) is not None else chosen


def batch_of(pid: int, number: str) -> str:
    """Return what the calls have in common that were made together: branches of one gather, calls of one list."""
    prefix = number.rsplit(".", 2)
    return f"{pid}/{prefix[0]}" if len(prefix) == 3 else ""


class AskTable:
    """Asks that are pending, or decided and not yet consumed."""

    def __init__(self, first: int = 1) -> None:
        self._next = first
        self._live: dict[int, AskRecord] = {}
        self._by_call: dict[tuple[int, str, str], AskRecord] = {}

    def load(self, record: AskRecord) -> None:
        """Enter an ask read from the store."""
        self._live[record.ask] = record
        self._by_call[record.pid, record.number, record.kind] = record

    def open(
        self,
        process: AgentProcess,
        number: str,
        kind: str,
        changes: list[Change],
        *,
        now: float,
        expires: float,
        **columns: Any,
    ) -> AskRecord:
        """Ask. `columns` are the other columns of the record (op, args, preview, digest, rule, because, labels).

        Raises:
            Unavailable: `unavailable.overloaded`, ASKS_PENDING_MAX asks are open.
        """
        assert kind in KINDS
        if len(self._live) >= ASKS_PENDING_MAX:
            raise Unavailable("overloaded", f"{ASKS_PENDING_MAX} asks are open", hint="answer some first: `agentos asks`")
        lineage = [f"{p.pid} {p.record.image}" for p in (process, *process.ancestors())]
        record = AskRecord(
            ask=self._next,
            pid=process.pid,
            number=number,
            kind=kind,
            created=now,
            expires=expires,
            lineage=encode(lineage),
            batch=batch_of(process.pid, number),
            **columns,
        )
        self._next += 1
        self.load(record)
        changes.append(Change(record))
        return record

    def of_call(self, pid: int, number: str, kind: str) -> AskRecord | None:
        """Return the live ask of a kind that a call waits for, or None. An answer of one kind is none of another."""
        return self._by_call.get((pid, number, kind))

    def all_of_call(self, pid: int, number: str) -> list[AskRecord]:
        """Return every live ask of a call."""
        return [record for kind in KINDS if (record := self._by_call.get((pid, number, kind))) is not None]

    def is_pending(self, ask: int) -> bool:
        """Say whether an ask still waits for an answer."""
        record = self._live.get(ask)
        return record is not None and record.state == "pending"

    def find(self, ask: int) -> AskRecord:
        """Return a live ask.

        Raises:
            Invalid: `invalid.state`, there is none of that id that is still open.
        """
        record = self._live.get(ask)
        if record is None:
            raise Invalid("state", f"ask {ask} is not open", hint="`agentos asks` lists those that are", ask=ask)
        return record

    def answer(self, ask: int, answer: Answer, changes: list[Change]) -> AskRecord:
        """Record a person's answer.

        Raises:
            Invalid: it is not pending, or the answer does not fit its kind.
        """
        record = self.check(ask, answer)
        self.settle(record, answer, changes)
        return record

    def check(self, ask: int, answer: Answer) -> AskRecord:
        """Return the ask that an answer would decide; nothing is changed.

        Raises:
            Invalid: it is not pending, or the answer does not fit its kind.
        """
        record = self.find(ask)
        if record.state != "pending":
            raise Invalid("state", f"ask {ask} is {record.state} already", hint="an ask is answered once", ask=ask)
        _check_fits(record, answer)
        return record

    def settle(self, record: AskRecord, answer: Answer, changes: list[Change]) -> None:
        """Decide a pending ask by an answer that fits it: a person's, or a standing grant's."""
        assert record.state == "pending", "an ask is answered once"
        replaced = record.seq
        record.state, record.answer = "decided", encode(answer)
        changes.append(Change(record, replaced))

    def reopen(self, record: AskRecord, changes: list[Change]) -> None:
        """Have an ask wait again: it was answered by somebody who may not."""
        assert record.state == "decided", "only an answer can be refused"
        replaced = record.seq
        record.state, record.answer = "pending", b""
        changes.append(Change(record, replaced))

    def close(self, record: AskRecord, state: str, changes: list[Change]) -> None:
        """End an ask: consumed, withdrawn or expired."""
        assert self._live.get(record.ask) is record, "an ask ends once"
        assert state != "consumed" or record.state == "decided", "only an answered ask is consumed"
        replaced = record.seq
        record.live, record.state = 0, state
        del self._live[record.ask]
        if self._by_call.get((record.pid, record.number, record.kind)) is record:
            del self._by_call[record.pid, record.number, record.kind]
        changes.append(Change(record, replaced))

    def withdraw_all(self, pid: int, changes: list[Change]) -> None:
        """End every open ask of a process."""
        for record in [r for r in self._live.values() if r.pid == pid]:
            self.close(record, "withdrawn", changes)

    def __iter__(self) -> Iterator[AskRecord]:
        """Iterate over open asks, oldest first."""
        return iter(list(self._live.values()))


def _check_fits(record: AskRecord, answer: Answer) -> None:
    if answer.verdict not in ("approve", "deny"):
        raise Invalid("argument", f"`{answer.verdict}` is not an answer", hint="approve or deny", field="verdict")
    if not 0 < len(answer.by) <= IDENTIFIER_CHARS_MAX:
        hint = f"give a name of 1 to {IDENTIFIER_CHARS_MAX} characters"
        raise Invalid("argument", f"the name of who answers has {len(answer.by)} characters", hint=hint, field="by")
    _check_scope(record, answer)
    if answer.edit is not None and record.kind == "capability" and set(answer.edit) != {"text"}:
        raise Invalid("argument", "of a capability only the text can be changed", hint='edit={"text": "..."}', field="edit")
    if answer.edit is not None and record.kind not in ("approval", "capability"):
        raise Invalid("argument", f"a {record.kind} has no arguments to edit", field="edit", hint="answer with value=")
    if record.kind == "question" and answer.verdict == "approve":
        if not answer.has_value:
            raise Invalid(
                "argument", f"ask {record.ask} is a question: it wants a value", hint="value=... or --reply TEXT", field="value"
            )
        options = decode(record.args).get("options")
        if options and answer.value not in options:
            raise Invalid(
                "argument", f"`{answer.value}` is not one of the options", hint=f"use {', '.join(options)}", field="value"
            )


def _check_scope(record: AskRecord, answer: Answer) -> None:
    scope, reach = answer.scope, f"{', '.join(SCOPES)} or a duration such as 8h"
    if scope == "once":
        return
    if scope not in SCOPES and duration_of(scope) is None:
        raise Invalid("argument", f"`{scope[:100]}` is not a scope", hint=f"use {reach}", field="scope")
    if answer.verdict != "approve" or record.kind != "approval" or not record.offer:
        why = "there is no rule that would say exactly this" if record.kind == "approval" else f"it is a {record.kind}"
        why = "a denial is for one call" if answer.verdict != "approve" else why
        raise Invalid("argument", f"ask {record.ask} can only be answered once: {why}", hint="use scope `once`", field="scope")
    if answer.edit is not None:
        hint = "approve the changed call once, or this one as it is"
        raise Invalid("argument", "the offer was shown for the call as it was asked, not as edited", hint=hint, field="scope")
    if not admits(record.remember, scope):
        hint = f"the widest is {record.remember}"
        raise Invalid("argument", f"`{scope}` is wider than {record.rule} lets a person choose", hint=hint, field="scope")


def verdict_of(record: AskRecord) -> Answer:
    """Return the answer of a decided ask."""
    assert record.state == "decided"
    return Answer(**decode(record.answer))


def refusal(record: AskRecord) -> Denied:
    """Return the error that a denied or expired ask raises in its call."""
    if record.state == "decided":
        answer = verdict_of(record)
        text = f"{answer.by} said no" + (f": {answer.reason}" if answer.reason else "")
        hint = "rejected by a person, not a failure; do not retry"
        return Denied("human", text, hint=hint, ask=record.ask, rule=record.rule, by=answer.by)
    return Denied(
        "human", "nobody answered in time", hint="this was a decision, not a failure", ask=record.ask, rule=record.rule
    )
