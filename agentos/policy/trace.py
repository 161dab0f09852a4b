"""A recorded run as the policy room sees it: calls that were decided before and can be decided again.

A trace is a list of audit entries as plain data (`Entry`, or one line of `agentos audit -o jsonl`). What an entry does not hold is
unknown here: late attributes (``resolved``, ``dest_ip``) are ignored as on the first pass. Its labels are those of the call; history
(`count`, `sum`, `after`) is what the entries before it did. Where values came from says an `Origins`; without one nothing is grounded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal, Protocol

from agentos.abi.labels import parse
from agentos.abi.op import Op, OpTable
from agentos.abi.resource import Resource
from agentos.errors import Invalid
from agentos.policy.decide import Stack
from agentos.policy.flow import Origin
from agentos.policy.layer import Layer
from agentos.policy.verdict import Verdict

__all__ = ["Change", "Origins", "Recorded", "Skipped", "changed", "read_trace"]

Wanted = Literal["allow", "ask", "deny"]
FactsOf = Callable[[int], Mapping[str, Any]]

_NOT_DECIDED: Final = ("invalid", "denied.budget", "denied.revoked")
"""Codes of calls that ended for another reason than a decision about them."""


class Origins(Protocol):
    """Where the values of a trace came from, as it is read from its beginning."""

    def origin(self, call: Recorded, value: Any, stack: Stack) -> Origin:
        """Return the origin of a value of `call`, under the label statements of `stack`."""

    def note(self, call: Recorded) -> None:
        """Take in what `call` returned."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call of a trace.

    Attributes:
        outcome: What was decided then.
        own: It was a process's right over itself.
        label: Label bits of the call.
        result: What it returned, None for nothing.
    """

    seq: int
    pid: int
    op: Op
    resources: tuple[Resource, ...]
    args: dict[str, Any]
    outcome: Wanted
    facts: Mapping[str, Any]
    own: bool
    label: int = 0
    result: Any = None

    def decide(self, stack: Stack, origins: Origins | None = None) -> Verdict:
        """Return what `stack` says to the call."""
        facts = {**self.facts, "flow": self.facts["flow"].seen(self, stack, origins)}
        return stack.decide(self.op, self.resources, self.args, facts, own=self.own)

    @property
    def resource(self) -> str:
        """The resources as text."""
        return " ".join(resource.text for resource in self.resources)


@dataclass(frozen=True, slots=True)
class Skipped:
    """One entry that cannot be decided again, and why."""

    seq: int
    op: str
    why: str


@dataclass(frozen=True, slots=True)
class Change:
    """One recorded call that two policies decide differently; the rules are those that decide."""

    seq: int
    op: str
    resource: str
    old: str
    new: str
    old_rule: str
    new_rule: str


@dataclass(frozen=True, slots=True)
class _Past:
    """What a task had done before one call, and where its values came from: a `Flow`."""

    label: int
    admitted: Mapping[str, int]
    sums: Mapping[tuple[str, str], Decimal]
    succeeded: frozenset[str]
    origin_of: Callable[[Any], Origin] | None = None

    def seen(self, call: Recorded, stack: Stack, origins: Origins | None) -> _Past:
        """Return the same past with the origins of `call`'s values under `stack`."""
        return self if origins is None else replace(self, origin_of=lambda value: origins.origin(call, value, stack))

    def origin(self, value: Any) -> Origin:
        """Return the origin of a value; one that nothing is known of has the label of the call and no source."""
        return Origin(self.label, frozenset()) if self.origin_of is None else self.origin_of(value)

    def count(self, op: str) -> int:
        """Return how many calls of `op` were admitted before."""
        return self.admitted.get(op, 0)

    def total(self, op: str, attr: str) -> float:
        """Return the sum of an argument over them."""
        return float(self.sums.get((op, attr), Decimal(0)))

    def happened(self, op: str) -> bool:
        """Say whether one of them succeeded."""
        return op in self.succeeded


