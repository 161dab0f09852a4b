"""Canonical resources: what a capability pattern and a policy pattern are matched against.

Every op says which resource it touches with a template over its arguments. Rendering is purely lexical: nothing about the
target is looked at (INVARIANT check-before-observe), and the canonical text is the same for every spelling of the same thing.

    kind   canonical text                                  refused (`invalid.argument`)
    path   /a/b in the process's virtual root              NUL, too long, `..` above the root, a lone surrogate
    url    scheme://host[:port]/path[?query]               userinfo, control characters, backslash, bad port, no host
    argv   shell-quoted tokens                             empty vector, NUL or empty tokens
    id     segments joined by `/`                          `.`/`..`/empty segments in a multi-segment field
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote, urlsplit

from agentos.abi.limits import PATH_BYTES_MAX, PATH_SEGMENTS_MAX, SEGMENT_BYTES_MAX
from agentos.errors import Invalid

__all__ = ["Kind", "Resource", "Template", "Url", "canonical_path", "canonical_url"]

Kind = Literal["path", "url", "argv", "id"]


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a canonical URL. `port` is always a number (the scheme's default filled in), `path` starts with ``/``."""

    scheme: str
    host: str
    port: int
    path: str
    query: str

    @property
    def text(self) -> str:
        """The canonical spelling; a default port is left out."""
        port = "" if _DEFAULT_PORTS.get(self.scheme) == self.port else f":{self.port}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}{port}{self.path}" + (f"?{self.query}" if self.query else "")


@dataclass(frozen=True, slots=True)
class Resource:
    """One canonical resource. `value` is the text for path and id, a tuple of tokens for argv, a `Url` for url."""

    kind: Kind
    text: str
    value: str | tuple[str, ...] | Url


_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
_UNSAFE_URL = re.compile(r"[\x00-\x20\x7f\\<>\"^`{|}]")
_HOST = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_HOST_CHARS_MAX = 253
_NUMERIC_HOST = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$")  # the last label: clients read such a host as an IPv4 address
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!$)|$)){4}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_FIELD = re.compile(r"\{(\w+)(:path)?\}")


def _refuse(message: str, field: str) -> Invalid:
    return Invalid("argument", message, field=field, hint="give a plain, canonical value")


def canonical_path(path: str, cwd: str = "/", *, field: str = "path") -> str:
    """Return the absolute path in the virtual root; ``.`` and ``..`` are resolved lexically, before anything is looked at.

    Raises:
        Invalid: NUL, longer than PATH_BYTES_MAX, a lone surrogate, or `..` that leads above the root.
    """
    if path.startswith("/") and "//" not in path and "/." not in path and path.isascii() and len(path) <= SEGMENT_BYTES_MAX:
        if "\0" in path:
            raise _refuse("path holds a NUL", field)
        return path.rstrip("/") or "/"
    return _canonical_path_slow(path, cwd, field)


def _canonical_path_slow(path: str, cwd: str, field: str) -> str:
    _check_path(path, field)
    parts: list[str] = [] if path.startswith("/") else [part for part in cwd.split("/") if part]
    for part in path.split("/"):
        if part == "..":
            if not parts:
                raise _refuse(f"path `{path}` leads above the root", field)
            parts.pop()
        elif part not in ("", "."):
            if len(part.encode()) > SEGMENT_BYTES_MAX:
                raise _refuse(f"a name in the path has over {SEGMENT_BYTES_MAX} bytes", field)
            parts.append(part)
    if len(parts) > PATH_SEGMENTS_MAX:
        raise _refuse(f"path has {len(parts)} segments, {PATH_SEGMENTS_MAX} at most", field)
    return "/" + "/".join(parts)


def _check_path(path: str, field: str) -> None:
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise _refuse(f"path `{path!a}` is not valid text", field) from None
    if size > PATH_BYTES_MAX:
        raise _refuse(f"path has {size} bytes, {PATH_BYTES_MAX} at most", field)
    if "\0" in path:
        raise _refuse("path holds a NUL", field)
    if not path:
        raise _refuse("path is empty", field)


def canonical_url(text: str, *, field: str = "url") -> Url:
    """Return the parts of an absolute URL: host lower-case and IDNA, addresses in their one spelling, dot segments resolved, no fragment.

    Raises:
        Invalid: userinfo, control characters, spaces or backslashes, no host, a bad port, no scheme, an IPv4 address written otherwise
            than as four decimal numbers.
    """
    if _UNSAFE_URL.search(text):
        raise _refuse(f"URL `{text!a}` holds a character that no URL has", field)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise _refuse(f"URL `{text}` is malformed: {error}", field) from error
    if not parts.scheme or not parts.hostname:
        raise _refuse(f"URL `{text}` has no scheme or host", field)
    if "@" in parts.netloc:
        raise _refuse(f"URL `{text}` carries user information", field)
    scheme = parts.scheme.lower()
    if port is None:
        port = _DEFAULT_PORTS.get(scheme)
    if not port:
        raise _refuse(f"URL `{text}` has no usable port", field)
    path = canonical_path(quote(_plain_escapes(parts.path), safe="/%:@!$&'()*+,;=~-._") or "/", field=field)
    if parts.path.endswith("/") and path != "/":
        path += "/"
    return Url(scheme, _canonical_host(parts.hostname, field), port, path, parts.query)


