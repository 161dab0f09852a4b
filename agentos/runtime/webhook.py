"""The pages on which a person answers an ask from elsewhere: an ASGI app.

    GET  /asks/TOKEN    shows the ask, and changes nothing: what previews links may fetch it as often as it likes
    POST /asks/TOKEN    decides: decision=approve|deny, mark (of the page's own form), reason, scope, confirm, value

    await kernel.ask_link(3, base_url="https://agents.example")      ->  https://agents.example/asks/TOKEN
    app(kernel, base_url="https://agents.example")                   the app, to run or mount in a server of your own

Only requests to the host of `base_url` are taken, and only forms that its own pages sent. Whoever has the link answers: its token is the
right (`asklink`), made for one ask and one name. What the name may answer is decided by the kernel, here as everywhere.

INVARIANT only-a-form-decides: no GET or HEAD changes anything, and a POST changes something only with a valid token and the mark of a form
that was made for that token.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, urlsplit

import anyio

from agentos.abi.protocols import Clock
from agentos.errors import AgentOSError, Denied, Invalid
from agentos.runtime.asklink import Keys, Token, base_of, form_mark, is_form_of, read_token
from agentos.runtime.askpage import HEADERS, ask_page, confirming, told_page

if TYPE_CHECKING:
    from agentos.kernel.ask import Ask
    from agentos.runtime.kernel import Kernel

__all__ = ["AskPages", "app"]

log = logging.getLogger("agentos.runtime")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_BODY_BYTES_MAX: Final = 64 * 1024
_BODY_S_MAX: Final = 10.0
_REASON_CHARS_MAX: Final = 1_000
_FIELDS: Final = frozenset({"mark", "decision", "reason", "scope", "confirm", "value"})
_BURST, _PER_S, _CLIENTS_MAX = 120.0, 2.0, 10_000  # requests of one address: at once, and per second after that


def app(kernel: Kernel, *, base_url: str) -> AskPages:
    """Return the pages of a kernel's asks as an ASGI app.

    Args:
        kernel: An open kernel; the app is of use for as long as it is open, in the same event loop.
        base_url: The address under which people reach the app, without ``/asks``; `ask_link` gets the same.

    Raises:
        Invalid: `base_url` is none that a link may lead to.
    """
    return AskPages(lambda: nullcontext(kernel), kernel.keys, base_url=base_url, clock=kernel.core.clock)


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    page: str
    headers: tuple[tuple[str, str], ...] = ()


class _Refused(Exception):
    """The request goes no further."""

    def __init__(self, status: int, title: str, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(title)
        self.reply = _Reply(status, told_page(title, text), headers)


class AskPages:
    """The app.

    Args:
        reach: Gives the kernel for one request: the same one always, or whoever holds the store by then.
        keys: The store's keys.
        base_url: See `app`.
        clock: What links and forms are timed with.
    """

    def __init__(
        self, reach: Callable[[], AbstractAsyncContextManager[Kernel]], keys: Keys, *, base_url: str, clock: Clock
    ) -> None:
        base = urlsplit(base_of(base_url))
        keys.key("link")  # made here where there is none, so that no request makes it
        self._reach = reach
        self._keys = keys
        self._clock = clock
        self._host = base.netloc
        self._origin = f"{base.scheme}://{base.netloc}"
        self._path = base.path
        self._rates = _Rates(clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise Invalid("argument", f"there is no `{scope['type']}` here", hint="serve it over HTTP")
        reply = await self._reply(scope, receive)
        body = reply.page.encode(errors="xmlcharrefreplace")
        headers = [*HEADERS, *reply.headers, ("content-length", str(len(body)))]
        raw = [(name.encode(), value.encode()) for name, value in headers]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _reply(self, scope: Scope, receive: Receive) -> _Reply:
        try:
            headers = _headers(scope)
            self._check_address(scope, headers)
            token = self._token(scope)
            sent: dict[str, str] | None = None
            if scope["method"] == "POST":
                self._check_sender(headers)
                sent = _form(await _body(receive))
            return await self._answer(*token, sent)
        except _Refused as refused:
            return refused.reply
        except AgentOSError as error:
            log.warning("ask_page_failed code=%s", error.code)
            return _Reply(503, told_page("not now", "the kernel does not answer; try again in a while"))

    # --- may it come in? ----------------------------------------------------------------------------------------------------

    def _check_address(self, scope: Scope, headers: dict[str, str]) -> None:
        if not self._rates.take((scope.get("client") or ("", 0))[0]):
            raise _Refused(429, "slower", "too many requests from this address", ("retry-after", "30"))
        if headers.get("host", "").lower() != self._host:  # a foreign name that leads here is somebody else's page
            raise _Refused(421, "not here", "this host serves no asks")
        if scope["method"] not in ("GET", "HEAD", "POST"):
            raise _Refused(405, "not like this", "look, or decide", ("allow", "GET, HEAD, POST"))

    def _token(self, scope: Scope) -> tuple[str, Token]:
        """Return the token of the address, as it stands there and as it reads; one answer for all that are none."""
        before, _, text = str(scope["path"]).rpartition("/asks/")
        token = read_token(text, self._keys.key("link")) if before in ("", self._path, scope.get("root_path", "")) else None
        if token is None:
            raise _Refused(404, "no such link", "it is not whole, or not of this store")
        if self._clock.now() >= token.expires:
            raise _gone("it has expired")
        return text, token

    def _check_sender(self, headers: dict[str, str]) -> None:
        """Refuse forms of other sites. Browsers say where a form is from; what is no browser has nothing that others could misuse."""
        if headers.get("origin", self._origin) != self._origin or headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise _Refused(403, "not from here", "the decision was not made on the page of this ask")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/x-www-form-urlencoded":
            raise _Refused(415, "not like this", "a decision is a form")

    # --- the ask ------------------------------------------------------------------------------------------------------------

    async def _answer(self, text: str, token: Token, sent: dict[str, str] | None) -> _Reply:
        async with self._reach() as kernel:
            ask = await self._ask(kernel, token)
            is_secret = "secret" in ask.labels
            if sent is None:
                return _Reply(200, ask_page(ask, self._mark(text), is_hidden=is_secret))
            if not is_form_of(text, self._keys.key("link"), sent.get("mark", ""), self._clock.now()):
                raise _Refused(403, "not from here", "the form is not of this page, or over an hour old: open the link again")
            if sent.get("decision") == "show":
                return _Reply(200, ask_page(ask, self._mark(text)))
            return await self._decide(kernel, ask, token, replace(_Choice(**sent), mark=self._mark(text)))

    async def _ask(self, kernel: Kernel, token: Token) -> Ask:
        """Return the pending ask that a token is for."""
        try:
            ask = await kernel.ask(token.ask)
        except Invalid:
            raise _gone("what it was for is not there") from None
        if not token.is_for(ask):
            raise _gone("what it was for is not there")
        if ask.state != "pending":
            raise _gone(f"ask {ask.id} is {ask.state}")
        return ask

    async def _decide(self, kernel: Kernel, ask: Ask, token: Token, choice: _Choice) -> _Reply:
        problem = choice.problem(ask)
        if not problem:
            try:
                await kernel.answer(ask.id, choice.decision, by=token.name or "webhook", **choice.answer(ask))
            except Denied as error:
                raise _Refused(403, "not yours to answer", error.message) from None
            except Invalid as error:
                if error.code in ("invalid.state", "invalid.store"):
                    raise _gone(error.message) from None
                problem = error.message
        if problem:
            return _Reply(400, ask_page(ask, choice.mark, problem=problem))
        done = "denied" if choice.decision == "deny" else "answered" if ask.kind == "question" else "approved"
        return _Reply(200, told_page(done, f"ask {ask.id} is {done}; this link is of no further use"))

    def _mark(self, token: str) -> str:
        return form_mark(token, self._keys.key("link"), self._clock.now())


@dataclass(frozen=True, slots=True)
class _Choice:
    """What somebody sent from the form of a page."""

    mark: str = ""
    decision: str = ""
    reason: str = ""
    scope: str = ""
    confirm: str = ""
    value: str = ""

    def problem(self, ask: Ask) -> str:
        """Return why it cannot be taken, nothing when it can."""
        if self.decision not in ("approve", "deny"):
            return "a decision is approve or deny"
        if len(self.reason) > _REASON_CHARS_MAX:
            return f"the reason has over {_REASON_CHARS_MAX} characters"
        if self.decision == "approve" and self.scope and self.scope not in ask.scopes:
            return "that scope was not offered"
        word = confirming(ask)
        if self.decision == "approve" and self.confirm.strip() != word:
            return f"nothing takes this back: type {word} to approve" if word else "nothing has to be typed"
        options = _options_of(ask)
        if options and self.value and self.value not in map(str, range(len(options))):
            return "that answer was not offered"
        return ""

    def answer(self, ask: Ask) -> dict[str, Any]:
        """Return it as `Kernel.answer` takes it."""
        more: dict[str, Any] = {"reason": self.reason.strip() or None}
        if self.decision == "approve":
            more["scope"] = self.scope or "once"
            if ask.kind == "question" and self.value:
                options = _options_of(ask)
                more["value"] = options[int(self.value)] if options else self.value.replace("\r\n", "\n")
        return more


def _options_of(ask: Ask) -> list[Any]:
    """Return the answers that a question offers, which a form names by their places."""
    return ask.args.get("options") or [] if ask.kind == "question" else []


class _Rates:
    """How many requests each address may still make. The table is bounded: who was away longest is forgotten first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, address: str) -> bool:
        """Count one request; False when it is one too many."""
        now = self._clock.now()
        left, then = self._left.pop(address, (_BURST, now))
        left = min(left + (now - then) * _PER_S, _BURST)
        self._left[address] = (max(left - 1, 0.0), now)
        if len(self._left) > _CLIENTS_MAX:
            self._left.popitem(last=False)
        return left >= 1


