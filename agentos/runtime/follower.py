"""Follower: the events of one process in order, none of them left out.

Protocol: follow the bus first, then look; what the bus could not keep for a slow reader is read from the journal, from the last row that
was handed out. Deltas are in no row: of those, a reader who is too slow misses some.

This is a view: it keeps no process alive and holds nobody up.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

import anyio

from agentos.abi.records import Row
from agentos.abi.values import Event
from agentos.kernel.event import event_of

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["Follower"]

_PAGE: Final = 200


class Follower:
    """An async iterator over the events of a process; close it when done.

    Args:
        core: The kernel's state.
        pid: The process, alive or ended.
        since: Journal number after which events are wanted, None for those from now on.
    """

    def __init__(self, core: Core, pid: int, since: int | None = None) -> None:
        self._core = core
        self._pid = pid
        self._events = core.events.follow()
        self._seen = core.journal.head if since is None else since
        self._page: deque[Row] = deque()
        self._behind = since is not None
        self._is_over = core.processes.get(pid) is None  # then nothing comes but what is written

    def close(self) -> None:
        """Stop following. Idempotent."""
        self._events.close()

    def __aiter__(self) -> Follower:
        """Return the iterator itself."""
        return self

    async def __anext__(self) -> Event:
        """Wait for the next event; its row is durable.

        Cancellation: the event that was on its way is lost; end the follower.
        """
        while (event := self._written() or await self._published()) is None:
            pass
        if event.kind != "delta":  # a delta's row was durable before the effect began
            await self._core.journal.durable(event.seq)
            self._seen = event.seq
        return event

    def _written(self) -> Event | None:
        """Return the next event from the journal while it is behind, None when it has caught up."""
        if self._behind and not self._page:
            self._page.extend(self._core.store.tape(self._pid, self._seen, _PAGE))
            self._behind = bool(self._page)
        return event_of(self._page.popleft()) if self._page else None

    async def _published(self) -> Event | None:
        """Return the next event that the bus has, None for one that is not wanted.

        Raises:
            StopAsyncIteration: there will be none.
        """
        if self._is_over:
            raise StopAsyncIteration
        try:
            event = await self._events.receive()
        except anyio.EndOfStream:
            if self._core.closing:
                raise StopAsyncIteration from None
            self._events.close()  # it fell behind
            self._events = self._core.events.follow()
            self._behind = True
            return None
        is_wanted = event.pid == self._pid and (event.kind == "delta" or event.seq > self._seen)
        return event if is_wanted else None
