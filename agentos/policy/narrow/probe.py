"""The tests that rules make on one op, sorted by what they look at: its *root*.

    argument     ``to``: all tests on it, its fields, elements, measures, label and sources
    derived      ``size``            device     ``resolved``, unknown on the first pass
    process      ``proc.depth``      flow       the labels of the call
    history      one counter: ``count(op)``

A root takes one value per call, whatever it is tested for; different roots are taken to be independent.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from agentos.abi.op import Op
from agentos.policy.attributes import Attribute, attribute_of
from agentos.policy.conditions import Condition, compile_condition
from agentos.policy.layer import BoundRule
from agentos.policy.origin import leaves_of
from agentos.policy.syntax import Aggregate, Expr, From, PatternRef, Test
from agentos.policy.unparse import expr_text

__all__ = ["Key", "Place", "Probe", "Root", "expr_key", "probes_of", "rule_exprs"]

Place = Literal["argument", "derived", "device", "process", "flow", "history"]
Key = tuple[Place, str]
Sets = Mapping[str, tuple[str, ...]]

_MEASURES: Final = ("level", "integrity", "length", "links")


@dataclass(frozen=True, slots=True)
class Probe:
    """One test. `path` leads to the tested field of an argument, `measure` is set when not the value itself is tested."""

    leaf: Test | Aggregate
    sets: Sets = field(repr=False)
    condition: Condition = field(repr=False)
    attribute: Attribute | None
    key: Key
    path: tuple[str, ...]
    measure: str

    @property
    def asks_origin(self) -> bool:
        """True when the answer depends on where the value comes from."""
        return self.measure in ("level", "integrity") or (isinstance(self.leaf, Test) and self.leaf.verb == "from")


@dataclass(slots=True)
class Root:
    """One thing that tests look at, with the tests by their number."""

    key: Key
    probes: dict[int, Probe] = field(default_factory=dict)


def rule_exprs(rule: BoundRule) -> Iterator[Expr]:
    """Iterate over the conditions of a bound rule; one that does not fit its op has none."""
    statement = rule.checked.rule
    for condition, expr in ((rule.when, statement.when), (rule.unless, statement.unless)):
        if condition is not None and expr is not None:
            yield expr


def expr_key(expr: Expr, sets: Sets) -> tuple[Any, ...]:
    """Return what is equal for expressions that mean the same: the text, and the sets it names."""
    named = sorted({name for leaf in leaves_of(expr) for name in _sets_in(leaf)})
    return (expr_text(expr), tuple((name, sets[name]) for name in named))


class _Probes:
    """Numbers every different test once."""

    def __init__(self, op: Op) -> None:
        self._op = op
        self.roots: dict[Key, Root] = {}
        self._known: dict[tuple[str, Any], int] = {}

    def add(self, expr: Expr, sets: Sets) -> frozenset[int]:
        """Enter the tests of an expression; return their numbers."""
        return frozenset(self._number(leaf, sets) for leaf in leaves_of(expr))

    def _number(self, leaf: Test | Aggregate, sets: Sets) -> int:
        named = tuple((name, sets[name]) for name in _sets_in(leaf))
        identity = (expr_text(leaf), named)
        number = self._known.get(identity)
        if number is None:
            number = self._known[identity] = len(self._known)
            probe = self._probe(leaf, dict(named))
            self.roots.setdefault(probe.key, Root(probe.key)).probes[number] = probe
        return number

    def _probe(self, leaf: Test | Aggregate, sets: Sets) -> Probe:
        condition = compile_condition(leaf, self._op, sets, ignored=True)
        if isinstance(leaf, Aggregate):
            return Probe(leaf, sets, condition, None, ("history", f"{leaf.verb} {leaf.subject}"), (), "")
        attribute = attribute_of(self._op, leaf.attr, leaf.at)
        root, *path = leaf.attr.split(".")
        if attribute.of == "argument":
            return Probe(leaf, sets, condition, attribute, ("argument", root), tuple(path), "")
        if (
            attribute.of in ("flow", "derived")
            and path
            and path[-1] in _MEASURES
            and leaf.attr not in self._op.derived
            and root != "flow"
        ):
            return Probe(leaf, sets, condition, attribute, ("argument", root), tuple(path[:-1]), path[-1])
        place: Place = attribute.of
        return Probe(leaf, sets, condition, attribute, (place, "" if place == "flow" else leaf.attr), (), "")


def _sets_in(leaf: Test | Aggregate) -> list[str]:
    if isinstance(leaf, Aggregate):
        return []
    named = [value.text for value in leaf.values if isinstance(value, PatternRef)]
    return named + [value.name for value in leaf.values if isinstance(value, From) and value.kind == "set"]


def probes_of(op: Op, exprs: Iterable[tuple[Any, Expr, Sets]]) -> tuple[dict[Key, Root], dict[Any, frozenset[int]]]:
    """Return the roots that expressions look at, and the numbers of each owner's tests.

    Args:
        op: The op.
        exprs: (owner, expression, sets): an owner may have several.
    """
    probes = _Probes(op)
    owned: dict[Any, frozenset[int]] = {}
    for owner, expr, sets in exprs:
        owned[owner] = owned.get(owner, frozenset()) | probes.add(expr, sets)
    return probes.roots, owned
