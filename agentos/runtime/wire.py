"""What travels over the control socket: one JSON object per line, and how values become JSON and back.

    kernel -> client   {"agentos": 1, "pid": .., "thread": ..}          once, or {"refused": ERROR}
    client -> kernel   {"id", "method", "pid", "args"}                  a request; {"cancel": ID} cancels it
    kernel -> client   {"id", "ok": true, "value"}                      its answer
                       {"id", "ok": false, "error"}                     or its error; "id" is null when the frame itself was wrong
                       {"id", "item"} ... {"id", "end": true}           or its items, one by one

Every request gets exactly one last frame. JSON carries text, numbers, lists and mappings; everything else is ``{"$": NAME, "v": ..}``
for a name of a fixed table, so both ends see equal values. Values of an app's own types arrive as the data they hold.

INVARIANT wire-builds-only-what-it-names: reading builds plain data and the values of the tables below, never what a client names.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from dataclasses import fields
from datetime import datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path, PosixPath
from typing import Annotated, Any, Final

import msgspec

from agentos.abi.codec import plain
from agentos.abi.fence import trusted
from agentos.errors import AgentOSError, Invalid, KernelPanic, Unavailable, from_data

__all__ = ["PROTOCOL", "Reader", "Request", "arguments", "error_data", "error_of", "frame", "gone", "parse", "read", "values"]

PROTOCOL: Final = 1
_BITS: Final = range(-(2**63), 2**64)

_SHOWN: Final = {
    "CapInfo": "agentos.abi.values", "ErrorData": "agentos.abi.values", "Event": "agentos.abi.values", "Exit": "agentos.abi.values",
    "Message": "agentos.abi.values", "ProcessInfo": "agentos.abi.values", "Ref": "agentos.abi.values", "Ask": "agentos.kernel.ask",
    "Decision": "agentos.runtime.outcome", "Entry": "agentos.runtime.outcome", "Outcome": "agentos.runtime.outcome",
    "AuditReport": "agentos.store.chain", "BackupReport": "agentos.store.backup", "EraseReport": "agentos.kernel.retention",
    "Finding": "agentos.store.inspect", "Moved": "agentos.store.archive", "Retention": "agentos.kernel.retention",
    "TidyReport": "agentos.kernel.retention", "Checkpoint": "agentos.abi.values", "Diff": "agentos.abi.values",
    "MergeReport": "agentos.abi.values", "RestoreReport": "agentos.abi.values", "UndoReport": "agentos.abi.values",
    "Schedule": "agentos.abi.values", "Standing": "agentos.kernel.ask", "ReplayReport": "agentos.abi.values",
    "Divergence": "agentos.abi.values",
}  # fmt: skip
"""Dataclasses of the API that keep their type on the way to the client -> where they live; imported when one comes."""

Reader = Callable[[str, Any], Any]
"""Builds the value of a tag; raises KeyError for a tag that it does not know."""


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """What a client sends: a request (`id`, `method`) or the cancellation of one (`cancel`)."""

    id: int | None = None
    method: str = ""
    pid: Annotated[int, msgspec.Meta(ge=0, lt=2**62)] | None = None
    args: dict[str, Any] = {}
    cancel: int | None = None


_requests = msgspec.json.Decoder(Request)
_encoder = msgspec.json.Encoder()


def frame(**parts: Any) -> bytes:
    """Return one line. Its parts are packed here.

    Raises:
        Invalid: `invalid.argument`, a value is no data, or holds text that is not Unicode.
    """
    try:
        return _encoder.encode({name: _pack(value) for name, value in parts.items()}) + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(
            "argument", f"value cannot be sent: {error}", hint="use JSON types, bytes, dataclasses or pydantic models"
        ) from error


def parse(line: bytes) -> Request:
    """Return the request in a line that a client sent.

    Raises:
        Invalid: `invalid.argument`, it is none.
    """
    try:
        return _requests.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("argument", f"this is no request: {error}", hint="one JSON object per line") from error


def read(line: bytes, reader: Reader) -> dict[str, Any]:
    """Return the frame in a line that the kernel sent, unpacked.

    Raises:
        KernelPanic: it is none.
    """
    try:
        found = msgspec.json.decode(line, type=dict[str, Any])
        return {name: unpack(value, reader) for name, value in found.items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, ValueError) as error:
        raise KernelPanic(f"the kernel sent what cannot be read: {error}") from error


def arguments(args: dict[str, Any]) -> dict[str, Any]:
    """Return the unpacked arguments of a request.

    Raises:
        Invalid: `invalid.argument`, they hold what no client may send.
    """
    try:
        return {name: unpack(value, _argument) for name, value in args.items()}
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError, KernelPanic) as error:
        raise Invalid("argument", f"an argument cannot be read: {error}", hint="send plain data") from error


# --- values -> JSON -----------------------------------------------------------------------------------------------------


def _pack(value: Any) -> Any:
    kind = type(value)
    if kind in (str, bool, type(None)):
        return value
    if kind is int:
        return value if value in _BITS else _tag("int", str(value))
    if kind is float:
        return value if math.isfinite(value) else _tag("float", str(value))
    if kind is list:
        return [_pack(item) for item in value]
    if kind is dict:
        return _pack_mapping(value)
    packer = _PACKERS.get(kind)
    if packer is not None:
        return packer(value)
    return _pack_other(value)


def _pack_mapping(value: dict[Any, Any]) -> Any:
    if "$" in value or not all(type(key) is str for key in value):
        return _tag("dict", [[_pack(key), _pack(item)] for key, item in value.items()])
    return {key: _pack(item) for key, item in value.items()}


def _pack_other(value: Any) -> Any:
    kind = type(value)
    if _SHOWN.get(kind.__name__) == kind.__module__:
        return _tag(kind.__name__, {each.name: _pack(getattr(value, each.name)) for each in fields(value)})
    if isinstance(value, AgentOSError | TimeoutError | KernelPanic):
        return _tag("error", _pack(error_data(value)))
    if kind.__module__ == "agentos.abi.image" and kind.__name__ == "AgentImage":
        return _tag("AgentImage", _pack(value.to_data()))
    if kind.__module__ == "agentos.abi.fence":
        return _tag("Trusted", _pack(value.value))
    if kind.__module__ == "agentos.policy.load" and kind.__name__ == "Policy":
        return _tag("Policy", [value.text, value.source])
    data = plain(value)
    if type(data) is kind:
        raise TypeError(f"a `{kind.__name__}` is no data")
    return _pack(data)


def _tag(name: str, value: Any) -> dict[str, Any]:
    return {"$": name, "v": value}


_PACKERS: Final[dict[type, Callable[[Any], Any]]] = {
    tuple: lambda value: _tag("tuple", [_pack(item) for item in value]),
    bytes: lambda value: _tag("bytes", base64.b64encode(value).decode()),
    datetime: lambda value: _tag("datetime", value.isoformat()),
    Decimal: lambda value: _tag("Decimal", str(value)),
    PosixPath: lambda value: _tag("Path", str(value)),
}


# --- JSON -> values -----------------------------------------------------------------------------------------------------


def unpack(value: Any, reader: Reader) -> Any:
    """Return the value that was packed.

    Raises:
        LookupError, TypeError, ValueError: it was made by something else.
    """
    if type(value) is list:
        return [unpack(item, reader) for item in value]
    if type(value) is not dict:
        return value
    if "$" not in value:
        return {key: unpack(item, reader) for key, item in value.items()}
    name, held = value["$"], unpack(value["v"], reader)
    reads = _READERS.get(name)
    return reads(held) if reads is not None else reader(name, held)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "tuple": tuple,
    "bytes": lambda held: base64.b64decode(held, validate=True),
    "datetime": datetime.fromisoformat,
    "Decimal": Decimal,
    "int": int,
    "float": float,
    "dict": dict,
    "Path": Path,
}


def values(name: str, held: Any) -> Any:
    """Build a value of the API: the client's `Reader`."""
    if name == "error":
        return error_of(held)
    return getattr(import_module(_SHOWN[name]), name)(**held)