def _plain_escapes(path: str) -> str:
    """Give every escape its one spelling (RFC 3986, 6.2.2): unreserved characters plain, the rest in upper case; a stray `%` is one."""

    def plain(match: re.Match[str]) -> str:
        char = chr(int(match.group(1), 16)) if match.group(1) else ""
        return char if _UNRESERVED.fullmatch(char) else match.group().upper() if char else "%25"

    return re.sub(r"%([0-9A-Fa-f]{2})?", plain, path)


def _canonical_host(host: str, field: str) -> str:
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError as error:
            raise _refuse(f"host `{host!a}` is not a valid name", field) from error
    host = host.removesuffix(".").lower()
    if ":" in host:
        return _canonical_ipv6(host, field)
    if len(host) > _HOST_CHARS_MAX or not _HOST.fullmatch(host):
        raise _refuse(f"host `{host[:_HOST_CHARS_MAX]}` is malformed", field)
    if _NUMERIC_HOST.search(host) and not _IPV4.fullmatch(host):
        raise _refuse(f"host `{host}` is a number that some read as an address", field)
    return host


def _canonical_ipv6(host: str, field: str) -> str:
    """Return the one spelling of an IPv6 address; one that stands for an IPv4 address is that."""
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError as error:
        raise _refuse(f"host `{host[:_HOST_CHARS_MAX]}` is no address", field) from error
    return str(address.ipv4_mapped or address)


def _canonical_argv(argv: Any, field: str) -> Resource:
    tokens = tuple(argv)
    if not tokens:
        raise _refuse("argv is empty", field)
    if any(not token or "\0" in token for token in tokens):
        raise _refuse("argv holds an empty token or a NUL", field)
    return Resource("argv", shlex.join(tokens), tokens)


def _segment(value: Any) -> str:
    """Quote one value so that it can neither add a segment nor look like a pattern."""
    return quote(str(value), safe=" @:+=,.-_~!$&'()") or "%00"


def _segments(value: Any, field: str) -> str:
    text = str(value)
    if any(part in ("", ".", "..") for part in text.split("/")):
        raise _refuse(f"`{text}` has an empty or dotted segment", field)
    return "/".join(_segment(part) for part in text.split("/"))


class Template:
    """How one op names the resource of a call.

    Args:
        kind: The kind of resource.
        text: For path, url and argv the name of the argument that holds it, as ``{path}``. For id a text with ``{name}`` fields
            (each value becomes exactly one segment, quoted) and ``{name:path}`` fields (the value may hold several segments).
            `SELF` stands for the calling process.

    `render(args, cwd)` returns the canonical resource and puts the canonical value back into `args`, so that policy, digest,
    journal and device all see the same value.
    """

    __slots__ = ("_fields", "_fixed", "_render", "field", "kind", "text")

    def __init__(self, kind: Kind, text: str) -> None:
        self.kind = kind
        self.text = text
        self._fields = [(m.group(1), bool(m.group(2))) for m in _FIELD.finditer(text)]
        self.field = self._fields[0][0] if self._fields else ""
        assert kind == "id" or len(self._fields) == 1, f"a {kind} resource is one argument"
        renders: dict[str, Callable[[dict[str, Any], str], Resource]] = {
            "path": self._path,
            "url": self._url,
            "argv": self._argv,
            "id": self._id if self._fields else self._constant,
        }
        self._fixed = Resource("id", text, text)
        self._render = renders[kind]

    def render(self, args: dict[str, Any], cwd: str) -> Resource:
        """Return the canonical resource of a call with the validated arguments `args`; canonicalises the argument in place."""
        return self._render(args, cwd)

    @property
    def fields(self) -> list[str]:
        """Names of the arguments that the template reads."""
        return [name for name, _ in self._fields]

    def _path(self, args: dict[str, Any], cwd: str) -> Resource:
        path = args[self.field] = canonical_path(args[self.field], cwd, field=self.field)
        return Resource("path", path, path)

    def _url(self, args: dict[str, Any], cwd: str) -> Resource:
        url = canonical_url(args[self.field], field=self.field)
        args[self.field] = url.text
        return Resource("url", url.text, url)

    def _argv(self, args: dict[str, Any], cwd: str) -> Resource:
        return _canonical_argv(args[self.field], self.field)

    def _constant(self, args: dict[str, Any], cwd: str) -> Resource:
        return self._fixed

    def _id(self, args: dict[str, Any], cwd: str) -> Resource:
        text = self.text
        for name, many in self._fields:
            value = args[name]
            shown = _segments(value, name) if many else _segment(value)
            text = text.replace(f"{{{name}:path}}" if many else f"{{{name}}}", shown)
        return Resource("id", text, text)
