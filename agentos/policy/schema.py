"""`policy schema`: the language and every op it can name, as data for editors. Read from the tables of the parser and the checker."""

from __future__ import annotations

from typing import Any, Final

from agentos.abi.op import Op, OpTable
from agentos.policy.attributes import FACTS, FLOW, Type, attribute_of, known_attributes, type_of
from agentos.policy.flow import COSTS
from agentos.policy.parse import _CLAUSES, _LABELS, _OBLIGATIONS, _REMEMBER, _STATEMENTS, EFFECTS
from agentos.policy.parse_expr import _VERBS, COMPARISONS
from agentos.policy.problems import At
from agentos.policy.verdict import RANK

__all__ = ["language_schema", "op_schema", "type_schema"]

_NAMES: Final = {"number": "number", "text": "string", "bool": "boolean", "list": "array", "fields": "object"}


def language_schema(table: OpTable) -> dict[str, Any]:
    """Return the words of the language and the ops of `table`, as JSON-like data.

    Cost: about a second, for the JSON schemas of all arguments.
    """
    return {
        "title": "agentos policy language",
        "grammar": {
            "headers": ["policy", "restrict"],
            "outcomes": list(RANK),
            "statements": list(_STATEMENTS),
            "clauses": list(_CLAUSES),
            "conditions": ["when", "unless"],
            "operators": ["and", "or", "not", "every", "some"],
            "comparisons": list(COMPARISONS),
            "tests": [*_VERBS],
            "aggregates": ["count", "sum", "after"],
            "sources": ["prompt", "human", "result", "object"],
            "effects": list(EFFECTS),
            "labels": list(_LABELS),
            "obligations": list(_OBLIGATIONS),
            "remember": list(_REMEMBER),
            "per": ["process", "tree"],
            "costs": list(COSTS),
        },
        "attributes": {name: type_schema(kind) for name, kind in (*FLOW.items(), *FACTS.items())},
        "ops": {op.name: op_schema(op) for op in table},
    }


def op_schema(op: Op) -> dict[str, Any]:
    """Return what a policy can know about one op."""
    own = [name for name in known_attributes(op) if name not in FLOW and name not in FACTS]
    return {
        "doc": " ".join(op.doc.split()),
        "effect": str(op.effect),
        "resources": [
            {"kind": template.kind, "template": template.text, "arguments": template.fields} for template in op.resources
        ],
        "self": op.self_right if isinstance(op.self_right, bool) else "in its own place",
        "arguments": op.schema,
        "attributes": {name: type_schema(attribute_of(op, name, At(1, 1)).type) for name in own},
        "sinks": sorted(op.sinks),
        "late": sorted(op.late),
        "derived": sorted(op.derived),
        "result": type_schema(type_of(op.hints["return"])),
        "trusted": sorted(op.trusted),
        "untrusted": op.untrusted,
    }


def type_schema(kind: Type) -> dict[str, Any]:
    """Return a type as a JSON schema. What is only known at the call has none, and neither has what a test cannot look into."""
    found: dict[str, Any] = {"type": _NAMES[kind.kind]} if kind.kind in _NAMES else {}
    if kind.choices:
        found["enum"] = list(kind.choices)
    if kind.is_ordered:
        found["ordered"] = True
    if kind.item is not None:
        found["items"] = type_schema(kind.item)
    if kind.fields is not None:
        found["properties"] = {name: type_schema(type_of(hint)) for name, hint in kind.fields}
    if kind.value is not None:
        found["additionalProperties"] = type_schema(kind.value)
    return found
