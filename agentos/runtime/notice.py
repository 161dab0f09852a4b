"""Notices: a signed POST that tells somebody's endpoint that an ask waits, with a link to answer it.

    POST URL      Content-Type: application/json      X-Agentos-Signature: sha256=HMAC-SHA256(notice key, body)
    {"ask": 3, "kind": "approval", "op": "fs.write", "resource": "/a.txt", "because": "...", "for": "ann",
     "link": "https://...", "expires": 1767225600, "sent": 1767222000}

The signature covers `sent`, so a receiver can refuse what is old. A notice leaves this machine, so it is a sink: it holds neither
arguments nor preview, its texts are scrubbed of secrets and credentials, and of an ask about something secret it tells the number
and the link alone. A notice can arrive twice, and its answer means nothing: only the link's page decides.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import anyio
import anyio.to_thread

from agentos.abi.codec import to_json
from agentos.broker.obligation import redacted
from agentos.runtime.asklink import Keys, link_of, url_of

if TYPE_CHECKING:
    from agentos.kernel.ask import Ask
    from agentos.kernel.core import Core

__all__ = ["SIGNATURE", "deliver", "make_link", "notice_of", "notify", "signature_of"]

SIGNATURE: Final = "X-Agentos-Signature"
_ATTEMPTS: Final = 5
_BACKOFF_S: Final = 1.0  # before the second attempt; twice as long before each further one
_TIMEOUT_S: Final = 10.0
_TEXT_CHARS_MAX: Final = 500
_WORTH_ANOTHER: Final = frozenset({0, 408, 425, 429})  # statuses besides 5xx; 0 = nobody answered


@dataclass(frozen=True, slots=True)
class _Reply:
    """What came of one attempt; `status` 0 when there was no answer."""

    status: int
    why: str = ""

    @property
    def is_worth_another(self) -> bool:
        return self.status in _WORTH_ANOTHER or self.status >= 500


def make_link(core: Core, keys: Keys, ask: Ask, *, base_url: str, name: str = "") -> str:
    """Return a link to answer an ask with, for somebody who may.

    Raises:
        Invalid: the ask is not pending, or an argument is wrong.
        Denied: `denied.human`, `name` (without one: ``webhook``) may not answer this ask.
    """
    link = link_of(ask, keys.key("link"), base_url=base_url, name=name, now=core.clock.now())
    if core.people is not None:
        core.people.check(name or "webhook", core.asks.find(ask.id), core.processes.get(ask.pid))
    return link


def notice_of(ask: Ask, link: str, *, name: str, now: float, scrub: Callable[[str], str] | None) -> dict[str, Any]:
    """Return what a notice says; without `scrub`, where nobody knows the secrets, the number and the link alone."""
    said: dict[str, Any] = {"ask": ask.id, "link": link, "expires": ask.expires, "sent": int(now)}
    if "secret" in ask.labels:
        return {**said, "withheld": "secret"}
    if scrub is None:
        return {**said, "withheld": "no kernel runs"}
    texts = {"op": ask.op, "resource": ask.resource, "because": ask.because, "for": name}
    clean = redacted(texts, scrub)
    return {**said, "kind": ask.kind, **{key: _cut(text) for key, text in clean.items()}}


def signature_of(key: bytes, body: bytes) -> str:
    """Return the value of the signature header."""
    return f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"


async def notify(core: Core, keys: Keys, ask: Ask, url: str, *, base_url: str, name: str = "") -> dict[str, Any]:
    """Tell an endpoint about an ask: noted in the journal before the first attempt and after the last.

    Returns:
        ``{delivered, status, attempts, why}``; `status` is the last answer's, 0 when there was none.

    Raises:
        Invalid, Denied: as `make_link`; nothing was sent.

    Cancellation: an attempt under way may still arrive; no other follows.
    """
    about = {"to": url_of(url, "url").netloc, "for": name}
    link = make_link(core, keys, ask, base_url=base_url, name=name)
    said = notice_of(ask, link, name=name, now=core.clock.now(), scrub=core.secrets.scrub_text)
    await core.journal.durable(core.note(ask.pid, "notifying", about, ask=ask.id))
    result = await deliver(url, said, keys.key("notice"), lambda: core.asks.is_pending(ask.id))
    await core.journal.durable(core.note(ask.pid, "notified", {**about, **result}, ask=ask.id))
    return result


async def deliver(url: str, said: dict[str, Any], key: bytes, is_pending: Callable[[], bool]) -> dict[str, Any]:
    """Send a notice, again and again while nobody takes it and the ask still waits; returns what `notify` does."""
    body = to_json(said)
    head = {"Content-Type": "application/json", "User-Agent": "agentos", SIGNATURE: signature_of(key, body)}
    request = Request(url, body, head, method="POST")  # noqa: S310 - `url_of` has let https and http through, and nothing else
    attempts, reply = 0, _Reply(0, "the ask was settled")
    while attempts < _ATTEMPTS and is_pending():
        if attempts:
            await anyio.sleep(_BACKOFF_S * 2 ** (attempts - 1))
        attempts += 1
        reply = await anyio.to_thread.run_sync(_post, request, abandon_on_cancel=True)
        if not reply.is_worth_another:
            break
    return {"delivered": 200 <= reply.status < 300, "status": reply.status, "attempts": attempts, "why": reply.why}


class _Stay(HTTPRedirectHandler):
    """Follows nobody: a link goes where the host said, and nowhere else."""

    def redirect_request(self, *args: Any, **options: Any) -> None:
        """Refuse every redirect."""


def _post(request: Request) -> _Reply:
    try:
        with build_opener(_Stay).open(request, timeout=_TIMEOUT_S) as answer:
            return _Reply(answer.status)
    except HTTPError as error:
        with closing(error):
            return _Reply(error.code, f"it answered {error.code}")
    except (OSError, HTTPException) as error:
        return _Reply(0, str(error)[:200] or type(error).__name__)


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_CHARS_MAX else f"{text[:_TEXT_CHARS_MAX]}..."
