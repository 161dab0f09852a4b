"""What a server sent, read with care: nothing in it has to have the type, the size or the shape that it should.

What is usable becomes a `ModelReply` that can be stored and shown; of a tool call whose arguments are not, the text is kept, and the model
is told. What is no answer at all is an error with `why` reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from math import isfinite
from typing import Any, Final

from agentos.abi.codec import encode
from agentos.abi.limits import MODEL_REPLY_CHARS_MAX
from agentos.abi.model import ModelReply, ToolCall, Usage, model_failed
from agentos.errors import Invalid, Unavailable

__all__ = ["read_json", "reply_of", "text_of", "too_long", "tool_call", "usage_of", "vectors_of"]

_FINISHES: Final = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "calls",
    "function_call": "calls",
    "content_filter": "refusal",
}
_DEPTH_MAX: Final = 64  # of data that a model wrote
_NAME_CHARS_MAX: Final = 200  # of the name and the id of a tool call, and of a model's name
_RAW_CHARS_MAX: Final = 2_000  # of arguments that are none
_TOKENS_MOST: Final = 2**53
_NO_TEXT: Final = re.compile("[\0\ud800-\udfff]")  # what no text of ours holds: NUL, and halves of surrogate pairs


def text_of(value: Any) -> str:
    """Return a field that should be a text, or a list of parts with texts; None is empty.

    Raises:
        Unavailable: it is something else.
    """
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        value = "".join(part["text"] for part in value)
    if not isinstance(value, str):
        raise model_failed("reply", f"the server sent a `{type(value).__name__}` as a text", retry=True)
    return _NO_TEXT.sub("\ufffd", value)


def read_json(text: str) -> Any:
    """Return the data that a model wrote as JSON.

    Raises:
        ValueError: it is no JSON, or data that cannot be kept: nested too deep, a number without end or of over 64 bits.
    """
    try:
        value = json.loads(text, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    _check(value, _DEPTH_MAX)
    try:
        encode(value)
    except Invalid as error:
        raise ValueError(error.message) from None
    return value


def _no_number(text: str) -> Any:
    raise ValueError(f"`{text}` is no number")


def _check(value: Any, depth: int) -> None:
    if isinstance(value, dict | list):
        if not depth:
            raise ValueError("it is nested too deep")
        for item in value.values() if isinstance(value, dict) else value:
            _check(item, depth - 1)
    elif isinstance(value, float) and not isfinite(value):
        raise ValueError("a number has no end")


def tool_call(call_id: Any, name: Any, arguments: Any) -> ToolCall:
    """Return a call that a model wants made; its arguments are None where they are no object of data that can be kept."""
    identity, wanted = (text_of(field)[:_NAME_CHARS_MAX] for field in (call_id, name))
    written = text_of(json.dumps(arguments) if isinstance(arguments, dict) else arguments)
    try:
        args = read_json(written) if written else {}
    except ValueError:
        args = None
    return (
        ToolCall(identity, wanted, args)
        if isinstance(args, dict)
        else ToolCall(identity, wanted, None, written[:_RAW_CHARS_MAX])
    )


def usage_of(usage: Any) -> Usage | None:
    """Return what a server says that an answer took, None where it says nothing that are numbers of tokens."""
    fields = (getattr(usage, "prompt_tokens", None), getattr(usage, "completion_tokens", None))
    said, output = (_count(field) for field in fields)
    if said is None or output is None:
        return None
    cached = _count(getattr(getattr(usage, "prompt_tokens_details", None), "cached_tokens", None))
    return Usage(said, output, cached or 0)


def _count(value: Any) -> int | None:
    """Return a number of tokens; what is a number and no possible one is -1, so that it is told from none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= _TOKENS_MOST else -1


def reply_of(text: str, calls: Sequence[ToolCall], finish: Any, usage: Usage | None, model: Any, refusal: str) -> ModelReply:
    """Return the reply that the parts of an answer make.

    Raises:
        Unavailable: it is too long.
    """
    if len(text) > MODEL_REPLY_CHARS_MAX:
        raise too_long()
    said = _FINISHES.get(finish, "stop") if isinstance(finish, str) else "stop"
    if refusal:
        said = "refusal"
    elif calls and said == "stop":
        said = "calls"
    return ModelReply(text, tuple(calls), said, usage, text_of(model)[:_NAME_CHARS_MAX], refusal)


def too_long() -> Unavailable:
    """Return the error of an answer that is longer than any is let be."""
    hint = "bound it with tokens_max"
    return model_failed("reply", f"the answer has over {MODEL_REPLY_CHARS_MAX} characters", hint=hint)


def vectors_of(data: Any, count: int) -> list[list[float]]:
    """Return the vectors of an answer in the order of the texts.

    Raises:
        Unavailable: there is not one of numbers for each text.
    """
    ordered = sorted(data, key=lambda item: item.index)
    if [item.index for item in ordered] != list(range(count)):
        raise model_failed("reply", f"the server sent {len(ordered)} vectors for {count} texts", retry=True)
    return [[float(number) for number in item.embedding] for item in ordered]
