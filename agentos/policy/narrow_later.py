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
from agentos.policy.narrow_automaton import Allowance
from agentos.policy.narrow_call import Said, freer
from agentos.policy.narrow_probe import expr_key
from agentos.policy.narrow_resource import resources_of
from agentos.policy.pattern import Pattern
from agentos.policy.scope import patterns_for
from agentos.policy.verdict import width_of

__all__ = ["may_widen_later"]

_CONDITIONS_MAX: Final = 10
_TRIES_MAX: Final = 100_000
_TEMPLATES: Final[dict[Kind, Template]] = {
    "path": Template("path", "{path}"), "url": Template("url", "{path}"), "argv": Template("argv", "{path}"),
    "id": Template("id", "{path:path}"),
}  # fmt: skip
_Condition = tuple[Any, ...]


def _act(path: str) -> None: ...


def may_widen_later(old: Layer | None, new: Layer | None, allowance: Allowance) -> bool:
    """Say whether `new` might let a call of an op that is not there yet through more freely than `old`."""
    if old is None:
        return False
    before, after = _wide_rules(old), _wide_rules(new)
    if new is not None and old.kind == new.kind and {_whole(rule) for rule in before} == {_whole(rule) for rule in after}:
        return False
    tries = _TRIES_MAX
    for op in _later_ops([*before, *after]):
        sides = _Side(old, before, op), _Side(new, after, op)
        conditions = sorted(sides[0].conditions | sides[1].conditions, key=repr)
        resources = _resources(op, [*sides[0].patterns(), *sides[1].patterns()], allowance)
        if resources is None or len(conditions) > _CONDITIONS_MAX:
            return True
        tries -= len(resources) << len(conditions)
        if tries < 0 or _differ(sides, conditions, resources):
            return True
    return False


def _differ(sides: tuple[_Side, _Side], conditions: Sequence[_Condition], resources: Sequence[Resource]) -> bool:
    for values in itertools.product((False, True), repeat=len(conditions)):
        holds = dict(zip(conditions, values, strict=True))
        for resource, own in itertools.product(resources, (False, True)):
            if freer(sides[0].say(resource, holds, own=own), sides[1].say(resource, holds, own=own)) is not None:
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


def _resources(op: Op, patterns: Sequence[Pattern], allowance: Allowance) -> list[Resource] | None:
    found: list[Resource] = []
    for template in op.resources:
        mine = resources_of(op, template, patterns, (), allowance)
        if mine is None:
            return None
        found += mine
    return found


def _conditions(rule: CheckedRule) -> _Condition:
    statement = rule.rule
    exprs = tuple(None if expr is None else expr_key(expr, rule.sets) for expr in (statement.when, statement.unless))
    return (statement.outcome, *exprs, frozenset(name for name, _ in statement.clauses.any_of), rule.patterns is not None)


def _whole(rule: CheckedRule) -> tuple[Any, ...]:
    patterns = None if rule.patterns is None else frozenset(rule.patterns)
    clauses = rule.rule.clauses
    return (frozenset(ref.text for ref in rule.rule.ops), patterns, _conditions(rule), clauses.remember, bool(clauses.else_ask))


class _Side:
    """One layer on one op that is not there yet: (rule, its patterns, its condition or None, what it says)."""

    def __init__(self, layer: Layer | None, rules: Sequence[CheckedRule], op: Op) -> None:
        self._layer = layer
        self._rules: list[tuple[CheckedRule, tuple[Pattern, ...] | None, _Condition | None, str]] = []
        for rule in rules:
            patterns = patterns_for(rule.patterns, op)
            outcome = rule.rule.outcome
            if not rule.names(op) or patterns == () or (outcome != "deny" and not _all_mean_something(rule, op)):
                continue
            condition = _conditions(rule)
            self._rules.append((rule, patterns, condition if _is_open(rule) else None, outcome))
            if rule.rule.clauses.else_ask:
                self._rules.append((rule, patterns, ("else", *condition) if _is_open(rule) else None, "else"))

    @property
    def conditions(self) -> set[_Condition]:
        """What is left open."""
        return {condition for _, _, condition, _ in self._rules if condition is not None}

    def patterns(self) -> list[Pattern]:
        """Return the patterns of the rules."""
        return [pattern for _, patterns, _, _ in self._rules for pattern in patterns or ()]

    def say(self, resource: Resource, holds: Mapping[_Condition, bool], *, own: bool) -> Said:
        """Return what the layer says about a resource, given which conditions hold."""
        applying: dict[str, list[str]] = {}
        for rule, patterns, condition, what in self._rules:
            if (condition is None or holds[condition]) and _matches(rule, patterns, resource):
                applying.setdefault(what, []).append(rule.rule.clauses.remember)
        if "deny" in applying:
            return Said("deny", "", frozenset())
        for what in ("ask", "allow", "else"):
            if what in applying:
                narrowest = "" if what == "allow" else min(applying[what], key=width_of)
                return Said("allow" if what == "allow" else "ask", narrowest, frozenset())
        is_open = own or self._layer is None or self._layer.kind == "restrict"
        return Said("allow" if is_open else "deny", "", frozenset())


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