# --- requests ---------------------------------------------------------------------------------------------------------------


def _gone(why: str) -> _Refused:
    return _Refused(410, "this link is over", why)


def _headers(scope: Scope) -> dict[str, str]:
    """Return the headers by name; one that comes twice counts as neither."""
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        found[name] = value.decode("latin-1") if name not in found else "\0twice"
    return found


async def _body(receive: Receive) -> bytes:
    """Return the whole body, of a bounded size, within bounded time."""
    body = b""
    with anyio.move_on_after(_BODY_S_MAX):
        while True:
            message = await receive()
            body += bytes(message.get("body", b""))
            if len(body) > _BODY_BYTES_MAX:
                raise _Refused(413, "too much", f"a decision has at most {_BODY_BYTES_MAX} bytes")
            if message["type"] == "http.disconnect":
                raise _Refused(400, "not whole", "the form did not arrive")
            if not message.get("more_body", False):
                return body
    raise _Refused(408, "too slow", "the form did not arrive in time")


def _form(body: bytes) -> dict[str, str]:
    """Return the fields of a form: those of the page, each once."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=len(_FIELDS)
        )
    except ValueError:
        raise _Refused(400, "not like this", "that is no form of this page") from None
    fields = dict(pairs)
    if len(fields) != len(pairs) or not fields.keys() <= _FIELDS:
        raise _Refused(400, "not like this", "that is no form of this page")
    return fields
