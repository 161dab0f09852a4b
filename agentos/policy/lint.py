"""What is doubtful about a policy that loads: data for `policy check`, never an error.

    W101  never matches: every call it allows or asks about is denied by one other line
    W102  redundant: another line of the same outcome covers every call it covers
    W131  an allow or ask whose URL pattern allows any host
    W140  a limit or require about ops that no rule of the policy lets through; a right over oneself needs no rule
A pair of rules is compared only where their literal parts can meet, so the cost grows with what overlaps, not with the square.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from agentos.abi.op import Op, OpTable
from agentos.policy.layer import BoundRule, Layer
from agentos.policy.limit import CheckedLimit
from agentos.policy.pattern import Pattern
from agentos.policy.problems import Problem
from agentos.policy.require import CheckedRequire
from agentos.policy.unparse import expr_text
from agentos.policy.url_pattern import UrlPattern

__all__ = ["warnings_of"]


def warnings_of(layer: Layer, text: str, table: OpTable) -> list[Problem]:
    """Return the warnings about the rules that stand in the layer's own file, by line."""
    lines = text.splitlines()
    ops = list(table)
    bound: dict[int, list[tuple[_Candidates, BoundRule]]] = {}
    for op in ops:
        rules = [rule for rule in layer.rules_for(op) if not rule.is_fallback]
        candidates = _Candidates(rules)
        for rule in rules:
            bound.setdefault(rule.checked.number, []).append((candidates, rule))
    found: list[Problem] = []
    for checked in layer.rules:
        if checked.source != layer.source:
            continue
        warning = _warning(bound.get(checked.number, []))
        if warning is not None:
            code, message, hint = warning
            at = checked.rule.at
            found.append(Problem(code, message, layer.source, at, lines[at.line - 1] if at.line <= len(lines) else "", hint))
    found += _idle(layer, lines, ops)
    return sorted(found, key=lambda problem: problem.at)


def _idle(layer: Layer, lines: Sequence[str], ops: Sequence[Op]) -> Iterator[Problem]:
    """Iterate over limits and obligations that no call can meet: the policy denies every op that they name."""
    if layer.kind != "policy":
        return
    open_ops = [op for op in ops if _may_pass(layer, op)]
    statements: list[CheckedLimit | CheckedRequire] = [*layer.limits, *layer.requires]
    for item in statements:
        statement = item.scope.statement
        if item.source == layer.source and not any(item.scope.names(op) for op in open_ops):
            line = lines[statement.at.line - 1] if statement.at.line <= len(lines) else ""
            message = "idle: no rule allows or asks about the ops that it names"
            yield Problem("W140", message, layer.source, statement.at, line, "add the rule, or remove it")


def _may_pass(layer: Layer, op: Op) -> bool:
    """Say whether some call of `op` may get through a policy: by a rule, or past its default by a right over oneself."""
    rules = layer.rules_for(op)
    if any(rule.outcome != "deny" for rule in rules):
        return True
    is_closed = any(rule.patterns is None and not rule.has_condition for rule in rules)
    return op.self_right is not False and not is_closed


def _warning(bound: Sequence[tuple[_Candidates, BoundRule]]) -> tuple[str, str, str] | None:
    if not bound:
        return None
    rule = bound[0][1].checked.rule
    if rule.outcome != "deny":
        line = _covering_line(bound, _denies)
        if line is not None:
            call = "allows" if rule.outcome == "allow" else "asks about"
            return "W101", f"never matches: every call it {call} is denied by {line}", "remove it, or narrow the deny"
    line = _covering_line(bound, _repeats)
    if line is not None:
        return "W102", f"redundant: {line} covers every call it covers", "remove one of them"
    hosts = {pattern.text for _, item in bound for pattern in item.patterns or () if _is_any_host(pattern)}
    if rule.outcome != "deny" and hosts:
        return "W131", f"`{min(hosts)}` allows any host", "name the hosts, or make sure other lines narrow it"
    return None


def _is_any_host(pattern: Pattern) -> bool:
    return isinstance(pattern, UrlPattern) and pattern.parts.allows_any_host


def _covering_line(
    bound: Sequence[tuple[_Candidates, BoundRule]], covers: Callable[[BoundRule, BoundRule], bool]
) -> str | None:
    """Return ``line N`` of one rule that covers every op and pattern of the bound rule, or None."""
    common: set[int] | None = None
    where: dict[int, BoundRule] = {}
    for candidates, rule in bound:
        here: set[int] = set()
        for other in candidates.of(rule):
            if other.checked is not rule.checked and covers(other, rule) and _contains(other, rule):
                here.add(other.checked.number)
                where[other.checked.number] = other
        common = here if common is None else common & here
        if not common:
            return None
    assert common
    chosen = where[min(common)].checked
    place = f"line {chosen.rule.at.line}"
    return place if chosen.source == bound[0][1].checked.source else f"{place} of {chosen.source}"


def _denies(other: BoundRule, rule: BoundRule) -> bool:
    return other.checked.rule.outcome == "deny" and not other.has_condition


def _repeats(other: BoundRule, rule: BoundRule) -> bool:
    """Say whether `other`, where its patterns match, does all that `rule` does. Of two equal rules the later is the redundant one."""
    mine, its = rule.checked.rule, other.checked.rule
    if mine.outcome != its.outcome or mine.clauses.because != its.clauses.because:
        return False
    if (mine.outcome == "ask" or (mine.clauses.else_ask and other.has_condition)) and _asking(rule) != _asking(other):
        return False
    if other.has_condition and _conditions(other) != _conditions(rule):
        return False
    return not (
        _conditions(other) == _conditions(rule) and other.checked.number > rule.checked.number and _contains(rule, other)
    )


def _asking(rule: BoundRule) -> tuple[object, ...]:
    """Return how a rule asks, an allow by its `else ask`."""
    clauses = rule.checked.rule.clauses
    return (clauses.else_ask, clauses.timeout_s, clauses.remember)


def _conditions(rule: BoundRule) -> tuple[str, ...]:
    statement = rule.checked.rule
    return tuple("" if expr is None else expr_text(expr) for expr in (statement.when, statement.unless))


def _contains(other: BoundRule, rule: BoundRule) -> bool:
    if other.patterns is None:
        return True
    if rule.patterns is None:
        return False
    return all(any(wide.contains(narrow) for wide in other.patterns) for narrow in rule.patterns)


class _Candidates:
    """The rules of one op by the keys of their patterns."""

    def __init__(self, rules: Sequence[BoundRule]) -> None:
        self._keyed: dict[str, list[BoundRule]] = {}
        self._rest: list[BoundRule] = []
        for rule in rules:
            for key in {pattern.key for pattern in rule.patterns or ()} or {None}:
                if key is None:
                    self._rest.append(rule)
                else:
                    self._keyed.setdefault(key, []).append(rule)

    def of(self, rule: BoundRule) -> Iterator[BoundRule]:
        """Iterate over the rules with a pattern that may contain the first pattern of `rule`."""
        yield from self._rest
        if rule.patterns:
            for key in dict.fromkeys(rule.patterns[0].example_keys()):
                yield from self._keyed.get(key, ())
