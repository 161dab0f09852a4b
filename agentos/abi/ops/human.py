"""human: questions and notes to people."""

from __future__ import annotations

from typing import Any

from agentos.abi.ops.declare import Family

FAMILY = Family("human")


@FAMILY.op("local", on="id:human", self_right=True, sinks=("question",))
def ask(question: str, options: list[str] | None = None, timeout_s: float | None = None) -> Any:
    """Ask a person and wait for the answer. A question never grants anything."""
    raise NotImplementedError


@FAMILY.op("local", on="id:human", self_right=True, sinks=("text",))
def tell(text: str) -> None:
    """Tell people something; it shows up as an event."""
    raise NotImplementedError
