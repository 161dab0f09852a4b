"""The driver for Chat Completions, through the real `openai` client, for every server that speaks them.

Protocol: one client per profile, made with the first call, without retries of its own. With a listener the answer is streamed, and pieced
together here; without one it comes whole. What is no answer at all (a page with status 200, a stream that ends early, JSON that is
none) is an error that says so, never an empty answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio

from agentos.abi.limits import MODEL_REPLY_CHARS_MAX
from agentos.abi.model import ModelReply, ModelRequest, ToolCall, Usage, model_failed
from agentos.errors import Unavailable

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

__all__ = ["OpenAI"]

_FINISHES: Final = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "calls",
    "function_call": "calls",
    "content_filter": "refusal",
}
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
        import openai  # noqa: PLC0415 - takes half a second

        try:
            with anyio.fail_after(request.timeout_s):  # the client's own bound is one of silence: slow pieces never reach it
                if request.delta is None:
                    return _whole(await self._open().chat.completions.create(**self._parameters(request)))
                return await self._stream(request)
        except TimeoutError:
            raise _too_slow(request) from None
        except openai.OpenAIError as error:
            raise _translated(error, request) from None  # the cause holds the request, and with it the key
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise model_failed("reply", f"the server's answer is no JSON: {error}", retry=True) from None

    def _open(self) -> AsyncOpenAI:
        if self._client is None:
            from openai import AsyncOpenAI  # noqa: PLC0415 - as above

            self._client = AsyncOpenAI(api_key=self._key(), base_url=self.base_url, max_retries=0)
        return self._client

    def _parameters(self, request: ModelRequest) -> dict[str, Any]:
        parameters: dict[str, Any] = {**self._options, "model": self.model, "messages": request.messages}
        if request.tools:
            parameters["tools"] = request.tools
        if request.result is not None:
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
    message, finish = choices[0].message, choices[0].finish_reason
    calls = tuple(
        _tool_call(call.id, call.function.name, call.function.arguments)
        for call in message.tool_calls or ()
        if call.type == "function"
    )
    return _reply(message.content or "", calls, finish, _usage(answer.usage), answer.model, message.refusal or "")


_WRONG_PLACE: Final = "check the base URL: it usually ends in /v1"


@dataclass(slots=True)
class _Pieces:
    """A streamed answer, put together."""

    text: list[str] = field(default_factory=list)
    chars: int = 0
    calls: dict[int, list[str]] = field(default_factory=dict)
    refusal: str = ""
    finish: str | None = None
    usage: Usage | None = None
    model: str = ""

    def add(self, chunk: ChatCompletionChunk) -> str:
        """Take one chunk and return the text that it adds."""
        self.model = self.model or getattr(chunk, "model", "") or ""
        if getattr(chunk, "usage", None) is not None:
            self.usage = _usage(chunk.usage)
        if not getattr(chunk, "choices", None):
            return ""
        choice = chunk.choices[0]
        delta, self.finish = choice.delta, choice.finish_reason or self.finish
        self.refusal += delta.refusal or ""
        for part in delta.tool_calls or ():
            made = self.calls.setdefault(part.index, ["", "", ""])
            name, arguments = (part.function.name, part.function.arguments) if part.function else (None, None)
            for at, piece in enumerate((part.id, name, arguments)):
                made[at] += piece or ""
                self._grow(piece or "")
        text = delta.content or ""
        self._grow(text)
        if text:
            self.text.append(text)
        return text

    def _grow(self, piece: str) -> None:
        self.chars += len(piece)
        if self.chars > MODEL_REPLY_CHARS_MAX:
            raise model_failed(
                "reply", f"the answer has over {MODEL_REPLY_CHARS_MAX} characters", hint="bound it with tokens_max"
            )

    def reply(self) -> ModelReply:
        """Return the reply; a stream that ended without saying why was cut off."""
        if self.finish is None:
            raise model_failed("connection", "the server ended its answer in the middle", retry=True)
        calls = tuple(_tool_call(*self.calls[at]) for at in sorted(self.calls))
        return _reply("".join(self.text), calls, self.finish, self.usage, self.model, self.refusal)


def _tool_call(call_id: str | None, name: str | None, arguments: str | None) -> ToolCall:
    try:
        args = json.loads(arguments) if arguments else {}
    except ValueError:
        args = None
    if not isinstance(args, dict):
        return ToolCall(call_id or "", name or "", None, (arguments or "")[:2000])
    return ToolCall(call_id or "", name or "", args)


def _usage(usage: Any) -> Usage | None:
    if usage is None:
        return None
    details = getattr(usage, "prompt_tokens_details", None)
    return Usage(usage.prompt_tokens or 0, usage.completion_tokens or 0, getattr(details, "cached_tokens", 0) or 0)


def _reply(
    text: str, calls: tuple[ToolCall, ...], finish: str | None, usage: Usage | None, model: str, refusal: str
) -> ModelReply:
    said = _FINISHES.get(finish or "stop", "stop")
    if len(text) > MODEL_REPLY_CHARS_MAX:
        raise model_failed(
            "reply", f"the answer has {len(text)} characters, {MODEL_REPLY_CHARS_MAX} at most", hint="set tokens_max"
        )
    if refusal:
        said = "refusal"
    elif calls and said == "stop":
        said = "calls"
    return ModelReply(text, calls, said, usage, model, refusal)


def _translated(error: Exception, request: ModelRequest) -> Unavailable:
    """Return what an error of the client means. No part of the request is in it."""
    import openai  # noqa: PLC0415 - as above

    if isinstance(error, openai.APITimeoutError):
        return _too_slow(request)
    if isinstance(error, openai.APIStatusError):
        return _by_status(error)
    if isinstance(error, openai.APIConnectionError):
        cause = error.__cause__
        return model_failed(
            "connection", f"the server cannot be reached: {cause or error}"[:300], retry=True, hint=_WRONG_PLACE
        )
    if isinstance(error, openai.APIError):
        return model_failed("server", f"the server reported: {error.message}"[:500], retry=True)
    return model_failed("request", f"the client refused the request: {type(error).__name__}: {error}"[:500])


def _too_slow(request: ModelRequest) -> Unavailable:
    return model_failed("timeout", f"the model took over {request.timeout_s} s", retry=True, hint="give it more time")


def _by_status(error: Any) -> Unavailable:
    status, said = error.status_code, _said(error)
    words = f"the server answered {status}{f': {said}' if said else ''}"
    if status == 429 or (status == 503 and "retry-after" in error.response.headers):
        return model_failed("rate", words, retry=True, retry_after_s=_retry_after(error.response.headers), status=status)
    if status in (408, 409) or status >= 500:
        return model_failed("server", words, retry=True, retry_after_s=_retry_after(error.response.headers), status=status)
    if status in (401, 403):
        return model_failed("key", words, hint="check the key and what it is allowed", status=status)
    code = f"{error.code or ''} {said}".lower()
    if status == 413 or any(mark in code for mark in _CONTEXT):
        return model_failed("context", words, hint="the conversation is longer than the model takes", status=status)
    hint = _WRONG_PLACE if status == 404 else ""
    return model_failed("request", words, hint=hint, status=status)


def _said(error: Any) -> str:
    """Return the server's own message, in one short line."""
    body = error.body
    message = body.get("message") if isinstance(body, dict) else None
    return " ".join(str(message or "").split())[:300]


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait: in milliseconds, in seconds, never as a date, which needs a clock."""
    for name, scale in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * scale
        except ValueError:
            continue
        if 0 <= seconds <= 86_400:
            return seconds
    return None