def _argument(name: str, held: Any) -> Any:
    """Build what a client may send beside plain data: the kernel's `Reader`."""
    if name == "AgentImage":
        from agentos.abi.image import AgentImage  # noqa: PLC0415 - a kernel has it loaded, a client does not come here

        return AgentImage.from_data(held)
    if name == "Trusted":
        return trusted(held)
    if name == "Policy":
        from agentos.policy import Policy  # noqa: PLC0415 - as above

        text, source = held
        return Policy(str(text), source=str(source))
    raise KeyError(name)


# --- errors -------------------------------------------------------------------------------------------------------------


def error_data(error: AgentOSError | TimeoutError | KernelPanic) -> dict[str, Any]:
    """Return an error as data that can be sent, whatever its fields are."""
    if isinstance(error, KernelPanic):
        return {"code": "panic", "message": _clean(str(error))}
    if isinstance(error, TimeoutError):
        return {"code": "timeout", "message": _clean(str(error))}
    data = {**error.to_data(), "message": _clean(error.message), "hint": _clean(error.hint)}
    data["fields"] = {name: _sendable(value) for name, value in error.fields.items()}
    return data if error.seq is None else {**data, "seq": error.seq}


def _sendable(value: Any) -> Any:
    """Return a field as data; what is none is told in words, so that no error is lost for a detail of it."""
    try:
        return plain(value)
    except Invalid:
        return _clean(str(value))


def _clean(text: str) -> str:
    """Return text that can be sent: a file name in a message need not be Unicode."""
    return text.encode("utf-8", "backslashreplace").decode()


def error_of(data: dict[str, Any]) -> AgentOSError | TimeoutError | KernelPanic:
    """Return the error that `error_data` described."""
    if data["code"] == "panic":
        return KernelPanic(data["message"])
    if data["code"] == "timeout":
        return TimeoutError(data["message"])
    return from_data(data, seq=data.get("seq"))


def gone(*, may_have_happened: bool) -> Unavailable:
    """Return the error of a client whose kernel is gone."""
    return Unavailable(
        "cancelled", "the kernel has closed the connection", may_have_happened=may_have_happened, hint="connect again"
    )
