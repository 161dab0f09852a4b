"""Which calls a limit or a require is about: the ops, the patterns and the condition that both statements share.

INVARIANT limits-fail-closed: a limit or obligation whose condition is unknown, or that was not made for an op it names (mounted later,
other arguments), holds for the call. A pattern needs to match one of the call's resources only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentos.abi.op import Op, OpTable
from agentos.abi.resource import Kind, Resource
from agentos.errors import Invalid
from agentos.policy.check import check_patterns, names_op, ops_of
from agentos.policy.check_test import Sets, check_expression, check_names
from agentos.policy.conditions import Condition, compile_condition
from agentos.policy.pattern import Pattern, compile_pattern
from agentos.policy.problems import Refusal
from agentos.policy.syntax import Limit, Require

__all__ = ["BoundScope", "Scope", "patterns_for"]

_NONE_LATE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class BoundScope:
    """A scope, compiled for one op. `patterns` None = every resource."""

    patterns: tuple[Pattern, ...] | None
    when: Condition | None

    def holds(self, resources: tuple[Resource, ...], args: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
        """Say whether a call is within the scope: unknown counts as true, and so do tests on what only the device will know."""
        if self.patterns is not None and not any(pattern.matches(item) for item in resources for pattern in self.patterns):
            return False
        return self.when is None or self.when(args, facts, _NONE_LATE) is not False


@dataclass(frozen=True, slots=True)
class Scope:
    """The scope of one statement, with its sets resolved. `patterns` None = every resource."""

    statement: Limit | Require
    patterns: tuple[str, ...] | None
    sets: Sets = field(repr=False)

    def names(self, op: Op) -> bool:
        """Say whether the statement is about `op`, also when that was mounted after it was loaded."""
        return names_op(self.statement.ops, op)

    def ops(self, table: OpTable) -> list[Op]:
        """Return the ops of `table` that the statement names.

        Raises:
            Refusal: a name is of none.
        """
        return [op for ref in self.statement.ops for op in ops_of(ref.text, table, ref.at)]

    def check(self, table: OpTable) -> None:
        """Check ops, patterns and condition.

        Raises:
            Refusal: the first thing that is wrong.
        """
        if self.statement.when is not None:
            check_names(self.statement.when, table)
        for op in self.ops(table):
            self._check_for(op)

    def _check_for(self, op: Op) -> None:
        check_patterns(self.patterns, self.statement.patterns, op)
        if self.statement.when is not None:
            check_expression(self.statement.when, op, self.sets)

    def bind(self, op: Op) -> BoundScope | None:
        """Compile the scope for `op`; None when no resource of it can match."""
        patterns = patterns_for(self.patterns, op)
        if patterns == ():
            return None
        when = self.statement.when
        return BoundScope(patterns, compile_condition(when, op, self.sets, ignored=True) if when and self._fits(op) else None)

    def _fits(self, op: Op) -> bool:
        try:
            self._check_for(op)
        except Refusal:
            return False
        return True


def patterns_for(texts: tuple[str, ...] | None, op: Op) -> tuple[Pattern, ...] | None:
    """Return patterns for the kinds of resource that `op` has; a kind that one does not fit, it never matches."""
    if texts is None:
        return None
    kinds = {template.kind for template in op.resources}
    return tuple(pattern for text in texts for kind in sorted(kinds) if (pattern := _pattern(kind, text)))


def _pattern(kind: Kind, text: str) -> Pattern | None:
    try:
        return compile_pattern(kind, text)
    except Invalid:
        return None
