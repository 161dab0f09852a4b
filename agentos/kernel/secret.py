"""Secrets: values that the host gave the kernel, by name, and the one way out for them: into the hands of a device.

Nothing here is journaled or shown. What comes back from outside is scrubbed of every value that is known here, in the spellings that an
echo usually has: as it is, URL-encoded, in JSON, in base64 at any offset, in hexadecimal. That is a net for accidents. What keeps a
secret is that it goes only where a capability says (`agentos.broker.secrets`).

INVARIANT secrets-stay-inside: a registered value is in no row, ask, preview, digest, result or error; references to it are.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

from agentos.abi.codec import decode, encode
from agentos.abi.secret import secret_name
from agentos.errors import AgentOSError, Invalid, Unavailable

__all__ = ["ENV_PREFIX", "Given", "Vault"]

Given = str | Callable[[], str]
ENV_PREFIX: Final = "AGENTOS_SECRET_"
_CHARS_MIN: Final = 6  # a shorter value would be found in texts that have nothing to do with it
_CHARS_MAX: Final = 65_536
_SECRETS_MAX: Final = 1_000
_HEAD_CHARS: Final = 4  # by which the spellings of secrets are found that a text may have begun
_KEPT: Final = 16  # earlier values of a secret that changes, which are scrubbed as well


class Vault:
    """Name -> value, or a function that is asked for it at every use.

    Args:
        given: What the host gave to `open`.
        env: Environment in which ``AGENTOS_SECRET_NAME`` gives a value; what is in `given` comes first.

    Raises:
        Invalid: `invalid.argument`, a malformed name, or a value that is no text of 6 to 65,536 characters.
    """

    def __init__(self, given: Mapping[str, Given] | None = None, env: Mapping[str, str] | None = None) -> None:
        found: dict[str, Given] = {
            secret_name(name.removeprefix(ENV_PREFIX)): value
            for name, value in (env or {}).items()
            if name.startswith(ENV_PREFIX)
        }
        found |= {secret_name(name): value for name, value in (given or {}).items()}
        if len(found) > _SECRETS_MAX:
            raise Invalid(
                "argument", f"there are {len(found)} secrets, {_SECRETS_MAX} at most", field="secrets", hint="give fewer"
            )
        self._given = found
        self._seen: dict[str, list[str]] = {}
        self._needles: list[tuple[bytes, str, re.Pattern[str]]] = []
        self._heads: dict[str, list[str]] = {}  # beginning of a spelling -> the spellings
        self._chars_most = 0
        for name, value in found.items():
            if not callable(value):
                self._see(name, value)

    def __repr__(self) -> str:
        """Return the names."""
        return f"<Vault {', '.join(sorted(self._given)) or 'empty'}>"

    def __contains__(self, name: str) -> bool:
        """Say whether there is a value of that name."""
        return name in self._given

    def watch(self, name: str, values: Iterable[str]) -> None:
        """Scrub values that a device has of its own; one too short to be told from other text is left alone."""
        for value in values:
            if _is_fit(value):
                self._see(name, value)

    def value(self, name: str) -> str:
        """Return the value, for a device that is about to be called; a function of the host is asked, and raises what it raises.

        Raises:
            Unavailable: `unavailable.missing`, there is none, or what the host's function gave is none.
        """
        given = self._given.get(name)
        if given is None:
            raise Unavailable("missing", f"there is no secret `{name}` in this kernel", hint=f"give it as {ENV_PREFIX}{name}")
        if not callable(given):
            return given
        value = given()
        try:
            self._see(name, value)
        except Invalid as refused:
            raise Unavailable("missing", refused.message, hint=refused.hint) from None
        return value

    # --- scrubbing ----------------------------------------------------------------------------------------------------------

    def scrub_text(self, text: str) -> str:
        """Return a text with ``[secret NAME]`` in place of every known value."""
        for _, name, pattern in self._needles:
            text = pattern.sub(f"[secret {name}]", text)
        return text

    def unsure(self, text: str) -> int:
        """Return how many characters at the end of a scrubbed text can be the beginning of a known value, cut off there."""
        if not self._heads:
            return 0
        for at in range(max(len(text) - self._chars_most + 1, 0), len(text)):
            begun = self._heads.get(text[at : at + _HEAD_CHARS])
            if begun is not None and any(needle.startswith(text[at:]) for needle in begun):
                return len(text) - at
        return 0

    def scrub(self, value: Any) -> Any:
        """Return plain data with every known value in its texts, bytes and keys replaced."""
        if isinstance(value, str):
            return self.scrub_text(value)
        if isinstance(value, bytes):
            return self.scrub_text(value.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
        if isinstance(value, Mapping):
            return {self.scrub(key): self.scrub(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.scrub(item) for item in value]
        return value

    def scrub_encoded(self, encoded: bytes) -> bytes:
        """Return an encoded value without any known secret; one search each when there is none in it."""
        if not any(needle in encoded for needle, _, _ in self._needles):
            return encoded
        return encode(self.scrub(decode(encoded)))

    def scrub_error(self, error: AgentOSError) -> AgentOSError:
        """Take every known value out of an error, in place."""
        if self._needles:
            error.message, error.hint = self.scrub_text(error.message), self.scrub_text(error.hint)
            error.args = (error.message,)
            error.fields = {name: self.scrub(value) for name, value in error.fields.items()}
        return error

    def _see(self, name: str, value: Any) -> None:
        """Have a value scrubbed from now on.

        Raises:
            Invalid: it is no text, or too short to be told from other text.
        """
        if not _is_fit(value):
            what = f"has {len(value)} characters" if isinstance(value, str) else f"is a {type(value).__name__}"
            hint = f"a secret is valid text of {_CHARS_MIN} to {_CHARS_MAX} characters without NUL: shorter ones are found everywhere"
            raise Invalid("argument", f"secret `{name}` {what}", hint=hint, field="secrets")
        seen = self._seen.setdefault(name, [])
        if value in seen:
            return
        seen.append(value)
        del seen[:-_KEPT]
        found = {needle: name for name, values in self._seen.items() for value in values for needle in spellings(value)}
        self._needles = [
            (needle.encode(), name, re.compile(re.escape(needle)))
            for needle, name in sorted(found.items(), key=lambda item: -len(item[0]))
        ]
        self._chars_most = max(map(len, found))
        self._heads = {}
        for needle in found:
            for chars in range(1, _HEAD_CHARS + 1):
                self._heads.setdefault(needle[:chars], []).append(needle)


def _is_fit(value: Any) -> bool:
    if not isinstance(value, str) or not _CHARS_MIN <= len(value) <= _CHARS_MAX or "\0" in value:
        return False
    return not any("\ud800" <= char <= "\udfff" for char in value)


def spellings(value: str) -> Iterator[str]:
    """Yield the ways in which a text usually comes back: plain, URL-encoded, escaped in JSON, in base64 and hexadecimal."""
    data = value.encode()
    yield value
    for encoded in (quote(value, safe=""), quote_plus(value), quote(value)):
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda match: match.group().lower(), encoded)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield base64.b64encode(data).decode()
    yield base64.urlsafe_b64encode(data).decode()
    for offset in range(3):
        text = base64.b64encode(b"\0" * offset + data).decode()
        whole = text[(0, 2, 3)[offset] : len(text) - (0, 3, 2)[(offset + len(data)) % 3]]
        yield whole
        yield whole.translate(str.maketrans("+/", "-_"))
    yield data.hex()
    yield data.hex().upper()
