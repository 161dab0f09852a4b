"""The evaluator made wrong on purpose, one mistake at a time: the comparison with the naive meaning notices every one of them.

The cases are fixed, so a mutant that is found today is found in every run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import pytest

from agentos.policy import Layer, Stack, compile_pattern, conditions, decide, duty, glob, label, layer, limit, scope
from agentos.policy.layer import BoundRule
from agentos.policy.pattern import text_matcher
from agentos.policy.syntax import Not
from agentos.policy.verdict import RANK, width_of
from tests.model import policy_oracle as oracle
from tests.model.policy_files import Call, File
from tests.model.policy_world import calls_of, charged, decided, file_of, files_of, layer_of, obliged

Change = Callable[[Any], Any]
PATHS = ("", "a", "a.b")


@cache
def cases() -> list[tuple[list[Layer], list[Call], list[Any]]]:
    """Return layers, calls, and all that the naive meaning says: of the stack below its last layer, and of the whole."""
    found = []
    for seed in range(260):
        rng = Random(seed)
        files = [*files_of(rng), file_of(rng, rng.choice(["policy", "policy", "restrict"]))]
        calls = calls_of(rng, 30)
        wanted = [meaning(some, len(files) - 1, calls) for some in (files[:-1], files)]
        found.append(([layer_of(file) for file in files], calls, wanted))
    return found


def meaning(files: list[File], endorsing: int, calls: list[Call]) -> list[Any]:
    said: list[Any] = [oracle.label_of(files, endorsing, "f.read", path)[1] for path in PATHS]
    for call in calls:
        said += [oracle.decide(files, call), oracle.charges(files, call), oracle.obligations(files, call)]
    return said


def said_by(stack: Stack, calls: list[Call]) -> list[Any]:
    said: list[Any] = [stack.labels.result("f.read", path)[1] for path in PATHS]
    for call in calls:
        said += [decided(stack, call), charged(stack, call), obliged(stack, call)]
    return said


def is_caught() -> bool:
    """Say whether the engine, as it is now, differs from the naive meaning somewhere."""
    for layers, calls, (below, whole) in cases():
        fresh = [replace(one) for one in layers]  # what a layer bound before would hide the mutant
        outer = Stack(fresh[:-1])
        if said_by(outer, calls) != below:
            return True
        stack = outer.push(fresh[-1])
        if said_by(stack, calls) != whole or said_by(stack, calls) != whole:
            return True
    return False


def test_the_engine_as_it_is_passes_every_case() -> None:
    assert not is_caught()


def ranked(order: list[str], else_ask: float = 9) -> Change:
    def rank(rule: BoundRule) -> tuple[float, float, int]:
        return (else_ask if rule.is_fallback else order.index(rule.outcome), *rule.rank[1:])

    return lambda old: rank


def fires_when(fires: Callable[[bool | None, int], bool]) -> Change:
    return lambda old: lambda self, args, facts, late: fires(self.test(args, facts, late), self.rank[0])


def defaulting(kind: str, outcome: Any) -> Change:
    return lambda old: (
        lambda self, op, *, own=False: (
            replace(old(self, op, own=own), outcome=outcome) if self.kind == kind else old(self, op, own=own)
        )
    )


def never_deny(old: Any) -> Any:
    def bind(checked: Any, op: Any, name: str) -> Any:
        return old(checked, op, name) if layer._fits(checked, op) else ()

    return bind


def sharing_memory(old: Any) -> Any:
    def push(self: Stack, added: Layer) -> Stack:
        pushed = old(self, added)
        pushed._residuals = self._residuals
        return pushed

    return push


def polarity_lost(old: Any) -> Any:
    def compiled(expr: Any, op: Any, sets: Any, *, ignored: bool) -> Any:
        if not isinstance(expr, Not):
            return old(expr, op, sets, ignored=ignored)
        inner = compiled(expr.item, op, sets, ignored=ignored)
        return lambda args, facts, late: None if (value := inner(args, facts, late)) is None else not value

    return compiled


def junction_without_unknown(old: Any) -> Any:
    def junction(items: Any, *, decided: bool) -> Any:
        inner = old(items, decided=decided)
        return lambda args, facts, late: (not decided) if (value := inner(args, facts, late)) is None else value

    return junction


def kept(name: str, value: Any) -> Change:
    return lambda old: lambda self, *args, **more: replace(old(self, *args, **more), **{name: value})


def remembered_by(key: Callable[..., Any]) -> Change:
    def change(old: Any) -> Any:
        def remember(self: Stack, real: Any, op: Any, resources: Any, *, own: bool) -> Any:
            known = self._residuals.setdefault(key(op, resources, own), old(self, real, op, resources, own=own))
            self._residuals[real] = known
            return known

        return remember

    return change


def empty_is(value: bool) -> Change:
    return lambda old: lambda values, one, *, decided: value if values == [] else old(values, one, decided=decided)


def first_file_only(old: Any) -> Any:
    return lambda self, layers, op: old(self, layers[:1], op)


MUTANTS: dict[str, tuple[Any, str, Change]] = {
    # how rules of a layer combine
    "an allow comes before a deny": (layer, "_rank", ranked(["allow", "ask", "deny"])),
    "an ask comes before a deny": (layer, "_rank", ranked(["ask", "deny", "allow"])),
    "an allow comes before an ask": (layer, "_rank", ranked(["deny", "allow", "ask"])),
    "an else ask comes before an allow": (layer, "_rank", ranked(["deny", "ask", "allow"], 1.5)),
    "an else ask comes before a deny": (layer, "_rank", ranked(["deny", "ask", "allow"], -1)),
    "the first ask decides and not the narrowest": (layer, "_rank", lambda old: lambda rule: (rule.rank[0], rule.rank[2])),
    # what a condition in doubt does
    "unknown is false in a deny": (BoundRule, "applies", fires_when(lambda value, rank: value is True)),
    "unknown is true in an allow": (BoundRule, "applies", fires_when(lambda value, rank: value is True or (value is None and rank != 1))),
    "unknown is true in an ask": (BoundRule, "applies", fires_when(lambda value, rank: value is True or (value is None and rank <= 1))),
    "unknown is false in a limit": (scope, "compile_condition", lambda old: lambda *a, **k: lambda *call: old(*a, **k)(*call) is True),
    "not unknown is true": (conditions, "_negate", lambda old: lambda value: not value),
    "what is unknown decides no junction": (conditions, "_junction", junction_without_unknown),
    "null compares like any value": (conditions, "_present", lambda old: lambda test: lambda value: value is not None and test(value)),
    "not-a-number compares": (conditions, "_compare", lambda old: lambda verb, one: lambda value: bool(old(verb, one)(value))),
    "a long text is searched": (conditions, "_text", lambda old: lambda test, most=0: lambda value: test(str(value))),
    "what a set cannot say is no": (conditions, "_any", lambda old: lambda tests: lambda value: bool(old(tests)(value))),
    "a regular expression finds any part": (
        conditions, "_matches", lambda old: lambda text: lambda value: bool(re.search(text, value)) if isinstance(value, str) else None,
    ),
    "an address of version 6 hides one of version 4": (
        conditions, "_in_cidr", lambda old: lambda text: lambda value: False if value[:2] == "::" else old(text)(value),
    ),
    "unless is ignored": (BoundRule, "test", lambda old: lambda self, *call: True if self.when is None else self.when(*call)),
    "an op mounted later is not denied": (layer, "_bind_rule", never_deny),
    # defaults and layers
    "a restrict denies by default": (Layer, "default", defaulting("restrict", "deny")),
    "a policy allows by default": (Layer, "default", defaulting("policy", "allow")),
    "the right over oneself is forgotten": (Layer, "default", lambda old: lambda self, op, **own: old(self, op)),
    "the first layer wins": (decide, "least", lambda old: lambda first, second: first),
    "the widest layer wins": (decide, "least", lambda old: lambda *both: max(both, key=lambda found: RANK[found.outcome])),
    "a person may answer for the wider of two scopes": (
        decide, "least", lambda old: lambda *both: replace(old(*both), remember=max((one.remember for one in both), key=width_of)),
    ),
    "a pushed layer replaces the one above": (
        Stack, "push", lambda old: lambda self, added: Stack((*self.layers[:-1], added), self.endorsing),
    ),
    "a pushed layer endorses": (Stack, "push", lambda old: lambda self, added: Stack((*self.layers, added))),
    "only the first resource is decided": (Stack, "_reduce", lambda old: lambda self, op, on, *, own: old(self, op, on[:1], own=own)),
    # what is remembered
    "a pushed layer inherits what was decided": (Stack, "push", sharing_memory),
    "memory forgets whose right it was": (Stack, "_remember", remembered_by(lambda op, on, own: (op, on))),
    "memory looks at the first resource only": (Stack, "_remember", remembered_by(lambda op, on, own: (op, own, on[0]))),
    "memory forgets the op": (Stack, "_remember", remembered_by(lambda op, on, own: (own, on))),
    "the index forgets the last key": (decide, "keys_of", lambda old: lambda resource: old(resource)[:-1]),
    # patterns
    "an allow grants interpreters unnamed": (BoundRule, "granting", lambda old: property(lambda self: False)),
    "a deny reaches only interpreters that it names": (BoundRule, "granting", lambda old: property(lambda self: True)),
    "a star matches nothing too": (glob.Segment, "matches_any", lambda old: property(lambda self: False)),
    # late attributes
    "late tests are decided early": (
        conditions, "_compile_test", lambda old: lambda test, of, sets, **more: old(test, replace(of, late=False), sets, **more),
    ),
    "late tests are never decided": (decide, "_known_late", lambda old: lambda *call: frozenset()),
    "an ignored late test denies": (layer, "compile_condition", lambda old: lambda *call, ignored: old(*call, ignored=not ignored)),
    "an ignored late test is not turned round under not": (conditions, "compile_condition", polarity_lost),
    # sources and lists
    "a value from nowhere is from everywhere": (
        conditions, "source_matcher", lambda old: lambda named: lambda found: not found or old(named)(found),
    ),
    "a field is from its whole result": (
        conditions, "source_matcher", lambda old: lambda named: old([replace(one, field=one.field and "*") for one in named]),
    ),
    "every of none is false": (conditions, "_over", empty_is(False)),
    "some of none is true": (conditions, "_over", empty_is(True)),
    "every is some": (conditions, "_over", lambda old: lambda values, one, *, decided: old(values, one, decided=True)),
    # limits, obligations, labels
    "a late test keeps a limit from counting": (scope, "compile_condition", lambda old: lambda *call, ignored: old(*call, ignored=False)),
    "what happened counts when it is admitted": (
        duty, "counter_charge", lambda old: lambda expr, *more: lambda *call: replace(old(expr, *more)(*call), succeeded=False),
    ),
    "a negative amount gives back": (limit, "_amount", lambda old: lambda value: value if isinstance(value, int) else old(value)),
    "what is no amount is free": (limit, "_beyond", lambda old: lambda most: 0),
    "a limit counts only where its first pattern matches": (
        scope, "patterns_for", lambda old: lambda texts, op: found[:1] if (found := old(texts, op)) else found,
    ),
    "limits and obligations of inner layers are dropped": (duty.Duties, "__init__", first_file_only),
    "an inner layer of the same statement charges again": (limit.CheckedLimit, "key", lambda old: lambda self, name: f"{name}{id(self)}"),
    "trusted beats untrusted": (
        label.Labels, "result", lambda old: lambda self, op, path: (0, any(trusts for *_, trusts in self._results.get(op, ()))),
    ),
}  # fmt: skip


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Patterns that were compiled before would hide a mutant, and those of a mutant would outlive it."""
    compile_pattern.cache_clear()
    text_matcher.cache_clear()
    yield
    compile_pattern.cache_clear()
    text_matcher.cache_clear()


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.usefixtures("forgotten")
def test_a_mistake_in_the_evaluator_is_noticed(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cases()
    owner, name, change = MUTANTS[mutant]
    changed = change(getattr(owner, name))
    monkeypatch.setattr(owner, name, changed)
    if mutant == "an ignored late test is not turned round under not":
        monkeypatch.setattr(layer, name, changed)
    assert is_caught()
