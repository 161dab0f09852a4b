"""How ops are declared to models: names and schemas that every provider takes, and that say what the op takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel

from agentos.abi.op import OP_NAME, Effect, Op
from agentos.abi.ops import builtin
from agentos.abi.resource import Template
from agentos.tools.declaration import declaration, wire_name

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
OPS = {op.name: op for op in builtin()}


class Line(BaseModel):
    """One line of a bill."""

    title: str
    amount: Decimal
    parts: list[Line] = []


def bill(
    lines: list[Line],
    when: datetime,
    kind: Literal["net", "gross"] = "net",
    rates: dict[str, float] | None = None,
    count: Annotated[int, Ge(1)] = 1,
    defaults: dict[str, Any] = {"title": "x", "additionalProperties": True},  # noqa: B006 - a declaration
    blob: bytes = b"",
) -> str:
    """Make a bill."""
    raise NotImplementedError


def op(function: Callable[..., Any], name: str = "bank.bill") -> Op:
    return Op(name, function, Effect.PURE, (Template("id", "x"),))


@pytest.mark.parametrize("name", sorted(OPS))
def test_every_builtin_op_is_declared_as_providers_take_it(name: str) -> None:
    function = declaration(OPS[name])["function"]
    assert NAME.fullmatch(function["name"])
    assert 0 < len(function["description"]) <= 1_024
    assert function["parameters"]["type"] == "object"
    Draft202012Validator.check_schema(function["parameters"])
    assert '"title"' not in str(function["parameters"]).replace("'title': {", "")


@given(st.lists(st.from_regex(OP_NAME, fullmatch=True), min_size=2, max_size=2, unique=True))
def test_two_ops_never_have_one_name_on_the_wire(names: list[str]) -> None:
    first, second = (wire_name(name) for name in names)
    assert first != second
    assert NAME.fullmatch(first)


def test_names_that_would_be_those_of_others_end_in_a_digest() -> None:
    assert wire_name("fs.read") == "fs__read"
    assert len({wire_name("a.b__c"), wire_name("a__b.c"), wire_name("a.b.c")}) == 3
    assert wire_name("a.b.c") == "a__b__c"
    assert len(wire_name(f"mcp.{'x' * 80}")) == 64


def test_types_of_a_function_are_told_as_json_schema() -> None:
    schema = declaration(op(bill))["function"]["parameters"]
    properties = schema["properties"]
    assert properties["kind"] == {"default": "net", "enum": ["net", "gross"], "type": "string"}
    assert properties["rates"] == {"additionalProperties": {"type": "number"}, "type": "object"}  # or null: it may be left out
    assert properties["when"]["format"] == "date-time"
    assert properties["defaults"]["default"] == {"title": "x", "additionalProperties": True}  # data is data
    assert properties["count"]["minimum"] == 1
    assert schema["$defs"]["Line"]["properties"]["title"] == {"type": "string"}  # a field may be called title
    assert schema["required"] == ["lines", "when"]


def test_a_long_description_is_cut() -> None:
    def long() -> None: ...

    long.__doc__ = "word " * 1_000
    assert len(declaration(op(long))["function"]["description"]) == 1_024


def test_a_declaration_is_made_once_and_cannot_be_changed_by_who_got_it() -> None:
    first = declaration(OPS["fs.read"])
    first["type"] = "changed"
    assert declaration(OPS["fs.read"])["type"] == "function"
