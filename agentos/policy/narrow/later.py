"""Two layers compared on ops that do not exist yet: a device that is mounted later is named by ``*``, ``bank.*`` and ``effect once``.

Nothing is known about such an op but its family, its effect and the kinds of its resources. Whether a rule's condition holds, or means
anything for it, is left open: the same condition counts alike in both layers, and every combination is tried. So this never says that
the new layer is wider, only that it might be.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from agentos.abi.op import Effect, Op
from agentos.abi.resource import Kind, Resource, Template
from agentos.policy.check import CheckedRule
from agentos.policy.layer import Layer
from agentos.policy.narrow.automaton import Allowance
from agentos.policy.narrow.call import Said, freer
from agentos.policy.narrow.probe import expr_key
from agentos.policy.narrow.resource import resources_of
from agentos.policy.pattern import Pattern
from agentos.policy.scope import patterns_for
from agentos.policy.verdict import width_of

__all__ = ["may_widen_later"]

_CONDITIONS_MAX: Final = 10
_TEMPLATES: Final[dict[Kind, Template]] = {
    "path": Template("path", "{path}"), "url": Template("url", "{path}"), "argv": Template("argv", "{path}"),
    "id": Template("id", "{path:path}"),
}  # fmt: skip
_Condition = tuple[Any, ...]
_Matching = frozenset[tuple[str, "_Condition | None", str]]


def _act(path: str) -> None: ...


def may_widen_later(old: Layer | None, new: Layer | None, allowance: Allowance) -> bool:
    """Say whether `new` might let a call of an op that is not there yet through more freely than `old`."""
    if old is None:
        return False
    before, after = _wide_rules(old), _wide_rules(new)
    if new is not None and old.kind == new.kind and {_whole(rule) for rule in before} == {_whole(rule) for rule in after}:
        return False
    seen: set[Any] = set()
    for op in _later_ops([*before, *after]):
        sides = _Side(old, before, op), _Side(new, after, op)
        for template in op.resources:
            key = (template.kind, sides[0].active, sides[1].active)
            if key not in seen and _may_differ(sides, op, template, allowance):
                return True
            seen.add(key)
    return False


def _may_differ(sides: tuple[_Side, _Side], op: Op, template: Template, allowance: Allowance) -> bool:
    resources = resources_of(op, template, [*sides[0].patterns(), *sides[1].patterns()], (), allowance)
    if resources is None or not allowance.take(len(resources) * (1 + len(sides[0].active) + len(sides[1].active))):
        return True
    pairs = {(sides[0].matching(resource), sides[1].matching(resource)) for resource in resources}
    return any(_differ(sides, *pair, allowance) for pair in pairs if pair[0] != pair[1] or sides[0].is_open != sides[1].is_open)


def _differ(sides: tuple[_Side, _Side], before: _Matching, after: _Matching, allowance: Allowance) -> bool:
    """Say whether some conditions make the rules of the new side let more through; also when there are too many to try."""
    conditions = sorted({condition for _, condition, _ in before | after if condition is not None}, key=repr)
    if len(conditions) > _CONDITIONS_MAX or not allowance.take((len(before) + len(after) + 1) << len(conditions)):
        return True
    for values in itertools.product((False, True), repeat=len(conditions)):
        holds = dict(zip(conditions, values, strict=True))
        for own in (False, True):
            if freer(sides[0].say(before, holds, own=own), sides[1].say(after, holds, own=own)):
                return True
    return False


def _wide_rules(layer: Layer | None) -> list[CheckedRule]:
    return [rule for rule in layer.rules if any(_is_wide(ref.text) for ref in rule.rule.ops)] if layer is not None else []


def _is_wide(text: str) -> bool:
    return text == "*" or text.endswith(".*") or text.startswith("effect ")


def _later_ops(rules: Sequence[CheckedRule]) -> Iterator[Op]:
    """Iterate over an op for each family, effect and set of kinds that rules tell apart."""
    named = {ref.text for rule in rules for ref in rule.rule.ops}
    families = sorted({text[:-2] for text in named if text.endswith(".*")} | {"later"})
    effects = [effect for effect in Effect if f"effect {effect.value}" in named]
    effects += [effect for effect in Effect if effect not in effects][:1]
    sets = [kinds for size in range(1, len(_TEMPLATES) + 1) for kinds in itertools.combinations(_TEMPLATES, size)]
    for family, effect, kinds in itertools.product(families, effects, sets):
        yield Op(f"{family}.later", _act, effect, tuple(_TEMPLATES[kind] for kind in kinds))


def _conditions(rule: CheckedRule) -> _Condition:
    statement = rule.rule
    exprs = tuple(None if expr is None else expr_key(expr, rule.sets) for expr in (statement.when, statement.unless))
    return (statement.outcome, *exprs, frozenset(name for name, _ in statement.clauses.any_of), rule.patterns is not None)


def _whole(rule: CheckedRule) -> tuple[Any, ...]:
    patterns = None if rule.patterns is None else frozenset(rule.patterns)
    clauses = rule.rule.clauses
    return (frozenset(ref.text for ref in rule.rule.ops), patterns, _conditions(rule), clauses.remember, bool(clauses.else_ask))


class _Side:
    """One layer on one op that is not there yet.

    Attributes:
        active: Numbers of the rules that are about the op.
        is_open: The layer lets pass what it does not mention.
    """

    def __init__(self, layer: Layer | None, rules: Sequence[CheckedRule], op: Op) -> None:
        self.is_open = layer is None or layer.kind == "restrict"
        self._rules: list[tuple[CheckedRule, tuple[Pattern, ...] | None]] = []
        for rule in rules:
            patterns = patterns_for(rule.patterns, op)
            if rule.names(op) and patterns != () and (rule.rule.outcome == "deny" or _all_mean_something(rule, op)):
                self._rules.append((rule, patterns))
        self.active = frozenset(rule.number for rule, _ in self._rules)

    def patterns(self) -> list[Pattern]:
        """Return the patterns of the rules."""
        return [pattern for _, patterns in self._rules for pattern in patterns or ()]

    def matching(self, resource: Resource) -> _Matching:
        """Return what the rules that match a resource say: (outcome or ``else``, condition or None, scope of answers)."""
        found: set[tuple[str, _Condition | None, str]] = set()
        for rule, patterns in self._rules:
            if _matches(rule, patterns, resource):
                clauses, condition = rule.rule.clauses, _conditions(rule) if _is_open(rule) else None
                found.add((rule.rule.outcome, condition, clauses.remember if rule.rule.outcome == "ask" else ""))
                if clauses.else_ask:
                    found.add(("else", None if condition is None else ("else", *condition), clauses.remember))
        return frozenset(found)

    def say(self, matching: _Matching, holds: Mapping[_Condition, bool], *, own: bool) -> Said:
        """Return what the layer says, given which conditions hold."""
        applying: dict[str, list[str]] = {}
        for what, condition, remember in matching:
            if condition is None or holds[condition]:
                applying.setdefault(what, []).append(remember)
        if "deny" in applying:
            return Said("deny", "", frozenset())
        for what in ("ask", "allow", "else"):
            if what in applying:
                return Said("allow" if what == "allow" else "ask", min(applying[what], key=width_of), frozenset())
        return Said("allow" if own or self.is_open else "deny", "", frozenset())


def _is_open(rule: CheckedRule) -> bool:
    """Say whether it is left open if the rule applies: it has a condition, or is an allow that an unmentioned sink makes void."""
    statement = rule.rule
    mentions_all = any(name == "*" for name, _ in statement.clauses.any_of)
    return statement.when is not None or statement.unless is not None or (statement.outcome == "allow" and not mentions_all)


def _all_mean_something(rule: CheckedRule, op: Op) -> bool:
    return all(patterns_for((text,), op) for text in rule.patterns or ())


def _matches(rule: CheckedRule, patterns: tuple[Pattern, ...] | None, resource: Resource) -> bool:
    if patterns is None:
        return True
    is_grant = rule.rule.outcome == "allow" or (rule.rule.outcome == "ask" and rule.kind == "policy")
    return any((pattern.covers if is_grant else pattern.matches)(resource) for pattern in patterns)
