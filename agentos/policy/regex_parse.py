r"""The text of a regular expression -> its tree. What `agentos.policy.regex` cannot run in linear time is refused here, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["Branches", "Chain", "Chars", "Node", "Ranges", "Repeat", "parse_regex"]

REPEAT_MAX: Final = 1_000
DEPTH_MAX: Final = 32

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Chars:
    """One character out of ranges of code points, both ends included."""

    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Chain:
    """One after the other; empty matches the empty text."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Branches:
    """One of several."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """From `least` to `most` times; `most` None = without end."""

    item: Node
    least: int
    most: int | None


Node = Chars | Chain | Branches | Repeat

_LAST: Final = 0x10FFFF
_EVERY: Final[Ranges] = ((0, _LAST),)
_CLASSES: Final[dict[str, Ranges]] = {
    "d": ((48, 57),),
    "w": ((48, 57), (65, 90), (95, 95), (97, 122)),
    "s": ((9, 13), (32, 32)),
}
_CONTROL: Final = {"n": 10, "t": 9, "r": 13}
_QUANTIFIERS: Final[dict[str, tuple[int, int | None]]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


def parse_regex(text: str) -> Node:
    """Return the tree of `text`.

    Raises:
        ValueError: malformed, or outside the language.
    """
    return _Parser(text).parse()


def _negated(ranges: Ranges) -> Ranges:
    found: list[tuple[int, int]] = []
    start = 0
    for low, high in sorted(ranges):
        if low > start:
            found.append((start, low - 1))
        start = max(start, high + 1)
    return (*found, (start, _LAST)) if start <= _LAST else tuple(found)


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def parse(self) -> Node:
        node = self._branches(0)
        if self._at < len(self._text):
            raise ValueError("a `)` closes nothing")
        return node

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self, what: str = "more") -> str:
        char = self._peek()
        if not char:
            raise ValueError(f"it ends where {what} was expected")
        self._at += 1
        return char

    def _accept(self, char: str) -> bool:
        found = self._peek() == char
        self._at += found
        return found

    def _branches(self, depth: int) -> Node:
        if depth > DEPTH_MAX:
            raise ValueError(f"groups nest deeper than {DEPTH_MAX}")
        items = [self._chain(depth)]
        while self._accept("|"):
            items.append(self._chain(depth))
        return items[0] if len(items) == 1 else Branches(tuple(items))

    def _chain(self, depth: int) -> Node:
        items: list[Node] = []
        while self._peek() not in ("", "|", ")"):
            items.append(self._repeat(self._atom(depth)))
        return items[0] if len(items) == 1 else Chain(tuple(items))

    def _repeat(self, node: Node) -> Node:
        quantifier = _QUANTIFIERS.get(self._peek())
        if quantifier is not None:
            self._at += 1
        elif self._accept("{"):
            quantifier = self._counts()
        else:
            return node
        if self._peek() in ("*", "+", "?", "{") and self._peek():
            raise ValueError("lazy, possessive and double repetitions do not exist here")
        return Repeat(node, *quantifier)

    def _counts(self) -> tuple[int, int | None]:
        inside = ""
        while (char := self._take("`}`")) != "}":
            inside += char
        least, comma, most = inside.partition(",")
        if not least.isdecimal() or (most and not most.isdecimal()):
            raise ValueError(f"`{{{inside}}}` is no repetition; a brace itself is `\\{{`")
        low, high = int(least), int(most) if most else None if comma else int(least)
        if low > REPEAT_MAX or (high is not None and not low <= high <= REPEAT_MAX):
            raise ValueError(f"`{{{inside}}}` is out of order or above {REPEAT_MAX}")
        return low, high

    def _atom(self, depth: int) -> Node:
        char = self._take()
        if char == "(":
            return self._group(depth)
        if char == "[":
            return Chars(self._class())
        if char == ".":
            return Chars(_EVERY)
        if char == "\\":
            return Chars(self._escape())
        if char in "^$":
            raise ValueError(f"`{char}` is not needed: a match is always of the whole text")
        if char in "*+?{}]":
            raise ValueError(f"`{char}` repeats nothing; the character itself is `\\{char}`")
        return Chars(((ord(char), ord(char)),))

    def _group(self, depth: int) -> Node:
        if self._accept("?") and not (self._accept(":")):
            raise ValueError("lookaround, named groups and flags do not exist here")
        node = self._branches(depth + 1)
        if not self._accept(")"):
            raise ValueError("a `(` is not closed")
        return node

    def _escape(self) -> Ranges:
        char = self._take("an escape")
        if char.lower() in _CLASSES:
            ranges = _CLASSES[char.lower()]
            return ranges if char.islower() else _negated(ranges)
        if char in _CONTROL:
            return ((_CONTROL[char], _CONTROL[char]),)
        if char.isalnum():
            raise ValueError(f"`\\{char}` does not exist here")
        return ((ord(char), ord(char)),)

    def _class(self) -> Ranges:
        negated = self._accept("^")
        ranges: list[tuple[int, int]] = []
        while not self._accept("]"):
            low = self._class_item()
            if self._peek() == "-" and self._text[self._at + 1 : self._at + 2] not in ("]", ""):
                self._at += 1
                high = self._class_item()
                ranges.append(self._range(low, high))
            else:
                ranges += low
        if not ranges:
            raise ValueError("`[]` matches nothing")
        return _negated(tuple(ranges)) if negated else tuple(ranges)

    def _class_item(self) -> Ranges:
        char = self._take("`]`")
        if char == "[":
            raise ValueError("`[` in a class is written `\\[`")
        return self._escape() if char == "\\" else ((ord(char), ord(char)),)

    def _range(self, low: Ranges, high: Ranges) -> tuple[int, int]:
        start, end = low[0][0], high[-1][1]
        if len(low) > 1 or len(high) > 1 or low[0][0] != low[0][1] or high[0][0] != high[0][1] or start > end:
            raise ValueError("a range in `[...]` is out of order")
        return start, end
