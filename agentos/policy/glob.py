"""Globs over sequences of segments: the one pattern language behind path, id, URL, argv and text patterns.

A segment is the text between two separators (``/`` in paths, ``.`` in hosts, a whole token in argv). Within one segment ``*`` stands
for any characters and ``?`` for one; ``**`` as a whole segment stands for zero or more whole segments, and ``**REST`` for ``**/*REST``.
A pattern matches in full or not at all. Matching is greedy with one point of return per level, so its time is bounded by
length of pattern x length of text: there is no input that makes it slow.

It is no regular expression and knows no ``[...]`` or ``{...}``: those characters stand for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["DEEP", "ONE", "STAR", "Deep", "Part", "Segment", "Sequence_", "Wild", "segment_of", "sequence_of"]


class Wild(Enum):
    """A wildcard within a segment."""

    STAR = "*"
    ONE = "?"


class Deep(Enum):
    """The wildcard that stands for whole segments."""

    DEEP = "**"


STAR: Final = Wild.STAR
ONE: Final = Wild.ONE
DEEP: Final = Deep.DEEP

Part = str | Wild


@dataclass(frozen=True, slots=True)
class Segment:
    """One segment of a pattern: literal texts and wildcards in turn. `barred` characters are matched by no wildcard."""

    parts: tuple[Part, ...]
    barred: str = ""

    @property
    def literal(self) -> str | None:
        """The only text it matches, or None when it has wildcards."""
        if not self.parts:
            return ""
        first = self.parts[0]
        return first if len(self.parts) == 1 and isinstance(first, str) else None

    @property
    def matches_any(self) -> bool:
        """True when it is nothing but stars."""
        return bool(self.parts) and all(part is STAR for part in self.parts)

    def matcher(self) -> Callable[[str], bool]:
        """Return a function that matches one segment's text in full. A lone ``*`` needs at least one character."""
        literal = self.literal
        if literal is not None:
            return literal.__eq__
        barred = self.barred
        inner = bool if self.matches_any else _chunk_matcher(self.parts)
        if not barred:
            return inner
        allowed = "".join(part for part in self.parts if isinstance(part, str)).count(barred)
        return lambda text: text.count(barred) == allowed and inner(text)


Sequence_ = tuple["Segment | Deep", ...]
"""A whole pattern."""


def segment_of(text: str, barred: str = "") -> Segment:
    """Return the segment that `text` writes; every ``*`` and ``?`` in it is a wildcard."""
    parts: list[Part] = []
    start = 0
    for index, char in enumerate(text):
        if char in "*?":
            if index > start:
                parts.append(text[start:index])
            if char == "?" or not parts or parts[-1] is not STAR:
                parts.append(STAR if char == "*" else ONE)
            start = index + 1
    if start < len(text):
        parts.append(text[start:])
    return Segment(tuple(parts), barred)


def sequence_of(texts: Sequence[str]) -> Sequence_:
    """Return the pattern that these segment texts write.

    Raises:
        ValueError: ``**`` stands inside a segment, where it has no meaning.
    """
    found: list[Segment | Deep] = []
    for text in texts:
        rest = text
        if text.startswith("**"):
            if not found or found[-1] is not DEEP:
                found.append(DEEP)
            rest = text[2:]
            if not rest:
                continue
            rest = f"*{rest}"
        if "**" in rest:
            raise ValueError(f"`**` stands for whole segments and cannot stand inside `{text}`")
        found.append(segment_of(rest))
    return tuple(found)


def _chunk_matcher(parts: tuple[Part, ...]) -> Callable[[str], bool]:
    """Match text against chunks between stars: the first and last anchored, those between at their leftmost place."""
    chunks: list[list[Part]] = [[]]
    for part in parts:
        if part is STAR:
            chunks.append([])
        else:
            chunks[-1].append(part)
    sized = [(tuple(chunk), _size(chunk)) for chunk in chunks]
    if len(sized) == 1:
        only, size = sized[0]
        return lambda text: len(text) == size and _stands_at(only, text, 0)
    if len(sized) == 2 and "?" not in [part.value for part in parts if isinstance(part, Wild)]:
        head = "".join(part for part in sized[0][0] if isinstance(part, str))
        tail = "".join(part for part in sized[1][0] if isinstance(part, str))
        least = len(head) + len(tail)
        return lambda text: len(text) >= least and text.startswith(head) and text.endswith(tail)
    return lambda text: _match_chunks(sized, text)


def _size(chunk: Sequence[Part]) -> int:
    return sum(len(part) if isinstance(part, str) else 1 for part in chunk)


def _stands_at(chunk: Sequence[Part], text: str, at: int) -> bool:
    for part in chunk:
        if isinstance(part, str):
            if not text.startswith(part, at):
                return False
            at += len(part)
        else:
            at += 1
    return at <= len(text)


def _match_chunks(chunks: Sequence[tuple[tuple[Part, ...], int]], text: str) -> bool:
    (head, head_size), *middle, (tail, tail_size) = chunks
    end = len(text) - tail_size
    if head_size > end or not _stands_at(head, text, 0) or not _stands_at(tail, text, end):
        return False
    at = head_size
    for chunk, size in middle:
        found = _find(chunk, text, at, end - size)
        if found < 0:
            return False
        at = found + size
    return True


def _find(chunk: tuple[Part, ...], text: str, start: int, last: int) -> int:
    """Return the leftmost place of `chunk` in text[start:], not after `last`, or -1."""
    if len(chunk) == 1 and isinstance(chunk[0], str):
        return text.find(chunk[0], start, last + len(chunk[0]))
    return next((at for at in range(start, last + 1) if _stands_at(chunk, text, at)), -1)


def sequence_matcher(pattern: Sequence_) -> Callable[[Sequence[str]], bool]:
    """Return a function that matches a list of segments in full."""
    steps = [None if isinstance(item, Deep) else item.matcher() for item in pattern]
    count = len(steps)

    def matches(segments: Sequence[str]) -> bool:
        at = index = 0
        retry_step = retry_at = -1
        while at < len(segments):
            step = steps[index] if index < count else _never
            if step is None:
                retry_step, retry_at = index, at
                index += 1
            elif step(segments[at]):
                index += 1
                at += 1
            elif retry_step >= 0:
                retry_at += 1
                index, at = retry_step + 1, retry_at
            else:
                return False
        return all(step is None for step in steps[index:])

    return matches


def _never(text: str) -> bool:
    return False
