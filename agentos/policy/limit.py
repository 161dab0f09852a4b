"""Limits: which charges a call makes. The counters are the kernel's; here it is only said what is charged and to which of them.

    limit OPS [PATTERNS] [when EXPR] AMOUNT [of NAME] per (DURATION | process | tree) [by NAME]

`of` nothing counts calls; `of` an argument charges its value; `of` a cost (tokens, usd, bytes, wall_s) is settled after the call.
Tests on history (`count`, `sum`, `after`) are fed by charges as well: counters without a limit.

INVARIANT charges-never-give-back: the amount of a charge is never negative; what is no amount (missing, negative, not a number) charges
more than the limit has, so that the call cannot pass.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from math import isfinite
from typing import Any, Final

from agentos.abi.op import Op, OpTable
from agentos.abi.resource import Resource
from agentos.abi.units import parse_duration_s
from agentos.policy.attributes import Attribute, Get, attribute_of
from agentos.policy.flow import COSTS, Charge
from agentos.policy.problems import At, Refusal, did_you_mean
from agentos.policy.scope import BoundScope, Scope
from agentos.policy.syntax import Aggregate, Limit
from agentos.policy.unparse import limit_text

__all__ = ["BoundLimit", "CheckedLimit", "canonical_text", "check_limit", "counter_charge"]

SUMMED_MAX: Final = 10**18
"""What one call adds at most to a sum of history: also what an argument adds that is no finite amount."""
_BITS_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class CheckedLimit:
    """One limit of a layer."""

    limit: Limit
    source: str
    scope: Scope

    @property
    def where(self) -> str:
        """The place as ``file:line``."""
        return f"{self.source}:{self.limit.at.line}"

    @property
    def text(self) -> str:
        """The limit in its one spelling."""
        return limit_text(self.limit)

    def key(self, layer: str) -> str:
        """Return the name of its counter: the same for the same statement, with the same sets, of every layer called `layer`."""
        sets = [f"{name}={patterns}" for name, patterns in sorted(self.scope.sets.items()) if f"${name}" in self.text]
        named = "\0".join([layer, self.text, *sets])
        return hashlib.blake2b(named.encode(errors="surrogatepass"), digest_size=16).hexdigest()

    def bind(self, op: Op, layer: str) -> BoundLimit | None:
        """Compile the limit for `op`; None when no resource of it can match."""
        scope = self.scope.bind(op)
        if scope is None:
            return None
        amount, of = _amount_of(self.limit, op)
        limit, maximum = self.limit, _maximum(self.limit)
        per, window_s = (limit.per, 0.0) if limit.per in ("process", "tree") else ("window", parse_duration_s(limit.per))
        fixed = 0 if of else 1
        charge = Charge(self.key(layer), self.where, fixed, maximum, per, window_s, "", of, self.text)
        by = _attribute(op, limit.by, limit.at) if limit.by else None
        return BoundLimit(scope, charge, amount, None if by is None else by.get)


@dataclass(frozen=True, slots=True)
class BoundLimit:
    """One limit, compiled for one op. `charge` is what every call charges; `amount` and `by` fill in what depends on it."""

    scope: BoundScope
    charge: Charge
    amount: Get | None
    by: Get | None

    def of(self, resources: tuple[Resource, ...], args: Mapping[str, Any], facts: Mapping[str, Any]) -> Charge | None:
        """Return what a call charges, None where the limit is not about it."""
        if not self.scope.holds(resources, args, facts):
            return None
        fixed = self.charge
        if self.amount is None and self.by is None:
            return fixed
        given = fixed.amount if self.amount is None else _amount(self.amount(args, facts))
        amount = _beyond(fixed.amount_max) if given is None else given
        by = "" if self.by is None else canonical_text(self.by(args, facts))
        per, window_s = fixed.per, fixed.window_s
        return Charge(fixed.key, fixed.where, amount, fixed.amount_max, per, window_s, by, fixed.of, fixed.text)


def _amount_of(limit: Limit, op: Op) -> tuple[Get | None, str]:
    """Return how the amount is found in a call, and the cost that is settled after it. An op that has neither can never pass."""
    if not limit.of:
        return None, ""
    attribute = _attribute(op, limit.of, limit.at)
    if attribute is not None:
        return attribute.get, ""
    return (None, limit.of) if limit.of in COSTS else ((lambda args, facts: None), "")


def _attribute(op: Op, name: str, at: At) -> Attribute | None:
    try:
        return attribute_of(op, name, at)
    except Refusal:
        return None


def _maximum(limit: Limit) -> int | float:
    assert not isinstance(limit.amount.value, str)
    return limit.amount.value


def _amount(value: Any) -> int | float | Decimal | None:
    """Return what is an amount exactly as it is, None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return None
    if not (value.is_finite() if isinstance(value, Decimal) else isinstance(value, int) or isfinite(value)):
        return None
    return value if value >= 0 else None


