"""One policy file, compiled: rules bound to an op on its first use, indexed by the literal part of their patterns.

`match(op, resource)` returns what is left of the layer for that op and resource: the rules whose pattern matches, in order of
decision (deny, ask, allow, else ask; asks by how narrow an answer they take; then by line), cut after the first that has no condition.
What is left after that can never be reached.

INVARIANT order-is-irrelevant: within a layer any deny wins, else any ask, else any allow, else the default; lines only pick which
of several deciding rules is named.
INVARIANT closed-to-the-unknown: for an op that a rule was not made for (mounted later, other arguments), an allow or ask
does not apply and a deny applies without its condition.
INVARIANT else-asks-last: an `else ask` asks only where no deny, ask or allow of its layer applies, and its own allow could have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Literal

from agentos.abi.op import Op
from agentos.abi.resource import Resource
from agentos.policy.check import CheckedRule, check_for_op
from agentos.policy.conditions import Condition, compile_condition
from agentos.policy.label import CheckedLabel
from agentos.policy.limit import CheckedLimit
from agentos.policy.pattern import Pattern
from agentos.policy.problems import Refusal
from agentos.policy.question import Question
from agentos.policy.require import CheckedRequire
from agentos.policy.scope import patterns_for
from agentos.policy.syntax import Aggregate, Outcome
from agentos.policy.verdict import RANK, Verdict, width_of

__all__ = ["BoundRule", "Layer"]

_Match = Callable[[Resource], bool]
_ELSE_RANK = 3


@dataclass(frozen=True, slots=True)
class BoundRule:
    """One rule, compiled for one op. `rank` orders decisions; `patterns` None = every resource.

    An allow with `else ask` is two: the allow, and a fallback without condition, which has the `question`.
    """

    checked: CheckedRule
    rank: tuple[int, float, float, int]
    patterns: tuple[Pattern, ...] | None
    when: Condition | None
    unless: Condition | None
    verdict: Verdict
    settled: Verdict
    question: Question | None = None

    @property
    def outcome(self) -> Outcome:
        """What the rule says where it applies."""
        return self.verdict.outcome

    @property
    def is_fallback(self) -> bool:
        """True for the `else ask` of an allow."""
        return self.question is not None

    @property
    def has_condition(self) -> bool:
        """True when the rule looks at more than op and resource."""
        return self.when is not None or self.unless is not None

    @property
    def granting(self) -> bool:
        """True when the rule can widen, so that its patterns must cover (`Pattern.covers`) and not just match."""
        return self.checked.rule.outcome == "allow" or (self.checked.rule.outcome == "ask" and self.checked.kind == "policy")

    def test(self, args: Mapping[str, Any], facts: Mapping[str, Any], late: frozenset[str]) -> bool | None:
        """Return the value of the rule's condition: when AND NOT unless; None = unknown."""
        wanted = True if self.when is None else self.when(args, facts, late)
        if wanted is False or self.unless is None:
            return wanted
        barred = self.unless(args, facts, late)
        if barred is True:
            return False
        return None if barred is None else wanted

    def applies(self, args: Mapping[str, Any], facts: Mapping[str, Any], late: frozenset[str]) -> bool:
        """Say whether the rule applies to a call whose resource it matches: unknown counts as true in a deny only."""
        value = self.test(args, facts, late)
        return value is True or (value is None and self.rank[0] == 0)

    def verdict_on(self, args: Mapping[str, Any], facts: Mapping[str, Any]) -> Verdict:
        """Return what it says about a call to which it applies."""
        return self.verdict if self.question is None else replace(self.verdict, question=self.question.about(args, facts))


