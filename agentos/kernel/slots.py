"""Slots: how many calls may use a scarce resource at once, shared fairly between trees.

A slot is taken before the effect and given back after it. Waiters are served in order of their tree's virtual slot time (one use
costs 1/weight), so a tree with a thousand waiting calls delays a newcomer by one use at most per slot (INVARIANT no-starvation).
"""

from __future__ import annotations

import heapq
from itertools import count
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from agentos.kernel.tree import Tree

__all__ = ["Slots"]


class Slots:
    """A fair counting semaphore. `acquire_now` succeeds without suspending while slots are free."""

    def __init__(self, name: str, capacity: int) -> None:
        assert capacity >= 1, "a resource without slots can never be used"
        self.name = name
        self.free = capacity
        self._waiting: list[tuple[float, int, anyio.Event]] = []
        self._tick = count()
        self._virtual: dict[Tree, float] = {}
        self._now = 0.0

    def acquire_now(self) -> bool:
        """Take a slot if one is free and nobody waits."""
        if self.free and not self._waiting:
            self.free -= 1
            return True
        return False

    async def acquire(self, tree: Tree) -> None:
        """Take a slot, waiting for one in fair order.

        Cancellation: a slot handed over in the same moment is passed on.
        """
        if self.acquire_now():
            return
        start = max(self._now, self._virtual.get(tree, 0.0))
        self._virtual[tree] = start + tree.share
        event = anyio.Event()
        heapq.heappush(self._waiting, (start, next(self._tick), event))
        try:
            await event.wait()
        except BaseException:
            if event.is_set():
                self.release()
            else:
                self._waiting = [entry for entry in self._waiting if entry[2] is not event]
                heapq.heapify(self._waiting)
            raise

    def release(self) -> None:
        """Give a slot back: the next waiter has it at once."""
        if self._waiting:
            self._now, _, event = heapq.heappop(self._waiting)
            event.set()
            return
        self.free += 1
        self._virtual.clear()
