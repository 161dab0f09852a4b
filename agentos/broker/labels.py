"""Labels of calls: what may go out, what files and results carry.

    decide      a sink takes nothing stricter than its clearance                     `check_clearance`
    ADMIT       what is about to be written carries the writer's label               `before_effect`
    device      the real path, once it is known                                      `touch`
    SETTLE      labels of what was read and of the result; the process's rises       `settle_labels`

INVARIANT labels-join: a call's label is its process's, or, where a layer has values tracked, the join over its arguments; what it
writes carries that label, and what it returns raises the process's.
"""

from __future__ import annotations

from typing import Any, Final

from agentos.abi.labels import LEVELS, UNTRUSTED, level
from agentos.abi.permit import Permit
from agentos.abi.records import Change
from agentos.abi.resource import Resource
from agentos.abi.values import Exit
from agentos.broker.request import Request
from agentos.errors import Denied
from agentos.kernel.core import Core
from agentos.kernel.flow import ProcessFlow, leaves
from agentos.kernel.process import AgentProcess

__all__ = ["before_effect", "call_label", "check_clearance", "raise_label", "result_label", "settle_files", "touch"]

_WRITES: Final = frozenset({"fs.write", "fs.mkdir"})
_READS: Final = frozenset({"fs.read", "fs.stat"})


def call_label(call: Request) -> int:
    """Return the label that the arguments of a call carry."""
    process = call.process
    label = process.call_label
    if not label or not process.stack.uses_provenance:
        return label
    flow: ProcessFlow = process.facts["flow"]
    flow.given, flow.vouched = call.given, call.vouched
    joined, defaults = 0, call.op.defaults
    for name, value in call.args.items():
        if value is None or isinstance(value, bool) or (name in defaults and value == defaults[name]):
            continue
        joined |= flow.origin(value).label
    return joined


def check_clearance(call: Request) -> None:
    """Refuse a call that would take data out through a sink that is not cleared for it.

    Raises:
        Denied: `denied.label`.
    """
    op = call.op
    if op.clearance is None or level(call.process.call_label) <= op.clearance:
        return
    label = call_label(call)
    if level(label) > op.clearance:
        raise Denied(
            "label",
            f"`{op.name}` takes data up to {LEVELS[op.clearance]}, and process {call.process.pid} carries {LEVELS[level(label)]} data",
            hint="this was a decision, not a failure; a person can lower the label with `proc.relabel`",
            op=op.name,
            resource=call.resource_text[:200],
        )


# --- files ------------------------------------------------------------------------------------------------------------------


def before_effect(core: Core, call: Request, changes: list[Change]) -> None:
    """Label what the call is about to write, in the append that admits it."""
    if call.op.name in _WRITES:
        path = core.place(call.resources[0].text)
        core.files.raise_to(path, call_label(call), changes)
        core.files.begin(path)
        call.touched[0] = path


def touch(core: Core, call: Request, path: str, index: int) -> None:
    """Take note of the path that a device really uses; it is labelled at once if the call writes it.

    What lies below a folder that is moved, deleted or listed is decided path by path; the folder is what was used.
    """
    path, known = core.place(path), call.touched.get(index)
    if known is not None and (path == known or path.startswith(known.rstrip("/") + "/")):
        return
    if call.op.name == "fs.mkdir" and known is not None and known.startswith(path.rstrip("/") + "/"):
        return  # its parent, and no link on the way
    call.touched[index] = path
    if call.op.name in _WRITES:
        core.files.raise_to(path, call_label(call), call.touches)
        core.files.begin(path)
        if known is not None and not core.files.end(known):
            call.is_alone = False


def settle_files(core: Core, call: Request, *, succeeded: bool, changes: list[Change]) -> int:
    """Bring file labels up to date with what happened; returns the labels of what was read."""
    name, files = call.op.name, core.files
    changes += call.touches
    if not name.startswith("fs."):
        return 0
    paths = [call.touched.get(index, core.place(resource.text)) for index, resource in enumerate(call.resources)]
    if name == "fs.list":
        return files.under(paths[0]) if succeeded and len(files) else 0
    if name in _READS:
        return files.at(paths[0]) if succeeded else 0
    alone = name not in _WRITES or 0 not in call.touched or (files.end(paths[0]) and call.is_alone)
    if succeeded:
        _settle_write(core, call, paths, changes, alone=alone)
    return 0


def _settle_write(core: Core, call: Request, paths: list[str], changes: list[Change], *, alone: bool) -> None:
    """Move, drop or replace labels; a file that others wrote to at the same time keeps the join of all their labels."""
    name, files = call.op.name, core.files
    if name == "fs.move":
        files.move(paths[0], paths[1], changes)
    elif name == "fs.delete":
        files.remove(paths[0], changes)
    elif name == "fs.write" and call.args.get("mode") != "append" and alone:
        files.replace(paths[0], call_label(call), changes)
    elif name == "fs.write":
        files.raise_to(paths[0], call_label(call), changes)


# --- results ----------------------------------------------------------------------------------------------------------------


def result_label(call: Request, value: Any, carried: int) -> int:
    """Return the label of what the call returned, plain data: its fields, and what statements say about where it was read from."""
    process, op = call.process, call.op
    flow: ProcessFlow = process.facts["flow"]
    label = flow.result_label(op, value, carried)
    labels = process.stack.labels
    if value is None:
        return label
    if labels.has_resources:
        shown = [item["path"] for item in value["items"]] if op.name == "fs.list" else []
        paths = [*call.touched.values(), *shown]
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
    for path, leaf in leaves(value.value, "value"):
        if not flow.is_endorsed(call.op.name, path) or not _is_closed(leaf, path, schema):
            return carried
    return carried & ~UNTRUSTED


def _is_closed(leaf: Any, path: str, schema: dict[str, Any] | None) -> bool:
    """Say whether a value can carry no text of an attacker's choice."""
    if isinstance(leaf, bool | int | float):
        return True
    node: Any = schema or {}
    for part in path.split(".")[1:]:
        node = (node.get("properties") or {}).get(part) or {}
        node = node.get("items", node)
    return leaf in node.get("enum", ())
