"""Is it a JSON schema at all? Progent's validator looks at the whole of a schema before any value, and takes one that is none for unmet."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["Malformed", "check_shape"]

_NAMES: Final = frozenset({"string", "number", "integer", "boolean", "array", "object", "null"})


class Malformed(Exception):
    """A restriction that is no JSON schema."""


def check_shape(schema: Any) -> None:
    """Refuse what is no JSON schema, the whole of it before any value is looked at, as Progent's validator does.

    Raises:
        Malformed: naming the first thing that is wrong.
        Refused: it is no restriction that a file can hold.
    """
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise Malformed(f"a restriction is an object or a text, not `{schema!r}`")
    for word, value in schema.items():
        test = _SHAPES.get(word)
        if test is not None and not test(value):
            raise Malformed(f"`{word}: {value!r}`")
        if word in ("anyOf", "allOf", "oneOf"):
            for each in value:
                check_shape(each)
        elif word in ("not", "items", "contains", "additionalProperties", "if", "then", "else"):
            check_shape(value)
        elif word == "properties":
            for each in value.values():
                check_shape(each)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_number(value) and value >= 0 and value == int(value)


def _is_types(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return isinstance(names, list) and bool(names) and all(isinstance(name, str) and name in _NAMES for name in names)


def _is_expression(value: Any) -> bool:
    try:
        return isinstance(value, str) and re.compile(value) is not None
    except (re.error, OverflowError, RecursionError):
        return False


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


_SHAPES: Final[dict[str, Callable[[Any], bool]]] = {
    "type": _is_types,
    "enum": lambda value: isinstance(value, list),
    "pattern": _is_expression,
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number),
    "multipleOf": lambda value: _is_number(value) and value > 0,
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems"), _is_count),
    **dict.fromkeys(("anyOf", "allOf", "oneOf"), _is_list),
    "items": lambda value: isinstance(value, Mapping | bool),
    "not": lambda value: isinstance(value, Mapping | bool),
    "properties": lambda value: isinstance(value, Mapping),
    "required": lambda value: isinstance(value, list) and all(isinstance(name, str) for name in value),
    "format": lambda value: isinstance(value, str),
}
