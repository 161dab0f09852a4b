"""How what happened is put into words for a model.

A result is its text, or compact JSON; an error says whether it was a decision or a failure, and what may be done. Nothing here depends on
numbers that would differ from one run to the next, so a recorded conversation can be had again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from agentos.abi.codec import to_json
from agentos.abi.counting import BYTES_PER_TOKEN
from agentos.errors import AgentOSError, Denied, Unavailable

__all__ = ["Outcome", "cut", "error_text", "is_rejected", "shortened", "value_text"]

_DECISION: Final = "this was a decision, not a failure: do not make this call again; go another way, or say what you would need"
_PERSON: Final = "rejected by a person, not a failure: do not make this call again"
_NOBODY: Final = "nobody was there to decide: go another way, or ask once more later"
_LATER: Final = "this was a decision, not a failure, and it holds for a while only: do something else first"
_MAYBE: Final = "it may have happened all the same: look before you repeat it"
_SHOWN_ARG_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one call came to: a value, or an error."""

    value: Any = None
    error: AgentOSError | None = None


def value_text(value: Any) -> str:
    """Return a result in words."""
    if value is None:
        return "done"
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return f"{len(value)} bytes, which are no text"
    return to_json(value).decode("utf-8", "replace")


def error_text(error: AgentOSError) -> str:
    """Return an error in words: code, what happened, what to do."""
    told: dict[str, Any] = {"code": error.code, "message": error.message}
    advice = [error.hint] if error.hint else []
    if isinstance(error, Denied):
        told["decision"] = True
        told |= {name: error.fields[name] for name in ("rule", "request") if error.fields.get(name)}
        later = _LATER if "retry_after_s" in error.fields else _DECISION
        advice = [later if error.code != "denied.human" else _PERSON if is_rejected(error) else _NOBODY]
    if isinstance(error, Unavailable) and error.may_have_happened:
        advice.append(_MAYBE)
    if advice:
        told["hint"] = "; ".join(advice)
    return json.dumps({"error": told}, ensure_ascii=False)


def is_rejected(error: AgentOSError) -> bool:
    """Say whether a person said no; where nobody answered, nobody did."""
    return error.code == "denied.human" and "by" in error.fields


def cut(text: str, tokens_max: int) -> str:
    """Return as much of the beginning of a text as `tokens_max` tokens hold, by the kernel's counter."""
    data = text.encode("utf-8", "replace")[: max(int((tokens_max - 1) * BYTES_PER_TOKEN), 0)]
    return data.decode("utf-8", "ignore")


def shortened(value: Any) -> Any:
    """Return arguments with their long texts cut: they were made, and need not be read again."""
    if isinstance(value, str) and len(value) > _SHOWN_ARG_CHARS * 2:
        return f"{value[:_SHOWN_ARG_CHARS]}... [{len(value)} characters]"
    if isinstance(value, dict):
        return {key: shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shortened(item) for item in value]
    return value
