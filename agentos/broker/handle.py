"""Handles: a result that is kept behind a reference, so that who asked for it has not read it yet.

The content goes into object memory in the caller's private namespace, with its labels; the caller gets

    {"$handle": {namespace, name, version, digest}, "type": ..., "size_bytes": ..., "summary": ...}

and its own label does not rise: that happens when it reads the content with `obj.get`. The summary tells kinds and sizes, nothing that
whoever made the content could have chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentos.abi.labels import UNTRUSTED
from agentos.abi.limits import HANDLE_BYTES_MIN
from agentos.abi.permit import Permit
from agentos.broker.request import Request
from agentos.memory.objects import ObjectTable

__all__ = ["is_handle", "put_behind_handle", "wants_handle"]

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


def put_behind_handle(objects: ObjectTable, permit: Permit, value: Any, *, label: int) -> dict[str, Any]:
    """Keep plain data as an object of the calling process and return its handle. Adds to `permit.changes`."""
    where = (f"proc/{permit.pid}", f"result/{permit.number}")
    ref = objects.put(where, value, permit, label=label, type_name=None, if_version=None)
    handle = {"namespace": ref.namespace, "name": ref.name, "version": ref.version, "digest": ref.digest}
    return {_KEY: handle, "type": ref.type, "size_bytes": ref.size_bytes, "summary": _summary(value)}


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
