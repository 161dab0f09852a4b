"""Conditions: expression tree -> closures with three values: True, False, and None for unknown (Kleene).

    test(args, facts, late) -> True | False | None

A test on a value that is missing, null or of another type is unknown, also under `not`. `late` is the set of late attributes that are
known in this pass; a test on any other late attribute is ignored: it takes the value that lets the call pass for now (see `polarity`),
because the second pass decides it before the first byte.

INVARIANT unknown-fails-closed: a rule fires with an unknown condition exactly when it is a deny.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from agentos.abi.op import Op
from agentos.abi.resource import Resource, canonical_url
from agentos.errors import Invalid
from agentos.policy.attributes import TEXT_CHARS_MAX, Attribute, attribute_of, flow_of
from agentos.policy.flow import Flow
from agentos.policy.origin import aggregate_value, source_matcher
from agentos.policy.pattern import compile_pattern, text_matcher
from agentos.policy.regex import Regex
from agentos.policy.syntax import Aggregate, And, Asked, Expr, From, Literal, Not, Or, PatternRef, Test

__all__ = ["Condition", "compile_condition"]

Condition = Callable[[Mapping[str, Any], Mapping[str, Any], frozenset[str]], bool | None]
Sets = Mapping[str, tuple[str, ...]]
_One = Callable[[Any], bool | None]

REGEX_CHARS_MAX: Final = 8_192
"""Longer texts are not searched with a regular expression: such tests are unknown."""

_COMPARE: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


def compile_condition(expr: Expr, op: Op, sets: Sets, *, ignored: bool) -> Condition:
    """Compile a checked expression for `op`.

    Args:
        expr: The expression, already checked against `op`.
        op: The op whose attributes it tests.
        sets: Named sets, for ``in $SET``.
        ignored: The value an ignored late test takes: True for allow, ask, limit and require, False for deny. Turned round under `not`.
    """
    if isinstance(expr, Not):
        inner = compile_condition(expr.item, op, sets, ignored=not ignored)
        return lambda args, facts, late: _negate(inner(args, facts, late))
    if isinstance(expr, And | Or):
        items = tuple(compile_condition(item, op, sets, ignored=ignored) for item in expr.items)
        return _junction(items, decided=isinstance(expr, Or))
    if isinstance(expr, Aggregate):
        return _compile_aggregate(expr)
    return _compile_test(expr, attribute_of(op, expr.attr, expr.at), sets, ignored=ignored)


def _negate(value: bool | None) -> bool | None:
    return None if value is None else not value


def _junction(items: tuple[Condition, ...], *, decided: bool) -> Condition:
    """`and` is decided by one False, `or` by one True; else one unknown makes it unknown."""

    def junction(args: Mapping[str, Any], facts: Mapping[str, Any], late: frozenset[str]) -> bool | None:
        result: bool | None = not decided
        for item in items:
            value = item(args, facts, late)
            if value is decided:
                return decided
            if value is None:
                result = None
        return result

    return junction


def _compile_aggregate(expr: Aggregate) -> Condition:
    if expr.value is None:
        return lambda args, facts, late: None if flow_of(facts) is None else bool(aggregate_value(expr, facts))
    compare = _compare(expr.compare, expr.value)
    return lambda args, facts, late: None if (value := aggregate_value(expr, facts)) is None else compare(value)


def _compile_from(test: Test, attribute: Attribute, sets: Sets) -> Condition:
    """Compile a test on sources: one that is named, or a set that the value itself matches."""
    get, asked = attribute.get, test.asked
    sources = [value for value in test.values if isinstance(value, From)]
    among = source_matcher(sources)
    in_sets = _any([_like(text, attribute) for source in sources if source.kind == "set" for text in sets[source.name]])
    asks_flow = any(source.kind != "set" for source in sources)

    def one(value: Any, flow: Flow | None) -> bool | None:
        found = in_sets(value)
        if found is True or not asks_flow:
            return found
        if flow is None:
            return None
        return True if among(flow.origin(value).sources) else found

    def condition(args: Mapping[str, Any], facts: Mapping[str, Any], late: frozenset[str]) -> bool | None:
        value, flow = get(args, facts), flow_of(facts)
        if value is None:
            return None
        return _over(value, lambda item: one(item, flow), decided=asked == "some") if asked else one(value, flow)

    return condition


def _compile_test(test: Test, attribute: Attribute, sets: Sets, *, ignored: bool) -> Condition:
    if test.verb == "from":
        return _compile_from(test, attribute, sets)
    get = attribute.get
    one = _absent if test.verb == "absent" else _present(_asked(test.asked, _one(test, attribute, sets)))
    if not attribute.late:
        return lambda args, facts, late: one(get(args, facts))
    name = attribute.name
    return lambda args, facts, late: one(get(args, facts)) if name in late else ignored


def _absent(value: Any) -> bool:
    return value is None


def _present(test: _One) -> _One:
    return lambda value: None if value is None else test(value)


def _asked(asked: Asked, one: _One) -> _One:
    return (lambda values: _over(values, one, decided=asked == "some")) if asked else one


def _over(values: Any, one: _One, *, decided: bool) -> bool | None:
    """Ask each element: one that is `decided` decides, else one unknown makes it unknown. What is no list is unknown."""
    if not isinstance(values, list | tuple | set | frozenset):
        return None
    result: bool | None = not decided
    for value in values:
        found = None if value is None else one(value)
        if found is decided:
            return decided
        if found is None:
            result = None
    return result


def _one(test: Test, attribute: Attribute, sets: Sets) -> _One:
    """Return the test of one present value."""
    if test.verb == "in":
        first = test.values[0]
        if isinstance(first, PatternRef):
            return _any([_like(pattern, attribute) for pattern in sets[first.text]])
        return _any([_compare("==", value) for value in test.values if isinstance(value, Literal)])
    value = test.values[0]
    assert isinstance(value, Literal)
    if test.verb in _COMPARE:
        return _rank(test.verb, value, attribute) if attribute.type.is_ordered else _compare(test.verb, value)
    if test.verb == "like":
        return _like(str(value.value), attribute)
    return _matches(str(value.value)) if test.verb == "matches" else _in_cidr(str(value.value))


def _any(tests: list[_One]) -> _One:
    def some(value: Any) -> bool | None:
        found = [test(value) for test in tests]
        return True if True in found else None if None in found else False

    return some


def _compare(verb: str, literal: Literal) -> _One:
    compare, wanted = _COMPARE[verb], literal.value
    if literal.kind == "bool":
        return lambda value: compare(value, wanted) if isinstance(value, bool) else None
    if isinstance(wanted, str):
        return lambda value: compare(value, wanted) if isinstance(value, str) else None

    exact = Decimal(repr(wanted))  # what the file says: 0.3 as a float is less than it, so that a decimal 0.3 would be more

    def number(value: Any) -> bool | None:
        if isinstance(value, Decimal):
            return None if value.is_nan() else compare(value, exact)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:  # noqa: PLR0124 - NaN
            return None
        return compare(value, wanted)

    return number


def _rank(verb: str, literal: Literal, attribute: Attribute) -> _One:
    """Compare words that have an order."""
    compare, order = _COMPARE[verb], attribute.type.choices
    wanted = order.index(str(literal.value))
    return lambda value: compare(order.index(value), wanted) if value in order else None


def _text(test: Callable[[str], bool], chars_max: int = TEXT_CHARS_MAX) -> _One:
    return lambda value: test(value) if isinstance(value, str) and len(value) <= chars_max else None


def _like(pattern: str, attribute: Attribute) -> _One:
    kind = attribute.resource_kind
    if kind == "path":
        on_path = compile_pattern("path", pattern).matches
        return _text(lambda value: on_path(Resource("path", value, value)))
    if kind != "url":
        return _text(text_matcher(pattern))
    on_url = compile_pattern("url", pattern).matches

    def url(value: Any) -> bool | None:
        try:
            parts = canonical_url(value)
        except (Invalid, TypeError):
            return None
        return on_url(Resource("url", parts.text, parts))

    return url


def _matches(pattern: str) -> _One:
    return _text(Regex(pattern).matches, REGEX_CHARS_MAX)


def _in_cidr(text: str) -> _One:
    network: IPv4Network | IPv6Network = ip_network(text)

    def inside(value: Any) -> bool | None:
        if not isinstance(value, str):
            return None
        try:
            address = ip_address(value)
        except ValueError:
            return None
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return address in network

    return inside
