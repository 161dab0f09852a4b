"""llm: model calls by profile. A profile belongs to the host, with its keys and its clearance; an op names it only."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from agentos.abi.ops.declare import Family

FAMILY = Family("llm")

_op = partial(FAMILY.op, on="id:{profile}", by_profile=True)


@_op("repeatable", sinks=("messages",), clearance="internal")
def complete(
    messages: list[dict[str, Any]],
    tools: list[str | dict[str, Any]] | None = None,
    result: dict[str, Any] | None = None,
    profile: str | None = None,
    tokens_max: Annotated[int, Gt(0)] | None = None,
    temperature: Annotated[float, Ge(0), Le(2)] | None = None,
    turn: Annotated[int, Ge(0)] = 0,
) -> dict[str, Any]:
    """Ask a model for the next message, once: `{text, calls: [{id, name, args}], value, finish, tokens, model}`.

    `messages` are those of Chat Completions. `tools` are names of ops, or whole declarations. `result` is a JSON schema that the text has
    to fit; `value` is then the text as data. `turn` is the number of this turn, for who counts them.
    """
    raise NotImplementedError


@_op("repeatable", sinks=("texts",), clearance="internal")
def embed(texts: list[str], profile: str | None = None) -> list[list[float]]:
    """Return one vector per text."""
    raise NotImplementedError


@_op("pure")
def info(profile: str | None = None) -> dict[str, Any]:
    """Describe a model as the host offers it: `{profile, window_tokens, output_tokens, clearance, price}`."""
    raise NotImplementedError
