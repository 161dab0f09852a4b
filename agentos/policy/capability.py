"""What one capability covers, and what remains of another within it. Made by `agentos.policy.capability_parse`.

A condition that ends unknown covers nothing.

INVARIANT narrow-never-widens: what `narrow` returns covers a call only if both the parent and the wanted capability do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agentos.abi.op import Op, OpTable
from agentos.abi.resource import Kind, Resource
from agentos.errors import Denied, Invalid
from agentos.policy.conditions import Condition, compile_condition
from agentos.policy.pattern import Pattern, compile_pattern
from agentos.policy.syntax import And, Expr, Literal, Test
from agentos.policy.unparse import expr_text, quoted

__all__ = ["CLAUSE", "CapSpec", "compiled", "joined", "named", "pattern_text"]

CLAUSE = re.compile(r"(?:^|\s)(?:when\s|uses\s+\S+|depth\s+\S+|for\s+[0-9][\w.]*)")
_PLAIN = re.compile(r"[^\s,\"'\\]+")
_NARROWED_MAX: Final = 64
_NO_FACTS: Final[Mapping[str, Any]] = {}
_NONE_LATE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class CapSpec:
    """What one capability covers.

    Attributes:
        text: Canonical text; parses to an equal spec.
        ops: Names of the ops.
        patterns: Patterns as written; none = every resource of the ops.
        uses: How often it can be used, or None.
        ttl_s: Seconds it lives, or None.
        depth: How often it may be derived on to others, or None.
        table: The op table it was resolved against.
        tests: Conditions, all of which must be known to be true.
    """

    text: str
    ops: frozenset[str]
    patterns: tuple[str, ...]
    uses: int | None
    ttl_s: float | None
    depth: int | None
    table: OpTable = field(repr=False)
    tests: tuple[Expr, ...] = field(repr=False)
    _narrowed: dict[str, CapSpec] = field(default_factory=dict, init=False, repr=False)
    _bound: dict[Op, tuple[tuple[Pattern, ...], tuple[Condition, ...]]] = field(default_factory=dict, init=False, repr=False)

    def __eq__(self, other: object) -> bool:
        """Say whether the other has the same canonical text."""
        return isinstance(other, CapSpec) and self.text == other.text

    def __hash__(self) -> int:
        """Return the hash of the canonical text."""
        return hash(self.text)

    def __str__(self) -> str:
        """Return the canonical text."""
        return self.text

    @property
    def is_constant(self) -> bool:
        """True when it covers by op and resource alone."""
        return not self.tests

    def covers(self, op: Op, resources: tuple[Resource, ...], args: Mapping[str, Any]) -> bool:
        """Say whether it covers the call: the op, every resource, and every condition known to be true."""
        if op.name not in self.ops:
            return False
        bound = self._bound.get(op)
        if bound is None:
            bound = self._bound[op] = self._bind(op)
        patterns, conditions = bound
        if self.patterns:
            for resource in resources:
                if not any(pattern.covers(resource) for pattern in patterns):
                    return False
        return all(condition(args, _NO_FACTS, _NONE_LATE) is True for condition in conditions)

    def narrow(self, child: CapSpec) -> CapSpec:
        """Return what remains of `child` within this capability: its ops and patterns, under the conditions of both.

        Uses, lifetime and depth are those of `child`: the kernel carves and bounds them.

        Raises:
            Denied: `denied.capability`, naming the op or pattern that is wider.
        """
        known = self._narrowed.get(child.text)
        if known is not None:
            return known
        wider = sorted(child.ops - self.ops)
        if wider:
            raise self._wider(child, f"`{wider[0]}` is not among its ops", field="op")
        if self.patterns and not child.patterns:
            raise self._wider(child, "it names no pattern, so every resource", field="pattern")
        for op in (self.table.find(name) for name in sorted(child.ops)) if self.patterns else ():
            for kind in sorted({template.kind for template in op.resources}):
                self._check_contained(child, op, kind)
        if len(self._narrowed) >= _NARROWED_MAX:
            self._narrowed.clear()
        result = self._narrowed[child.text] = named(replace(child, tests=joined((*self.tests, *child.tests)), text=""))
        return result

    def within(self, bound: CapSpec) -> CapSpec:
        """Return what `narrow` leaves of this within `bound`, with the smaller uses, lifetime and depth of the two.

        Raises:
            Denied: `denied.capability`, this is wider than `bound`.
        """
        narrowed = bound.narrow(self)
        uses, ttl_s, depth = (
            min((value for value in pair if value is not None), default=None)
            for pair in ((self.uses, bound.uses), (self.ttl_s, bound.ttl_s), (self.depth, bound.depth))
        )
        if (uses, ttl_s, depth) == (narrowed.uses, narrowed.ttl_s, narrowed.depth):
            return narrowed
        return named(
            replace(
                narrowed, uses=None if uses is None else int(uses), ttl_s=ttl_s, depth=None if depth is None else int(depth)
            )
        )

    def only(self, ops: frozenset[str]) -> CapSpec | None:
        """Return the same for those of its ops that are in `ops`, None when none is."""
        left = self.ops & ops
        if left == self.ops:
            return self
        return named(replace(self, ops=left, text="")) if left else None

    def split(self) -> list[CapSpec]:
        """Return one capability per op, which together cover what this one does; counted uses belong to the whole and keep it whole."""
        if len(self.ops) == 1 or self.uses is not None:
            return [self]
        return [named(replace(self, ops=frozenset({op}), text="")) for op in sorted(self.ops)]

    def _check_contained(self, child: CapSpec, op: Op, kind: Kind) -> None:
        mine = compiled(self.patterns, kind)
        for pattern in compiled(child.patterns, kind):
            if not any(own.contains(pattern) for own in mine):
                witness = next((found for own in mine if (found := own.witness(pattern))), "")
                example = f", for example `{witness}`" if witness else ""
                raise self._wider(
                    child, f"`{pattern.text}` is not within `{', '.join(self.patterns)}`{example}", field="pattern"
                )

    def _wider(self, child: CapSpec, why: str, *, field: str) -> Denied:
        hint = f"ask for no more than `{self.text}`"
        return Denied("capability", f"`{child.text}` is wider than `{self.text}`: {why}", hint=hint, field=field)

    def _bind(self, op: Op) -> tuple[tuple[Pattern, ...], tuple[Condition, ...]]:
        kinds = sorted({template.kind for template in op.resources})
        patterns = tuple(pattern for kind in kinds for pattern in compiled(self.patterns, kind))
        return patterns, tuple(compile_condition(test, op, {}, ignored=False) for test in self.tests)


def named(spec: CapSpec) -> CapSpec:
    """Return the same spec with its canonical text: ops in the table's order, the clauses in theirs."""
    words = [", ".join(op.name for op in spec.table if op.name in spec.ops)]
    if spec.patterns:
        words.append(", ".join(pattern_text(text) for text in spec.patterns))
    if spec.tests:
        words.append("when " + expr_text(And(spec.tests) if len(spec.tests) > 1 else spec.tests[0]))
    words += [f"uses {spec.uses}"] if spec.uses is not None else []
    words += [f"for {_duration_text(spec.ttl_s)}"] if spec.ttl_s is not None else []
    words += [f"depth {spec.depth}"] if spec.depth is not None else []
    return replace(spec, text=" ".join(words))


