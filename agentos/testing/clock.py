"""A clock that stands still until a test moves it."""

from __future__ import annotations

import heapq
from itertools import count

import anyio

__all__ = ["FakeClock"]


class FakeClock:
    """Virtual time in seconds since the epoch. Implements `abi.protocols.Clock`.

    Args:
        start: The time it shows at first.
    """

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        self._now = start
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._tick = count()

    def now(self) -> float:
        """Return the virtual time."""
        return self._now

    async def sleep_until(self, due: float) -> None:
        """Return once the clock was moved to `due` or past it."""
        if due > self._now:
            event = anyio.Event()
            heapq.heappush(self._sleepers, (due, next(self._tick), event))
            await event.wait()

    def advance(self, seconds: float) -> None:
        """Move the clock forward and wake every sleeper whose time has come."""
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[2].set()
