"""Builders for tests of processes that a model drives: an image, a model that says what it is told to, and what the model was shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import agentos
from agentos.abi.model import ModelReply, ModelRequest, ToolCall
from agentos.devices.llm.scripted import ScriptedModel
from agentos.runtime.kernel import Kernel
from tests.builders import rows

FILES = ("fs.read, fs.write, fs.list, fs.stat /**",)


def image(*capabilities: str, **manifest: Any) -> agentos.Image:
    """An image whose processes a model drives; it may use files unless capabilities are given."""
    asked = list(capabilities or FILES)
    return agentos.Image.from_dict({"name": "agent", "prompt": {"text": "You help."}, "capabilities": asked, **manifest})


def model(*turns: Any) -> ScriptedModel:
    """A model that says these turns, one after the other."""
    return ScriptedModel([ModelReply(**turn) if isinstance(turn, dict) else turn for turn in turns])


def answering(turn: Callable[[ModelRequest], Any]) -> ScriptedModel:
    """A model that says what a function makes of each request."""
    return ScriptedModel(turn)


def calls(*wanted: tuple[str, str, Any]) -> ModelReply:
    """A reply that calls tools, as (id, name, arguments); arguments that are a text are no JSON."""
    made = [ToolCall(name, op, None, args) if isinstance(args, str) else ToolCall(name, op, args) for name, op, args in wanted]
    return ModelReply("", tuple(made), "calls")


def told(request: ModelRequest) -> list[str]:
    """What the newest tool results of a request say, without the line about what is left."""
    at = max(at for at, message in enumerate(request.messages) if message["role"] == "assistant")
    found = [message["content"] for message in request.messages[at + 1 :]]
    return [content.partition("\n\n[turn ")[0] for content in found]


def made(kernel: Kernel, pid: int, *but: str) -> list[tuple[str, str, str]]:
    """The calls that a process made for its model, and its model's: (op, outcome, code)."""
    own = ("proc.status", "proc.save", "llm.info", "tool.list", *but)
    return [(row.op, row.outcome, row.code) for row in rows(kernel, pid) if row.op not in own and row.kind != "intent"]


def names(requests: Sequence[ModelRequest]) -> list[list[str]]:
    """The names of the tools of each request."""
    return [[tool["function"]["name"] for tool in request.tools] for request in requests]
