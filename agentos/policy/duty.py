"""What a stack asks of a call besides deciding it, bound per op: the charges of its limits and counters, and its obligations.

A limit that two layers of one name share is charged once. For an op that nothing is asked of, this is empty and costs one lookup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from agentos.abi.op import Op
from agentos.abi.resource import Resource
from agentos.policy.flow import Charge
from agentos.policy.limit import BoundLimit, counter_charge
from agentos.policy.origin import counter_of
from agentos.policy.require import BoundRequire

if TYPE_CHECKING:
    from agentos.policy.layer import Layer

__all__ = ["Duties"]

_NO_OBLIGATIONS: frozenset[str] = frozenset()


class Duties:
    """Limits, counters and obligations of one op under one stack."""

    __slots__ = ("_counters", "_limits", "_requires")

    def __init__(self, layers: Sequence[Layer], op: Op) -> None:
        limits: dict[str, BoundLimit] = {}
        counters: dict[str, Callable[[Mapping[str, Any], Mapping[str, Any]], Charge]] = {}
        requires: list[BoundRequire] = []
        for layer in layers:
            for limit in layer.limits:
                bound = limit.bind(op, layer.counted_as) if limit.scope.names(op) else None
                if bound is not None:
                    limits.setdefault(bound.charge.key, bound)
            for require in layer.requires:
                duty = require.bind(op) if require.scope.names(op) else None
                requires += [] if duty is None else [duty]
            for expr in layer.history:
                name, attr = counter_of(expr)
                if name == op.name:
                    counters.setdefault(f"{expr.verb}/{expr.subject}", counter_charge(expr, attr, op))
        self._limits = tuple(limits.values())
        self._counters = tuple(counters.values())
        self._requires = tuple(requires)

    def charges(self, resources: tuple[Resource, ...], args: Mapping[str, Any], facts: Mapping[str, Any]) -> tuple[Charge, ...]:
        """Return what the call charges."""
        if not self._limits and not self._counters:
            return ()
        found = [charge for limit in self._limits if (charge := limit.of(resources, args, facts)) is not None]
        return (*found, *[counter(args, facts) for counter in self._counters])

    def obligations(self, resources: tuple[Resource, ...], args: Mapping[str, Any], facts: Mapping[str, Any]) -> frozenset[str]:
        """Return the obligations of the call."""
        if not self._requires:
            return _NO_OBLIGATIONS
        return _NO_OBLIGATIONS.union(*(require.of(resources, args, facts) for require in self._requires))
