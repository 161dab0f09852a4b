"""JSON schemas as signatures: understood completely, or refused."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from agentos.abi.op import Effect, Op
from agentos.abi.resource import Template
from agentos.devices.app import Device
from agentos.devices.signature import from_json_schema
from agentos.errors import Invalid


def op(properties: dict[str, Any], required: list[str] | None = None, **more: Any) -> Op:
    schema = {"type": "object", "properties": properties, "required": required or [], **more}
    return Op("d.op", from_json_schema("d.op", schema, "")[0], Effect.ONCE, (Template("id", "d/op"),))


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string", "minLength": 2, "maxLength": 3, "pattern": "^a"}, "ab", "b"),
        ({"type": "integer", "minimum": 1, "maximum": 5, "multipleOf": 2}, 4, 3),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, 0.5, 1.0),
        ({"type": "boolean"}, True, "perhaps"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [1, 2], []),
        ({"type": "array"}, [1, "x"], "x"),
        ({"type": "object"}, {"any": [1]}, []),
        ({"type": ["string", "null"], "description": "text or nothing"}, None, 7),
        ({"enum": ["a", 1, None]}, 1, 2),
        ({"const": "x"}, "x", "y"),
        ({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}, {"n": 1, "more": 2}, {}),
        ({"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": False}, {}, {"m": 1}),
        ({"type": "array", "items": {"type": "object", "properties": {"n": {"type": "string"}}}}, [{"n": "x"}], [{"n": 1}]),
    ],
)
def test_what_the_schema_allows_passes_as_plain_data_and_what_it_forbids_does_not(schema: Any, good: Any, bad: Any) -> None:
    made = op({"v": schema}, ["v"])
    assert made.validate({"v": good}) == {"v": good}
    with pytest.raises(Invalid, match="`v"):
        made.validate({"v": bad})


def test_defaults_are_filled_and_optional_arguments_may_be_left_out() -> None:
    schema = {
        "properties": {"a": {"type": "integer", "default": 3}, "b": {"type": "string"}, "c": {"type": ["string", "null"]}}
    }
    signature, absent = from_json_schema("d.op", schema, "")
    made = Op("d.op", signature, Effect.ONCE, (Template("id", "d/op"),))
    assert made.validate({}) == {"a": 3, "b": None, "c": None}
    assert absent == {"b"}


def test_an_unknown_argument_is_refused_and_the_description_is_the_doc() -> None:
    made = op({"a": {"type": "integer"}}, ["a"], description="Does it.", title="T")
    assert made.doc == "Does it."
    with pytest.raises(Invalid, match="no argument `b`"):
        made.validate({"a": 1, "b": 2})


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array"},
        {"type": "object", "additionalProperties": True},
        {"type": "object", "patternProperties": {}},
        {"type": "object", "properties": {"a": {"$ref": "#/x"}}},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"$ref": "#/$defs/A"}}},
        {"type": "object", "properties": {"a": {"anyOf": []}}},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}, {}]}}},
        {"type": "object", "properties": {"a": {"anyOf": [{"type": "string"}], "pattern": "x"}}},
        {"type": "object", "properties": {"a": {"allOf": [{"type": "string"}]}}},
        {"type": "object", "properties": {"a": {"type": "text"}}},
        {"type": "object", "properties": {"a": {"type": []}}},
        {"type": "object", "properties": {"a": {}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "properties": {"a": {"type": "string", "minimum": 3}}},
        {"type": "object", "properties": {"a": {"enum": [[1]]}}},
        {"type": "object", "properties": {"a": {"enum": []}}},
        {"type": "object", "properties": {"a": {"type": "object", "required": ["b"]}}},
        {"type": "object", "properties": {"a": {"type": "object", "properties": {"b": {"type": "string", "default": "x"}}}}},
        {
            "type": "object",
            "properties": {"a": {"type": "object", "properties": {}, "additionalProperties": {"type": "string"}}},
        },
        {"type": "object", "properties": {"content-type": {"type": "string"}}},
        {"type": "object", "properties": {"from": {"type": "string"}}},
        {"type": "object", "properties": {"_a": {"type": "string"}}},
        {"type": "object", "properties": {}, "required": ["a"]},
        {"type": "object", "properties": []},
    ],
)
def test_a_schema_that_is_not_understood_is_refused_never_ignored(schema: dict[str, Any]) -> None:
    with pytest.raises(Invalid, match=r"invalid\.op"):
        from_json_schema("d.op", schema, "")


def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {"type": "array"}
    schema["items"] = schema
    with pytest.raises(Invalid, match="nested deeper"):
        from_json_schema("d.op", {"properties": {"a": schema}}, "")


class Attachment(BaseModel):
    kind: Literal["file", "event"]
    id: int | str


class Mail(BaseModel):
    """Send a mail."""

    recipients: list[str]
    subject: str = Field(description="one line")
    attachments: list[Attachment] | None = None
    cc: list[str] | None = Field(default=None, json_schema_extra={"format": "emails"})
    limit: int | None = 3


def test_the_schema_of_a_pydantic_model_declares_an_op_and_its_function_may_take_keywords() -> None:
    def send(**args: Any) -> Any:
        return args

    device = Device.from_functions("mail", {"send": (Mail.model_json_schema(), send)})
    op = device.syscalls()[0].op
    given = {"recipients": ["a"], "subject": "x", "attachments": [{"kind": "file", "id": 3}]}
    assert op.validate(given) == {**given, "cc": None, "limit": 3}
    for wrong in ({"attachments": [{"kind": "disk", "id": 1}]}, {"cc": "a"}, {"limit": "many"}, {"bcc": ["a"]}):
        with pytest.raises(Invalid):
            op.validate({**given, **wrong})


def test_a_function_without_schema_names_its_arguments() -> None:
    def send(**args: Any) -> None: ...

    with pytest.raises(Invalid, match="cannot be an argument"):
        Device.from_functions("mail", {"send": send}).syscalls()
