"""Is a condition meaningful for an op? Every test is on an attribute that exists, with a value that it can have.

`check_expression` checks what can differ from op to op, `check_names` once what is the same for all: the ops that it names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_network

from agentos.abi.op import Op, OpTable
from agentos.errors import Invalid
from agentos.policy.attributes import Attribute, Type, attribute_of
from agentos.policy.origin import check_aggregate, check_source, leaves_of
from agentos.policy.pattern import compile_pattern, text_matcher
from agentos.policy.problems import At, Refusal, did_you_mean
from agentos.policy.regex import Regex
from agentos.policy.syntax import Aggregate, And, Expr, From, Literal, Not, Or, PatternRef, Test

__all__ = ["Sets", "check_expression", "check_names", "tests_of"]

Sets = Mapping[str, tuple[str, ...]]


def tests_of(expr: Expr) -> Iterator[Test]:
    """Iterate over the tests of an expression on attributes, left to right."""
    return (leaf for leaf in leaves_of(expr) if isinstance(leaf, Test))


def check_expression(expr: Expr, op: Op, sets: Sets) -> None:
    """Check every test of an expression against `op`.

    Raises:
        Refusal: an unknown attribute or set, a wrong type, or a malformed operand.
    """
    if isinstance(expr, Not):
        check_expression(expr.item, op, sets)
    elif isinstance(expr, And | Or):
        for item in expr.items:
            check_expression(item, op, sets)
    elif isinstance(expr, Test):
        _check_test(expr, attribute_of(op, expr.attr, expr.at), op, sets)


def check_names(expr: Expr, table: OpTable) -> None:
    """Check the ops that an expression names: in sources, in tests on history.

    Raises:
        Refusal: there is no such op, argument or field.
    """
    for leaf in leaves_of(expr):
        if isinstance(leaf, Aggregate):
            check_aggregate(leaf, table)
        for value in leaf.values if isinstance(leaf, Test) else ():
            if isinstance(value, From):
                check_source(value, table)


def _check_test(test: Test, attribute: Attribute, op: Op, sets: Sets) -> None:
    kind = attribute.type
    if test.verb == "absent":
        if test.asked:
            raise Refusal("E012", f"`is absent` asks for the whole of `{test.attr}`", test.at, hint=f"drop `{test.asked}`")
        return
    if kind.kind == "list" and not test.asked:
        hint = f"write `every {test.attr} ...` or `some {test.attr} ...`"
        raise Refusal("E012", f"`{test.attr}` of {op.name} is a list", test.at, hint=hint)
    if test.asked and kind.kind not in ("list", "any"):
        raise Refusal("E012", f"`{test.attr}` of {op.name} is {kind}, not a list", test.at, hint=f"drop `{test.asked}`")
    _check_values(test, kind.item or Type("any") if kind.kind == "list" else kind, attribute, op, sets)


def _check_values(test: Test, kind: Type, attribute: Attribute, op: Op, sets: Sets) -> None:
    """Check the operands of a test against the type of what is tested, which of a list is each element."""
    if test.verb == "from" and (attribute.of != "argument" or kind.kind == "bool"):
        hint = "arguments and their fields do; true and false are too common to come from anywhere"
        raise Refusal("E012", f"`{test.attr}` of {op.name} has no origin", test.at, hint=hint)
    for value in test.values:
        if isinstance(value, Literal):
            _check_value(test, value, kind, attribute, op)
        elif isinstance(value, PatternRef):
            _check_set(test, value, kind, attribute, op, sets=sets)
        elif value.kind == "set":
            _check_set(test, PatternRef(value.name, value.at, is_set=True), kind, attribute, op, sets=sets)


def _wrong(test: Test, kind: Type, op: Op, value: str, at: At, hint: str) -> Refusal:
    return Refusal("E012", f"`{test.attr}` of {op.name} is {kind}; `{test.verb} {value}` does not fit", at, hint=hint)


def _check_value(test: Test, value: Literal, kind: Type, attribute: Attribute, op: Op) -> None:
    if test.verb in ("like", "matches", "in_cidr"):
        if kind.kind not in ("text", "any"):
            raise _wrong(test, kind, op, value.text, value.at, "only text can be compared with a pattern")
        _check_operand(test.verb, value, attribute)
        return
    is_order = test.verb in ("<", "<=", ">", ">=") and not kind.is_ordered
    if is_order and (value.kind in ("text", "word", "bool") or kind.kind not in ("number", "any")):
        raise _wrong(test, kind, op, value.text, value.at, "only numbers have an order")
    wanted = {"word": "text", "size": "number", "time": "number"}.get(value.kind, value.kind)
    if kind.kind not in (wanted, "any"):
        raise _wrong(test, kind, op, value.text, value.at, f"write a value that is {kind}")
    if kind.choices and value.value not in kind.choices:
        hint = did_you_mean(str(value.value), kind.choices, f"it is one of {', '.join(kind.choices)}")
        raise Refusal("E012", f"`{test.attr}` of {op.name} is never `{value.value}`", value.at, hint=hint)
    _check_unit(test, value, op)


def _check_unit(test: Test, value: Literal, op: Op) -> None:
    is_time = test.attr.endswith("_s") or test.attr.rpartition(".")[2] == "seconds"
    if value.kind == "time" and not is_time:
        hint = "durations are for attributes that end in `_s`; megabytes are written `MB`"
        raise Refusal("E012", f"`{test.attr}` of {op.name} is no duration, `{value.text}` is", value.at, hint=hint)
    if value.kind == "size" and is_time:
        raise Refusal(
            "E012", f"`{test.attr}` of {op.name} is a duration, `{value.text}` is a size", value.at, hint="write `10s`, `5m`"
        )


def _check_operand(verb: str, value: Literal, attribute: Attribute) -> None:
    text = str(value.value)
    try:
        if verb == "like":
            _check_like(text, attribute)
        elif verb == "matches":
            Regex(text)
        else:
            ip_network(text)
    except Invalid as error:
        raise Refusal("E014", error.message, value.at, hint=error.hint) from error
    except ValueError as error:
        what = "regular expression" if verb == "matches" else "address range"
        hint = "see docs/reference/policy-language.md" if verb == "matches" else 'write `"10.0.0.0/8"` or `"fc00::/7"`'
        raise Refusal("E014", f"{what} `{text}`: {error}", value.at, hint=hint) from error


def _check_like(text: str, attribute: Attribute) -> None:
    if attribute.resource_kind in ("path", "url"):
        compile_pattern(attribute.resource_kind, text)
    else:
        text_matcher(text)


def _check_set(test: Test, value: PatternRef, kind: Type, attribute: Attribute, op: Op, *, sets: Sets) -> None:
    if value.text not in sets:
        hint = did_you_mean(value.text, sets, f'define it: let {value.text} = "..."')
        raise Refusal("E015", f"there is no set `${value.text}`", value.at, hint=hint)
    if kind.kind not in ("text", "any"):
        raise _wrong(test, kind, op, f"${value.text}", value.at, "only text can be in a set of patterns")
    for text in sets[value.text]:
        try:
            _check_like(text, attribute)
        except Invalid as error:
            raise Refusal("E014", error.message, value.at, hint=error.hint) from error
