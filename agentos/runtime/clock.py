"""The system clock, made monotonic: a clock that is set back stands still until it has caught up."""

from __future__ import annotations

import time

import anyio

__all__ = ["SystemClock"]

_LONGEST_SLEEP_S = 60.0


class SystemClock:
    """Wall-clock time in seconds since the epoch, UTC; never goes backwards. Implements `abi.protocols.Clock`."""

    def __init__(self, not_before: float = 0.0) -> None:
        self._latest = not_before

    def now(self) -> float:
        """Return seconds since the epoch."""
        now = time.time()  # noqa: TID251 - this is the clock that is injected
        if now > self._latest:  # noqa: PLR1730 - max() costs as much as asking for the time
            self._latest = now
        return self._latest

    async def sleep_until(self, due: float) -> None:
        """Return when `now()` has reached `due`; looks again every minute, in case the clock was set."""
        while (left := due - self.now()) > 0:  # noqa: ASYNC110 - it is time that is waited for
            await anyio.sleep(min(left, _LONGEST_SLEEP_S))
