"""Statements compared as statements: limits, and what labels say. What they do depends on the past, so no single call shows it.

A limit is kept when the new layer has the same one: same ops, patterns, condition, `of`, `per` and `by`, and no larger amount. Where
counters run (`running`), it has to be the very statement in a layer of the same name: any other starts counting anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agentos.policy.layer import Layer
from agentos.policy.limit import CheckedLimit
from agentos.policy.narrow_call import Witness
from agentos.policy.narrow_probe import expr_key
from agentos.policy.require import CheckedRequire
from agentos.policy.syntax import Expr

__all__ = ["requires_of", "statement_loss"]


def statement_loss(old: Layer | None, new: Layer | None, *, running: bool) -> Witness | None:
    """Return the first statement of `old` that `new` does not hold, or that it adds and only widens; None when there is none."""
    for note in (*_lost_limits(old, new, running=running), *_lost_labels(old, new)):
        return Witness("", (), {}, {}, frozenset(), False, "", "", note)
    return None


def _lost_limits(old: Layer | None, new: Layer | None, *, running: bool) -> Iterable[str]:
    for limit in old.limits if old is not None else ():
        kept = [other for other in (new.limits if new is not None else ()) if _scope(other) == _scope(limit)]
        if not any(_amount(other) <= _amount(limit) for other in kept):
            yield f"`{limit.text}` is gone" if not kept else f"`{limit.text}` becomes `{kept[0].text}`"
        elif running and not any(other.key(new.name if new else "") == limit.key(old.name if old else "") for other in kept):
            yield f"`{limit.text}` starts counting anew; keep the line as it is, in a layer of the same name, and add the tighter one"


def _scope(limit: CheckedLimit) -> tuple[Any, ...]:
    statement = limit.limit
    ops = frozenset(ref.text for ref in statement.ops)
    return (
        ops,
        *_patterns_and_when(limit.scope.patterns, statement.when, limit.scope.sets),
        statement.of,
        statement.per,
        statement.by,
    )


def _patterns_and_when(
    patterns: tuple[str, ...] | None, when: Expr | None, sets: Mapping[str, tuple[str, ...]]
) -> tuple[Any, ...]:
    return (None if patterns is None else frozenset(patterns), None if when is None else expr_key(when, sets))


def _amount(limit: CheckedLimit) -> float:
    value = limit.limit.amount.value
    assert not isinstance(value, str), "the amount of a limit is a number"
    return value


def requires_of(layer: Layer | None) -> frozenset[Any]:
    """Return what a layer requires, in a form that is equal when it requires the same."""
    return frozenset(_require(one) for one in layer.requires) if layer is not None else frozenset()


def _require(require: CheckedRequire) -> tuple[Any, ...]:
    statement = require.require
    ops = frozenset(ref.text for ref in statement.ops)
    return (
        ops,
        *_patterns_and_when(require.scope.patterns, statement.when, require.scope.sets),
        frozenset(statement.obligations),
    )


def _lost_labels(old: Layer | None, new: Layer | None) -> Iterable[str]:
    before, after = (list(layer.labels) if layer is not None else [] for layer in (old, new))
    for label in before:
        if not any(_is_same_source(label, other) and not label.bits & ~other.bits for other in after) and label.bits:
            yield f"`{label.text}` is gone"
    for label in after:
        if label.endorses and not any(_is_same_source(label, other) and other.endorses for other in before):
            yield f"`{label.text}` is new"


def _is_same_source(one: Any, other: Any) -> bool:
    return one.label.source.text == other.label.source.text and frozenset(one.patterns) == frozenset(other.patterns)