class _Index:
    """The rules of one layer for one op, by key."""

    __slots__ = ("always", "keyed", "unkeyed")

    def __init__(self, rules: Iterable[BoundRule]) -> None:
        self.always: list[BoundRule] = []
        self.keyed: dict[str, list[tuple[_Match, BoundRule]]] = {}
        self.unkeyed: list[tuple[_Match, BoundRule]] = []
        for rule in rules:
            if rule.patterns is None:
                self.always.append(rule)
            for pattern in rule.patterns or ():
                group = self.unkeyed if pattern.key is None else self.keyed.setdefault(pattern.key, [])
                group.append((pattern.covers if rule.granting else pattern.matches, rule))

    def matching(self, resource: Resource, keys: Sequence[str]) -> list[BoundRule]:
        found = list(self.always)
        found += [rule for match, rule in self.unkeyed if match(resource)]
        for key in keys:
            group = self.keyed.get(key)
            if group is not None:
                found += [rule for match, rule in group if match(resource)]
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One immutable layer. Two layers are the same when their digests are.

    Attributes:
        name: As the file says.
        kind: ``policy`` denies what it does not mention, ``restrict`` lets it pass.
        version: As the file says.
        digest: Hex digest of `text`.
        source: Where the text is from; rules are named after it.
        text: The file, with the files it uses behind it, so that it loads again by itself.
        rules: Its rules, those of used files first.
        sets: Its sets.
        limits: Its limits.
        requires: Its obligations.
        labels: Its label statements.
        history: The tests on history in its conditions.
        uses_provenance: True when a condition asks where an argument's value comes from.
    """

    name: str
    kind: Literal["policy", "restrict"]
    version: int
    digest: str
    source: str
    text: str
    rules: tuple[CheckedRule, ...] = field(repr=False)
    sets: Mapping[str, tuple[str, ...]] = field(repr=False)
    limits: tuple[CheckedLimit, ...] = field(default=(), repr=False)
    requires: tuple[CheckedRequire, ...] = field(default=(), repr=False)
    labels: tuple[CheckedLabel, ...] = field(default=(), repr=False)
    history: tuple[Aggregate, ...] = field(default=(), repr=False)
    uses_provenance: bool = False
    _bound: dict[Op, tuple[_Index, tuple[BoundRule, ...]]] = field(default_factory=dict, init=False, repr=False)

    def __eq__(self, other: object) -> bool:
        """Say whether the other is a layer with the same digest."""
        return isinstance(other, Layer) and self.digest == other.digest

    def __hash__(self) -> int:
        """Return the hash of the digest."""
        return hash(self.digest)

    @property
    def counted_as(self) -> str:
        """The name that its limits are counted under. A layer that a process wrote never shares a counter with one that it was given."""
        return f"{self.source}\0{self.name}" if self.source.startswith(("proc/", "<proc.")) else self.name

    def match(self, op: Op, resource: Resource, keys: Sequence[str]) -> list[BoundRule]:
        """Return the rules that decide calls of `op` on `resource`, in order; only the last can be without condition."""
        found = self._bind(op)[0].matching(resource, keys)
        found.sort(key=_rank)
        kept: list[BoundRule] = []
        for rule in found:
            if not kept or rule is not kept[-1]:
                kept.append(rule)
            if not rule.has_condition:
                break
        return kept

    def rules_for(self, op: Op) -> tuple[BoundRule, ...]:
        """Return every rule about `op`, in the order of the file; the `else ask` of an allow follows it."""
        return self._bind(op)[1]

    def default(self, op: Op, *, own: bool = False) -> Verdict:
        """Return the verdict on calls that no rule of this layer applies to; `own` are calls by right over oneself, which pass."""
        if own or self.kind == "restrict":
            return Verdict("allow", f"{self.source}:default", "", self.name, None, constant=True)
        because = f"no rule of policy `{self.name}` allows it"
        return Verdict("deny", f"{self.source}:default", because, self.name, None, constant=True)

    def _bind(self, op: Op) -> tuple[_Index, tuple[BoundRule, ...]]:
        bound = self._bound.get(op)
        if bound is None:
            rules = tuple(rule for checked in self.rules if checked.names(op) for rule in _bind_rule(checked, op, self.name))
            bound = self._bound[op] = (_Index(rules), rules)
        return bound


def _rank(rule: BoundRule) -> tuple[int, float, float, int]:
    return rule.rank


def _bind_rule(checked: CheckedRule, op: Op, layer: str) -> tuple[BoundRule, ...]:
    rule, clauses = checked.rule, checked.rule.clauses
    patterns, fits = patterns_for(checked.patterns, op), _fits(checked, op)
    if patterns == () or (not fits and rule.outcome != "deny"):
        return ()
    deny, remember = rule.outcome == "deny", clauses.remember if rule.outcome == "ask" else ""
    timeout_s = None if clauses.else_ask else clauses.timeout_s
    verdict = Verdict(rule.outcome, checked.where, clauses.because, layer, timeout_s, False, clauses.as_name, remember)
    when = compile_condition(rule.when, op, checked.sets, ignored=not deny) if rule.when and fits else None
    unless = compile_condition(rule.unless, op, checked.sets, ignored=deny) if rule.unless and fits else None
    rank = (RANK[rule.outcome], width_of(remember), _patience(timeout_s), checked.number)
    bound = BoundRule(checked, rank, patterns, when, unless, verdict, replace(verdict, constant=True))
    return (bound, _fallback(bound, op)) if clauses.else_ask else (bound,)


def _patience(timeout_s: float | None) -> float:
    """Return what orders asks by how long they wait: the shortest first, as between layers."""
    return inf if timeout_s is None else timeout_s


def _fallback(bound: BoundRule, op: Op) -> BoundRule:
    """Return the `else ask` of an allow: it asks about every call of the rule's op and pattern that gets that far."""
    clauses = bound.checked.rule.clauses
    verdict = replace(
        bound.verdict, outcome="ask", timeout_s=clauses.timeout_s, remember=clauses.remember, question=clauses.else_ask
    )
    question = Question(clauses.else_ask, op, bound.checked.rule.at)
    rank = (_ELSE_RANK, width_of(clauses.remember), _patience(clauses.timeout_s), bound.checked.number)
    return replace(bound, rank=rank, when=None, unless=None, verdict=verdict, settled=verdict, question=question)


def _fits(checked: CheckedRule, op: Op) -> bool:
    try:
        check_for_op(checked, op)
    except Refusal:
        return False
    return True
