"""Ask links: what lets one person answer one ask from elsewhere, for a while.

    link   BASE_URL/asks/TOKEN
    TOKEN  base64url(body) "." base64url(HMAC-SHA256(key, "link" NUL body))        body = [ask, binding, expires, name]
    form   ISSUED "." HMAC-SHA256(key, "form" NUL TOKEN NUL ISSUED)                 what a page's form sends back with the decision

The binding is a digest of what the ask is about (its number, call and digest, and when it was asked), so a token is of no use for any
other ask, of this store or another. It needs no table: an ask is answered once, and with it every token for it is spent. The keys are
files beside the store, which lies in no mount; removing a store's link key ends every link to it.

INVARIANT link-is-for-one-ask: a token is taken only with the store's own seal, before it expires, and for the very ask it was made for.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec

from agentos.abi.codec import encode
from agentos.abi.limits import IDENTIFIER_CHARS_MAX
from agentos.abi.place import Place
from agentos.errors import Invalid
from agentos.kernel.ask import Ask
from agentos.runtime.places import beside

__all__ = ["LINK_S_MAX", "Keys", "Token", "base_of", "form_mark", "is_form_of", "link_of", "read_token", "url_of"]

LINK_S_MAX: Final = 7 * 86_400.0
"""Seconds after which a link is of no use, also for an ask that waits for longer."""
_FORM_S_MAX: Final = 3_600.0
_TOKEN_CHARS_MAX: Final = 2_000
_KEY_BYTES: Final = 32
_BINDING_BYTES: Final = 16
_USUAL_PORTS: Final = {"https": ":443", "http": ":80"}
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class _Body(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    ask: int
    binding: bytes
    expires: float
    name: str


_read_body: Final = msgspec.msgpack.Decoder(_Body)


class Keys:
    """The keys of a store: `link` seals links and forms, `notice` signs notifications.

    Args:
        store: Where the store is; None keeps the keys in memory, as a store does that is in memory.
    """

    def __init__(self, store: Place | None) -> None:
        self._store = beside(store) if store is not None else None
        self._kept: dict[str, bytes] = {}

    def path(self, name: str) -> Path | None:
        """Return the file of a key, None in memory."""
        return None if self._store is None else self._store.with_name(f"{self._store.name}.{name}-key")

    def key(self, name: str) -> bytes:
        """Return a key, made at its first use. It is read anew every time: a key that was replaced counts at once.

        Raises:
            Invalid: `invalid.state`, the file is a link, another user's, open to others or damaged, or cannot be made.
        """
        path = self.path(name)
        if path is None:
            return self._kept.setdefault(name, secrets.token_bytes(_KEY_BYTES))
        try:
            return _read(path) or _make(path)
        except OSError as error:
            reason = (error.strerror or "it cannot be read").lower()
            raise Invalid("state", f"the key `{path}`: {reason}", hint="it belongs beside the store, mode 0600") from error


def _read(path: Path) -> bytes:
    """Return the key in a file, nothing where there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return b""
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            hint = "look who made it, then remove it: every link ends, and a new key is made"
            raise Invalid("state", f"the key `{path}` is not a file of yours that nobody else can open", hint=hint)
        text = os.read(fd, _KEY_BYTES * 2 + 2).strip()
    finally:
        os.close(fd)
    with suppress(ValueError):
        key = bytes.fromhex(text.decode("ascii"))
        if len(key) == _KEY_BYTES:
            return key
    raise Invalid("state", f"the key `{path}` is damaged", hint="remove it: every link ends, and a new key is made")


