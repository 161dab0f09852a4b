"""Progent's own check, written down again for comparison: the order of rules, what is skipped, and the part of JSON schema it meets here.

Faithful to its `check_tool_call`: rules sorted by (priority, -effect); an argument that is not given is skipped; a forbid whose check fails
for any reason is skipped; an allow of priority 100 and fallback 0 that is not met refuses at once; the last rule's fallback ends it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

KINDS: dict[str, Any] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: not isinstance(value, bool) and isinstance(value, int | float) and value == int(value),
    "number": lambda value: not isinstance(value, bool) and isinstance(value, int | float),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
BOUNDS: dict[str, Any] = {
    "minimum": lambda value, bound: value >= bound, "maximum": lambda value, bound: value <= bound,
    "exclusiveMinimum": lambda value, bound: value > bound, "exclusiveMaximum": lambda value, bound: value < bound,
}  # fmt: skip


class NotValid(Exception):
    """A value does not meet a restriction, or the restriction is none."""


def decide(rules: list[list[Any]] | None, args: Mapping[str, Any]) -> str:
    """Return allow, ask or deny for a call of a tool that has these rules."""
    fallback = 0
    for priority, effect, conditions, fallback in sorted(rules or [], key=lambda rule: (rule[0], -rule[1])):
        is_met = meets(conditions, args)
        if effect == 0 and is_met:
            return "allow"
        if effect == 0 and priority == 100 and fallback == 0:
            return "deny"
        if effect == 1 and is_met:
            return "ask" if fallback == 2 else "deny"
    return "ask" if fallback == 2 else "deny"


def meets(conditions: Mapping[str, Any], args: Mapping[str, Any]) -> bool:
    try:
        for name, restriction in conditions.items():
            if name in args:
                check(restriction, args[name])
    except (NotValid, re.error, TypeError):
        return False
    return True


def check(restriction: Any, value: Any) -> None:
    if isinstance(restriction, str):
        if not re.match(restriction, value):
            raise NotValid
        return
    well_formed(restriction)
    if not valid(restriction, value):
        raise NotValid


def well_formed(schema: Any) -> None:
    """Refuse a schema that is none, the whole of it before any value is looked at."""
    if isinstance(schema, bool):
        return
    for word, given in schema.items():
        names = given if isinstance(given, list) else [given]
        if word == "type" and any(name not in KINDS for name in names):
            raise NotValid
        if word == "pattern":
            re.compile(given)
        if word in ("enum", "anyOf", "allOf") and not isinstance(given, list):
            raise NotValid
        if word in BOUNDS and (isinstance(given, bool) or not isinstance(given, int | float)):
            raise NotValid
        for inner in given if word in ("anyOf", "allOf") else [given] if word in ("not", "items") else []:
            well_formed(inner)


def valid(schema: Any, value: Any) -> bool:
    """Say whether a value is valid. Keywords about another type say nothing, unknown ones neither."""
    if isinstance(schema, bool):
        return schema
    tests = {
        "type": lambda given: any(KINDS[name](value) for name in (given if isinstance(given, list) else [given])),
        "enum": lambda given: any(same(each, value) for each in given),
        "const": lambda given: same(given, value),
        "pattern": lambda given: not isinstance(value, str) or re.search(given, value) is not None,
        "minLength": lambda given: not isinstance(value, str) or len(value) >= given,
        "maxLength": lambda given: not isinstance(value, str) or len(value) <= given,
        "items": lambda given: not isinstance(value, list) or all(valid(given, each) for each in value),
        "minItems": lambda given: not isinstance(value, list) or len(value) >= given,
        "maxItems": lambda given: not isinstance(value, list) or len(value) <= given,
        "not": lambda given: not valid(given, value),
        "anyOf": lambda given: any(valid(each, value) for each in given),
        "allOf": lambda given: all(valid(each, value) for each in given),
        "required": lambda given: not isinstance(value, dict) or all(name in value for name in given),
        "properties": lambda given: (
            not isinstance(value, dict) or all(valid(given[name], value[name]) for name in given if name in value)
        ),
        "additionalProperties": lambda given: (
            given is not False or not isinstance(value, dict) or set(value) <= set(schema.get("properties", {}))
        ),
        **{word: bounded(word, value) for word in BOUNDS},
    }
    return all(tests[word](given) for word, given in schema.items() if word in tests)


def bounded(word: str, value: Any) -> Any:
    return lambda given: not KINDS["number"](value) or BOUNDS[word](value, given)


def same(left: Any, right: Any) -> bool:
    """JSON's equality: true is not 1."""
    return isinstance(left, bool) == isinstance(right, bool) and left == right
