"""From a call that no capability covers to the least capability that would have covered it.

    fs.read /etc/hosts uses 1
    bank.transfer acct/7 when to == "DE1" and amount >= 0 and amount <= 50 uses 1

The pattern is the very resource: its glob characters are escaped where its kind has escapes, and pinned by a test where it has none.
Pinned are the sinks, choices and truth values of the call; a number is an upper bound; what the language cannot spell (objects, bytes,
texts of several lines) is left open. A draft grants nothing: `cap.request` carries it to a person.

INVARIANT drafts-cover-their-call: a draft is only handed out after it was parsed and found to cover the call it was made of.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Final

from agentos.abi.op import Op, OpTable
from agentos.abi.resource import Resource, Template, Url
from agentos.errors import Invalid
from agentos.policy.attributes import type_of
from agentos.policy.capability import pattern_text
from agentos.policy.capability_parse import parse_once
from agentos.policy.unparse import quoted

__all__ = ["draft_request"]

_DRAFT_CHARS_MAX: Final = 2_000
_TEXT_CHARS_MAX: Final = 500


def draft_request(op: Op, resources: tuple[Resource, ...], args: Mapping[str, Any]) -> str | None:
    """Return the text of the least capability, with `uses 1`, that covers the call; None when the language cannot say it.

    Args:
        op: The op.
        resources: Its canonical resources.
        args: Its validated arguments, canonical where they name the resource.
    """
    table = OpTable([op])
    for is_rounded in (False, True):
        text = _text(op, resources, args, is_rounded=is_rounded)
        try:
            if len(text) <= _DRAFT_CHARS_MAX and parse_once(text, table).covers(op, resources, args):
                return text
        except Invalid:
            continue
    return None


def _text(op: Op, resources: tuple[Resource, ...], args: Mapping[str, Any], *, is_rounded: bool) -> str:
    patterns = dict.fromkeys(pattern_text(_pattern(resource)) for resource in resources)
    words = [op.name, ", ".join(patterns)]
    pins = [pin for name in op.arg_names for pin in _pins(op, resources, name, args.get(name), is_rounded=is_rounded)]
    return " ".join([*words, *(["when " + " and ".join(pins)] if pins else []), "uses 1"])


def _pattern(resource: Resource) -> str:
    """Return the pattern that names the resource; a URL's query is pinned by a test, which no pattern can."""
    value = resource.value
    return Url(value.scheme, value.host, value.port, value.path, "").text if isinstance(value, Url) else resource.text


def _pins(op: Op, resources: tuple[Resource, ...], name: str, value: Any, *, is_rounded: bool) -> Iterator[str]:
    """Yield the tests that hold one argument where it is."""
    if _names_resource(op, resources, name):
        spelled = _literal(value)
        if spelled is not None:
            yield f"{name} == {spelled}"
    elif any(name in template.fields for template in op.resources):
        return  # the pattern says it exactly
    elif isinstance(value, bool) or (isinstance(value, str) and (name in op.sinks or type_of(op.hints[name]).choices)):
        if (spelled := _literal(value)) is not None:
            yield f"{name} == {spelled}"
    elif isinstance(value, int | float | Decimal) and (name in op.sinks or value != op.defaults.get(name)):
        yield from _bounds(name, value, is_rounded=is_rounded)
    elif name in op.sinks and value is None:
        yield f"{name} is absent"
    elif name in op.sinks and isinstance(value, list | tuple):
        items = [_literal(item) for item in dict.fromkeys(map(_hashable, value)) or [""]]
        if None not in items:
            yield f"every {name} in [{', '.join(str(item) for item in items)}]"


def _names_resource(op: Op, resources: tuple[Resource, ...], name: str) -> bool:
    """Say whether an argument names a resource that its pattern alone does not pin: one of several, or one with glob characters."""
    for template, resource in zip(op.resources, resources, strict=True):
        if template.kind in ("path", "url") and template.field == name:
            return len(resources) > 1 or template.kind == "url" or "*" in resource.text or "?" in resource.text
    return len(resources) > 1 and any(_is_id_of(template, name) for template in op.resources)


def _is_id_of(template: Template, name: str) -> bool:
    return template.kind == "id" and name in template.fields


def _bounds(name: str, value: float | Decimal, *, is_rounded: bool) -> Iterator[str]:
    if not math.isfinite(value):
        return
    if value < 0:
        yield f"{name} == {_digits(value)}"
        return
    if isinstance(value, float | Decimal) and is_rounded:
        value = math.ceil(value)
    yield f"{name} >= 0"
    yield f"{name} <= {_digits(value)}"


def _digits(value: float | Decimal) -> str:
    if value == int(value):
        return str(int(value))
    return format(Decimal(repr(value)) if isinstance(value, float) else value, "f")


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str | int | float | Decimal | bool) else repr(type(value))


def _literal(value: Any) -> str | None:
    """Return how the language spells a value, None when it cannot."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return _digits(value) if math.isfinite(value) else None
    if isinstance(value, str) and len(value) <= _TEXT_CHARS_MAX and "\n" not in value:
        return quoted(value)
    return None
