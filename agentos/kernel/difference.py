"""What to say when a program does not repeat itself: which call, recorded and now, argument by argument, and the likely cause.

Pure text. The cause is a guess from the values alone (a time, a random number, another order), which is why it is only ever a hint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Final

from agentos.abi.codec import encode
from agentos.abi.records import Row

__all__ = ["CODE_CHANGED", "DIVERGED", "cause", "difference"]

DIVERGED: Final = (
    "a durable program must make the same calls when it runs again: "
    "take time, randomness and input from syscalls, not from outside"
)
CODE_CHANGED: Final = (
    "the program's code has changed since this process ran: finish it with the code that it was started with, restore a checkpoint, "
    "or give a new version a name of its own and let the old one go over to it with proc.exec"
)
_VALUE_CHARS_MAX: Final = 120
_LEAVES_MAX: Final = 200

_TIME: Final = "a time differs: the clock was read outside of sys; use `await sys.now()`"
_RANDOM: Final = "a random number or id differs: use `sys.random()` or `sys.uuid()`, which repeat themselves"
_ORDER: Final = "the same elements come in another order: a set has none that lasts, use sorted(...)"
_ADDRESS: Final = "an object's address differs: it is in the text that Python makes of an object; name what it holds instead"
_WITHOUT: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE), _RANDOM),
    (re.compile(r"\b0x[0-9a-f]{6,}", re.IGNORECASE), _ADDRESS),
    (re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?|\d\d:\d\d:\d\d(\.\d+)?"), _TIME),
    (re.compile(r"\b[12]\d{9}(\d{3}|\d{6}|\d{9})?(\.\d+)?\b"), _TIME),
    (re.compile(r"\b0\.\d{6,}(e-\d+)?|\b[0-9a-f]{16,}\b", re.IGNORECASE), _RANDOM),
)
"""What to cut out of two texts; where they are equal without it, that was the difference."""


def difference(number: str, head: Row, op: str, args: dict[str, Any], recorded: dict[str, Any], place: str = "") -> str:
    """Say how a call differs from the recorded one, argument by argument.

    Args:
        number: Number of the call.
        head: The recorded one.
        op: The op that is called now.
        args: Its arguments.
        recorded: The recorded arguments.
        place: Where the program makes the call, "" when nobody knows.
    """
    lines = [f"the program does not repeat itself at call {number} (journal {head.seq}){f', {place}' if place else ''}"]
    lines.append(f"  recorded: {head.op} {head.resource}".rstrip())
    lines.append(f"  now:      {op}")
    for name in sorted({*recorded, *args}) if head.op == op else ():
        if not _same(recorded.get(name), args.get(name)):
            lines.append(f"  - {name}: {_short(recorded.get(name))}")
            lines.append(f"  + {name}: {_short(args.get(name))}")
    return "\n".join(lines)


def cause(head: Row, op: str, args: dict[str, Any], recorded: dict[str, Any]) -> str:
    """Return the likely cause of a difference as a hint; DIVERGED where the values show none."""
    if head.op != op:
        return DIVERGED
    for name in sorted({*recorded, *args}):
        for before, now in _differing(recorded.get(name), args.get(name)):
            found = _cause_of(before, now)
            if found:
                return found
    return DIVERGED


def _cause_of(before: Any, now: Any) -> str:
    if isinstance(before, list) and isinstance(now, list):
        return _ORDER if sorted(map(encode, before)) == sorted(map(encode, now)) else ""
    if not isinstance(before, str | int | float) or not isinstance(now, str | int | float):
        return ""
    if isinstance(before, float) and isinstance(now, float) and 0 <= before < 1 and 0 <= now < 1:
        return _RANDOM
    first, second = str(before), str(now)
    for pattern, hint in _WITHOUT:
        if pattern.search(first) and pattern.sub("", first) == pattern.sub("", second):
            return hint
    words = re.compile(r"\w+")
    return _ORDER if isinstance(before, str) and sorted(words.findall(first)) == sorted(words.findall(second)) else ""


def _differing(before: Any, now: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs in which two values differ, the outermost first, _LEAVES_MAX at most are looked at."""
    pairs = [(before, now)]
    looked_at = 0
    while pairs and looked_at < _LEAVES_MAX:
        before, now = pairs.pop(0)
        looked_at += 1
        if _same(before, now):
            continue
        yield before, now
        if isinstance(before, dict) and isinstance(now, dict):
            pairs += [(before.get(name), now.get(name)) for name in sorted({*before, *now})[:_LEAVES_MAX]]
        elif isinstance(before, list) and isinstance(now, list):
            pairs += list(zip(before, now, strict=False))[:_LEAVES_MAX]


def _same(before: Any, now: Any) -> bool:
    return type(before) is type(now) and bool(before == now)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _VALUE_CHARS_MAX else f"{text[: _VALUE_CHARS_MAX - 3]}..."
