"""`image schema`: the JSON schema of manifests, for editors. Built from the tables that `agentos.abi.manifest` reads manifests with.

It is never stricter than the reader, which also looks at files and says what is wrong in words: a manifest is checked by reading it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from agentos.abi.limits import CAPS_PER_PROCESS_MAX, IDENTIFIER_CHARS_MAX, TURNS_MAX
from agentos.abi.manifest import _LIMITS, _OP_PATTERN, _PROGRAM_KEYS, _TOOLS, IMAGE_NAME, IMAGE_VERSION, KEYS
from agentos.abi.op import OP_NAME
from agentos.abi.typed import COUNT_MAX, duration_of, number_of, whole_of

__all__ = ["manifest_schema"]

Schema = dict[str, Any]

_DURATION: Final[Schema] = {"type": "string", "pattern": r"^([0-9]+(\.[0-9]+)?(ms|s|m|h|d|w))+$", "examples": ["30m", "1h30m"]}
_SIZE: Final[Schema] = {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)? ?[KMGT]?i?B$", "examples": ["512MiB"]}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": COUNT_MAX}
_READ_BY: Final[dict[Callable[..., Any], Schema]] = {
    whole_of: _COUNT, number_of: {"type": "number", "minimum": 0, "maximum": COUNT_MAX}, duration_of: _DURATION,
}  # fmt: skip
"""Reader of a limit -> what it takes; any other reader takes a size."""


def manifest_schema() -> Schema:
    """Return the JSON schema (2020-12) of a manifest."""
    assert set(_KEYS) == set(KEYS), "every key of a manifest has its schema"
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "agentos image manifest",
        **_mapping({key: _KEYS[key]() for key in KEYS}, required=["agentos", "name"]),
    }


def _mapping(properties: dict[str, Schema], *, required: list[str] | None = None) -> Schema:
    return {
        "type": "object", "properties": properties, "additionalProperties": False, **({"required": required} if required else {}),
    }  # fmt: skip


def _text(pattern: str = "", chars_max: int = 0, examples: tuple[str, ...] = ()) -> Schema:
    found: Schema = {"type": "string", "minLength": 1}
    found |= {"pattern": f"^(?:{pattern})$"} if pattern else {}
    found |= {"maxLength": chars_max} if chars_max else {}
    return found | ({"examples": list(examples)} if examples else {})


def _list(items: Schema, most: int = 0) -> Schema:
    return {"type": "array", "items": items, **({"maxItems": most} if most else {})}


def _call(*more: str) -> Schema:
    properties = {"op": _text(OP_NAME.pattern, IDENTIFIER_CHARS_MAX), "args": {"type": "object"}}
    ids = {name: _text() for name in more}
    return _mapping({**ids, **properties}, required=[*more, "op"])


_PROGRAM_VALUES: Final[dict[str, Callable[[], Schema]]] = {
    "turns": lambda: {"type": "integer", "minimum": 1, "maximum": TURNS_MAX},
    "name": lambda: _text(chars_max=IDENTIFIER_CHARS_MAX),
    "steps": lambda: _list(_call()),
    "calls": lambda: _list(_call("id")),
}


def _program() -> Schema:
    forms = []
    for kind, keys in _PROGRAM_KEYS.items():
        required = [*([] if kind == "react" else ["kind"]), *(key for key in keys if key != "turns")]
        forms.append(_mapping({"kind": {"const": kind}, **{key: _PROGRAM_VALUES[key]() for key in keys}}, required=required))
    return {"oneOf": forms}


def _tool() -> Schema:
    values: dict[str, Schema] = {"jit": _text(r".*\.ts", examples=("tools/count.ts",)), "mcp": _text(), "skill": _text()}
    assert set(values) == set(_TOOLS), "every kind of tool has its schema"
    forms = [
        _mapping({kind: value, **({"allow": _list(_text())} if kind == "mcp" else {})}, required=[kind])
        for kind, value in values.items()
    ]
    return {"oneOf": [_text(_OP_PATTERN.pattern, examples=("fs.*", "exec.run")), *forms]}


def _prompt() -> Schema:
    return {"oneOf": [_mapping({key: _text()}, required=[key]) for key in ("file", "text")]}


def _parent() -> Schema:
    return _text(f"{IMAGE_NAME.pattern}(:({IMAGE_VERSION.pattern}))?", examples=("base:1",))


_KEYS: Final[dict[str, Callable[[], Schema]]] = {
    "agentos": lambda: {"const": 1},
    "name": lambda: _text(IMAGE_NAME.pattern, IDENTIFIER_CHARS_MAX),
    "version": lambda: {"oneOf": [{"type": "integer"}, _text(IMAGE_VERSION.pattern, IDENTIFIER_CHARS_MAX)]},
    "from": _parent,
    "program": _program,
    "model": lambda: _mapping({"profile": _text(chars_max=IDENTIFIER_CHARS_MAX)}),
    "prompt": _prompt,
    "tools": lambda: _list(_tool()),
    "capabilities": lambda: _list(_text(examples=("fs.read /docs/**",)), CAPS_PER_PROCESS_MAX),
    "policy": lambda: _text(examples=("policies/coding.policy",)),
    "asks": lambda: _mapping({"timeout": _DURATION, "on_timeout": {"enum": ["deny", "suspend"]}}),
    "memory": lambda: _mapping({
        "context_tokens": {"type": "integer", "minimum": 1, "maximum": COUNT_MAX}, "namespaces": _list(_text(IMAGE_NAME.pattern)),
        "handles": {"enum": ["never", "large", "untrusted"]},
    }),
    "limits": lambda: _mapping({key: _READ_BY.get(read, _SIZE) for key, read in _LIMITS.items()}),
    "result": lambda: _mapping({"schema": {"oneOf": [_text(), {"type": "object"}]}}, required=["schema"]),
}  # fmt: skip
"""Key of a manifest -> what its value may be. The keys are those of `manifest.KEYS`."""
