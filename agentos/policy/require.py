"""Obligations: what has to happen with a call besides deciding it.

    require log, preview for OPS [PATTERNS] [when EXPR]

The registry is closed; what each means is the broker's to carry out, and one that cannot be met denies the call. A statement that is in
doubt holds: obligations only add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentos.abi.op import Op
from agentos.abi.resource import Resource
from agentos.policy.scope import BoundScope, Scope
from agentos.policy.syntax import Require
from agentos.policy.unparse import require_text

__all__ = ["BoundRequire", "CheckedRequire"]


@dataclass(frozen=True, slots=True)
class CheckedRequire:
    """One require of a layer. `scope.check` says whether it means something."""

    require: Require
    source: str
    scope: Scope

    @property
    def where(self) -> str:
        """The place as ``file:line``."""
        return f"{self.source}:{self.require.at.line}"

    @property
    def text(self) -> str:
        """The statement in its one spelling."""
        return require_text(self.require)

    def bind(self, op: Op) -> BoundRequire | None:
        """Compile the statement for `op`; None when no resource of it can match."""
        scope = self.scope.bind(op)
        return None if scope is None else BoundRequire(scope, frozenset(self.require.obligations), self)


@dataclass(frozen=True, slots=True)
class BoundRequire:
    """One require, compiled for one op."""

    scope: BoundScope
    obligations: frozenset[str]
    checked: CheckedRequire

    def of(self, resources: tuple[Resource, ...], args: Mapping[str, Any], facts: Mapping[str, Any]) -> frozenset[str]:
        """Return the obligations of a call."""
        return self.obligations if self.scope.holds(resources, args, facts) else frozenset()
