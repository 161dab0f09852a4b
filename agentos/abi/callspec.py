"""Calls written down in a manifest: the steps of a script and the call graph of a plan.

    steps   [{op: fs.read, args: {path: a.txt}}, ...]        one after the other
    calls   [{id: a, op: fs.read, args: {...}}, {id: b, op: fs.write, args: {path: out, text: {$ref: a}}}]

Whether the ops exist and the arguments fit is decided when a call is made, like for every other call.
"""

from __future__ import annotations

import re
from typing import Any

from agentos.abi.op import OP_NAME, closest
from agentos.abi.typed import expected, list_of, mapping_of, text_like
from agentos.abi.yamlstrict import Node

__all__ = ["read_calls", "read_steps"]

_CALL_ID = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def _call(items: dict[str, Node]) -> dict[str, Any]:
    op = text_like(items["op"], OP_NAME, "an op", "write for example `fs.read`")
    args = items.get("args")
    if args is not None and not isinstance(args.value, dict):
        raise expected(args, "a mapping", "write `args: {path: notes.md}`")
    return {"op": op, "args": args.plain() if args is not None else {}}


def read_steps(node: Node) -> tuple[dict[str, Any], ...]:
    """Return the steps of a script as ``{op, args}``.

    Raises:
        Invalid: `invalid.manifest`, with the place of what is wrong.
    """
    items = list_of(node, "write `steps: [{op: fs.read, args: {...}}]`")
    return tuple(_call(mapping_of(item, ("op", "args"), required=("op",))) for item in items)


def read_calls(node: Node) -> tuple[dict[str, Any], ...]:
    """Return the call graph of a plan as ``{id, op, args}``: every id once, every `$ref` to one of them.

    Raises:
        Invalid: `invalid.manifest`, with the place of what is wrong.
    """
    calls: dict[str, dict[str, Any]] = {}
    for item in list_of(node, "write `calls: [{id: a, op: fs.read, args: {...}}]`"):
        items = mapping_of(item, ("id", "op", "args"), required=("id", "op"))
        name = text_like(items["id"], _CALL_ID, "a call's id", "use letters, digits, `-`, `_`")
        if name in calls:
            raise items["id"].wrong(f"id `{name}` is used twice", "give every call its own id")
        calls[name] = {"id": name, **_call(items)}
    _references(node, set(calls))
    return tuple(calls.values())


def _references(node: Node, ids: set[str]) -> None:
    if isinstance(node.value, list):
        for item in node.value:
            _references(item, ids)
    elif isinstance(node.value, dict):
        for key, item in node.value.items():
            if key == "$ref" and str(item.value).partition(".")[0] not in ids:
                hint = closest(str(item.value).partition(".")[0], ids) or "write `{$ref: ID.field}`"
                raise item.wrong(f"`{item.raw}` refers to no call of this plan", hint)
            _references(item, ids)
