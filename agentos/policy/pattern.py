"""Patterns over canonical resources, one class per kind: path, id, url, argv; and text, for `like` and sets.

    kind   a pattern is                       segments      notes
    path   ``/src/**``, ``**/.env``           ``/``         ``/src/**`` matches ``/src`` too
    id     ``acct/7/**``                      ``/``         values are quoted as the resource quotes them
    url    ``https://*.good.example/**``      host: ``.``   scheme, host, port and path apart; the query is not looked at
    argv   ``pytest **``                      tokens        quoted as a shell would; see `agentos.policy.argv`
    text   ``*@example.com``                  ``/``         any text

`matches` is the language of the pattern. `covers` is what it grants: for argv it asks more (interpreters must be named).
`contains` compares what two patterns cover and is exact. `key` and `keys_of` index patterns by their literal part.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final
from urllib.parse import quote

from agentos.abi.limits import PATH_BYTES_MAX
from agentos.abi.resource import Kind, Resource, Url
from agentos.policy.argv import Argv, argv_of
from agentos.policy.contain import UNDECIDED, witness
from agentos.policy.glob import DEEP, Sequence_, sequence_matcher, sequence_of
from agentos.policy.pattern_base import Pattern, labels, literal_of, literal_prefix, prefixes, refuse, split, suffixes
from agentos.policy.url_pattern import url_pattern

__all__ = ["ArgvPattern", "Pattern", "SegmentPattern", "compile_pattern", "keys_of", "text_matcher"]

_ID_SAFE: Final = " @:+=,.-_~!$&'()*?%"


class SegmentPattern(Pattern):
    """A path or id pattern."""

    __slots__ = ("_is_subtree", "_prefix", "segments")

    def __init__(self, kind: Kind, text: str, segments: Sequence_) -> None:
        prefix = literal_prefix(segments)
        literals = [literal for literal in map(literal_of, segments) if literal is not None]
        key = "/".join(prefix) + "/" if prefix else literals[-1] if literals else None
        super().__init__(kind, text, key, _segment_matcher(kind, segments))
        self.segments = segments
        self._prefix = prefix
        self._is_subtree = len(segments) == len(prefix) + 1 and segments[-1] is DEEP

    def witness(self, other: Pattern) -> str | None:
        """Return a resource that `other` covers and this does not, or None."""
        assert isinstance(other, SegmentPattern)
        if self._is_subtree and literal_prefix(other.segments)[: len(self._prefix)] == self._prefix:
            return None
        found = witness(self.segments, other.segments)
        if found is None or found is UNDECIDED:
            return None if found is None else ""
        return ("/" if self.kind == "path" else "") + "/".join(found)

    def example_keys(self) -> list[str]:
        """Return the keys under which a pattern that contains this one can be indexed."""
        literals = [literal for literal in map(literal_of, self.segments) if literal is not None]
        return [*prefixes(literal_prefix(self.segments)), *literals]


class ArgvPattern(Pattern):
    """A command pattern: one glob per token."""

    __slots__ = ("argv",)

    def __init__(self, text: str, argv: Argv) -> None:
        matches_tokens = sequence_matcher(argv.tokens)

        def matches(resource: Resource) -> bool:
            return resource.kind == "argv" and matches_tokens(_tokens(resource))

        def covers(resource: Resource) -> bool:
            return matches(resource) and argv.names(_tokens(resource))

        super().__init__("argv", text, literal_of(argv.tokens[0]), matches)
        self.argv = argv
        self.covers = covers

    def witness(self, other: Pattern) -> str | None:
        """Return a command that `other` covers and this does not, or None."""
        assert isinstance(other, ArgvPattern)
        found = witness(self.argv.tokens, other.argv.tokens)
        if found is None:
            return None if self.argv.names_all_of(other.argv) else other.text
        return "" if found is UNDECIDED else " ".join(found)

    def example_keys(self) -> list[str]:
        """Return the keys under which a pattern that contains this one can be indexed."""
        first = literal_of(self.argv.tokens[0])
        return [] if first is None else [first]


def keys_of(resource: Resource) -> list[str]:
    """Return the keys under which a pattern that matches `resource` can be indexed; patterns without key match besides."""
    value = resource.value
    if isinstance(value, Url):
        return suffixes(labels(value.host))
    if isinstance(value, tuple):
        return [value[0]]
    segments = split(value)
    return prefixes(segments) + segments


def _tokens(resource: Resource) -> tuple[str, ...]:
    assert isinstance(resource.value, tuple)
    return resource.value


def _segment_matcher(kind: Kind, segments: Sequence_) -> Callable[[Resource], bool]:
    fast = _fast_matcher(kind, segments)
    if fast is not None:
        return lambda resource: resource.kind == kind and fast(resource.text)
    slow = sequence_matcher(segments)
    return lambda resource: resource.kind == kind and slow(split(resource.text))


def _fast_matcher(kind: Kind, segments: Sequence_) -> Callable[[str], bool] | None:
    """Return a matcher on the whole text for the common shapes: ``/a/b``, ``/a/**``, ``**/x``, ``**/x/**``, ``**``."""
    lead = "/" if kind == "path" else ""
    prefix = literal_prefix(segments)
    exact = lead + "/".join(prefix)
    if len(prefix) == len(segments):
        return exact.__eq__
    if list(segments) == [DEEP]:
        return lambda text: True
    if len(prefix) == len(segments) - 1 and segments[-1] is DEEP:
        below = f"{exact}/"
        return lambda text: text == exact or text.startswith(below)
    name = literal_of(segments[1]) if segments[0] is DEEP else None
    if name is None or len(segments) > 3 or (len(segments) == 3 and segments[2] is not DEEP):
        return None
    inner, last = f"/{name}/", f"/{name}"
    open_text = "" if kind == "path" else "/"
    if len(segments) == 2:
        return lambda text: (open_text + text).endswith(last)
    return lambda text: inner in f"{open_text}{text}/"


@lru_cache(maxsize=16_384)
def compile_pattern(kind: Kind, text: str) -> Pattern:
    """Compile a pattern for resources of `kind`.

    Raises:
        Invalid: `invalid.argument`, the text is no pattern of that kind; the hint says how to write it.
    """
    if not text:
        raise refuse(text, "is empty", "leave the pattern out to name every resource")
    if len(text) > PATH_BYTES_MAX or "\0" in text:
        raise refuse(text[:40], f"is longer than {PATH_BYTES_MAX} characters or holds a NUL", "shorten it")
    try:
        if kind == "argv":
            return ArgvPattern(text, argv_of(text))
        if kind == "url":
            return url_pattern(text)
        return SegmentPattern(kind, text, sequence_of(_segments(kind, text)))
    except ValueError as error:
        raise refuse(text, f"is malformed: {error}", "`*` matches within a segment, `**` whole segments") from error


def _segments(kind: Kind, text: str) -> list[str]:
    is_path = kind == "path"
    if is_path and not text.startswith(("/", "**")):
        raise refuse(text, "is not absolute", f"write `/{text}`, or `**/{text}` for any folder")
    if not is_path and text.startswith("/"):
        raise refuse(text, "starts with `/`, which no such resource does", f"write `{text.lstrip('/') or '**'}`")
    if text == "/":
        return []
    segments = text[1:].split("/") if text.startswith("/") else text.split("/")
    if segments[-1] == "":
        raise refuse(
            text, "ends with `/`", f"write `{text.rstrip('/')}` for the thing itself, `{text}**` for what is below too"
        )
    if any(segment in ("", ".", "..") for segment in segments):
        raise refuse(text, "has an empty or dotted segment, which no resource has", "write the plain name")
    return segments if is_path else [quote(segment, safe=_ID_SAFE) for segment in segments]


@lru_cache(maxsize=16_384)
def text_matcher(pattern: str) -> Callable[[str], bool]:
    """Return a function that matches any text with a glob whose segments are parted by ``/``.

    Raises:
        Invalid: `invalid.argument`, the text is no glob.
    """
    if pattern == "**":
        return lambda text: True
    if pattern == "*":
        return lambda text: "/" not in text
    try:
        matches = sequence_matcher(sequence_of(pattern.split("/")))
    except ValueError as error:
        raise refuse(pattern, f"is malformed: {error}", "`*` matches within a segment, `**` whole segments") from error
    return lambda text: matches(text.split("/"))
