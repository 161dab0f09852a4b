"""URL patterns: scheme, host, port and path are matched apart, so nothing in one part can imitate another.

    https://*.good.example/**    one more label in the host, the default port, any path
    https://**                   any host
    http://127.0.0.1:*/health    any port
The query is not part of a pattern: what it allows or denies, it does with every query.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from agentos.abi.resource import Resource, Url
from agentos.policy.contain import UNDECIDED, witness
from agentos.policy.glob import DEEP, Deep, Sequence_, sequence_matcher, sequence_of
from agentos.policy.pattern_base import Pattern, labels, literal_prefix, refuse, split, suffixes

__all__ = ["UrlParts", "UrlPattern", "url_pattern"]

_DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
_URL_SAFE: Final = "/%:@!$&'()*+,;=~-._"


@dataclass(frozen=True, slots=True)
class UrlParts:
    """A URL pattern taken apart. `scheme` None = any; `port` None = the scheme's default, 0 = any."""

    scheme: str | None
    host: Sequence_
    port: int | None
    path: Sequence_

    def ports_of(self, scheme: str) -> int:
        """Return the one port that it matches under `scheme`, or 0 for any."""
        return _DEFAULT_PORTS.get(scheme, -1) if self.port is None else self.port

    @property
    def allows_any_host(self) -> bool:
        """True when nothing about the host is fixed."""
        return all(isinstance(label, Deep) or label.matches_any for label in self.host)


class UrlPattern(Pattern):
    """A URL pattern: every part must match by itself, so nothing in one part can imitate another."""

    __slots__ = ("parts",)

    def __init__(self, text: str, parts: UrlParts) -> None:
        suffix = literal_prefix(parts.host[::-1])[::-1]
        super().__init__("url", text, ".".join(suffix) or None, _url_matcher(parts))
        self.parts = parts

    def witness(self, other: Pattern) -> str | None:
        """Return a URL that `other` covers and this does not, or None; empty when it only differs in scheme or port."""
        assert isinstance(other, UrlPattern)
        outer, inner = self.parts, other.parts
        if outer.scheme is not None and outer.scheme != inner.scheme:
            return ""
        if not _ports_contain(outer, inner):
            return ""
        for wide, narrow in ((outer.host, inner.host), (outer.path, inner.path)):
            found = witness(wide, narrow, empty_segments=wide is outer.path)
            if found is UNDECIDED:
                return ""
            if found is not None:
                return f"{inner.scheme or 'https'}://" + (".".join(found) if wide is outer.host else "/" + "/".join(found))
        return None

    def example_keys(self) -> list[str]:
        """Return the keys under which a pattern that contains this one can be indexed."""
        return suffixes(literal_prefix(self.parts.host[::-1])[::-1])


def url_pattern(text: str) -> UrlPattern:
    """Compile a URL pattern.

    Raises:
        Invalid: `invalid.argument`, the text is none.
        ValueError: ``**`` stands inside a segment or label.
    """
    return UrlPattern(text, _url_parts(text))


def _url_matcher(parts: UrlParts) -> Callable[[Resource], bool]:
    host, path = sequence_matcher(parts.host), sequence_matcher(parts.path)

    def matches(resource: Resource) -> bool:
        url = resource.value
        if not isinstance(url, Url) or parts.scheme not in (None, url.scheme):
            return False
        port = parts.ports_of(url.scheme)
        return port in (0, url.port) and host(labels(url.host)) and path(split(url.path))

    return matches


def _ports_contain(outer: UrlParts, inner: UrlParts) -> bool:
    if outer.port in (0, inner.port):
        return True
    if inner.scheme is None:
        return False
    return outer.ports_of(inner.scheme) == inner.ports_of(inner.scheme)


def _url_parts(text: str) -> UrlParts:
    if text == "**":
        return UrlParts(None, (DEEP,), 0, (DEEP,))
    scheme, found, rest = text.partition("://")
    if not found or not rest:
        raise refuse(text, "has no scheme", f"write `https://{text.removeprefix('//')}`")
    if scheme != "*" and not scheme.replace("+", "").replace("-", "").isalnum():
        raise refuse(text, f"has the scheme `{scheme}`", "write one scheme, or `*` for any")
    if any(char in '?#@\\<>"^`{|}' or char <= " " or char == "\x7f" for char in rest):
        hint = "the query is not part of a pattern, and URLs with user information are refused"
        raise refuse(text, "holds a character that URL patterns do not have", hint)
    authority, slash, path = rest.partition("/")
    host, port = _authority(text, authority)
    if authority == "**" and not slash:
        return UrlParts(_scheme(scheme), (DEEP,), None, (DEEP,))
    if port is None and scheme not in ("*", *_DEFAULT_PORTS):
        raise refuse(text, f"has no port, and `{scheme}` no default", "write `:PORT` or `:*` after the host")
    segments = quote(path, safe=_URL_SAFE).split("/") if path else []
    if any(segment in (".", "..") for segment in segments) or "" in segments[:-1]:
        raise refuse(text, "has an empty or dotted segment, which no resource has", "write the plain path")
    return UrlParts(_scheme(scheme), sequence_of(_host_labels(text, host)), port, sequence_of(segments))


def _scheme(text: str) -> str | None:
    return None if text == "*" else text.lower()


def _authority(text: str, authority: str) -> tuple[str, int | None]:
    if authority.startswith("["):
        host, _, rest = authority[1:].partition("]")
        port = rest.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    if not host:
        raise refuse(text, "has no host", "write `https://HOST/**`, or `https://**` for any host")
    if port == "*":
        return host, 0
    if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise refuse(text, f"has the port `{port}`", "write a number from 1 to 65535, or `*`")
    return host, int(port) if port else None


def _host_labels(text: str, host: str) -> list[str]:
    labels: list[str] = []
    for label in [host.lower()] if ":" in host else host.rstrip(".").lower().split("."):
        if not label:
            raise refuse(text, "has an empty label in its host", "write `*.example.org` for one label more")
        try:
            labels.append(label if label.isascii() else label.encode("idna").decode("ascii").lower())
        except UnicodeError as error:
            raise refuse(text, f"has the host label `{label!a}`, which is no name", "write its ASCII form") from error
    return labels
