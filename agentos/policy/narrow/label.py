"""Does a layer let more through where labels are higher? Label statements only raise labels, which is narrower for layers that do not.

Such a layer (`strict` here) only gets stricter: its allows never begin to hold as labels rise, its denies, limits and obligations never
cease to. For a new layer that adds label statements, one of the two being strict is enough: what it decides at the higher label is
within what it, or the old layer, decides at the lower one.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from agentos.abi.labels import LEVELS
from agentos.policy.check import CheckedRule
from agentos.policy.layer import Layer
from agentos.policy.limit import CheckedLimit
from agentos.policy.origin import asks_origin, leaves_of
from agentos.policy.require import CheckedRequire
from agentos.policy.syntax import Aggregate, And, Expr, Literal, Not, Or, Test
from agentos.policy.unparse import rule_text

__all__ = ["opened_by_labels"]

_INTEGRITIES: Final = ("trusted", "untrusted")
_BOTH: Final = (True, True)
_GOAL: Final = "proc.goal"
"""Unknown where a program wrote it under untrusted influence."""
_Trend = tuple[bool, bool]
"""As labels rise, a condition (may begin to hold, may cease to hold)."""


def opened_by_labels(layer: Layer | None) -> str:
    """Return a statement that may let more through where labels are higher; empty for a layer that only gets stricter."""
    if layer is None:
        return ""
    loose = [rule_text(rule.rule) for rule in layer.rules if _is_loose(rule, layer.kind)]
    statements: list[CheckedLimit | CheckedRequire] = [*layer.limits, *layer.requires]
    for item in statements:
        when = item.scope.statement.when
        loose += [item.text] if when is not None and _trend(when)[1] else []
    return loose[0] if loose else ""


def _is_loose(checked: CheckedRule, kind: str) -> bool:
    rule = checked.rule
    begins, ceases = _trend(rule.when) if rule.when is not None else (False, False)
    if rule.unless is not None:
        more, less = _trend(rule.unless)
        begins, ceases = begins or less, ceases or more
    if rule.outcome == "ask":  # in a policy it is more than the default and less than an allow; what is unknown ends it
        return ceases or (begins and kind == "policy") or any(_asks_goal(expr) for expr in (rule.when, rule.unless) if expr)
    return begins if rule.outcome == "allow" else ceases


def _asks_goal(expr: Expr) -> bool:
    return any(isinstance(leaf, Test) and leaf.attr == _GOAL for leaf in leaves_of(expr))


def _trend(expr: Expr) -> _Trend:
    if isinstance(expr, Not):
        begins, ceases = _trend(expr.item)
        return ceases, begins
    if isinstance(expr, And | Or):
        parts = [_trend(item) for item in expr.items]
        return any(begins for begins, _ in parts), any(ceases for _, ceases in parts)
    return (False, False) if isinstance(expr, Aggregate) else _trend_of_test(expr)


def _trend_of_test(test: Test) -> _Trend:
    if test.attr == _GOAL:
        return test.verb == "absent", False
    if test.verb in ("from", "absent") or not (test.attr.startswith("flow.") or asks_origin(test.attr)):
        return False, False
    scale = LEVELS if test.attr.endswith(".level") else _INTEGRITIES
    if test.attr == "flow.readers" or not all(isinstance(value, Literal) for value in test.values):
        return _BOTH
    named = [scale.index(str(value.value)) for value in test.values if isinstance(value, Literal) and value.value in scale]
    holds = [_holds(test.verb, place, named) for place in range(len(scale))]
    if None in holds:
        return _BOTH
    steps = list(pairwise(holds))
    return (False, True) in steps, (True, False) in steps


def _holds(verb: str, place: int, named: list[int]) -> bool | None:
    """Return what a test says about the label at a place of its scale, None where that is not looked at."""
    if verb in ("==", "in"):
        return place in named
    if verb == "!=":
        return place not in named
    if len(named) != 1:
        return None
    return {"<": place < named[0], "<=": place <= named[0], ">": place > named[0], ">=": place >= named[0]}.get(verb)
