"""A recorded run as the policy room sees it: calls that were decided before and can be decided again.

A trace is a list of audit entries as plain data (`Entry`, or one line of `agentos audit -o jsonl`). What an entry does not hold is
unknown here: late attributes (``resolved``, ``dest_ip``) are ignored as on the first pass, and no value is grounded. Its labels are the
call's ``flow`` label; history (`count`, `sum`, `after`) is what the entries before it did.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

from agentos.abi.labels import parse
from agentos.abi.op import Op, OpTable
from agentos.abi.resource import Resource
from agentos.errors import Invalid
from agentos.policy.decide import Stack
from agentos.policy.flow import Origin
from agentos.policy.layer import Layer
from agentos.policy.verdict import Verdict

__all__ = ["Change", "Recorded", "Skipped", "changed", "read_trace"]

Wanted = Literal["allow", "ask", "deny"]
FactsOf = Callable[[int], Mapping[str, Any]]

_NOT_DECIDED: Final = ("invalid", "denied.budget", "denied.revoked")
"""Codes of calls that ended for another reason than a decision about them."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One call of a trace. `outcome` is what was decided then; `own` says that it was a process's right over itself."""

    seq: int
    pid: int
    op: Op
    resources: tuple[Resource, ...]
    args: dict[str, Any]
    outcome: Wanted
    facts: Mapping[str, Any]
    own: bool

    def decide(self, stack: Stack) -> Verdict:
        """Return what `stack` says to the call."""
        return stack.decide(self.op, self.resources, self.args, self.facts, own=self.own)

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


@dataclass(slots=True)
class _Past:
    """What a task had done before one call: a `Flow` in which nothing is grounded."""

    label: int
    admitted: Mapping[str, int] = field(default_factory=dict)
    sums: Mapping[tuple[str, str], Decimal] = field(default_factory=dict)
    succeeded: frozenset[str] = frozenset()

    def origin(self, value: Any) -> Origin:
        """Return the label of the call, and no source: a trace does not say where a value came from."""
        return Origin(self.label, frozenset())

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
        past = _Past(_label(entry), dict(admitted), dict(sums), succeeded)
        facts = {"proc.pid": call.pid, **facts_of(call.pid), "flow": past}
        calls.append(Recorded(call.seq, call.pid, call.op, call.resources, call.args, call.outcome, facts, call.own))
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
    return Recorded(seq, pid, op, resources, args, _wanted(entry), {}, own)


def _wanted(entry: Mapping[str, Any]) -> Wanted:
    if entry["outcome"] == "denied":
        return "deny"
    return "ask" if entry.get("ask") else "allow"


def _sum(sums: dict[tuple[str, str], Decimal], op: str, args: Mapping[str, Any]) -> None:
    for name, value in args.items():
        if isinstance(value, int | float | Decimal) and not isinstance(value, bool) and value == value:  # noqa: PLR0124 - NaN
            sums[op, name] = sums.get((op, name), Decimal(0)) + Decimal(str(value))


def changed(calls: Sequence[Recorded], old: Layer, new: Layer) -> list[Change]:
    """Return the calls that `old` alone and `new` alone decide differently, in order."""
    stacks = Stack([old]), Stack([new])
    found: list[Change] = []
    for call in calls:
        before, after = (call.decide(stack) for stack in stacks)
        if before.outcome != after.outcome:
            found.append(Change(
                call.seq, call.op.name, call.resource, before.outcome, after.outcome, before.rule, after.rule,
            ))  # fmt: skip
    return found
