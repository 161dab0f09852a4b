"""msg: durable messages between processes, sent by capability."""

from __future__ import annotations

from typing import Any

from agentos.abi.ops.declare import Family
from agentos.abi.values import Message

FAMILY = Family("msg")


@FAMILY.op("local", on="id:{to}", sinks=("value",), clearance="internal", ids={"to": "pid"})
def send(to: int, value: Any, channel: str = "main", reply_to: int | None = None) -> int:
    """Send a value to a process; returns the message's id. It survives a crash until it is received."""
    raise NotImplementedError


@FAMILY.op("local", on="id:self", self_right=True, ids={"sender": "pid"})
def recv(channel: str = "main", sender: int | None = None, timeout_s: float | None = None) -> Message:
    """Receive the oldest message of a channel, waiting for one. Received exactly once, crash or not."""
    raise NotImplementedError


@FAMILY.op("local", on="id:self", self_right=True)
def ack(ids: list[int]) -> int:
    """Mark received messages as dealt with, so that retention may drop them; returns how many were."""
    raise NotImplementedError
