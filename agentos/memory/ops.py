"""obj.*: the handlers of object memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from agentos.abi import labels as label_words
from agentos.abi.op import OpTable
from agentos.abi.permit import Permit
from agentos.abi.syscall import Syscall
from agentos.abi.values import Ref
from agentos.errors import Invalid
from agentos.memory.objects import ObjectTable

__all__ = ["syscalls"]

Handler = Callable[[ObjectTable, Permit, dict[str, Any]], Any]


def syscalls(table: ObjectTable, ops: OpTable) -> list[Syscall]:
    """Return the ops of object memory, bound to its table."""
    handlers: dict[str, Handler] = {"put": _put, "append": _append, "get": _get, "list": _list, "link": _link, "drop": _drop}
    return [
        Syscall(ops.find(f"obj.{verb}"), partial(_spend, f"obj.{verb}", handler, table), awaits=False)
        for verb, handler in handlers.items()
    ]


def _spend(name: str, handler: Handler, table: ObjectTable, permit: Permit, args: dict[str, Any]) -> Any:
    permit.spend(name)
    return handler(table, permit, args)


def _put(table: ObjectTable, permit: Permit, args: dict[str, Any]) -> Ref:
    label = permit.process.label | label_words.parse(args["labels"])
    where = (args["namespace"], args["name"])
    return table.put(where, args["value"], permit, label=label, type_name=args["type"], if_version=args["if_version"])


def _append(table: ObjectTable, permit: Permit, args: dict[str, Any]) -> Ref:
    return table.append((args["namespace"], args["name"]), args["value"], permit, label=permit.process.label)


def _get(table: ObjectTable, permit: Permit, args: dict[str, Any]) -> Any:
    value, label = table.get((args["namespace"], args["name"]), args["version"])
    permit.labels |= label
    return _part(value, args.get("start"), args.get("count"))


def _part(value: Any, start: int | None, count: int | None) -> Any:
    """Return the part of a value that was asked for.

    Raises:
        Invalid: the value has no parts.
    """
    if start is None and count is None:
        return value
    if not isinstance(value, str | bytes | list):
        raise Invalid("argument", "the object is no text, list or bytes: it has no parts", hint="get it whole", field="start")
    first = start or 0
    return value[first : None if count is None else first + count]


def _list(table: ObjectTable, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
    wanted = {name: args[name] for name in ("type", "tag", "label") if args[name] is not None}
    page = table.list(args["namespace"], wanted, limit=args["limit"], cursor=args["cursor"])
    for item in page["items"]:
        permit.labels |= label_words.parse(item["labels"])  # a name was chosen by who made the object
    return page


def _link(table: ObjectTable, permit: Permit, args: dict[str, Any]) -> None:
    table.link(args["a"], args["b"], args["kind"], permit)


def _drop(table: ObjectTable, permit: Permit, args: dict[str, Any]) -> None:
    table.drop((args["namespace"], args["name"]), permit)
