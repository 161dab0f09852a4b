"""What one value of a manifest must be: the typed readers that turn a `Node` into a value or into a message.

A message says what the value must be, what it is and how to write it. Nothing here knows the keys of a manifest.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from agentos.abi.limits import IDENTIFIER_CHARS_MAX
from agentos.abi.op import closest
from agentos.abi.units import parse_duration_s
from agentos.abi.yamlstrict import Node
from agentos.errors import Invalid

__all__ = [
    "COUNT_MAX",
    "choice_of",
    "duration_of",
    "expected",
    "list_of",
    "mapping_of",
    "number_of",
    "text_like",
    "text_of",
    "unit_of",
    "whole_of",
]

COUNT_MAX: Final = 10**15


def expected(node: Node, wanted: str, hint: str) -> Invalid:
    """Return the error for a value of the wrong type."""
    shown = f" `{node.raw}`" if node.raw else ""
    return node.wrong(f"`{node.path}` must be {wanted}, not {node.kind}{shown}", hint)


def mapping_of(node: Node, known: Any, *, required: tuple[str, ...] = (), what: str = "") -> dict[str, Node]:
    """Return the values of a mapping that has only `known` keys and all `required` ones.

    Raises:
        Invalid: `invalid.manifest`, as by every reader here, with the place of what is wrong.
    """
    usage = f"it takes {', '.join(known)}"
    if not isinstance(node.value, dict):
        raise expected(node, "a mapping", usage) if node.path else node.wrong(f"{what} must be a mapping", usage)
    for key in node.value:
        if key not in known:
            raise node.wrong(
                f"unknown key `{key}`" + (f" in `{node.path}`" if node.path else ""), closest(key, known) or usage, key=key
            )
    for key in required:
        if key not in node.value:
            raise node.wrong(f"`{key}` is missing" + (f" in `{node.path}`" if node.path else ""), usage)
    items: dict[str, Node] = node.value
    return items


def list_of(node: Node, hint: str, most: int = 10_000) -> list[Node]:
    """Return the items of a list of at most `most` entries."""
    if not isinstance(node.value, list):
        raise expected(node, "a list", hint)
    if len(node.value) > most:
        raise node.wrong(f"`{node.path}` has {len(node.value)} entries, {most} at most", "shorten it")
    return node.value


def text_of(node: Node, hint: str, most: int = IDENTIFIER_CHARS_MAX) -> str:
    """Return text that is not blank, of at most `most` characters."""
    if not isinstance(node.value, str):
        raise expected(node, "text", hint)
    if not node.value.strip() or "\0" in node.value:
        raise node.wrong(f"`{node.path}` is empty or holds a NUL", hint)
    if len(node.value) > most:
        raise node.wrong(f"`{node.path}` has {len(node.value)} characters, {most} at most", "shorten it")
    return node.value


def choice_of(node: Node, words: tuple[str, ...]) -> str:
    """Return text that is one of `words`."""
    if node.value not in words or not isinstance(node.value, str):
        hint = closest(str(node.raw), words) or f"use one of {', '.join(words)}"
        raise expected(node, f"one of {', '.join(words)}", hint)
    return node.value


def whole_of(node: Node, low: int = 0, high: int = COUNT_MAX) -> int:
    """Return a whole number from `low` to `high`."""
    if not isinstance(node.value, int) or isinstance(node.value, bool):
        raise expected(node, "a whole number", "write digits only, for example `400000`")
    if not low <= node.value <= high:
        raise node.wrong(f"`{node.path}` is {node.value}, allowed is {low} to {high}", "choose a value in that range")
    return node.value


def number_of(node: Node) -> float:
    """Return a number that is not negative."""
    if not isinstance(node.value, int | float) or isinstance(node.value, bool) or node.value != node.value:
        raise expected(node, "a number", "write for example `2.0`")
    if not 0 <= node.value <= COUNT_MAX:
        raise node.wrong(f"`{node.path}` is {node.raw}, which is out of range", "it cannot be below 0")
    return float(node.value)


def unit_of(node: Node, read: Callable[[str], float], example: str) -> Any:
    """Return what `read` makes of text with a unit; `read` raises ValueError for what it cannot read."""
    if not isinstance(node.value, str):
        raise expected(node, f"a value with a unit such as `{example}`", "write the unit")
    try:
        return read(node.value)
    except ValueError as error:
        raise node.wrong(f"`{node.path}`: {error}", f"write for example `{example}`") from error


def duration_of(node: Node) -> float:
    """Return the seconds of text such as ``30m``."""
    seconds: float = unit_of(node, parse_duration_s, "30m")
    return seconds


def text_like(node: Node, pattern: re.Pattern[str], what: str, hint: str) -> str:
    """Return text that matches `pattern` as a whole; `what` names it in the message."""
    text = text_of(node, hint)
    if not pattern.fullmatch(text):
        raise node.wrong(f"`{text}` is not {what}", hint)
    return text
