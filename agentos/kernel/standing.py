"""Standing grants: approvals that a person gave for more than one call, each a rule of the privilege language that the person was shown.

    live -> revoked | expired | ended           (taken back; its time is over; the process or tree it was for has ended)

A grant answers asks, and nothing else: it is looked at only once the capability and every policy layer were asked and a layer said *ask*.
It is bound to the very rule that asked (its place and the digest of its layer, so an edited policy asks again), to a scope, and to its
own rule, which names the resource, pins what matters of the arguments and bounds the labels. The target's state is not pinned: that is
what makes it a rule.

INVARIANT standing-is-exact: a standing grant covers a call only if rule, scope, labels and pins hold, by the policy room's own decision;
what does not load, or cannot be decided, covers nothing.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.codec import decode, digest
from agentos.abi.limits import PAGE_ROWS, STANDING_GRANTS_MAX
from agentos.abi.op import Op, OpTable
from agentos.abi.records import AskRecord, Change, ProcessRecord, StandingRecord
from agentos.abi.resource import Resource
from agentos.errors import Invalid, Unavailable
from agentos.kernel.ask import Answer, Standing, admits, duration_of
from agentos.policy import Stack, load_layer
from agentos.policy.flow import NoHistory, Origin

if TYPE_CHECKING:
    from agentos.kernel.people import People
    from agentos.kernel.process import AgentProcess
    from agentos.store import Store

__all__ = ["EXACTLY", "Asked", "Asking", "StandingTable", "as_standing", "asked_of", "fingerprint", "grant_of", "rule_holds"]

EXACTLY: Final = "  # exactly this call: "
"""Ends the text of an offer that covers one set of arguments only; their fingerprint follows."""
_FINGERPRINT: Final = re.compile(re.escape(EXACTLY) + r"([0-9a-f]{32})\Z")
_COUNTED_PAGES_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that a layer wants a person to see: typed arguments, canonical resources, the label bits it carries."""

    process: ProcessRecord
    op: Op
    resources: tuple[Resource, ...]
    args: Mapping[str, Any]
    encoded: bytes
    label: int
    cwd: str


@dataclass(frozen=True, slots=True)
class Asking:
    """One rule that asks about a call: its place, the digest of its layer, and the widest scope that it lets a person choose."""

    rule: str
    layer: str
    remember: str


class _Carried(NoHistory):
    """The flow that a grant's rule is decided with: the label of the call, and no history."""

    __slots__ = ("label",)

    def __init__(self, label: int) -> None:
        self.label = label

    def origin(self, value: Any) -> Origin:
        return Origin(self.label, frozenset())


def fingerprint(op: Op, encoded: bytes, cwd: str) -> str:
    """Return what names one set of arguments of an op; a command means another one in another folder."""
    where = cwd.encode() if any(template.kind == "argv" for template in op.resources) else b""
    return digest(op.key_bytes, encoded, where)[:16].hex()


def rule_holds(text: str, call: Asked, table: OpTable) -> bool:
    """Say whether the rule of a grant or offer covers a call, whoever makes it."""
    stack = _compiled(text, table, len(table))
    pinned = _FINGERPRINT.search(text)
    if stack is None or (pinned is not None and pinned[1] != fingerprint(call.op, call.encoded, call.cwd)):
        return False
    return stack.decide(call.op, call.resources, dict(call.args), {"flow": _Carried(call.label)}).outcome == "allow"


@lru_cache(maxsize=STANDING_GRANTS_MAX)
def _compiled(text: str, table: OpTable, ops_known: int) -> Stack | None:
    """Compile a rule; None when it does not load: `ops_known` stands for the table's state, as more may load once a device is mounted."""
    try:
        return Stack((load_layer(f'policy "standing"\n{text}\n', source="standing", table=table),))
    except Invalid:
        return None


def asked_of(record: AskRecord, process: AgentProcess, table: OpTable) -> Asked | None:
    """Return the call that an ask is about, None when its op is not mounted or takes other arguments now."""
    op = table.get(record.op)
    if op is None:
        return None
    try:
        args = op.validate(decode(record.args))
        resources = op.render(args, process.cwd, process.pid, process.image.profile)
    except Invalid:
        return None
    return Asked(process.record, op, resources, args, record.args, record.labels | process.call_label, process.cwd)


def grant_of(ask: AskRecord, process: ProcessRecord, answer: Answer, standing: int) -> StandingRecord:
    """Return the grant that an answer with a scope beyond ``once`` makes. The answer fits the ask."""
    assert ask.offer, "an answer with a scope fits an ask with an offer"
    assert answer.scope != "once", "an answer for one call makes no grant"
    seconds = duration_of(answer.scope)
    holders = {"process": str(process.pid), "tree": str(process.tree), "image": process.image_digest, "project": ""}
    bound = seconds if seconds is not None else duration_of(ask.remember)
    return StandingRecord(
        standing=standing, scope=answer.scope, holder=holders["tree" if seconds is not None else answer.scope], op=ask.op, text=ask.offer,
        rule=ask.rule, layer=ask.layer, ask=ask.ask, by=answer.by, reason=answer.reason or "", created=answer.at,
        expires=answer.at + bound if bound is not None else 0.0,
    )  # fmt: skip


