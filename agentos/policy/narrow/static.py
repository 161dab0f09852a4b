"""Statements compared as statements: limits, and what labels say. What they do depends on the past, so no single call shows it.

A limit is kept when the new layer has the same one: same ops, patterns, condition, `of`, `per` and `by`, and no larger amount. Where
counters run (`running`), it has to be the very statement in a layer that is counted under the same name: any other starts anew.

A label statement is kept when the same source still gets every label that it got. One that raises labels is narrower where higher
labels open nothing (`narrow.label`), one that endorses is always wider.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentos.policy.layer import Layer
from agentos.policy.limit import CheckedLimit
from agentos.policy.narrow.label import opened_by_labels
from agentos.policy.narrow.probe import expr_key
from agentos.policy.require import CheckedRequire
from agentos.policy.syntax import Expr

__all__ = ["StatementChange", "requires_of", "statement_changes"]


@dataclass(frozen=True, slots=True)
class StatementChange:
    """One statement that a new layer lacks, has anew or says otherwise, in words.

    `undecided`: it raises labels, and neither layer is known to only get stricter by that.
    """

    direction: Literal["wider", "narrower", "undecided"]
    note: str


def statement_changes(old: Layer | None, new: Layer | None, *, running: bool = False) -> list[StatementChange]:
    """Return how the limits and labels of `new` differ from those of `old`: limits first, in the order of the files."""
    if old is not None and new is not None and old.digest == new.digest:
        return []
    return [*_limit_changes(old, new, running=running), *_label_changes(old, new)]


def _limit_changes(old: Layer | None, new: Layer | None, *, running: bool) -> Iterator[StatementChange]:
    before, after = _tightest(old), _tightest(new)
    for scope, limit in before.items():
        other = after.get(scope)
        if other is None:
            yield StatementChange("wider", f"`{limit.text}` is gone")
        elif _amount(other) != _amount(limit):
            direction: Literal["wider", "narrower"] = "wider" if _amount(other) > _amount(limit) else "narrower"
            yield StatementChange(direction, f"`{limit.text}` becomes `{other.text}`")
    yield from (StatementChange("narrower", f"`{other.text}` is new") for scope, other in after.items() if scope not in before)
    if running and old is not None and new is not None:
        yield from _restarted(old, new)


def _tightest(layer: Layer | None) -> dict[tuple[Any, ...], CheckedLimit]:
    """Return the limit of the least amount for each thing that is limited: the others can never be met."""
    found: dict[tuple[Any, ...], CheckedLimit] = {}
    for limit in layer.limits if layer is not None else ():
        known = found.setdefault(_scope(limit), limit)
        if _amount(limit) < _amount(known):
            found[_scope(limit)] = limit
    return found


def _restarted(old: Layer, new: Layer) -> Iterator[StatementChange]:
    """Yield the limits that would lose what they have counted; those that are gone are told already."""
    keys = {limit.key(new.counted_as) for limit in new.limits}
    scopes = {_scope(limit) for limit in new.limits}
    for limit in old.limits:
        if limit.key(old.counted_as) not in keys and _scope(limit) in scopes:
            way_out = "keep the line as it is, in a layer of the same name, and add the tighter one"
            if old.name == new.name and limit.key(new.counted_as) in keys:
                way_out = "a layer that another process wrote has counters of its own"
            yield StatementChange("wider", f"`{limit.text}` starts counting anew; {way_out}")


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


def _label_changes(old: Layer | None, new: Layer | None) -> Iterator[StatementChange]:
    before, after = _by_source(old), _by_source(new)
    opened = opened_by_labels(new) if opened_by_labels(old) else ""
    for source in dict.fromkeys([*before, *after]):
        was, now = before.get(source, _Said()), after.get(source, _Said())
        note = f"{was} becomes {now}" if was.texts and now.texts else f"{was} is gone" if was.texts else f"{now} is new"
        if was.bits & ~now.bits or now.endorses > was.endorses:
            yield StatementChange("wider", note)
        if now.bits & ~was.bits or was.endorses > now.endorses:
            if opened:
                yield StatementChange("undecided", f"{note}; where labels are higher, `{opened}` may let more through")
            else:
                yield StatementChange("narrower", note)


@dataclass(slots=True)
class _Said:
    """What a layer says of one source, in all its statements."""

    bits: int = 0
    endorses: bool = False
    texts: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return ", ".join(f"`{text}`" for text in self.texts)


def _by_source(layer: Layer | None) -> dict[tuple[str, frozenset[str]], _Said]:
    found: dict[tuple[str, frozenset[str]], _Said] = {}
    for label in layer.labels if layer is not None else ():
        said = found.setdefault((label.label.source.text, frozenset(label.patterns)), _Said())
        said.bits |= label.bits
        said.endorses = said.endorses or label.endorses
        said.texts.append(label.text)
    return found
