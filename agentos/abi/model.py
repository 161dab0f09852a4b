"""Model calls as data: what a driver gets, what it gives back, and how it fails.

A driver is any object with ``async complete(ModelRequest) -> ModelReply``. It makes one attempt and knows no retries: each attempt is a
journaled call of its own, and the kernel decides about the next one. Messages are those of Chat Completions, because every
OpenAI-compatible server and most people know them: ``{role, content}``, a model's turn with ``tool_calls``, a tool's answer with
``tool_call_id``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentos.errors import Unavailable

__all__ = ["Delta", "ModelDriver", "ModelReply", "ModelRequest", "ToolCall", "Usage", "Vectors", "model_failed"]

Delta = Callable[[str], None]
"""Told each piece of text as it comes. Pieces are shown, never journaled."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One tool that the model wants called.

    Attributes:
        id: The model's own name for the call; the answer carries it.
        name: Name of the tool as the model wrote it.
        args: Its arguments; None when they are no JSON object.
        raw: What it wrote in place of arguments, where `args` is None.
    """

    id: str
    name: str
    args: dict[str, Any] | None
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one attempt. `is_estimate` where the server did not say."""

    input: int = 0
    output: int = 0
    cached: int = 0
    is_estimate: bool = False

    @property
    def total(self) -> int:
        """Tokens in and out."""
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What a model said.

    Attributes:
        text: Its text, "" when it only calls tools.
        calls: The tools it wants called, together.
        finish: ``stop``, ``calls``, ``length`` (cut off at the token bound) or ``refusal`` (it, or a filter, declined).
        usage: Tokens; None when the server did not say.
        model: The model that answered, by the server's name for it.
        refusal: Why it declined, in its words.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    finish: str = "stop"
    usage: Usage | None = None
    model: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One attempt to get the next message of a conversation.

    Attributes:
        pid: The process that asks.
        messages: The conversation, oldest first.
        tools: Tools it may call: ``{type: function, function: {name, description, parameters}}``.
        tokens: Estimate of the tokens of messages and tools, by the kernel's counter.
        result: JSON schema that the text has to fit, or None.
        tokens_max: Bound of the answer in tokens, None for the profile's.
        temperature: 0..2, None for the server's default.
        timeout_s: Seconds that the attempt may take, None for no bound.
        attempt: 1 on the first.
        turn: Number of the model's turn in its process, 0 where nobody counts.
        delta: Told the text as it comes, None when nobody listens.
    """

    pid: int
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    result: dict[str, Any] | None = None
    tokens_max: int | None = None
    temperature: float | None = None
    timeout_s: float | None = None
    attempt: int = 1
    turn: int = 0
    delta: Delta | None = None


@dataclass(frozen=True, slots=True)
class Vectors:
    """What a driver that has ``async embed(texts, timeout_s) -> Vectors`` makes of texts, in their order."""

    vectors: list[list[float]]
    usage: Usage | None = None


class ModelDriver(Protocol):
    """Makes one attempt at a model call."""

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return what the model said.

        Raises:
            Unavailable: made by `model_failed`: whether another attempt may help is in its fields.

        Cancellation: the connection is closed; what the server goes on to bill is not known.
        """
        ...


def model_failed(
    why: str, message: str, *, hint: str = "", retry: bool = False, retry_after_s: float | None = None, **fields: Any
) -> Unavailable:
    """Return the error of a failed attempt.

    Args:
        why: ``rate`` (429), ``server`` (5xx), ``connection``, ``timeout``, ``reply`` (what came back is no answer), ``context`` (the
            conversation is too long), ``key`` (401, 403) or ``request`` (any other refusal).
        message: What happened, in one line.
        hint: What to do.
        retry: True when the same request may succeed later.
        retry_after_s: Seconds after which the server wants to be asked again.
        fields: More about it.
    """
    reason = {"timeout": "timeout", "rate": "overloaded"}.get(why, "device")
    if retry_after_s is not None:
        fields["retry_after_s"] = retry_after_s
    return Unavailable(reason, message, hint=hint, why=why, retry=retry, **fields)