class StandingTable:
    """The live standing grants.

    Args:
        ops: The op table, against which their rules are compiled.
        first: Number of the next one.
    """

    def __init__(self, ops: OpTable, first: int = 1) -> None:
        self._ops = ops
        self._next = first
        self._live: dict[int, StandingRecord] = {}

    def __iter__(self) -> Iterator[StandingRecord]:
        """Iterate over the live grants, oldest first."""
        return iter(list(self._live.values()))

    def load(self, record: StandingRecord) -> None:
        """Enter a grant read from the store."""
        self._live[record.standing] = record

    def open(self, ask: AskRecord, process: ProcessRecord, answer: Answer, changes: list[Change]) -> StandingRecord:
        """Make the grant that an answer gives, in the append of the answer.

        Raises:
            Unavailable: `unavailable.overloaded`, there are STANDING_GRANTS_MAX of them.
        """
        if sum(self._is_live(record, answer.at) for record in self) >= STANDING_GRANTS_MAX:
            hint = "revoke some: `agentos asks --standing` lists them"
            raise Unavailable("overloaded", f"there are {STANDING_GRANTS_MAX} standing grants", hint=hint)
        self.expire(answer.at, changes)
        record = grant_of(ask, process, answer, self._next)
        self._next += 1
        self.load(record)
        changes.append(Change(record))
        return record

    # --- covering -----------------------------------------------------------------------------------------------------------

    def is_about(self, op: str) -> bool:
        """Say whether there is any grant for an op: without one there is nothing to look at."""
        return any(record.op == op for record in self._live.values())

    def covering(self, call: Asked, asking: Collection[Asking], now: float, people: People | None) -> list[StandingRecord]:
        """Return a grant for each rule that asks about the call; none at all when any of them has none.

        Args:
            call: The call.
            asking: Every rule of every layer that asks about it.
            now: Seconds since the epoch.
            people: Who may answer; a grant reaches no further than the right of who gave it.
        """
        found: list[StandingRecord] = []
        for rule in asking:
            record = next((record for record in self if self.covers(record, call, rule, now, people)), None)
            if record is None:
                return []
            found.append(record)
        return found

    def covers(self, record: StandingRecord, call: Asked, asking: Asking, now: float, people: People | None) -> bool:
        """Say whether one grant answers one rule's ask about a call."""
        return (
            record.op == call.op.name
            and (record.rule, record.layer) == (asking.rule, asking.layer)
            and admits(asking.remember, record.scope)
            and self._is_live(record, now)
            and _reaches(record, call.process)
            and rule_holds(record.text, call, self._ops)
            and (people is None or people.may_allow(record.by, call.op, call.resources, call.args))
        )

    def _is_live(self, record: StandingRecord, now: float) -> bool:
        return self._live.get(record.standing) is record and not 0 < record.expires <= now

    # --- ending -------------------------------------------------------------------------------------------------------------

    def revoke(self, standing: int, changes: list[Change]) -> StandingRecord:
        """Take a grant back.

        Raises:
            Invalid: there is no live one of that number.
        """
        record = self._live.get(standing)
        if record is None:
            hint = "`agentos asks --standing` lists them"
            raise Invalid("argument", f"there is no live standing grant {standing}", hint=hint, field="standing")
        self._close(record, "revoked", changes)
        return record

    def expire(self, now: float, changes: list[Change]) -> None:
        """End the grants whose time is over."""
        for record in self:
            if not self._is_live(record, now):
                self._close(record, "expired", changes)

    def end_process(self, pid: int, changes: list[Change]) -> None:
        """End the grants that were for a process which has ended."""
        self._end("process", str(pid), changes)

    def is_for_tree(self, tree: int) -> bool:
        """Say whether a grant is for a tree."""
        return any(record.holder == str(tree) and _is_tree(record) for record in self._live.values())

    def end_tree(self, tree: int, changes: list[Change]) -> None:
        """End the grants that were for a tree none of whose processes lives."""
        self._end("tree", str(tree), changes)

    def _end(self, scope: str, holder: str, changes: list[Change]) -> None:
        for record in self:
            if record.holder == holder and (_is_tree(record) if scope == "tree" else record.scope == scope):
                self._close(record, "ended", changes)

    def _close(self, record: StandingRecord, state: str, changes: list[Change]) -> None:
        replaced = record.seq
        record.live, record.state = 0, state
        del self._live[record.standing]
        changes.append(Change(record, replaced))


def _is_tree(record: StandingRecord) -> bool:
    return record.scope == "tree" or duration_of(record.scope) is not None


def _reaches(record: StandingRecord, process: ProcessRecord) -> bool:
    """Say whether a process is within the scope of a grant; a scope that nobody knows reaches nothing."""
    if _is_tree(record):
        return record.holder == str(process.tree)
    holders = {"process": str(process.pid), "image": process.image_digest, "project": ""}
    return record.scope in holders and record.holder == holders[record.scope]


def as_standing(record: StandingRecord, store: Store) -> Standing:
    """Return a grant as people see it, with its uses counted in the newest part of the journal since it was given."""
    return Standing(
        id=record.standing, scope=record.scope, holder=record.holder, op=record.op, offer=record.text, rule=record.rule, ask=record.ask,
        by=record.by, reason=record.reason, created=record.created, expires=record.expires or None, state=record.state,
        uses=_uses(record, store),
    )  # fmt: skip


def _uses(record: StandingRecord, store: Store) -> int:
    """Count the calls that name the grant's ask, but for the one that was asked about itself; PAGE_ROWS x _COUNTED_PAGES_MAX at most."""
    asked = store.get(AskRecord, record.ask)
    own = (asked.pid, asked.number) if asked is not None else None
    since, uses = record.seq, 0
    for _ in range(_COUNTED_PAGES_MAX):
        found, after = store.entries(since, PAGE_ROWS, op=record.op)
        uses += sum(head.ask == record.ask and (head.pid, head.number) != own for head, _ in found)
        if after == since:
            break
        since = after
    return uses
