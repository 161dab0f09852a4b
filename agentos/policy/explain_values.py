"""What a condition saw: values, origins and history, as an explanation shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, Final

from agentos.abi.labels import names
from agentos.abi.op import Op
from agentos.policy.attributes import attribute_of, flow_of
from agentos.policy.origin import aggregate_value, asks_origin, leaves_of
from agentos.policy.question import shown
from agentos.policy.syntax import Aggregate, Expr, Test

__all__ = ["values_text"]

_ELEMENTS_MAX: Final = 4

Call = tuple[Mapping[str, Any], Mapping[str, Any], frozenset[str]]


def values_text(expr: Expr, op: Op, call: Call) -> str:
    """Return what each test of an expression saw: ``size is 4``, ```to` is not grounded``, ``count(fs.read) is 3``."""
    seen = (line for leaf in leaves_of(expr) for line in _seen(leaf, op, call))
    return ", ".join(dict.fromkeys(seen))


def _seen(leaf: Test | Aggregate, op: Op, call: Call) -> Iterator[str]:
    args, facts, late = call
    if isinstance(leaf, Aggregate):
        value = aggregate_value(leaf, facts)
        yield f"{leaf.verb}({leaf.subject}) is {'not known' if value is None else shown(value)}"
        return
    if leaf.verb == "from" or asks_origin(leaf.attr):
        yield from _origins(leaf, op, args, facts)
        return
    attribute = attribute_of(op, leaf.attr, leaf.at)
    value = attribute.get(args, facts)
    yield f"{leaf.attr} is {_text(value, is_known=not attribute.late or leaf.attr in late)}"


def _text(value: Any, *, is_known: bool) -> str:
    if not is_known:
        return "not known yet"
    return "absent" if value is None else shown(value)


def _origins(leaf: Test, op: Op, args: Mapping[str, Any], facts: Mapping[str, Any]) -> Iterator[str]:
    """Iterate over where a value comes from; of a list that is asked by element, for the first few."""
    name = leaf.attr if leaf.verb == "from" else leaf.attr.rpartition(".")[0]
    flow, value = flow_of(facts), attribute_of(op, name, leaf.at).get(args, facts)
    if value is None or flow is None:
        yield f"{name} is absent" if value is None else f"the origin of `{name}` is not known"
        return
    by_element = bool(leaf.asked) and isinstance(value, list | tuple)
    for item in islice(value, _ELEMENTS_MAX) if by_element else (value,):
        origin = flow.origin(item)
        who = f"{shown(item)} of `{name}`" if by_element else f"`{name}`"
        label = " ".join(names(origin.label)) or "trusted"
        where = f"from {', '.join(sorted(origin.sources))}" if origin.sources else "not grounded"
        yield f"{who} is {where}: {label}"
