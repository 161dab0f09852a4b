"""The driver for Chat Completions, through the real `openai` client, for every server that speaks them.

Protocol: one client per profile, made with the first call, without retries of its own. With a listener the answer is streamed, and pieced
together here; without one it comes whole. What is no answer at all (a page with status 200, a stream that ends early, JSON that is
none) is an error that says so, never an empty answer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import partial
from importlib import import_module
from sys import modules
from typing import TYPE_CHECKING, Any, Final, TypeVar

import anyio
import anyio.to_thread

from agentos.abi.limits import EMBED_TEXTS_MAX, MODEL_REPLY_CHARS_MAX
from agentos.abi.model import ModelReply, ModelRequest, Usage, Vectors, model_failed
from agentos.devices.llm.bounded import bounded_client
from agentos.devices.llm.received import reply_of, text_of, too_long, tool_call, usage_of, vectors_of
from agentos.errors import Unavailable

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

__all__ = ["OpenAI"]

_T = TypeVar("_T")

_RETRY_AFTER_S_MAX: Final = 86_400
_CONTEXT: Final = ("context_length", "context length", "maximum context", "too many tokens", "string_above_max_length")


class OpenAI:
    """One model of one OpenAI-compatible server.

    Args:
        model: Name of the model, as the server knows it.
        key: Gives the API key; called with the first request only, and never shown.
        base_url: Where the server is, with its ``/v1``; None is OpenAI.
        tokens_param: Name of the parameter that bounds the answer: ``max_completion_tokens``, or ``max_tokens`` for older servers.
        options: Further parameters of every request, such as ``reasoning_effort``.
    """

    def __init__(
        self,
        model: str,
        *,
        key: Callable[[], str],
        base_url: str | None = None,
        tokens_param: str = "max_completion_tokens",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.base_url = base_url
        self._key = key
        self._tokens_param = tokens_param
        self._options = dict(options or {})
        self._client: AsyncOpenAI | None = None

    def __repr__(self) -> str:
        """Return the model and the server, never the key."""
        return f"<OpenAI {self.model} at {self.base_url or 'OpenAI'}>"

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            client, self._client = self._client, None
            await client.close()

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Make one attempt; see `agentos.abi.model.ModelDriver`."""
        return await self._attempt(partial(self._answer, request), request.timeout_s)

    async def embed(self, texts: list[str], timeout_s: float | None = None) -> Vectors:
        """Return a vector for each text, EMBED_TEXTS_MAX of them with one request.

        Raises:
            Unavailable: as `complete`; what was made already is lost.
        """
        return await self._attempt(partial(self._vectors, texts), timeout_s)

    def secrets(self) -> list[str]:
        """Return what nothing that the server says may show: the key."""
        return [self._key()]

    async def _attempt(self, ask: Callable[[], Awaitable[_T]], timeout_s: float | None) -> _T:
        """Ask the server, and say what went wrong if something did."""
        if "openai" not in modules:
            await anyio.to_thread.run_sync(import_module, "openai")  # half a second, in which others go on
        import openai  # noqa: PLC0415 - as above

        try:
            with anyio.fail_after(timeout_s):  # the client's own bound is one of silence: slow pieces never reach it
                return await ask()
        except TimeoutError:
            failure = _too_slow(timeout_s)
        except openai.OpenAIError as error:
            failure = _translated(error, timeout_s)
        except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
            text = f"the server's answer cannot be read: {type(error).__name__}: {error}"[:300]
            failure = model_failed("reply", text, retry=True, hint=_WRONG_PLACE)
        raise failure  # out here, so that no context of it holds the request, and with it the key

    async def _answer(self, request: ModelRequest) -> ModelReply:
        if request.delta is None:
            return _whole(await self._open().chat.completions.create(**self._parameters(request)))
        return await self._stream(request)

    async def _vectors(self, texts: list[str]) -> Vectors:
        vectors: list[list[float]] = []
        used: int | None = 0
        for start in range(0, len(texts), EMBED_TEXTS_MAX):
            part = texts[start : start + EMBED_TEXTS_MAX]
            made = await self._open().embeddings.create(model=self.model, input=part, encoding_format="float", **self._options)
            vectors += vectors_of(made.data, len(part))
            said = getattr(made.usage, "prompt_tokens", None)
            used = used + said if used is not None and isinstance(said, int) else None
        return Vectors(vectors, Usage(used) if used else None)

    def _open(self) -> AsyncOpenAI:
        if self._client is None:
            from openai import AsyncOpenAI  # noqa: PLC0415 - as above

            self._client = AsyncOpenAI(api_key=self._key(), base_url=self.base_url, max_retries=0, http_client=bounded_client())
        return self._client

    def _parameters(self, request: ModelRequest) -> dict[str, Any]:
        long: dict[str, Any] = {"messages": request.messages, **({"tools": request.tools} if request.tools else {})}
        body = {
            **self._options.get("extra_body", {}),
            **long,
        }  # as it is: the client would walk through every value of it, on the loop
        parameters: dict[str, Any] = {**self._options, "model": self.model, "messages": (), "extra_body": body}
        if (
            request.result is not None and request.result.get("type") == "object"
        ):  # no server takes another root; the prompt tells it
            schema = {"name": "result", "schema": request.result, "strict": False}
            parameters["response_format"] = {"type": "json_schema", "json_schema": schema}
        if request.tokens_max is not None:
            parameters[self._tokens_param] = request.tokens_max
        if request.temperature is not None:
            parameters["temperature"] = request.temperature
        parameters["timeout"] = request.timeout_s
        return parameters

    async def _stream(self, request: ModelRequest) -> ModelReply:
        parameters = {**self._parameters(request), "stream": True, "stream_options": {"include_usage": True}}
        pieces = _Pieces()
        async with await self._open().chat.completions.create(**parameters) as stream:
            async for chunk in stream:
                text = pieces.add(chunk)
                if text and request.delta is not None:
                    request.delta(text)
        return pieces.reply()


