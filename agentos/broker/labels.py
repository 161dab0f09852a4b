"""Labels of calls: what may go out, what files and results carry.

    decide      a sink takes nothing stricter than its clearance                     `check_clearance`
    SETTLE      the result has a label; the process's rises to it                    `result_label`, `raise_label`

Files are `broker.files`.

INVARIANT labels-join: a call's label is its process's, or, where a layer has values tracked, the join over its arguments; what it
writes carries that label, and what it returns raises the process's.
"""

from __future__ import annotations

from typing import Any, Final

from agentos.abi.codec import decode
from agentos.abi.labels import LEVELS, UNTRUSTED, level
from agentos.abi.permit import Permit
from agentos.abi.records import Change
from agentos.abi.resource import Resource
from agentos.abi.values import Exit
from agentos.broker.request import Request
from agentos.errors import Denied
from agentos.kernel.core import Core
from agentos.kernel.flow import ProcessFlow, fields
from agentos.kernel.process import AgentProcess

__all__ = ["call_label", "check_clearance", "clearance_of", "endorsed", "is_errand", "own_label", "raise_label", "result_label"]

_SHOWS: Final = frozenset({
    "fs.read", "fs.list", "fs.stat", "obj.get", "obj.list", "msg.recv", "proc.wait", "proc.list", "proc.info", "proc.relabel", "human.ask",
})  # fmt: skip
"""Kernel ops whose results were made by others, and carry their labels. What any other says, its caller may have chosen."""


def call_label(call: Request) -> int:
    """Return the label that the arguments of a call carry."""
    process = call.process
    label = process.call_label
    if not label or not process.stack.uses_provenance:
        return label
    flow: ProcessFlow = process.facts["flow"]
    flow.given, flow.vouched = call.given, call.vouched
    joined, op = 0, call.op
    for name, value in call.args.items():
        if name in op.defaults and value == op.defaults[name]:
            continue
        if name not in op.sinks and (value is None or isinstance(value, bool)):
            continue
        joined |= flow.origin(value).label if _is_flat(value) else label
    return joined


def _is_flat(value: Any) -> bool:
    """Say whether a value tells no more than its scalars do: the shape of what is nested could carry a message, and so can a flag."""
    if isinstance(value, dict):
        value = list(value.values())
    items = value if isinstance(value, list | tuple) else [value]
    return not any(item is None or isinstance(item, bool | list | tuple | dict) for item in items)


def clearance_of(call: Request) -> int | None:
    """Return the strictest level that may go out with a call, None where its op is no sink."""
    return call.op.clearance if call.syscall.clearance is None else call.syscall.clearance(call.args)


def check_clearance(call: Request) -> None:
    """Refuse a call that would take data out through a sink that is not cleared for it.

    Raises:
        Denied: `denied.label`.
    """
    op, clearance = call.op, clearance_of(call)
    if clearance is None or level(call.process.call_label) <= clearance:
        return
    label = call_label(call)
    if level(label) > clearance and not (is_errand(call) and op.name.startswith("fs.")):
        raise Denied(
            "label",
            f"`{op.name}` takes data up to {LEVELS[clearance]}, and process {call.process.pid} carries {LEVELS[level(label)]} data",
            hint="this was a decision, not a failure; a person can lower the label with `proc.relabel`",
            op=op.name,
            resource=call.resource_text[:200],
        )


def is_errand(call: Request) -> bool:
    """Say whether the host makes this call itself, as an undo does: its process has seen nothing and has the label of what it writes."""
    options = call.process.record.options
    return bool(options) and "errand" in decode(options)


# --- results ----------------------------------------------------------------------------------------------------------------


def result_label(call: Request, value: Any, carried: int) -> int:
    """Return the label of what the call returned, plain data: its fields, and what statements say about where it was read from."""
    process, op = call.process, call.op
    if not process.stack.labels_values:
        if not op.untrusted:
            return carried
        if process.label & UNTRUSTED and process.image.handles == "never":
            return carried | UNTRUSTED  # its process is labelled so already: nobody asks which field it is
    flow: ProcessFlow = process.facts["flow"]
    label = flow.result_label(op, value, carried)
    labels = process.stack.labels
    if value is None:
        return label
    if labels.has_resources:
        shown = [item["path"] for item in value["items"]] if op.name == "fs.list" else []
        paths = [*(call.files.paths.values() if call.files is not None else ()), *shown]
        for resource in (*call.resources, *(Resource("path", path, path) for path in paths)):
            label |= labels.resource(resource)
    if op.name == "obj.get":
        label |= labels.namespace(call.args["namespace"])
    return label | labels.human if op.name == "human.ask" else label


def raise_label(process: AgentProcess, label: int, changes: list[Change]) -> None:
    """Join a label into that of a process."""
    if label & ~process.label:
        replaced = process.record.seq
        process.label = process.record.label = process.label | label
        changes.append(Change(process.record, replaced))


def endorsed(core: Core, call: Request, permit: Permit, value: Any) -> int:
    """Return what an ended child's result carries, without `untrusted` where each of its fields was checked and is endorsed.

    The quarantine pattern: a child that reads untrusted text may hand out numbers, truth values and words of a fixed list, which its
    image's result schema declares. Levels of confidentiality stay.
    """
    carried = permit.labels
    if call.op.name != "proc.wait" or not carried & UNTRUSTED or not isinstance(value, Exit) or value.error is not None:
        return carried
    flow: ProcessFlow = call.process.facts["flow"]
    schema = core.result_schema(call.args["pid"])
    endorsed = all(flow.is_endorsed(call.op.name, path) for path, _ in fields(value.value, "value"))
    return carried & ~UNTRUSTED if endorsed and _is_closed(value.value, schema or {}) else carried


def _is_closed(value: Any, schema: Any) -> bool:
    """Say whether a value can hold no text of an attacker's choice: numbers, words of a list, and objects of declared fields of those."""
    if not isinstance(schema, dict):
        return False
    if value is None or isinstance(value, bool | int | float):
        return True
    if isinstance(value, dict):
        known = schema.get("properties") or {}
        return all(key in known and _is_closed(item, known[key]) for key, item in value.items())
    if isinstance(value, list | tuple):
        return "items" in schema and all(_is_closed(item, schema["items"]) for item in value)
    return value in schema.get("enum", ())


def own_label(call: Request, carried: int) -> int:
    """Return what a result carries in itself.

    What a kernel op says back to its caller, the caller may have chosen: it carries the call's own label. What a device's op returns is
    labelled field by field, and what others made by them.
    """
    op = call.op
    if not call.label or op.untrusted or op.name in _SHOWS or "*" in op.trusted:
        return carried
    return carried | call_label(call) if op.name.startswith("fs.") else carried | call.label
