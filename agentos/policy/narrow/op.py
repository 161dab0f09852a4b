"""Two layers compared on all calls of one op.

Resources fall into classes by the rules that match them; in a class only the tests of the conditional rules that are left matter. Every
class is decided, by the evaluator itself, on every combination of values of what is tested there. What no sample tells apart, no call
does; a sample that does is only believed once it was made into a real call (`narrow.call`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from agentos.abi.op import Op
from agentos.abi.resource import Resource, Template
from agentos.policy.attributes import FACTS, type_of
from agentos.policy.decide import Stack
from agentos.policy.layer import BoundRule, Layer
from agentos.policy.narrow.automaton import Allowance
from agentos.policy.narrow.call import Pair, Sample, Witness, facts_of, filler, freer, witness_of
from agentos.policy.narrow.probe import Key, Probe, Root, expr_key, probes_of, rule_exprs
from agentos.policy.narrow.resource import TextTest, resources_of, text_tests
from agentos.policy.narrow.value import UNKNOWN, Option, Values
from agentos.policy.pattern import Pattern, keys_of
from agentos.policy.require import BoundRequire
from agentos.policy.syntax import Expr, Test

__all__ = ["Budget", "Difference", "compare_op"]

_ATTEMPTS_MAX: Final = 60
_TIED_VERBS: Final = frozenset({"like", "==", "!=", "in", "absent", "matches", "from"})


@dataclass(slots=True)
class Budget:
    """How much a comparison may still do: steps of automata, and conditional rules tried on supposed calls."""

    states: Allowance
    samples: Allowance
    known: dict[Any, list[Resource] | None] = field(default_factory=dict)

    def resources(
        self, op: Op, template: Template, patterns: Sequence[Pattern], tests: Sequence[TextTest]
    ) -> list[Resource] | None:
        """Return what `resources_of` does, once for all ops that have the same kind of resource and the same patterns."""
        key = (template.kind, op.name if template.kind == "id" else "", frozenset(patterns), frozenset(tests))
        if key not in self.known:
            self.known[key] = resources_of(op, template, patterns, tests, self.states)
        return self.known[key]

    @property
    def is_over(self) -> bool:
        """True once either is used up."""
        return self.states.is_over or self.samples.is_over


@dataclass(slots=True)
class Difference:
    """How two layers differ on one op. `undecided`: the new one may be wider, but no call shows it."""

    wider: Witness | None = None
    narrower: Witness | None = None
    undecided: bool = False


@dataclass(frozen=True, slots=True)
class _Class:
    """Resources that answer alike: one of them, how many rules are left for it, which tests matter, and the options it fixes."""

    resource: Resource
    is_alike: bool
    cost: int
    numbers: frozenset[int]
    fixed: tuple[tuple[Key, Option], ...] = ()


@dataclass(slots=True)
class _Side:
    """One layer on one op."""

    layer: Layer | None
    rules: tuple[BoundRule, ...] = ()
    requires: tuple[BoundRequire, ...] = ()
    tokens: dict[int, Any] = field(default_factory=dict)


def compare_op(old: Layer | None, new: Layer | None, op: Op, budget: Budget, *, duties: bool) -> Difference:
    """Compare two layers (None = none) on every call of `op`; `duties`: obligations too."""
    sides = _side(old, op, duties=duties), _side(new, op, duties=duties)
    if old is not None and new is not None and old.kind == new.kind and _tokens(sides[0]) == _tokens(sides[1]):
        return Difference()
    return Difference(undecided=True) if budget.is_over else _Comparison(op, sides, budget).run()


def _side(layer: Layer | None, op: Op, *, duties: bool) -> _Side:
    if layer is None:
        return _Side(None)
    bound = [require.bind(op) for require in layer.requires if require.scope.names(op)] if duties else []
    side = _Side(layer, layer.rules_for(op), tuple(one for one in bound if one is not None))
    side.tokens = {id(rule): _token(rule) for rule in side.rules}
    return side


def _tokens(side: _Side) -> frozenset[Any]:
    rules = {(side.tokens[id(rule)], _pattern_key(rule.patterns)) for rule in side.rules}
    return frozenset(rules | {("require", _require_token(one), _pattern_key(one.scope.patterns)) for one in side.requires})


def _pattern_key(patterns: tuple[Pattern, ...] | None) -> frozenset[tuple[str, str]] | None:
    return None if patterns is None else frozenset((pattern.kind, pattern.text) for pattern in patterns)


def _token(rule: BoundRule) -> tuple[Any, ...]:
    """Return what a rule says once its patterns match: equal tokens decide equally."""
    conditions = tuple(expr_key(expr, rule.checked.sets) for expr in rule_exprs(rule))
    return (rule.outcome, rule.rank[0], rule.verdict.remember, rule.when is not None, rule.granting, conditions)


def _require_token(require: BoundRequire) -> tuple[Any, ...]:
    when = require.checked.require.when
    return (require.obligations, expr_key(when, require.checked.scope.sets) if when is not None and require.scope.when else ())


class _Comparison:
    def __init__(self, op: Op, sides: tuple[_Side, _Side], budget: Budget) -> None:
        self._op = op
        self._sides = sides
        self._budget = budget
        self._values = Values(op, budget.states)
        self._pair = Pair(op, *(Stack([side.layer] if side.layer is not None else []) for side in sides))
        self._roots, self._owned = probes_of(op, self._expressions())
        self._untie_facts()
        self._options: dict[Key, list[Option]] = {}
        self._projected: dict[tuple[Key, frozenset[int]], list[Option]] = {}
        self._fillers = {name: filler(op, name) for name in op.arg_names}
        self._attempts = {False: _ATTEMPTS_MAX, True: _ATTEMPTS_MAX}
        self._seen = {False: False, True: False}
        self._found = Difference()

    def run(self) -> Difference:
        """Compare."""
        classes = [self._classes(place, template) for place, template in enumerate(self._op.resources)]
        complete = all(found is not None for found in classes)
        if complete:
            complete = self._compare([found for found in classes if found is not None])
        if self._is_blind():
            complete = False
        found = self._found
        found.undecided = found.wider is None and (self._seen[False] or not complete or not self._values.findings.exact)
        return found

    def _is_blind(self) -> bool:
        """Say whether commands of interpreters may tell a `policy` from what allows by default: they are not told apart enough for that."""
        old, new = self._sides
        by_default = (
            old.layer is not None and old.layer.kind == "policy" and (new.layer is None or new.layer.kind == "restrict")
        )
        is_argv = any(template.kind == "argv" for template in self._op.resources)
        return by_default and is_argv and any(rule.granting and rule.patterns is not None for rule in old.rules)

    def _expressions(self) -> Iterator[tuple[int, Expr, Mapping[str, tuple[str, ...]]]]:
        for side in self._sides:
            for rule in side.rules:
                for expr in rule_exprs(rule):
                    yield id(rule), expr, rule.checked.sets
            for require in side.requires:
                when = require.checked.require.when
                if require.scope.when is not None and when is not None:
                    yield id(require), when, require.checked.scope.sets

    def _untie_facts(self) -> None:
        """Have what the kernel would say under the same name follow from the arguments: the enumerable ones are then all varied."""
        for key in [key for key in self._roots if key[0] == "derived" and key[1] in FACTS]:
            probes = self._roots.pop(key).probes
            varied = [
                name for name in self._op.arg_names if (kind := type_of(self._op.hints[name])).choices or kind.kind == "bool"
            ]
            self._values.findings.exact = self._values.findings.exact and self._op.name == "exec.run"
            for name, (number, probe) in itertools.product(varied, probes.items()):
                same = Probe(probe.leaf, probe.sets, _itself(name), probe.attribute, ("argument", name), (), "")
                self._roots.setdefault(same.key, Root(same.key)).probes[number] = same

    # --- classes of resources -----------------------------------------------------------------------------------------------

    def _classes(self, place: int, template: Template) -> list[_Class] | None:
        """Return one class for each way to answer, None when there are too many resources to look at."""
        patterns = [pattern for side in self._sides for rule in (*side.rules,) for pattern in rule.patterns or ()]
        patterns += [pattern for side in self._sides for one in side.requires for pattern in one.scope.patterns or ()]
        root = self._tied_root(template)
        tests = [] if root is None else [test for probe in root.probes.values() for test in text_tests(probe)]
        found = self._budget.resources(self._op, template, patterns, tests)
        unkeyed = sum(pattern.key is None for pattern in patterns)
        if found is None or not self._budget.states.take(len(found) * (10 + unkeyed)):
            return None
        classes: dict[Any, _Class] = {}
        for resource in found:
            options = [None] if root is None else self._values.options(root, [resource.text])
            for option in options:
                key, one = self._classified(resource, None if root is None or option is None else (root.key, option))
                classes.setdefault(key, one)
        if root is not None:
            self._options[root.key] = []
        return list(classes.values())

    def _tied_root(self, template: Template) -> Root | None:
        """Return the tests on the argument that names a path or URL, where exploring resources tells all of them apart."""
        root = self._roots.get(("argument", template.field)) if template.kind in ("path", "url") else None
        if root is None or sum(other.field == template.field for other in self._op.resources) > 1:
            return None
        verbs = _TIED_VERBS if template.kind == "path" else _TIED_VERBS - {"matches"}
        for probe in root.probes.values():
            if (
                not isinstance(probe.leaf, Test)
                or probe.path
                or probe.measure
                or probe.leaf.verb not in verbs
                or probe.leaf.asked
            ):
                return None
        return root

    def _classified(self, resource: Resource, fixed: tuple[Key, Option] | None) -> tuple[Any, _Class]:
        keys = keys_of(resource)
        parts: list[Any] = []
        numbers: set[int] = set()
        for side in self._sides:
            rules = side.layer.match(self._op, resource, keys) if side.layer is not None else []
            last = rules[-1] if rules else None
            ending = (
                None if last is not None and not last.has_condition else "default" if side.layer is None else side.layer.kind
            )
            duties = [
                one
                for one in side.requires
                if one.scope.patterns is None or any(p.matches(resource) for p in one.scope.patterns)
            ]
            parts.append(
                (frozenset(side.tokens[id(rule)] for rule in rules), ending, frozenset(_require_token(one) for one in duties))
            )
            numbers |= {number for one in (*rules, *duties) for number in self._owned.get(id(one), ())}
        mine = self._roots[fixed[0]].probes if fixed else {}
        answers = () if fixed is None else self._telling(fixed[1], numbers)
        free = frozenset(numbers - mine.keys()) if fixed else frozenset(numbers)
        cost = sum(len(rules) for rules, _, _ in parts)
        return (tuple(parts), answers), _Class(resource, parts[0] == parts[1], cost, free, (fixed,) if fixed else ())

    def _telling(self, option: Option, numbers: set[int]) -> tuple[tuple[int, str], ...]:
        """Return the answers that matter: with several resources, rules that match another one may ask for them too."""
        several = len(self._op.resources) > 1
        return tuple(sorted((number, str(answer)) for number, answer in option.answers.items() if several or number in numbers))

    # --- samples ------------------------------------------------------------------------------------------------------------

    def _compare(self, classes: Sequence[Sequence[_Class]]) -> bool:
        """Decide every sample; False when there are more than may be looked at."""
        rights = (False,) if self._op.self_right is False else (True,) if self._op.self_right is True else (False, True)
        for chosen in itertools.product(*classes):
            if all(one.is_alike for one in chosen):
                continue
            numbers = frozenset().union(*(one.numbers for one in chosen))
            fixed = [pair for one in chosen for pair in one.fixed]
            for options in self._combinations(numbers, {key for key, _ in fixed}):
                for own in rights:
                    if not self._budget.samples.take(1 + sum(one.cost for one in chosen)):
                        return False
                    self._decide(Sample(tuple(one.resource for one in chosen), {**options, **dict(fixed)}, own))
                if self._found.wider is not None and (self._found.narrower is not None or not self._attempts[True]):
                    return True
        return True

    def _combinations(self, numbers: frozenset[int], fixed: set[Key]) -> Iterator[dict[Key, Option]]:
        keys = [key for key, root in self._roots.items() if key not in fixed and numbers & root.probes.keys()]
        asks_flow = any(
            probe.asks_origin for key in keys for number, probe in self._roots[key].probes.items() if number in numbers
        )
        asks_flow = asks_flow or any(key[0] == "history" for key in keys)
        if asks_flow and _FLOW not in keys:
            keys.append(_FLOW)
        choices = [list(_FLOWS) if key not in self._roots else self._project(key, numbers) for key in keys]
        for combination in itertools.product(*choices):
            options = dict(zip(keys, combination, strict=True))
            if _is_possible(options):
                yield options

    def _project(self, key: Key, numbers: frozenset[int]) -> list[Option]:
        """Return the options of a root that differ in the tests that matter."""
        root = self._roots[key]
        wanted = frozenset(numbers & root.probes.keys())
        known = self._projected.get((key, wanted))
        if known is None:
            if key not in self._options:
                self._options[key] = self._values.options(root)
            every = {
                tuple(option.answers[number] for number in sorted(wanted)): option for option in reversed(self._options[key])
            }
            known = self._projected[key, wanted] = list(every.values())[::-1]
        return known

    def _decide(self, sample: Sample) -> None:
        facts, late = facts_of(sample)
        args = dict(self._fillers)
        args |= {name: option.value for (place, name), option in sample.options.items() if place == "argument"}
        old, new = self._pair.say(sample.resources, args, facts, late, own=sample.own)
        for reverse in (False, True):
            if freer(new, old) if reverse else freer(old, new):
                self._seen[reverse] = True
                known = self._found.narrower if reverse else self._found.wider
                if known is None and self._attempts[reverse]:
                    self._attempts[reverse] -= 1
                    self._keep(witness_of(self._pair, sample, reverse=reverse), reverse=reverse)

    def _keep(self, witness: Witness | None, *, reverse: bool) -> None:
        if witness is None:
            return
        if reverse:
            self._found.narrower = witness
        else:
            self._found.wider = witness


_FLOW: Final[Key] = ("flow", "")
_FLOWS: Final = (Option(0), Option(UNKNOWN))


def _itself(name: str) -> Any:
    return lambda args, facts, late: args[name]


def _is_possible(options: Mapping[Key, Option]) -> bool:
    """Say whether a history can be: an op that was never called has neither succeeded nor added to a sum."""
    for (place, name), option in options.items():
        if place == "history" and name.startswith("count ") and option.value == 0:
            op = name.removeprefix("count ")
            for (other, subject), value in options.items():
                if other == "history" and subject.startswith((f"after {op}", f"sum {op}.")) and value.value:
                    return False
    return True
