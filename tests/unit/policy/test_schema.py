"""`policy schema`: what it lists is what the parser takes and the checker knows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentos.abi.ops import builtin
from agentos.policy import load_layer
from agentos.policy.lexer import tokenize
from agentos.policy.schema import language_schema, type_schema
from tests.unit.policy.builders import TABLE

SCHEMA = language_schema(TABLE)
SOURCES = {"prompt": "prompt", "human": "human", "result": "result(fs.read)", "object": "object(notes)"}


def loads(body: str) -> bool:
    return load_layer(f'policy "t"\n{body}', source="t", table=TABLE).digest != ""


def test_every_builtin_op_is_described_as_json() -> None:
    found = language_schema(builtin())
    assert set(found["ops"]) == {op.name for op in builtin()}
    assert json.loads(json.dumps(found)) == found


def test_an_op_says_all_that_a_policy_can_know() -> None:
    fetch = SCHEMA["ops"]["net.fetch"]
    assert fetch["effect"] == "once"
    assert fetch["resources"] == [{"kind": "url", "template": "{url}", "arguments": ["url"]}]
    assert (fetch["sinks"], fetch["late"]) == (["url"], ["dest_ip", "redirect"])
    assert fetch["attributes"]["method"] == {"type": "string", "enum": ["GET", "HEAD", "POST"]}
    assert fetch["arguments"]["required"] == ["url"]


@pytest.mark.parametrize("name", sorted(SCHEMA["ops"]))
def test_every_attribute_that_is_listed_can_be_tested(name: str) -> None:
    attributes: dict[str, Any] = {**SCHEMA["ops"][name]["attributes"], **SCHEMA["attributes"]}
    assert attributes
    assert loads("\n".join(f"deny {name} when {attribute} is absent" for attribute in attributes))


@pytest.mark.parametrize("word", SCHEMA["grammar"]["sources"])
def test_every_source_that_is_listed_parses(word: str) -> None:
    assert loads(f"allow fs.read when path from {{ {SOURCES[word]} }}")


@pytest.mark.parametrize("kind", ["effects", "obligations", "remember", "comparisons", "labels"])
def test_every_word_that_is_listed_parses_where_it_belongs(kind: str) -> None:
    lines = {
        "effects": "deny effect {}", "obligations": "require {} for fs.read", "remember": "ask fs.read remember {}",
        "comparisons": "deny fs.read when bytes_max {} 3", "labels": "label result(fs.read) {}",
    }  # fmt: skip
    assert all(loads(lines[kind].format(word)) for word in SCHEMA["grammar"][kind])


def test_every_statement_of_a_full_file_is_listed() -> None:
    words = set(SCHEMA["grammar"]["statements"]) | set(SCHEMA["grammar"]["headers"])
    text = 'policy "t"\nlet s = "/a"\nallow fs.read $s\nlimit fs.read 3 per tree\nexpect allow fs.read "/a"\n'
    assert {token.text for token in tokenize(text) if token.first and token.kind != "end"} <= words


def test_the_fields_of_a_result_are_listed() -> None:
    from agentos.policy.attributes import type_of
    from tests.unit.policy.builders import Part

    assert type_schema(type_of(list[Part])) == {
        "type": "array", "items": {"type": "object", "properties": {"file_id": {"type": "string"}, "size": {"type": "number"}}},
    }  # fmt: skip