def _make(path: Path) -> bytes:
    """Make a key whole or not at all; whoever comes second takes what the first made."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES).hex().encode() + b"\n")
            file.flush()
            os.fsync(fd)
        with suppress(FileExistsError):
            os.link(name, path)
    finally:
        os.unlink(name)
    return _read(path)


# --- links ------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Token:
    """What a token says that bears the store's seal.

    Attributes:
        ask: The number of the ask.
        expires: When it ends, in seconds since the epoch.
        name: Who answers with it; empty for whoever has it.
    """

    ask: int
    binding: bytes
    expires: float
    name: str

    def is_for(self, ask: Ask) -> bool:
        """Say whether this is the ask that the token was made for."""
        return self.ask == ask.id and hmac.compare_digest(self.binding, _binding(ask))


def link_of(ask: Ask, key: bytes, *, base_url: str, name: str = "", now: float) -> str:
    """Return a link with which one person answers an ask.

    Args:
        ask: A pending ask.
        key: The store's link key.
        base_url: Where the pages are served, without ``/asks``.
        name: Who will answer; empty for whoever has the link.
        now: Seconds since the epoch.

    Raises:
        Invalid: the ask is not pending, the name too long, or `base_url` is none that a link may lead to.
    """
    if ask.state != "pending":
        raise Invalid("state", f"ask {ask.id} is {ask.state} already", hint="an ask is answered once", ask=ask.id)
    if len(name) > IDENTIFIER_CHARS_MAX:
        raise Invalid("argument", f"the name has {len(name)} characters", hint=f"use {IDENTIFIER_CHARS_MAX}", field="for_")
    expires = min(ask.expires or now + LINK_S_MAX, now + LINK_S_MAX)
    body = msgspec.msgpack.encode(_Body(ask.id, _binding(ask), expires, name))
    return f"{base_of(base_url)}/asks/{_text(body)}.{_text(_seal(key, b'link', body))}"


def read_token(token: str, key: bytes) -> Token | None:
    """Return what a token says, None for one that does not bear the seal. Whether its time is over is the caller's to look at."""
    if len(token) > _TOKEN_CHARS_MAX:
        return None
    body, seal = (_bytes(part) for part in (*token.split("."), "", "")[:2])
    if token.count(".") != 1 or not hmac.compare_digest(_seal(key, b"link", body), seal):
        return None
    found = _read_body.decode(body)
    return Token(found.ask, found.binding, found.expires, found.name)


def form_mark(token: str, key: bytes, now: float) -> str:
    """Return what the form of a page shown now sends back: proof that the decision comes from that page."""
    issued = f"{now:.0f}"
    return f"{issued}.{_seal(key, b'form', token.encode(), issued.encode()).hex()}"


def is_form_of(token: str, key: bytes, mark: str, now: float) -> bool:
    """Say whether a form's mark was made for this token within the last hour."""
    issued, _, seal = mark.partition(".")
    expected = _seal(key, b"form", token.encode(), issued.encode()).hex()
    if not hmac.compare_digest(expected.encode(), seal.encode()):
        return False
    return -1 <= now - float(issued) <= _FORM_S_MAX


def _binding(ask: Ask) -> bytes:
    about = [ask.id, ask.kind, ask.pid, ask.number, ask.op, ask.digest, ask.created]
    return hashlib.sha256(encode(about)).digest()[:_BINDING_BYTES]


def _seal(key: bytes, *parts: bytes) -> bytes:
    return hmac.new(key, b"\0".join(parts), hashlib.sha256).digest()


def _text(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    """Return the bytes of a text that is their one spelling, nothing for any other."""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return b""
    return data if _text(data) == text else b""


# --- addresses --------------------------------------------------------------------------------------------------------------


def base_of(url: str) -> str:
    """Return the address under which pages are served, checked and without a slash at its end.

    Raises:
        Invalid: as `url_of`, or it has a query.
    """
    parts = url_of(url, "base_url")
    if parts.query:
        raise Invalid("argument", f"`{url[:200]}` has a query", hint="give https://HOST[/PATH]", field="base_url")
    netloc = parts.netloc.lower().removesuffix(_USUAL_PORTS[parts.scheme])  # as a browser sends it
    return f"{parts.scheme}://{netloc}{parts.path.rstrip('/')}"


def url_of(url: str, field: str) -> SplitResult:
    """Return the parts of an address that links and notices may go to: https, or http on this machine.

    A link is a right to answer: whoever reads it on the way has it.

    Raises:
        Invalid: it is no such address, or has a user, a password or a fragment.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    is_plain = not any(char.isspace() or not char.isprintable() or char in '\\"<>`' for char in url)
    if not host or "@" in parts.netloc or parts.fragment or not is_plain or not url.isascii():
        raise Invalid("argument", f"`{url[:200]}` is no address", hint="give https://HOST[:PORT][/PATH]", field=field)
    if parts.scheme != "https" and not (parts.scheme == "http" and host in _LOOPBACK):
        hint = "use https; http only for this machine, for example behind a proxy or a tunnel that has a certificate"
        raise Invalid("argument", f"`{url[:200]}` can be read on the way", hint=hint, field=field)
    return parts
