"""Events: what a follower sees happen. An event is a view of one journal row, so a follower can resume from any row's number."""

from __future__ import annotations

from typing import Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from agentos.abi.codec import decode
from agentos.abi.limits import EVENTS_KEPT_MAX
from agentos.abi.records import Row
from agentos.abi.values import Event

__all__ = ["EventBus", "event_of"]

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
        data["text"] = decode(row.args).get("text")
    return Event(seq=row.seq, kind=kind, pid=row.pid, at=row.at, data=data)


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
        """Give an event to every follower."""
        for stream in list(self._streams):
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
