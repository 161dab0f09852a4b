"""How an op is declared to a model: a name that providers take, a description, a JSON schema of its arguments.

A provider takes letters, digits, `_` and `-`, at most 64 of them: ``fs.read`` is told as ``fs__read``.
Source: the function tools of Chat Completions.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Any, Final

from agentos.abi.op import Op

__all__ = ["NAME_CHARS_MAX", "declaration", "wire_name"]

NAME_CHARS_MAX: Final = 64
_DESCRIPTION_CHARS_MAX: Final = 1_024
_HIDDEN: Final = {"fs.write": ("data", "permissions"), "llm.complete": ("turn",), "obj.get": ("ref",)}
"""Arguments that a model cannot use, or is better off without."""
_NAMED: Final = ("properties", "patternProperties", "$defs", "definitions")  # what is in them has names of its own
_DATA: Final = ("default", "enum", "const", "examples", "required")


@lru_cache(maxsize=4096)
def wire_name(op: str) -> str:
    """Return the name under which a model knows an op. One that would be too long, or that of another op, ends in a digest of itself."""
    name = op.replace(".", "__")
    if len(name) <= NAME_CHARS_MAX and "__" not in op:
        return name
    return f"{name[: NAME_CHARS_MAX - 9]}_{hashlib.sha256(op.encode()).hexdigest()[:8]}"


def declaration(op: Op) -> dict[str, Any]:
    """Return the declaration of an op as a function tool: ``{type: function, function: {name, description, parameters}}``."""
    known = op.__dict__.get("tool")
    if known is None:
        schema = {"type": "object", "properties": {}, **_plain(op.schema)}
        for name in _HIDDEN.get(op.name, ()):
            schema["properties"].pop(name, None)
        if "$defs" in schema and "#/$defs/" not in str(schema["properties"]):
            del schema["$defs"]
        description = (op.doc or op.name)[:_DESCRIPTION_CHARS_MAX]
        function = {"name": wire_name(op.name), "description": description, "parameters": schema}
        known = op.__dict__["tool"] = {"type": "function", "function": function}
    return dict(known)


def _plain(schema: Any) -> Any:
    """Return a schema without what says nothing to a model: the titles that pydantic gives, defaults of None."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, item in schema.items():
        if key in _NAMED and isinstance(item, dict):
            kept[key] = {name: _plain(inner) for name, inner in item.items()}
        elif key in _DATA:
            kept[key] = item
        elif key != "title" and not (key == "additionalProperties" and isinstance(item, bool)):
            kept[key] = _plain(item)
    if kept.get("default", 0) is None:
        del kept["default"]
    return _optional(kept)


def _optional(schema: dict[str, Any]) -> dict[str, Any]:
    """Say `X` in place of `X or null`: an argument that may be null may be left out."""
    choices = [choice for choice in schema.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1 and len(choices) < len(schema["anyOf"]):
        return {**{key: item for key, item in schema.items() if key != "anyOf"}, **choices[0]}
    return schema
