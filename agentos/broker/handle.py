"""Handles: a result that is kept behind a reference, so that who asked for it has not read it yet.

The content goes into object memory in the caller's private namespace, with its labels; the caller gets

    {"$handle": {namespace, name, version, digest}, "type": ..., "size_bytes": ..., "summary": ...}

and its own label does not rise: that happens when it reads the content with `obj.get`. The summary tells kinds and sizes, nothing that
whoever made the content could have chosen.

INVARIANT context-is-cleared: no call of a process that a model drives brings data into its context that its model may not be told: such a
result is a handle, even of `obj.get`, and has a field `why`. So the process goes on without the content, in place of being stopped at its
next model call. Such a handle names no digest, from which a short content could be guessed, and an error that tells of content like that
says only that it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentos.abi.labels import LEVELS, UNTRUSTED, level
from agentos.abi.limits import HANDLE_BYTES_MIN
from agentos.abi.permit import Permit
from agentos.broker.request import Request
from agentos.errors import Denied
from agentos.kernel.core import Core
from agentos.memory.objects import ObjectTable

__all__ = ["is_handle", "not_told", "put_behind_handle", "wants_handle", "why_not_told"]

_KEY = "$handle"


def is_handle(value: Any) -> bool:
    """Say whether plain data is a handle in place of a result."""
    return isinstance(value, Mapping) and _KEY in value


def wants_handle(call: Request, label: int, size_bytes: int) -> bool:
    """Say whether a result comes back as a handle: a policy requires it, or the image wants it for results of that kind."""
    wanted, required = call.process.image.handles, "label" in call.obligations
    if (wanted == "never" and not required) or call.op.name == "obj.get":
        return False  # `obj.get` is how the content behind a handle is read
    if required:
        return True
    return size_bytes > HANDLE_BYTES_MIN or (wanted == "untrusted" and bool(label & UNTRUSTED))


def why_not_told(core: Core, call: Request, label: int) -> str:
    """Return why a result may not be told to the model that drives the calling process, "" where it may, or there is none."""
    process = call.process
    if not level(label) or process.record.program != "react":
        return ""
    clearance = core.told_up_to(process.image.profile)
    if clearance is None or level(label) <= clearance or level(process.label) > clearance:
        return ""
    return f"its content is {LEVELS[level(label)]} and is not shown to this model"


def not_told(call: Request, why: str) -> Denied:
    """Return the error in place of one whose words, or whose coming at all, tell of content like that."""
    hint = "this was a decision, not a failure; work without it"
    return Denied("label", f"how this call ends is not told: {why}", hint=hint, op=call.op.name)


def put_behind_handle(objects: ObjectTable, permit: Permit, value: Any, *, label: int, why: str = "") -> dict[str, Any]:
    """Keep plain data as an object of the calling process and return its handle. Adds to `permit.changes`."""
    where = (f"proc/{permit.pid}", f"result/{permit.number}")
    ref = objects.put(where, value, permit, label=label, type_name=None, if_version=None)
    handle: dict[str, Any] = {"namespace": ref.namespace, "name": ref.name, "version": ref.version}
    if not why:
        handle["digest"] = ref.digest
    told = {_KEY: handle, "type": ref.type, "size_bytes": ref.size_bytes, "summary": _summary(value)}
    if permit.op == "msg.recv":
        told |= {"id": value["id"], "sender": value["sender"]}  # the kernel's own words: who answers has to know whom
    return {**told, "why": why} if why else told


def _summary(value: Any) -> str:
    if isinstance(value, str):
        return f"text of {len(value)} characters in {value.count(chr(10)) + 1} lines"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        return f"object with {len(value)} fields"
    if isinstance(value, list | tuple):
        kinds = sorted({_kind(item) for item in value})
        return f"list of {len(value)}" + (f" ({', '.join(kinds)})" if kinds else "")
    return _kind(value)


def _kind(value: Any) -> str:
    names = (
        (bool, "true or false"),
        (str, "text"),
        (int | float, "number"),
        (bytes, "bytes"),
        (Mapping, "object"),
        (list | tuple, "list"),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "nothing")
