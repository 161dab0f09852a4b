"""Events: what a follower sees happen. An event is a view of one journal row, so a follower can resume from any row's number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from agentos.abi.codec import decode
from agentos.abi.limits import EVENTS_KEPT_MAX
from agentos.abi.records import Row
from agentos.abi.values import Event

__all__ = ["EventBus", "event_of"]

_DELTAS_KEPT_MAX: Final = EVENTS_KEPT_MAX // 2
_TEXT_CHARS_SHOWN: Final = 2_000
_KIND_BY_OUTCOME = {"denied": "denied", "": "started"}
_SHOWN = ("op", "resource", "outcome", "code", "rule", "number", "cap", "ask", "parent")


def event_of(row: Row) -> Event:
    """Return the event that a journal row stands for. Notes carry their own kind in `op` (``note.exited`` -> exited)."""
    kind = row.op.partition(".")[2] if row.kind == "note" else _KIND_BY_OUTCOME.get(row.outcome, "call")
    data: dict[str, Any] = {name: value for name in _SHOWN if (value := getattr(row, name))}
    if row.kind == "note" and row.args:
        data.update(decode(row.args))
    elif row.outcome in ("failed", "denied", "unknown") and row.result:
        data["error"] = decode(row.result)
    if row.op == "human.tell" and row.args:
        told = decode(row.args)
        data["text"] = told.get("text")
        if "reply_to" in told:
            data["reply_to"] = told["reply_to"]
    if row.cost and row.kind != "intent":
        data["cost"] = decode(row.cost)
    if row.op == "llm.complete" and row.kind == "result" and row.outcome == "done":
        data.update(_said(decode(row.result)), usd=data.get("cost", {}).get("usd", 0.0))
    return Event(seq=row.seq, kind=kind, pid=row.pid, at=row.at, data=data)


def _said(reply: Any) -> dict[str, Any]:
    """Return what an event shows of what a model said; one that is behind a handle stays there."""
    if not isinstance(reply, Mapping) or "finish" not in reply:
        return {}
    shown = {name: reply[name] for name in ("turn", "finish", "tokens", "model") if name in reply}
    return {**shown, "calls": [call["name"] for call in reply["calls"]], "text": reply["text"][:_TEXT_CHARS_SHOWN]}


class EventBus:
    """Hands rows to followers as events. A follower that falls EVENTS_KEPT_MAX behind is told so by its stream's end.

    INVARIANT nobody-waits-for-a-follower: publishing never suspends and never blocks on a slow reader.
    """

    def __init__(self) -> None:
        self._streams: list[MemoryObjectSendStream[Event]] = []

    @property
    def is_followed(self) -> bool:
        """True while somebody listens; without followers no event is built."""
        return bool(self._streams)

    def follow(self) -> MemoryObjectReceiveStream[Event]:
        """Return a stream of the events from now on. Close it when done."""
        send, receive = anyio.create_memory_object_stream[Event](EVENTS_KEPT_MAX)
        self._streams.append(send)
        return receive

    def publish(self, event: Event) -> None:
        """Give an event to every follower; a delta only to those who keep up: who is slow misses that before anything else."""
        for stream in list(self._streams):
            if event.kind == "delta" and stream.statistics().current_buffer_used >= _DELTAS_KEPT_MAX:
                continue
            try:
                stream.send_nowait(event)
            except (anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
                self._streams.remove(stream)
                stream.close()

    def close(self) -> None:
        """End every follower's stream."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()
