r"""What the host says about the texts it hands over: `untrusted(text)` fences a part off, `trusted(value)` vouches for one.

    goal = f"Summarise this mail:\n{agentos.untrusted(mail)}"

A fence names a random mark at both ends, so that no text inside can close it. People and models see it; `own_words` leaves out what is
inside. A fence that is never closed reaches to the end: what cannot be told apart is not trusted.

Arguments of host calls count as made by a model, because usually they are; `trusted` marks the ones that the host's own code chose.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Trusted", "has_fence", "own_words", "trusted", "untrusted", "unwrap"]

_OPEN: Final = re.compile(r'<untrusted mark="([0-9a-f]{16})">')
_HINT: Final = '<untrusted mark="'


def untrusted(text: str) -> str:
    """Return `text` between fences: it stays readable, but its words never count as the user's own.

    A process whose goal, argument or message holds a fence is labelled untrusted.
    """
    mark = secrets.token_hex(8)
    return f'<untrusted mark="{mark}">\n{text}\n</untrusted mark="{mark}">'


def own_words(text: str) -> str:
    """Return `text` without what is inside fences; each gap is a line break, so that words around it do not join."""
    kept: list[str] = []
    at = 0
    while opening := _OPEN.search(text, at):
        kept.append(text[at : opening.start()])
        closing = f'</untrusted mark="{opening.group(1)}">'
        end = text.find(closing, opening.end())
        if end < 0:
            return "\n".join(kept)
        at = end + len(closing)
    kept.append(text[at:])
    return "\n".join(kept)


def has_fence(value: Any) -> bool:
    """Say whether a text, or any text inside a list or object, holds a fence."""
    if isinstance(value, str):
        return _HINT in value
    if isinstance(value, dict):
        return any(has_fence(item) for pair in value.items() for item in pair)
    return isinstance(value, list | tuple) and any(has_fence(item) for item in value)


@dataclass(frozen=True, slots=True)
class Trusted:
    """A value that the host vouches for, on its way into a call."""

    value: Any


def trusted(value: Any) -> Any:
    """Return `value` marked as the host's own choice: it is grounded, with the source `human`, in the call that it is an argument of."""
    return value if isinstance(value, Trusted) else Trusted(value)


def unwrap(args: dict[str, Any]) -> tuple[dict[str, Any], tuple[Any, ...]]:
    """Return arguments without marks, and the values that were marked."""
    vouched: list[Any] = []
    plain = {name: _unwrapped(value, vouched) for name, value in args.items()}
    return (plain, tuple(vouched)) if vouched else (args, ())


def _unwrapped(value: Any, vouched: list[Any]) -> Any:
    if isinstance(value, Trusted):
        vouched.append(value.value)
        return value.value
    if type(value) is list:
        return [_unwrapped(item, vouched) for item in value]
    if type(value) is dict:
        return {key: _unwrapped(item, vouched) for key, item in value.items()}
    return value
