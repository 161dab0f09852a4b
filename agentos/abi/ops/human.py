"""human: questions and notes to people."""

from __future__ import annotations

from typing import Any

from agentos.abi.ops.declare import Family

FAMILY = Family("human")


@FAMILY.op("local", on="id:human", self_right=True, sinks=("question",))
def ask(question: str, options: list[str] | None = None, timeout_s: float | None = None) -> Any:
    """Ask a person and wait for the answer. A question never grants anything."""
    raise NotImplementedError


def _in_reply(args: dict[str, Any], pid: int) -> None:
    """A text that replies to nothing has no such argument, so that calls recorded before there was one are known again."""
    if args["reply_to"] is None:
        del args["reply_to"]


@FAMILY.op("local", on="id:human", self_right=True, sinks=("text",), prepare=_in_reply)
def tell(text: str, reply_to: int | None = None) -> None:
    """Tell people something, or answer the message `reply_to`; it shows up as an event."""
    raise NotImplementedError
