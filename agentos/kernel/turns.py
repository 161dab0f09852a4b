"""Turns: processes that gave the event loop back go on a few per round, so that a round stays short however many compute."""

from __future__ import annotations

from collections import deque

import anyio
import anyio.lowlevel

__all__ = ["Turns"]

TURNS_PER_ROUND = 8


class Turns:
    """A first-in, first-out queue that lets TURNS_PER_ROUND waiters go on in each round of the loop."""

    def __init__(self) -> None:
        self._waiting: deque[anyio.Event] = deque()
        self._wanted = anyio.Event()

    async def wait(self) -> None:
        """Go on in a later round. Cancellation: the turn is simply not used."""
        event = anyio.Event()
        self.queue(event)
        await event.wait()

    def queue(self, event: anyio.Event) -> None:
        """Have `event` set in one of the next rounds."""
        self._waiting.append(event)
        self._wanted.set()

    async def run(self) -> None:
        """Give turns for ever; sleeps while nobody waits."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            while self._waiting:
                for _ in range(min(len(self._waiting), TURNS_PER_ROUND)):
                    self._waiting.popleft().set()
                await anyio.lowlevel.checkpoint()
