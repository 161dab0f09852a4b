"""The question of an `else ask`: a text with ``{arg}`` filled in from the call.

Nothing in an argument can pass for the policy's words: texts stand in quotes, with what is not printable (control, bidirectional and
zero-width characters) escaped, and are cut.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from itertools import islice
from typing import Any, Final

from agentos.abi.op import Op
from agentos.policy.attributes import attribute_of
from agentos.policy.problems import At, Refusal

__all__ = ["Question", "check_question", "names_in", "shown"]

VALUE_CHARS_MAX: Final = 80
VALUE_BITS_MAX: Final = 256
_ITEMS_MAX: Final = 8
_PLAIN_DIGITS_MAX: Final = 20
_FIELD = re.compile(r"\{([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)\}", re.ASCII)


def check_question(text: str, op: Op, at: At) -> None:
    """Check the names in a question.

    Raises:
        Refusal: the op has no such attribute, or a brace is not part of a name.
    """
    rest = _FIELD.sub("", text)
    if "{" in rest or "}" in rest:
        raise Refusal(
            "E001", "a brace in the question is not part of `{ARG}`", at, hint="write `{amount}`; leave other braces out"
        )
    for name in names_in(text):
        if attribute_of(op, name, at).late:
            raise Refusal("E012", f"`{name}` of {op.name} is not known when the question is asked", at, hint="name an argument")


def names_in(text: str) -> list[str]:
    """Return the attributes that a question names."""
    return _FIELD.findall(text)


class Question:
    """A question about calls of one op."""

    __slots__ = ("_fields", "_parts")

    def __init__(self, text: str, op: Op, at: At) -> None:
        parts = _FIELD.split(text)
        self._parts = parts[::2]
        self._fields = [attribute_of(op, name, at).get for name in parts[1::2]]

    def about(self, args: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
        """Return the question with the values of this call."""
        values = [shown(get(args, facts)) for get in self._fields]
        return "".join(part + value for part, value in zip(self._parts, [*values, ""], strict=True))


def shown(value: Any, depth: int = 2) -> str:
    """Return a value as the language writes it, for a person: one line, cut at VALUE_CHARS_MAX characters, all of them printable."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{_escaped(value)}"'
    if isinstance(value, list | tuple | set | frozenset):
        items = [shown(item, depth - 1) for item in islice(value, _ITEMS_MAX)] if depth else []
        return _joined("[", items, "]", is_whole=len(items) == len(value))
    if isinstance(value, Mapping):
        pairs = islice(value.items(), _ITEMS_MAX) if depth else ()
        items = [f"{shown(str(key))}: {shown(item, depth - 1)}" for key, item in pairs]
        return _joined("{", items, "}", is_whole=len(items) == len(value))
    if isinstance(value, int) and value.bit_length() > VALUE_BITS_MAX:
        return "a number of many digits"
    if isinstance(value, float | Decimal):
        return _number(value)
    return _escaped(str(value))


def _number(value: float | Decimal) -> str:
    """Return a number in plain digits where it has not too many, as the language has no exponents."""
    exact = Decimal(repr(value)) if isinstance(value, float) else value
    is_plain = exact.is_finite() and abs(exact.adjusted()) <= _PLAIN_DIGITS_MAX
    return _escaped(format(exact, "f") if is_plain else str(value))


def _joined(start: str, items: list[str], end: str, *, is_whole: bool) -> str:
    inside = ", ".join(items)
    is_cut = not is_whole or len(inside) > 2 * VALUE_CHARS_MAX
    return start + inside[: 2 * VALUE_CHARS_MAX] + ("..." if is_cut else "") + end


def _escaped(text: str) -> str:
    kept = text[:VALUE_CHARS_MAX].replace("\\", "\\\\").replace('"', '\\"')
    safe = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in kept)
    return safe + "..." if len(text) > VALUE_CHARS_MAX else safe
