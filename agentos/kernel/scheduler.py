"""The scheduler: which ready process runs next, and when a running one must let others go first.

Protocol. Every tree has a virtual time; each of its calls costs 1/weight of it (start-time fair queueing). Two places use it:

    admission   ready processes are started in order of their tree's virtual time while fewer than ACTIVE_MAX are active
    the door    a call of a tree that leads the slowest *active* tree by more than FAIR_LEAD_CALLS waits until that one has caught up

Active = running program code or kernel code. A process inside a device, waiting for the disk, or parked is not active, holds nobody
back, and gets no credit for it: a tree that becomes active again starts from the present. A tree that is active but makes no call for
STALL_S (it computes, or awaits something foreign) is not waited for either.

INVARIANT no-starvation: a ready process makes its next call after at most FAIR_LEAD_CALLS x weight calls of each other active tree,
however many processes those have.

There is no task per waiting process and no timer while nobody is held back.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from agentos.abi.limits import ACTIVE_MAX, FAIR_LEAD_CALLS, RESIDENT_WAITING_MAX, SLICE_S, STEP_LOG_S
from agentos.kernel.turns import Turns

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from agentos.kernel.process import AgentProcess
    from agentos.kernel.tree import Tree

__all__ = ["Scheduler"]

log = logging.getLogger("agentos.kernel")
STALL_S = 0.005


class Scheduler:
    """Admits ready processes and paces calls.

    Args:
        start: ``start(process)`` runs the process's program until it ended or parked.
        unwind: Called with a waiting process whose task and memory are to be given back.
        slow: Called with (process, seconds) when a program held the loop for longer than STEP_LOG_S.
    """

    def __init__(
        self,
        start: Callable[[AgentProcess], Coroutine[Any, Any, None]],
        unwind: Callable[[AgentProcess], None],
        slow: Callable[[AgentProcess, float], None],
    ) -> None:
        self._start = start
        self._unwind = unwind
        self._slow = slow
        self._ready: dict[Tree, deque[AgentProcess]] = {}
        self._order: list[tuple[float, int, Tree]] = []
        self._held: list[tuple[float, int, Tree, anyio.Event]] = []
        self._actives: list[tuple[float, int, Tree]] = []
        self._resident: dict[AgentProcess, None] = {}
        self._tick = count()
        self._floor = 0.0
        self._turns = Turns()
        self._yielding = 0
        self._charges = 0
        self._work = anyio.Event()
        self._held_back = anyio.Event()
        self._idle: anyio.Event | None = None
        self.active = 0
        self.running = 0
        self.admitting = True
        self.resident_max = RESIDENT_WAITING_MAX

    # --- admission ----------------------------------------------------------------------------------------------------------

    def ready(self, process: AgentProcess) -> None:
        """Queue a process that has something to run; one that is just being unwound runs again afterwards."""
        if process.running:
            process.rerun = True
        if process.queued or process.running or process.ended or process.record.state == "paused":
            return
        process.queued = True
        process.state = "ready"
        queue = self._ready.setdefault(process.tree, deque())
        queue.append(process)
        if len(queue) == 1:
            self._catch_up(process.tree)
            heapq.heappush(self._order, (process.tree.virtual, next(self._tick), process.tree))
        self._work.set()

    def withdraw(self, process: AgentProcess) -> None:
        """Take a queued process out of the queue (it was killed or paused)."""
        if process.queued:
            process.queued = False
            queue = self._ready[process.tree]
            queue.remove(process)
            if not queue:
                del self._ready[process.tree]
                self._look_whether_idle()

    async def run(self, tasks: TaskGroup) -> None:
        """Start ready processes for ever, each as a task of `tasks`."""
        tasks.start_soon(self._release_stalled)
        tasks.start_soon(self._turns.run)
        while True:
            await self._work.wait()
            self._work = anyio.Event()
            while self.admitting and self.active < ACTIVE_MAX and (process := self._next()) is not None:
                self._begin(process, tasks)

    def _next(self) -> AgentProcess | None:
        while self._order:
            _, _, tree = heapq.heappop(self._order)
            queue = self._ready.get(tree)
            if queue is None:
                continue  # all its processes were withdrawn, or a later entry was served
            process = queue.popleft()
            if queue:
                heapq.heappush(self._order, (tree.virtual + tree.share, next(self._tick), tree))
            else:
                del self._ready[tree]
            process.queued = False
            return process
        return None

    def _begin(self, process: AgentProcess, tasks: TaskGroup) -> None:
        assert not process.running, "a process runs in one task at most"
        process.running = True
        process.tree.virtual += process.tree.share
        self.running += 1
        self.resume(process)
        tasks.start_soon(self._run, process)

    async def _run(self, process: AgentProcess) -> None:
        process.slice_start = time.perf_counter()
        with anyio.CancelScope() as scope:
            process.scope = scope
            try:
                await self._start(process)
            finally:
                process.scope = None
                process.running = False
                process.unwinding = process.ended
                self.running -= 1
                self._resident.pop(process, None)
                self.suspend(process)
        self._work.set()
        if process.rerun:
            process.rerun = False
            self.ready(process)

    # --- the door -----------------------------------------------------------------------------------------------------------

    def charge(self, process: AgentProcess) -> bool:
        """Account one call. True when the caller must `await turn(process)` before it goes on."""
        tree = process.tree
        virtual = tree.virtual = tree.virtual + tree.share
        self._charges += 1
        if tree.stalled:
            tree.stalled = False
            self._catch_up(tree)
            self._enter(tree)
        now = time.perf_counter()
        if now - process.slice_start > SLICE_S:
            return True
        return virtual - self._floor > FAIR_LEAD_CALLS * tree.share and self._leads(tree)

    async def turn(self, process: AgentProcess) -> None:
        """Let others run: until this process's tree no longer leads too far, or just once round the loop."""
        held = time.perf_counter() - process.slice_start
        if held > STEP_LOG_S and not process.hosted:
            self._slow(process, held)
        tree = process.tree
        if not self._leads(tree):
            if self._held:
                self._release()
            await self._yield()
            process.slice_start = time.perf_counter()
            return
        self.suspend(process)
        event = anyio.Event()
        heapq.heappush(self._held, (tree.virtual, next(self._tick), tree, event))
        self._held_back.set()
        try:
            await event.wait()
        finally:
            if not event.is_set() and any(entry[3] is event for entry in self._held):
                self._held = [entry for entry in self._held if entry[3] is not event]
                heapq.heapify(self._held)
                self._activate(tree)
            process.slice_start = time.perf_counter()

    async def _yield(self) -> None:
        """Go on in a later round of the loop. The tree stays active, so nobody gets ahead of it; its slot is free for one that is ready."""
        self.active -= 1
        self._yielding += 1
        if self._ready:
            self._work.set()
        try:
            await self._turns.wait()
        finally:
            self._yielding -= 1
            self.active += 1

    def suspend(self, process: AgentProcess) -> None:
        """The process stops running code: it waits for the disk, a device or a reason to wake."""
        tree = process.tree
        tree.active -= 1
        self.active -= 1
        assert tree.active >= 0, "suspended twice"
        if self._held:
            self._release()
        if self._ready:
            self._work.set()
        else:
            self._look_whether_idle()

    def _look_whether_idle(self) -> None:
        if self._idle is not None and self.is_quiet:
            self._idle.set()

    @property
    def is_quiet(self) -> bool:
        """True when no process is ready, held back or runs code."""
        return self.active == 0 and not self._ready and not self._held and not self._yielding

    async def quiet(self) -> None:
        """Wait until no process is ready or runs code (effects and timers may still be under way)."""
        while not self.is_quiet:
            if self._idle is None or self._idle.is_set():
                self._idle = anyio.Event()
            await self._idle.wait()

    def resume(self, process: AgentProcess) -> None:
        """The process runs code again."""
        if not process.tree.entered:
            self._catch_up(process.tree)
        self._activate(process.tree)
        process.slice_start = time.perf_counter()

    def _activate(self, tree: Tree) -> None:
        """Count one more active process of a tree. One that was held back keeps its virtual time: it did not choose to wait."""
        tree.active += 1
        self.active += 1
        self._enter(tree)

    def _enter(self, tree: Tree) -> None:
        if not tree.entered:
            tree.entered = True
            heapq.heappush(self._actives, (tree.virtual, next(self._tick), tree))

    def waits(self, process: AgentProcess) -> None:
        """Every call of a running process waits: it may be unwound when too many such processes keep their task."""
        self._resident.pop(process, None)
        self._resident[process] = None
        if len(self._resident) > self.resident_max:
            oldest = next(iter(self._resident))
            del self._resident[oldest]
            self._unwind(oldest)

    def wakes(self, process: AgentProcess) -> None:
        """The process has something to do again and keeps its task."""
        self._resident.pop(process, None)

    # --- virtual time -------------------------------------------------------------------------------------------------------

    def _catch_up(self, tree: Tree) -> None:
        """Waiting earns no credit."""
        if (tree.active == 0 or not tree.entered) and tree.virtual < self._floor:
            tree.virtual = self._floor

    def _leads(self, tree: Tree) -> bool:
        self._raise_floor()
        return tree.virtual - self._floor > FAIR_LEAD_CALLS * tree.share

    def _raise_floor(self) -> None:
        """Bring the floor up to the virtual time of the slowest tree that is active and not stalled."""
        actives = self._actives
        while actives:
            virtual, _, tree = actives[0]
            if tree.active == 0 or tree.stalled:
                heapq.heappop(actives)
                tree.entered = False
            elif tree.virtual > virtual:
                heapq.heapreplace(actives, (tree.virtual, next(self._tick), tree))
            else:
                break
        if actives:
            self._floor = max(self._floor, actives[0][0])
        elif self._held:
            self._floor = max(self._floor, self._held[0][0])

    def _release(self) -> None:
        """Let go those who no longer lead too far."""
        self._raise_floor()
        while self._held:
            virtual, _, tree, event = self._held[0]
            if virtual - self._floor > FAIR_LEAD_CALLS * tree.share:
                break
            heapq.heappop(self._held)
            self._turns.queue(event)
            self._activate(tree)  # at once: until it runs, the others may not get ahead of it again

    async def _release_stalled(self) -> None:
        """While processes are held back: stop waiting for trees that are active but make no calls."""
        while True:
            await self._held_back.wait()
            self._held_back = anyio.Event()
            while self._held:
                charges = self._charges
                await anyio.sleep(STALL_S)
                await anyio.lowlevel.checkpoint()  # whoever was only kept from running, by a commit say, has run since
                if charges == self._charges:
                    for _, _, tree in self._actives:
                        tree.stalled = True
                self._release()
