"""llm: model calls by profile. A profile belongs to the host, with its keys and its clearance; an op names it only."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from agentos.abi.ops.declare import Family

FAMILY = Family("llm")
PROFILE_DEFAULT = "default"


def _own_profile(args: dict[str, Any], pid: int) -> None:
    if args["profile"] is None:
        args["profile"] = PROFILE_DEFAULT


@FAMILY.op("repeatable", on="id:{profile}", prepare=_own_profile, sinks=("messages",), clearance="internal", slot="llm")
def complete(
    messages: list[dict[str, Any]],
    tools: list[dict[str, Any]] | None = None,
    result: dict[str, Any] | None = None,
    profile: str | None = None,
    tokens_max: Annotated[int, Gt(0)] | None = None,
    temperature: Annotated[float, Ge(0), Le(2)] | None = None,
) -> dict[str, Any]:
    """Ask a model for the next message: `{text, calls, value, tokens}`. `result` is a JSON schema that `value` must fit."""
    raise NotImplementedError


@FAMILY.op("repeatable", on="id:{profile}", prepare=_own_profile, sinks=("texts",), clearance="internal", slot="llm")
def embed(texts: list[str], profile: str | None = None) -> list[list[float]]:
    """Return one vector per text."""
    raise NotImplementedError