def read_trace(
    entries: Iterable[Mapping[str, Any]], table: OpTable, *, facts_of: FactsOf = lambda pid: {}
) -> tuple[list[Recorded], list[Skipped]]:
    """Return the calls of a trace that can be decided again, in order, and those that cannot.

    Args:
        entries: Audit entries in order, as plain data with at least op, args and outcome.
        table: The ops that exist.
        facts_of: What the kernel knew about a process: ``proc.depth``, ``proc.image``...

    Raises:
        Invalid: `invalid.argument`, an entry is none.
    """
    calls: list[Recorded] = []
    skipped: list[Skipped] = []
    admitted: Counter[str] = Counter()
    sums: dict[tuple[str, str], Decimal] = {}
    succeeded: frozenset[str] = frozenset()
    for number, entry in enumerate(entries, 1):
        seq, name = _head(entry, number)
        call = _call(entry, seq, name, table)
        if isinstance(call, Skipped):
            skipped.append(call)
            continue
        past = _Past(call.label, dict(admitted), dict(sums), succeeded)
        calls.append(replace(call, facts={"proc.pid": call.pid, **facts_of(call.pid), "flow": past}))
        if call.outcome != "deny":
            admitted[name] += 1
            _sum(sums, name, call.args)
        if entry.get("outcome") == "done":
            succeeded |= {name}
    return calls, skipped


def _head(entry: Mapping[str, Any], number: int) -> tuple[int, str]:
    if not isinstance(entry, Mapping) or not isinstance(entry.get("op"), str) or "outcome" not in entry:
        hint = "write a trace with `agentos audit -o jsonl`"
        raise Invalid("argument", f"entry {number} of the trace is no audit entry", hint=hint, field="trace")
    seq = entry.get("seq", number)
    return seq if isinstance(seq, int) else number, entry["op"]


def _label(entry: Mapping[str, Any]) -> int:
    words = entry.get("labels") or []
    return parse(words if isinstance(words, list) else [])


def _call(entry: Mapping[str, Any], seq: int, name: str, table: OpTable) -> Recorded | Skipped:
    op = table.get(name)
    code = str(entry.get("code") or "")
    if op is None:
        return Skipped(seq, name, "the op is not known here; declare it with --devices")
    if code.startswith(_NOT_DECIDED):
        return Skipped(seq, name, f"it ended with {code}, which no policy decides")
    pid = entry.get("pid")
    pid = pid if isinstance(pid, int) else 0
    try:
        args = op.validate(dict(entry.get("args") or {}))
        resources = op.render(args, "/", pid)
    except Invalid as error:
        return Skipped(seq, name, error.message)
    own = op.is_self_right(args, pid)
    return Recorded(seq, pid, op, resources, args, _wanted(entry), {}, own, _label(entry), entry.get("result"))


def _wanted(entry: Mapping[str, Any]) -> Wanted:
    if entry["outcome"] == "denied":
        return "deny"
    return "ask" if entry.get("ask") else "allow"


def _sum(sums: dict[tuple[str, str], Decimal], op: str, args: Mapping[str, Any]) -> None:
    for name, value in args.items():
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and value == value:  # noqa: PLR0124 - NaN
            sums[op, name] = sums.get((op, name), Decimal(0)) + Decimal(str(value))


def changed(calls: Sequence[Recorded], old: Layer, new: Layer, origins: Origins | None = None) -> list[Change]:
    """Return the calls that `old` alone and `new` alone decide differently, in order."""
    before, after = Stack([old]), Stack([new])
    found: list[Change] = []
    for call in calls:
        was, now = call.decide(before, origins), call.decide(after, origins)
        if was.outcome != now.outcome:
            found.append(Change(call.seq, call.op.name, call.resource, was.outcome, now.outcome, was.rule, now.rule))
        if origins is not None:
            origins.note(call)
    return found