def compiled(patterns: tuple[str, ...], kind: Kind) -> list[Pattern]:
    """Return those of the patterns that fit resources of `kind`, compiled."""
    found: list[Pattern] = []
    for text in patterns:
        try:
            found.append(compile_pattern(kind, text))
        except Invalid:
            continue
    return found


def pattern_text(text: str) -> str:
    """Return a pattern as the text of a capability spells it: quoted where it could be taken for something else."""
    return text if _PLAIN.fullmatch(text) and not CLAUSE.match(text) else quoted(text)


def _duration_text(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds * 1000:.6g}ms"


def joined(tests: tuple[Expr, ...]) -> tuple[Expr, ...]:
    """Return the conjunction flattened, without repetition, and with only the tightest of several bounds on one number."""
    flat: dict[str, Expr] = {}
    for test in tests:
        for item in test.items if isinstance(test, And) else (test,):
            flat.setdefault(expr_text(item), item)
    tightest: dict[tuple[str, str], tuple[float, str]] = {}
    for text, item in flat.items():
        bound = _bound_of(item)
        if bound is not None:
            (attr, verb), value = bound
            known = tightest.get((attr, verb))
            if known is None or (value < known[0] if verb[0] == "<" else value > known[0]):
                tightest[attr, verb] = (value, text)
    kept = {text for _, text in tightest.values()}
    return tuple(item for text, item in flat.items() if _bound_of(item) is None or text in kept)


def _bound_of(expr: Expr) -> tuple[tuple[str, str], float] | None:
    if not isinstance(expr, Test) or expr.asked or expr.verb not in ("<", "<=", ">", ">="):
        return None
    value = expr.values[0]
    return ((expr.attr, expr.verb), float(value.value)) if isinstance(value, Literal) else None
