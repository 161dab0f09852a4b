r"""Regular expressions of Python -> those of the privilege language, for `policy import progent`.

They differ: there a match is searched for, here it is of the whole text; there `.` stops at a line end, `$` stands before a last one too,
and ``\d \w \s`` are Unicode. A `Bias` says what may happen where the language has no exact form:

    narrow  match less (an allow)      wide  match more (a deny)      exact  refuse (an ask)

A pattern that starts with lookaheads becomes several tests. What cannot be run in linear time is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from agentos.policy.regex import Regex

__all__ = ["Alternative", "Bias", "Untranslatable", "flipped", "pattern_alternatives"]

Bias = Literal["narrow", "exact", "wide"]
Ranges = tuple[tuple[int, int], ...]

_LAST: Final = 0x10FFFF
_ASCII: Final[dict[str, Ranges]] = {
    "d": ((48, 57),), "w": ((48, 57), (65, 90), (95, 95), (97, 122)), "s": ((9, 13), (32, 32)),
}  # fmt: skip
_PRINTABLE: Final[Ranges] = ((32, 126),)
_CONTROL: Final = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "a": 7, "0": 0}
_SHOWN: Final = {10: "\\n", 9: "\\t", 13: "\\r"}
_SPECIAL: Final = frozenset("\\.[](){}*+?|^$/")
_REPEAT: Final = re.compile(r"\{(\d*)(,?)(\d*)\}")


class Untranslatable(Exception):
    """A part of an expression that the language cannot say; the text names it."""


@dataclass(frozen=True, slots=True)
class Alternative:
    """One branch of an expression, as whole-text expressions: all of `all_of` match and none of `none_of`."""

    all_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()


def flipped(bias: Bias) -> Bias:
    """Return the bias under a negation."""
    return "wide" if bias == "narrow" else "narrow" if bias == "wide" else bias


def pattern_alternatives(
    pattern: str, bias: Bias, *, anchored: bool, from_start: bool = False
) -> tuple[list[Alternative], bool]:
    """Return the branches of `pattern`, one of which has to match, and whether the author anchored all of them.

    Args:
        pattern: An expression that `re` compiles.
        bias: What may be lost.
        anchored: Match the whole text, whatever anchors are there; otherwise as `re.search` does.
        from_start: As `re.match` does: anchored at the start only.

    Raises:
        Untranslatable: the language has no form for a part of it.
    """
    branches = _Reader(pattern, bias).branches()
    plain = [branch for branch in branches if not branch.ahead]
    found = [_alternative(branch, bias, anchored=anchored, from_start=from_start) for branch in branches if branch.ahead]
    if plain:
        bodies = [_whole(branch, anchored=anchored, from_start=from_start) for branch in plain]
        found.insert(0, Alternative((_checked("|".join(dict.fromkeys(bodies))),)))
    return found, all(branch.start and branch.end for branch in branches)


@dataclass(frozen=True, slots=True)
class _Branch:
    """One top-level alternative: its text in our syntax, its anchors, and the lookaheads it starts with (negated, pattern)."""

    body: str
    start: bool
    end: str
    ahead: tuple[tuple[bool, str], ...]


def _whole(branch: _Branch, *, anchored: bool, from_start: bool) -> str:
    if anchored:
        return branch.body
    lead = "" if branch.start or from_start else ".*"
    tail = {"$": "\\n?", "Z": ""}.get(branch.end, ".*")
    return f"{lead}{branch.body}{tail}"


def _alternative(branch: _Branch, bias: Bias, *, anchored: bool, from_start: bool) -> Alternative:
    if not (branch.start or from_start):
        raise Untranslatable("a lookahead that is not at the start of the text")
    wanted: list[str] = []
    barred: list[str] = []
    for is_negated, inside in branch.ahead:
        inner = _Reader(inside, flipped(bias) if is_negated else bias).branches()
        if any(each.ahead for each in inner):
            raise Untranslatable("a lookahead inside a lookahead")
        texts = [_whole(each, anchored=False, from_start=True) for each in inner]
        (barred if is_negated else wanted).append(_checked("|".join(texts)))
    body = _checked(_whole(branch, anchored=anchored, from_start=True))
    return Alternative((*wanted, body), tuple(barred))


def _checked(text: str) -> str:
    try:
        Regex(text)
    except ValueError as error:
        raise Untranslatable(f"`{text[:60]}`: {error}") from error
    return text


class _Reader:
    """Reads one expression of Python, left to right."""

    def __init__(self, text: str, bias: Bias) -> None:
        self._text = text
        self._bias = bias
        self._at = 0

    def branches(self) -> list[_Branch]:
        """Return the top-level alternatives."""
        found = [self._branch()]
        while self._accept("|"):
            found.append(self._branch())
        if self._at < len(self._text):
            raise Untranslatable(f"`{self._text[self._at :]}`")
        return found

    def _branch(self) -> _Branch:
        start = False
        while self._accept("^") or self._accept("\\A"):
            start = True
        ahead: list[tuple[bool, str]] = []
        while self._text[self._at : self._at + 3] in ("(?!", "(?="):
            is_negated = self._text[self._at + 2] == "!"
            ahead.append((is_negated, self._group_text()))
        body, end = self._items(top=True)
        return _Branch(body, start, end, tuple(ahead))

    def _group_text(self) -> str:
        """Take a lookahead and return what is inside."""
        start = self._at + 3
        depth, self._at = 1, start
        while depth:
            char = self._take()
            if char == "\\":
                self._take()
            elif char == "[":
                self._at -= 1
                self._class()
            depth += (char == "(") - (char == ")")
        return self._text[start : self._at - 1]

    def _items(self, *, top: bool = False) -> tuple[str, str]:
        found = ""
        while self._peek() not in ("", "|", ")"):
            end = "$" if self._accept("$") else "Z" if self._accept("\\Z") else ""
            if end:
                if not top or self._peek() not in ("", "|"):
                    raise Untranslatable("an anchor inside the expression")
                return found, end
            found += self._repeated(self._atom())
        return found, ""

    def _repeated(self, atom: str) -> str:
        char = self._peek()
        if char in ("*", "+", "?") and char:
            self._at += 1
            text = char
        elif char == "{" and (match := _REPEAT.match(self._text, self._at)) and (match[1] or match[3]):
            self._at = match.end()
            text = f"{{{match[1] or '0'}{match[2]}{match[3]}}}"
        else:
            return atom
        if self._accept("+"):
            raise Untranslatable("a possessive repetition")
        self._accept("?")
        return atom + text

    def _atom(self) -> str:
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            self._at -= 1
            return _shown(self._class())
        if char == ".":
            return _shown(_negated(((10, 10),)))
        if char == "\\":
            return _shown(self._escape(self._bias))
        if char == "^":
            raise Untranslatable("an anchor inside the expression")
        return _escaped(ord(char))

    def _group(self) -> str:
        if self._accept("?"):
            name = re.compile(r"P<\w+>").match(self._text, self._at)
            if name is not None:
                self._at = name.end()
            elif not self._accept(":"):
                raise Untranslatable(f"`(?{self._peek()}`")
        inside = self._items()[0]
        while self._accept("|"):
            inside += "|" + self._items()[0]
        if not self._accept(")"):
            raise Untranslatable("a group that is not closed")
        return f"({inside})"

    def _escape(self, bias: Bias) -> Ranges:
        char = self._take()
        if char.lower() in _ASCII:
            return _class_of(char, bias)
        if char in _CONTROL:
            return ((_CONTROL[char],) * 2,)
        if char in "xu":
            digits = self._text[self._at : self._at + (2 if char == "x" else 4)]
            self._at += len(digits)
            return ((int(digits, 16),) * 2,)
        if char.isalnum():
            raise Untranslatable(f"`\\{char}`")
        return ((ord(char),) * 2,)

    def _class(self) -> Ranges:
        self._accept("[")
        is_negated = self._accept("^")
        bias = flipped(self._bias) if is_negated else self._bias
        ranges: list[tuple[int, int]] = []
        first = True
        while first or self._peek() != "]":
            low = self._class_item(bias)
            is_range = self._peek() == "-" and self._text[self._at + 1 : self._at + 2] != "]"
            if is_range:
                self._at += 1
                high = self._class_item(bias)
                ranges.append((low[0][0], high[-1][1]))
            else:
                ranges += low
            first = False
        self._at += 1
        return _negated(ranges) if is_negated else _joined(ranges)

    def _class_item(self, bias: Bias) -> Ranges:
        char = self._take()
        return self._escape(bias) if char == "\\" else ((ord(char),) * 2,)

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _take(self) -> str:
        char = self._peek()
        if not char:
            raise Untranslatable("an expression that ends early")
        self._at += 1
        return char

    def _accept(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) * found
        return found


def _class_of(char: str, bias: Bias) -> Ranges:
    r"""Return ``\d`` and its like: of the Unicode class the ASCII part is exact, the rest is all or nothing."""
    if bias == "exact":
        raise Untranslatable(f"`\\{char}` means all of Unicode there and ASCII here; write the characters as `[...]`")
    ascii_part = _ASCII[char.lower()]
    outside = _negated(_PRINTABLE)
    positive = _joined([*ascii_part, *(outside if (bias == "wide") == char.islower() else ())])
    return positive if char.islower() else _negated(positive)


def _joined(ranges: Sequence[tuple[int, int]]) -> Ranges:
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(high, found[-1][1])
        else:
            found.append((low, high))
    return tuple(found)


def _negated(ranges: Sequence[tuple[int, int]]) -> Ranges:
    found: list[tuple[int, int]] = []
    start = 0
    for low, high in _joined(ranges):
        if low > start:
            found.append((start, low - 1))
        start = high + 1
    return (*found, (start, _LAST)) if start <= _LAST else tuple(found)


def _shown(ranges: Ranges) -> str:
    """Return a class as the language writes it; one that holds the end of Unicode by what it leaves out."""
    if len(ranges) == 1 and ranges[0][0] == ranges[0][1]:
        return _escaped(ranges[0][0])
    if ranges == ((0, _LAST),):
        return "."
    if not ranges:
        raise Untranslatable("a class that matches nothing")
    is_negated = ranges[-1][1] == _LAST
    inside = "".join(_range_text(low, high) for low, high in (_negated(ranges) if is_negated else ranges))
    return f"[{'^' if is_negated else ''}{inside}]"


def _range_text(low: int, high: int) -> str:
    if low == high:
        return _in_class(low)
    return f"{_in_class(low)}-{_in_class(high)}" if high > low + 1 else _in_class(low) + _in_class(high)


def _in_class(code: int) -> str:
    return f"\\{chr(code)}" if chr(code) in "\\[]^-/" else _SHOWN.get(code, chr(code))


def _escaped(code: int) -> str:
    return f"\\{chr(code)}" if chr(code) in _SPECIAL else _SHOWN.get(code, chr(code))
