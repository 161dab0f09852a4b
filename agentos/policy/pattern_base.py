"""What every kind of pattern shares: the class, the literal parts it is indexed by, and how a malformed one is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import takewhile

from agentos.abi.resource import Kind, Resource
from agentos.errors import Invalid
from agentos.policy.glob import Deep, Segment, Sequence_

__all__ = ["Pattern", "labels", "literal_of", "literal_prefix", "prefixes", "refuse", "split", "suffixes"]


class Pattern:
    """One compiled pattern. Equal texts of one kind share one object."""

    __slots__ = ("covers", "key", "kind", "matches", "text")

    def __init__(self, kind: Kind, text: str, key: str | None, matches: Callable[[Resource], bool]) -> None:
        self.kind = kind
        self.text = text
        self.key = key
        self.matches = matches
        self.covers = matches

    def __repr__(self) -> str:
        """Return kind and text."""
        return f"<pattern {self.kind} {self.text}>"

    def contains(self, other: Pattern) -> bool:
        """Say whether everything that `other` covers is covered by this one too. Exact; undecided counts as no."""
        return self.kind == other.kind and (self.text == other.text or self.witness(other) is None)

    def witness(self, other: Pattern) -> str | None:
        """Return a resource that `other` covers and this does not (empty when undecided), or None when there is none."""
        raise NotImplementedError

    def example_keys(self) -> list[str]:
        """Return the keys under which a pattern that contains this one can be indexed."""
        raise NotImplementedError


def literal_of(item: Segment | Deep) -> str | None:
    """Return the only text that an item of a pattern matches, or None."""
    return None if isinstance(item, Deep) else item.literal


def literal_prefix(segments: Sequence_) -> list[str]:
    """Return the literal items that a pattern starts with."""
    return [
        literal for literal in takewhile(lambda literal: literal is not None, map(literal_of, segments)) if literal is not None
    ]


def prefixes(segments: Sequence[str]) -> list[str]:
    """Return the prefixes of a path, each closed by ``/``: ``a/``, ``a/b/``."""
    found: list[str] = []
    prefix = ""
    for segment in segments:
        prefix += segment + "/"
        found.append(prefix)
    return found


def suffixes(labels: Sequence[str]) -> list[str]:
    """Return the suffixes of a host, the longest first: ``a.b.c``, ``b.c``, ``c``."""
    return [".".join(labels[start:]) for start in range(len(labels))]


def split(text: str) -> list[str]:
    """Split a canonical path or id; the leading separator of a path adds no segment."""
    body = text.removeprefix("/")
    return body.split("/") if body else []


def labels(host: str) -> list[str]:
    """Split a host into labels; an IPv6 address is one."""
    return [host] if ":" in host else host.split(".")


def refuse(text: str, what: str, hint: str) -> Invalid:
    """Return the refusal of a malformed pattern."""
    return Invalid("argument", f"pattern `{text}` {what}", hint=hint, field="pattern")
