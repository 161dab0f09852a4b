"""The schema of a result may be anybody's, and the value is a model's: checking one against the other reaches nothing and takes no time."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

import pytest

from agentos.abi.resultschema import check_result
from agentos.errors import Invalid

URL = "http://127.0.0.1:9/x.json"


@pytest.mark.parametrize(
    "schema", [{"$ref": URL}, {"$dynamicRef": URL}, {"$id": URL, "$ref": "y.json"}, {"items": {"$ref": URL}}]
)
def test_a_schema_has_nothing_fetched(schema: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda url, *args, **options: asked.append(url))
    with pytest.raises(Invalid, match="cannot be used"):
        check_result([1], schema)
    assert asked == []


@pytest.mark.parametrize(
    "schema", [{"pattern": "(a+)+$"}, {"items": {"pattern": "(a|aa)*b"}}, {"propertyNames": {"pattern": "(a*)*b"}}]
)
def test_a_pattern_takes_time_in_proportion_to_the_text(schema: dict[str, Any]) -> None:
    text, begun = "a" * 100_000 + "!", time.process_time()
    for value in (text, [text], {text: 1}):
        with suppress(Invalid):
            check_result(value, schema)
    assert time.process_time() - begun < 2


def test_references_that_double_end() -> None:
    """Thirty lines that would have a value checked a billion times."""
    steps = {f"d{at}": {"allOf": [{"$ref": f"#/$defs/d{at + 1}"}] * 2} for at in range(30)}
    begun = time.process_time()
    with pytest.raises(Invalid, match="references"):
        check_result(1, {"$defs": {**steps, "d30": {}}, "$ref": "#/$defs/d0"})
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(("value", "fits"), [("1.50", True), ("-", False), ("x", False), ("", False)])
def test_the_pattern_that_pydantic_has_for_decimals_is_understood(value: str, fits: bool) -> None:
    schema = {"type": "string", "pattern": r"^(?!^[-+.]*$)[+-]?0*\d*\.?\d*$"}
    if fits:
        check_result(value, schema)
    else:
        with pytest.raises(Invalid, match="does not match"):
            check_result(value, schema)


@pytest.mark.parametrize("schema", [{"pattern": "(?=a)b"}, {"pattern": r"(a)\1"}, {"patternProperties": {"(a+)+$": {}}}])
def test_what_cannot_be_checked_in_time_is_no_schema(schema: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as caught:
        check_result("b", schema)
    assert caught.value.code == "invalid.manifest"


def test_a_recursive_schema_is_followed_as_deep_as_the_value_goes() -> None:
    tree = {"$defs": {"t": {"type": "object", "properties": {"l": {"$ref": "#/$defs/t"}}}}, "$ref": "#/$defs/t"}
    check_result({"l": {"l": {}}}, tree)
    with pytest.raises(Invalid, match="not of type"):
        check_result({"l": {"l": 1}}, tree)