def _beyond(maximum: float | None) -> float:
    assert maximum is not None, "a limit has an amount"
    return maximum + 1 if maximum + 1 > maximum else maximum * 2


def check_limit(checked: CheckedLimit, table: OpTable) -> None:
    """Check one limit against every op that it names.

    Raises:
        Refusal: the first thing that is wrong.
    """
    checked.scope.check(table)
    limit = checked.limit
    if _maximum(limit) < 0:
        raise Refusal("E012", f"`{limit.amount.text}` is negative", limit.amount.at, hint="0 lets nothing pass")
    for op in checked.scope.ops(table):
        _check_of(limit, op)
        if limit.by:
            _check_by(limit, op)


def _check_of(limit: Limit, op: Op) -> None:
    kind, text, at = limit.amount.kind, limit.amount.text, limit.amount.at
    attribute = _attribute(op, limit.of, limit.at)
    if not limit.of:
        if kind != "number":
            raise Refusal("E012", f"`{text}` is no number of calls", at, hint=f"write `{text} of ...` for what is added up")
        return
    if attribute is None and limit.of not in COSTS:
        known = [*op.arg_names, *op.derived, *COSTS]
        hint = did_you_mean(limit.of, known, f"arguments: {', '.join(op.arg_names)}; costs: {', '.join(COSTS)}")
        raise Refusal("E011", f"`of {limit.of}` is neither an attribute of {op.name} nor a cost", limit.at, hint=hint)
    if attribute is not None and (attribute.of not in ("argument", "derived") or attribute.type.kind not in ("number", "any")):
        hint = "name an argument that is a number"
        raise Refusal("E012", f"`{limit.of}` of {op.name} cannot be added up before the call", limit.at, hint=hint)
    is_time = limit.of.endswith("_s")
    is_size = attribute is not None or limit.of == "bytes"
    if (kind == "time" and not is_time) or (kind == "size" and (is_time or not is_size)):
        raise Refusal("E012", f"`{text}` is no amount of `{limit.of}`", at, hint="durations are for `wall_s`, sizes for bytes")


def _check_by(limit: Limit, op: Op) -> None:
    attribute = attribute_of(op, limit.by, limit.at)
    if attribute.late or attribute.type.kind in ("list", "fields", "opaque"):
        hint = "name an argument that is one text, number or flag"
        raise Refusal("E012", f"`{limit.by}` of {op.name} cannot split a limit", limit.at, hint=hint)


def canonical_text(value: Any) -> str:
    """Return the one text of a value that splits a limit: numbers by value, empty where it is missing or not one value.

    White space around a text and its Unicode form do not split: whoever takes it may well drop the one and compare without the other.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return _number_text(value)
    return unicodedata.normalize("NFC", value.strip()) if isinstance(value, str) else ""


def _number_text(value: int | float | Decimal) -> str:
    if isinstance(value, int):
        return str(value) if value.bit_length() <= _BITS_MAX else hex(value)
    exact = Decimal(repr(value)) if isinstance(value, float) else value
    if not exact.is_finite():
        return "nan"
    if exact == exact.to_integral_value() and exact.adjusted() < _BITS_MAX // 4:
        return _number_text(int(exact))
    return str(exact.normalize())


def counter_charge(expr: Aggregate, attr: str, op: Op) -> Callable[[Mapping[str, Any], Mapping[str, Any]], Charge]:
    """Return what calls of `op` add to the counter that a test on history reads."""
    if expr.verb != "sum":
        charge = Charge(f"{expr.verb}/{op.name}", "", 1, None, "tree", succeeded=expr.verb == "after")
        return lambda args, facts: charge
    attribute = _attribute(op, attr, expr.at)
    empty = Charge(f"sum/{op.name}.{attr}", "", 0, None, "tree")

    def summed(args: Mapping[str, Any], facts: Mapping[str, Any]) -> Charge:
        value = SUMMED_MAX if attribute is None else attribute.get(args, facts)
        return replace(empty, amount=0 if value is None else _summed(value))

    return summed


def _summed(value: Any) -> int | float | Decimal:
    """Return what is added to a sum: nothing for less than nothing, SUMMED_MAX for what is no amount."""
    amount = _amount(value)
    if amount is not None:
        return min(amount, SUMMED_MAX)
    return 0 if isinstance(value, int | float | Decimal) and value < 0 else SUMMED_MAX
