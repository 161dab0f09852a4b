"""Numbers are compared as they are written, whatever their type, and what is no number is unknown."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, NotRequired

import pytest
import typing_extensions

from agentos.abi.op import Effect, Op, OpTable
from agentos.abi.resource import Resource, Template
from agentos.errors import Invalid
from agentos.policy import Stack, load_layer


class Nested(typing_extensions.TypedDict):
    """What a JSON schema of a nested object becomes."""

    size: int
    tag: NotRequired[str]


def _pay(amount: Decimal, options: Nested | None = None) -> None: ...


OP = Op("bank.pay", _pay, Effect.ONCE, (Template("id", "pay"),))
HERE = (Resource("id", "pay", "pay"),)


def outcome(rule: str, **args: Any) -> str:
    layer = load_layer(f'policy "p"\nallow bank.pay when {rule}', source="p", table=OpTable([OP]))
    return Stack([layer]).decide(OP, HERE, {"options": None, **args}, {}).outcome


@pytest.mark.parametrize("value", [Decimal("0.3"), Decimal("0.30"), 0.3, Decimal(-1), 0])
def test_a_limit_includes_the_number_that_it_names(value: Any) -> None:
    assert outcome("amount <= 0.3", amount=value) == "allow"


@pytest.mark.parametrize("value", [Decimal("0.3000000000000000001"), Decimal("Infinity"), 0.31, float("inf")])
def test_what_is_more_is_more(value: Any) -> None:
    assert outcome("amount <= 0.3", amount=value) == "deny"


@pytest.mark.parametrize("value", [Decimal("NaN"), Decimal("sNaN"), float("nan"), True, "0.1", None])
@pytest.mark.parametrize("rule", ["amount <= 0.3", "not amount > 0.3", "amount == 0.3", "amount != 0.3"])
def test_what_is_no_number_allows_nothing(value: Any, rule: str) -> None:
    assert outcome(rule, amount=value) == "deny"


def test_fields_of_a_typed_dict_are_known_and_a_typo_in_one_does_not_load() -> None:
    assert outcome("options.size <= 3 and options.tag == x", amount=1, options={"size": 2, "tag": "x"}) == "allow"
    with pytest.raises(Invalid, match="no field `sise`"):
        outcome("options.sise <= 3", amount=1)