def _whole(answer: ChatCompletion) -> ModelReply:
    """Return the reply that one whole answer holds."""
    choices = getattr(answer, "choices", None)
    if not choices:
        shown = str(answer)[:120] if isinstance(answer, str) else type(answer).__name__
        raise model_failed(
            "reply", f"the server sent something that is no chat completion: `{shown}`", retry=True, hint=_WRONG_PLACE
        )
    pieces = _Pieces(usage=usage_of(answer.usage), model=answer.model)
    pieces.take(choices[0].message, choices[0].finish_reason or "stop")
    return pieces.reply()


_WRONG_PLACE: Final = "check the base URL: it usually ends in /v1"
_WRONG_MODEL: Final = "check the model's name: OPENAI_MODEL, or `model` of the profile"
_NOT_THERE: Final = "is the server running, and is that its base URL? It usually ends in /v1"
_NO_URL: Final = "a base URL starts with http:// or https://, and usually ends in /v1"


@dataclass(slots=True)
class _Pieces:
    """A streamed answer, put together."""

    text: list[str] = field(default_factory=list)
    chars: int = 0
    calls: dict[int, tuple[list[str], list[str], list[str]]] = field(default_factory=dict)
    refusal: list[str] = field(default_factory=list)
    finish: Any = None
    usage: Usage | None = None
    model: Any = None
    has_begun: bool = False

    def add(self, chunk: ChatCompletionChunk) -> str:
        """Take one chunk and return the text that it adds."""
        self.model = self.model or getattr(chunk, "model", None)
        if getattr(chunk, "usage", None) is not None:
            self.usage = usage_of(chunk.usage)
        if not getattr(chunk, "choices", None):
            return ""
        self.has_begun = True
        return self.take(chunk.choices[0].delta, chunk.choices[0].finish_reason)

    def take(self, said: Any, finish: Any) -> str:
        """Take a message, or a part of one, and return the text that it adds."""
        self.finish = finish or self.finish
        for at, part in enumerate(said.tool_calls or ()):
            function = getattr(part, "function", None)
            if function is None and part.type not in (None, "function"):
                continue  # a tool of the server's own kind
            made = self.calls.setdefault(getattr(part, "index", at), ([], [], []))
            wanted = (part.id, function.name, function.arguments) if function is not None else (part.id, None, None)
            for pieces, piece in zip(made, wanted, strict=True):
                self._keep(pieces, piece)
        self._keep(self.refusal, said.refusal)
        return self._keep(self.text, said.content)

    def _keep(self, pieces: list[str], piece: Any) -> str:
        text = text_of(piece)
        self.chars += len(text) + 1  # a piece costs memory, however short it is
        if self.chars > MODEL_REPLY_CHARS_MAX:
            raise too_long()
        if text:
            pieces.append(text)
        return text

    def reply(self) -> ModelReply:
        """Return the reply; a stream that ended without saying why was cut off, one without any part of an answer is none."""
        if self.finish is None and not self.has_begun:
            raise model_failed("reply", "the server sent something that is no streamed answer", retry=True, hint=_WRONG_PLACE)
        if self.finish is None:
            raise model_failed("connection", "the server ended its answer in the middle", retry=True)
        calls = [tool_call(*("".join(pieces) for pieces in self.calls[at])) for at in sorted(self.calls)]
        return reply_of("".join(self.text), calls, self.finish, self.usage, self.model, "".join(self.refusal))


