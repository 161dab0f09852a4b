"""Tests on where a value comes from and on what happened before: ``ARG from { ... }``, ``count(op)``, ``sum(op.attr)``, ``after(op)``.

The sources of a value are the kernel's answer (`flow.origin`); here they are only compared with those that the policy names. A value that
is not grounded comes from nowhere: the test is false. Without a flow it is unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final

from agentos.abi.op import Op, OpTable
from agentos.policy.attributes import attribute_of, field_type, flow_of, type_of
from agentos.policy.problems import At, Refusal, did_you_mean
from agentos.policy.syntax import Aggregate, And, Expr, From, Not, Or, Test

__all__ = [
    "aggregate_value", "asks_origin", "check_aggregate", "check_source", "counter_of", "leaves_of", "source_matcher", "uses_provenance",
]  # fmt: skip

_LABEL_WORDS: Final = (".level", ".integrity")


def leaves_of(expr: Expr) -> Iterator[Test | Aggregate]:
    """Iterate over the tests of an expression, those on history included, left to right."""
    if isinstance(expr, Not):
        yield from leaves_of(expr.item)
    elif isinstance(expr, And | Or):
        for item in expr.items:
            yield from leaves_of(item)
    else:
        yield expr


def uses_provenance(expr: Expr) -> bool:
    """Say whether an expression asks where an argument's value comes from."""
    return any(isinstance(leaf, Test) and _test_asks(leaf) for leaf in leaves_of(expr))


def _test_asks(test: Test) -> bool:
    if test.verb == "from":
        return any(isinstance(value, From) and value.kind != "set" for value in test.values)
    return asks_origin(test.attr)


def asks_origin(name: str) -> bool:
    """Say whether an attribute is the label of an argument."""
    return name.endswith(_LABEL_WORDS) and not name.startswith("flow.")


def source_matcher(values: Collection[From]) -> Callable[[Collection[str]], bool]:
    """Return a function that says whether one of a value's sources is among those named; sets are not looked at here."""
    exact = frozenset(value.text for value in values if value.kind != "set" and value.field != "*")
    whole = frozenset(f"result({value.name})" for value in values if value.kind == "result" and value.field == "*")
    below = tuple(f"{text}." for text in whole)

    def among(sources: Collection[str]) -> bool:
        return any(source in exact or source in whole or (below and source.startswith(below)) for source in sources)

    return among


def check_source(source: From, table: OpTable) -> None:
    """Check that a source can exist.

    Raises:
        Refusal: there is no such op, or its result is known to have no such field.
    """
    if source.kind != "result":
        return
    op = _op_of(source.name, table, source.at)
    kind = type_of(op.hints["return"])
    for part in source.field.split(".") if source.field not in ("", "*") else ():
        kind = field_type(kind, part, f"the result of {op.name}", source.at)


def _op_of(name: str, table: OpTable, at: At) -> Op:
    op = table.get(name)
    if op is None:
        known = sorted(op.name for op in table)
        raise Refusal("E010", f"there is no op `{name}`", at, hint=did_you_mean(name, known, "one op is named in full"))
    return op


def check_aggregate(expr: Aggregate, table: OpTable) -> None:
    """Check a test on history.

    Raises:
        Refusal: there is no such op, what is summed up is no number, or it is compared with none.
    """
    name, attr = counter_of(expr)
    if attr and expr.subject in table:
        hint = f"write for example `sum({expr.subject}.amount)`"
        raise Refusal("E011", f"`sum({expr.subject})` names no argument", expr.at, hint=hint)
    op = _op_of(name, table, expr.at)
    if attr:
        attribute = attribute_of(op, attr, expr.at)
        if attribute.late or attribute.of == "process" or attribute.type.kind != "number":
            raise Refusal(
                "E012", f"`{attr}` of {op.name} cannot be summed up", expr.at, hint="name an argument that is a number"
            )
    kinds = ("number", "size", "time") if attr else ("number",)
    if expr.value is not None and expr.value.kind not in kinds:
        raise Refusal("E012", f"`{expr.value.text}` is no amount", expr.value.at, hint=f"{expr.verb}() is a plain number")


def counter_of(expr: Aggregate) -> tuple[str, str]:
    """Return the op and the argument that a test on history is about; the argument is empty unless it is a sum."""
    if expr.verb != "sum":
        return expr.subject, ""
    name, _, attr = expr.subject.rpartition(".")
    return name, attr


def aggregate_value(expr: Aggregate, facts: Mapping[str, Any]) -> float | bool | None:
    """Return what the history of the task says, None where nobody knows."""
    flow = flow_of(facts)
    if flow is None:
        return None
    op, attr = counter_of(expr)
    if expr.verb == "count":
        return flow.count(op)
    return flow.total(op, attr) if expr.verb == "sum" else flow.happened(op)
