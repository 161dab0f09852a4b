"""Worker threads for synchronous device functions, bounded even where a cancelled function does not end.

A cancelled or timed-out call leaves its thread behind, for Python cannot stop one: the caller gets its answer at once, the outcome is
unknown by the rules of the op's class. Threads left behind are counted, and from THREADS_MAX of them on new calls are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import anyio
from anyio.to_thread import run_sync

from agentos.abi.limits import THREADS_MAX
from agentos.errors import Unavailable

__all__ = ["Threads"]


class Threads:
    """The threads of one device."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(THREADS_MAX)
        self._lock = Lock()
        self._running = 0

    async def run(self, work: Callable[[], Any], name: str) -> Any:
        """Run `work` in a thread and return its value.

        Cancellation: returns at once; the thread goes on and its value is lost.

        Raises:
            Unavailable: `unavailable.overloaded`, THREADS_MAX cancelled calls of this device still run.
        """
        if self._running - self._limiter.borrowed_tokens >= THREADS_MAX:
            message = f"`{name}`: {THREADS_MAX} cancelled calls of its device still run"
            raise Unavailable("overloaded", message, hint="give the function a timeout of its own")
        return await run_sync(self._counted, work, limiter=self._limiter, abandon_on_cancel=True)

    def _counted(self, work: Callable[[], Any]) -> Any:
        with self._lock:
            self._running += 1
        try:
            return work()
        finally:
            with self._lock:
                self._running -= 1
