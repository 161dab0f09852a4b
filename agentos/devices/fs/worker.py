"""Worker threads of the file system: what may take long (fsync, big files, big folders) leaves the event loop.

Writers of one name take turns, so that of two appends neither overwrites the other.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio.to_thread import run_sync

from agentos.abi.limits import KIB, THREADS_MAX

__all__ = ["INLINE_BYTES_MAX", "Worker"]

INLINE_BYTES_MAX: Final = 64 * KIB
"""Up to this size a read is done on the loop: it costs less than the thread hop."""

T = TypeVar("T")


class Worker:
    """A bounded share of worker threads."""

    def __init__(self) -> None:
        self._limiter = anyio.CapacityLimiter(THREADS_MAX)
        self._turns: WeakValueDictionary[tuple[int, int, str], anyio.Lock] = WeakValueDictionary()

    async def run(self, work: Callable[..., T], /, *args: Any) -> T:
        """Run `work(*args)` in a thread.

        Cancellation: before the thread starts it is a normal cancel; a started thread is waited for and its result returned, so that
        an effect that began is always reported.
        """
        return await run_sync(partial(work, *args), limiter=self._limiter)

    def turn(self, name: tuple[int, int, str]) -> anyio.Lock:
        """Return the lock of one name: device and inode of its folder, and the name. It exists while somebody holds or awaits it."""
        return self._turns.setdefault(name, anyio.Lock(fast_acquire=True))

    async def read(self, size_bytes: int, work: Callable[..., T], /, *args: Any) -> T:
        """Run `work(*args)`, which reads about `size_bytes`: on the loop when that is little, else in a thread."""
        if size_bytes <= INLINE_BYTES_MAX:
            return work(*args)
        return await self.run(work, *args)
