"""`image schema`: every shipped image is valid, and the schema is never stricter than the reader, nor blind where it can see."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agentos.abi.image import AgentImage
from agentos.abi.imageschema import manifest_schema
from agentos.abi.manifest import KEYS
from agentos.abi.yamlstrict import parse_yaml
from agentos.errors import Invalid

ROOT = Path(__file__).parents[3]
SHIPPED = [
    path for folder in ("images", "demos") for path in sorted((ROOT / folder).rglob("*.yaml")) if "agentos:" in path.read_text()
]
SCHEMA = manifest_schema()
MINIMAL: dict[str, Any] = {"agentos": 1, "name": "x", "prompt": {"text": "hello"}}
GOOD: dict[str, list[Any]] = {
    "agentos": [1], "name": ["a", "a.b-c/d"], "version": ["1.2.0", 3], "from": ["base:1", "base"],
    "program": [{"kind": "host"}, {"turns": 3}, {"kind": "script", "steps": [{"op": "fs.read", "args": {"path": "/a"}}]},
                {"kind": "python", "name": "census"}, {"kind": "plan", "calls": [{"id": "a", "op": "clock.now"}]}],
    "model": [{"profile": "default"}, {}], "prompt": [{"text": "x"}],
    "tools": [[], ["fs.*", "exec.run", "*", {"mcp": "hub", "allow": ["get"]}]],
    "capabilities": [[], ["fs.read /**"]], "policy": [], "asks": [{"timeout": "4h", "on_timeout": "suspend"}, {"timeout": "1h30m"}],
    "memory": [{"context_tokens": 10, "namespaces": ["project"]}],
    "limits": [{"tokens": 1, "usd": 2.5, "wall": "30m", "calls": 2, "children": 0, "depth": 2, "rss": "1GiB"}, {"rss": "512 KB"}],
    "result": [{"schema": {"type": "object"}}],
}  # fmt: skip
ODD: list[Any] = [
    None,
    True,
    -1,
    0,
    2,
    1.5,
    "",
    "a b",
    "/x",
    [],
    [1],
    [""],
    {},
    {"zzz": 1},
    {"kind": "nope"},
    {"turns": "x"},
    {"timeout": 3},
]


def valid(schema: dict[str, Any], value: Any) -> bool:
    """The part of JSON schema that the manifest's schema uses; an unknown keyword is an error of this test."""
    kinds = {
        "object": dict, "array": list, "string": str, "number": (int, float), "integer": int, "boolean": bool,
    }  # fmt: skip
    tests: dict[str, Any] = {
        "type": lambda given: isinstance(value, kinds[given]) and (given == "boolean" or not isinstance(value, bool)),
        "const": lambda given: value == given and isinstance(value, bool) == isinstance(given, bool),
        "enum": lambda given: value in given,
        "minLength": lambda given: not isinstance(value, str) or len(value) >= given,
        "maxLength": lambda given: not isinstance(value, str) or len(value) <= given,
        "pattern": lambda given: not isinstance(value, str) or re.search(given, value) is not None,
        "minimum": lambda given: not isinstance(value, int | float) or value >= given,
        "maximum": lambda given: not isinstance(value, int | float) or value <= given,
        "items": lambda given: not isinstance(value, list) or all(valid(given, each) for each in value),
        "maxItems": lambda given: not isinstance(value, list) or len(value) <= given,
        "required": lambda given: not isinstance(value, dict) or all(name in value for name in given),
        "properties": lambda given: (
            not isinstance(value, dict) or all(valid(given[name], each) for name, each in value.items() if name in given)
        ),
        "additionalProperties": lambda given: given or not isinstance(value, dict) or set(value) <= set(schema["properties"]),
        "oneOf": lambda given: sum(valid(each, value) for each in given) == 1,
        "$schema": lambda given: True, "title": lambda given: True, "examples": lambda given: True,
    }  # fmt: skip
    return all(tests[word](given) for word, given in schema.items())


def accepted(manifest: dict[str, Any]) -> bool:
    try:
        AgentImage.from_dict(manifest)
    except Invalid:
        return False
    return True


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_image_is_valid(path: Path) -> None:
    assert valid(SCHEMA, parse_yaml(path.read_bytes(), path.name).plain())


def test_there_are_shipped_images_and_every_key_has_examples() -> None:
    assert len(SHIPPED) >= 2
    assert set(GOOD) == set(KEYS) == set(SCHEMA["properties"])


@pytest.mark.parametrize("key", [key for key, values in GOOD.items() if values])
def test_what_the_schema_takes_the_reader_takes(key: str) -> None:
    for value in GOOD[key]:
        manifest = {**MINIMAL, key: value}
        assert valid(SCHEMA, manifest), (key, value)
        if key != "from":
            assert accepted(manifest), (key, value)


@pytest.mark.parametrize("key", sorted(set(KEYS) - {"policy", "prompt", "from"}))
def test_the_schema_is_never_stricter_than_the_reader_and_sees_what_has_the_wrong_form(key: str) -> None:
    for value in ODD:
        manifest = {**MINIMAL, key: value}
        assert valid(SCHEMA, manifest) == accepted(manifest), (key, value)


def test_an_unknown_key_and_a_missing_one_are_seen() -> None:
    assert not valid(SCHEMA, {**MINIMAL, "promt": {}})
    assert not valid(SCHEMA, {"agentos": 1})