def _translated(error: Exception, timeout_s: float | None) -> Unavailable:
    """Return what an error of the client means. No part of the request is in it."""
    import openai  # noqa: PLC0415 - as above

    if isinstance(error, openai.APITimeoutError):
        return _too_slow(timeout_s)
    if isinstance(error, openai.APIStatusError):
        return _by_status(error)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        if isinstance(cause, Unavailable):  # ours: the answer is too large
            return cause
        if type(cause).__name__ in ("UnsupportedProtocol", "InvalidURL"):
            return model_failed("request", f"the base URL is none: {cause}"[:300], hint=_NO_URL)
        return model_failed("connection", f"the server cannot be reached: {cause or error}"[:300], retry=True, hint=_NOT_THERE)
    if isinstance(error, openai.APIError):
        return model_failed("server", f"the server reported: {error.message}"[:500], retry=True)
    return model_failed("request", f"the client refused the request: {type(error).__name__}: {error}"[:500])


def _too_slow(timeout_s: float | None) -> Unavailable:
    return model_failed("timeout", f"the model took over {timeout_s} s", retry=True, hint="give it more time")


def _by_status(error: Any) -> Unavailable:
    status, said = error.status_code, _said(error)
    words = f"the server answered {status}{f': {said}' if said else ''}"
    if error.code == "insufficient_quota":  # comes as 429 too, but no pause helps
        return model_failed("rate", words, hint="the account has nothing left: see its plan and billing", status=status)
    if status == 429 or (status == 503 and "retry-after" in error.response.headers):
        return model_failed("rate", words, retry=True, retry_after_s=_retry_after(error.response.headers), status=status)
    if status in (408, 409) or status >= 500:
        return model_failed("server", words, retry=True, retry_after_s=_retry_after(error.response.headers), status=status)
    if status in (401, 403):
        return model_failed("key", words, hint="check the key and what it is allowed", status=status)
    code = f"{error.code or ''} {said}".lower()
    if status == 413 or any(mark in code for mark in _CONTEXT):
        return model_failed("context", words, hint="the conversation is longer than the model takes", status=status)
    if status < 400:
        return model_failed(
            "request", words, hint="it refers to another place: if you trust that, make it the base URL", status=status
        )
    hint = "" if status != 404 else _WRONG_MODEL if "model" in code else _WRONG_PLACE
    return model_failed("request", words, hint=hint, status=status)


def _said(error: Any) -> str:
    """Return the server's own message, in one short line."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(message or "").split())[:300]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait; a date counts from the one that the answer itself has: no clock is needed."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if 0 <= seconds <= _RETRY_AFTER_S_MAX:
            return seconds
    try:
        at, now = (parsedate_to_datetime(headers[name]) for name in ("retry-after", "date"))
        seconds = (at - now).total_seconds()
    except (LookupError, ValueError, TypeError, OverflowError):
        return None
    return seconds if 0 <= seconds <= _RETRY_AFTER_S_MAX else None
