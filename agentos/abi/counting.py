"""Counting tokens without a model's own tokenizer: an estimate that needs no download, and that what servers report corrects.

A text of n bytes is about n / BYTES_PER_TOKEN tokens: 4 for English prose, 3 for code and JSON, about 1 per character for scripts
that UTF-8 spells with three bytes. The estimate takes 3.5, so it is rather too high for prose. Source: the rule of thumb of four
characters per token.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from agentos.abi.codec import to_json

__all__ = ["Meter", "count_data", "count_messages", "count_text"]

BYTES_PER_TOKEN: Final = 3.5
MESSAGE_TOKENS: Final = 4  # what a message costs beside its content
_WEIGHT, _LEAST, _MOST = 0.2, 0.25, 4.0


def count_text(text: str) -> int:
    """Return about how many tokens a text has; never 0 for a text that is not empty."""
    return int((len(text) if text.isascii() else len(text.encode("utf-8", "replace"))) / BYTES_PER_TOKEN) + bool(text)


def count_data(value: Any) -> int:
    """Return about how many tokens a value has that is sent as JSON."""
    return int(len(to_json(value)) / BYTES_PER_TOKEN) + 1


def count_messages(messages: Iterable[dict[str, Any]], tools: Iterable[dict[str, Any]] = ()) -> int:
    """Return about how many tokens a request has: messages, and the schemas of the tools that go with it."""
    total = 0
    for message in messages:
        content = message.get("content")
        total += MESSAGE_TOKENS + (count_text(content) if isinstance(content, str) else count_data(content))
        calls = message.get("tool_calls")
        if calls:
            total += count_data(calls)
    return total + sum(MESSAGE_TOKENS + count_data(tool) for tool in tools)


class Meter:
    """How the estimate compares with what a server counts: a factor, learnt from every answer that reports its usage."""

    __slots__ = ("factor",)

    def __init__(self) -> None:
        self.factor = 1.0

    def learn(self, estimated: int, reported: int) -> None:
        """Take one comparison in."""
        if estimated > 0 and reported > 0:
            found = min(max(reported / estimated, _LEAST), _MOST)
            self.factor += _WEIGHT * (found - self.factor)

    def tokens(self, estimated: int) -> int:
        """Return what the server would count for an estimate."""
        return round(estimated * self.factor)
