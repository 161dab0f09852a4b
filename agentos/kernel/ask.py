"""Asks: durable questions to people, each bound to one exact pending call.

    pending -> decided -> consumed          (approval, unknown_outcome, capability: consumed by the call they were given for)
            -> withdrawn | expired          (the call was cancelled, the process ended; nobody answered in time)

Every step is a compare-and-set on the version that was read.

INVARIANT one-shot-once: an approval is consumed by the append that admits the call whose digest it bears, and by no other: the
digest covers op, arguments, resource and preview, and a consumed ask is never looked at again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agentos.abi.codec import decode, encode
from agentos.abi.labels import names
from agentos.abi.limits import ASKS_PENDING_MAX
from agentos.abi.records import AskRecord, Change
from agentos.errors import Denied, Invalid, Unavailable

if TYPE_CHECKING:
    from agentos.kernel.process import AgentProcess

__all__ = ["Answer", "Ask", "AskTable"]

KINDS = ("approval", "question", "unknown_outcome", "capability", "widening")
SCOPES = ("once",)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person decided. `verdict` is approve or deny; `edit` replaces arguments; `value` answers a question."""

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
    """One question as a person sees it. Everything in `args`, `preview` and a question's text was written by the agent."""

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


def as_ask(record: AskRecord) -> Ask:
    """Return the ask as people and programs see it."""
    return Ask(
        id=record.ask, kind=record.kind, pid=record.pid, op=record.op, args=decode(record.args) if record.args else {},
        preview=decode(record.preview) if record.preview else None, digest=record.digest.hex(), rule=record.rule,
        because=record.because, labels=names(record.labels), lineage=decode(record.lineage) if record.lineage else [],
        created=record.created, expires=record.expires or None, state=record.state,
        answer=decode(record.answer) if record.answer else None, number=record.number,
        rule_name=record.rule_name,
    )  # fmt: skip


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
        record = self.find(ask)
        if record.state != "pending":
            raise Invalid("state", f"ask {ask} is {record.state} already", hint="an ask is answered once", ask=ask)
        _check_fits(record, answer)
        replaced = record.seq
        record.state, record.answer = "decided", encode(answer)
        changes.append(Change(record, replaced))
        return record

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
    if answer.scope not in SCOPES:
        raise Invalid("argument", f"`{answer.scope}` is not a scope", hint=f"use {', '.join(SCOPES)}", field="scope")
    if answer.edit is not None and record.kind != "approval":
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


def verdict_of(record: AskRecord) -> Answer:
    """Return the answer of a decided ask."""
    assert record.state == "decided"
    return Answer(**decode(record.answer))


def refusal(record: AskRecord) -> Denied:
    """Return the error that a denied or expired ask raises in its call."""
    if record.state == "decided":
        answer = verdict_of(record)
        text = f"{answer.by} said no" + (f": {answer.reason}" if answer.reason else "")
        return Denied("human", text, hint="rejected by a person, not a failure; do not retry", ask=record.ask, rule=record.rule)
    return Denied(
        "human", "nobody answered in time", hint="this was a decision, not a failure", ask=record.ask, rule=record.rule
    )
