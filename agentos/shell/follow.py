"""`Follower`: watches one process tree until its root has ended, and sees that somebody answers its asks.

    events --> Watch --> View                asks --> People                idle with an ask that nobody here answers --> stop, pending

INVARIANT following-changes-nothing: a follower that stops, for whatever reason, ends no process; it only answers what it was told to.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, cast

import anyio

from agentos.abi.values import Event, Exit, ProcessInfo
from agentos.kernel.ask import Ask
from agentos.runtime.clock import SystemClock
from agentos.shell import words
from agentos.shell.people import People
from agentos.shell.talk import WAITS_FOR_MESSAGE, Talk
from agentos.shell.views import View
from agentos.shell.watch import Denial, Notable, Watch

if TYPE_CHECKING:
    from anyio.abc import TaskGroup

    from agentos.runtime.kernel import Kernel
    from agentos.shell.interrupts import Interrupts

__all__ = ["Followed", "Follower"]

_LOOK_S = 0.25
_LOOK_SHARE = 10  # a look that takes long is taken less often: at most this part of the time
_REST_S = 0.5
_EARLIER_MAX = 20
_IDLE_LOOKS = 2  # looks in a row at which nothing of the tree runs, before it counts as waiting for people alone


@dataclass(frozen=True, slots=True)
class Followed:
    """How following ended: `exit` of the root, or None and the asks it waits for. `infos` is the whole tree, root first."""

    pid: int
    exit: Exit | None
    infos: list[ProcessInfo]
    asks: list[Ask] = field(default_factory=list)


class Follower:
    """Follows one tree.

    Args:
        kernel: The kernel that runs it, here or in another process.
        people: Who answers asks.
        view: Where it is shown.
        watch: What is known of it.
        interrupts: Asks what Ctrl-C means; None: it is not caught.
        talk: The conversation with the root, None where the person only looks on.
    """

    def __init__(
        self, kernel: Kernel, people: People, view: View, watch: Watch, *, interrupts: Interrupts | None = None,
        talk: Talk | None = None,
    ) -> None:  # fmt: skip
        self._interrupts = interrupts
        self._talk = talk
        self._waited = 0
        self._kernel = kernel
        self._people = people
        self._view = view
        self.watch = watch
        self._clock = SystemClock()
        self._asked: set[int] = set()
        self._left: dict[int, Ask] = {}
        self._one_at_a_time = anyio.Lock()
        self._stop = anyio.Event()

    async def follow(self, pid: int, *, since: int, timeout_s: float | None = None, resumed: bool = False) -> Followed:
        """Follow a process to its end.

        Args:
            pid: The root.
            since: Journal number before its first event of interest.
            timeout_s: Seconds after which to stop.
            resumed: Show first what was denied before `since`.

        Raises:
            TimeoutError: it has not ended within `timeout_s` seconds; it was not touched.
        """
        self.watch.root = pid
        self.watch.last_seq = since
        exit_: Exit | None = None
        await self._look(ended=True)
        if resumed:
            await self._tell_earlier_denials(since)
        with anyio.fail_after(timeout_s):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._hear)
                tasks.start_soon(self._keep_looking)
                tasks.start_soon(self._stop_at_end, tasks.cancel_scope)
                exit_ = await self._kernel.process(pid).wait()
                tasks.cancel_scope.cancel()
        await self._look(ended=True)
        await self._hear_the_rest()
        await self._look(ended=True)
        asks = [] if exit_ is not None else [ask for ask in await self._kernel.asks() if ask.id in self._left]
        return Followed(pid, exit_, sorted(self.watch.infos.values(), key=lambda info: info.pid), asks)

    async def _stop_at_end(self, scope: anyio.CancelScope) -> None:
        await self._stop.wait()
        scope.cancel()

    # --- hearing ------------------------------------------------------------------------------------------------------------

    async def _hear(self) -> None:
        """Take events, and again from the last one whenever the stream of them ended early."""
        while True:
            async with aclosing(self._events()) as events:
                async for event in events:
                    self._take(event)
            await anyio.sleep(_LOOK_S)

    async def _hear_the_rest(self) -> None:
        """Take the events that were written between the last one heard and the end, while they come."""
        core = getattr(self._kernel, "core", None)
        last = core.journal.head if core is not None else math.inf
        with anyio.move_on_after(_REST_S):
            async with aclosing(self._events()) as events:
                while self.watch.last_seq < last and (core is not None or self.watch.root not in self.watch.ended):
                    self._take(await anext(events))

    def _events(self) -> AsyncGenerator[Event, None]:
        return cast("AsyncGenerator[Event, None]", self._kernel.events(since=self.watch.last_seq))

    def _take(self, event: Event) -> None:
        for each in self.watch.hear(event):
            self._show(each)

    def _show(self, each: Notable) -> None:
        if self._talk is None or not isinstance(each, Event) or not self._talk.hear(each):
            self._view.happened(each)

    async def _tell_earlier_denials(self, since: int) -> None:
        for pid in list(self.watch.infos):
            async for entry in self._kernel.audit(pid=pid, outcome="denied"):
                if entry.seq <= since:
                    resource = words.quoted(entry.resource, 200)
                    self.watch.denials[entry.seq] = Denial(entry.seq, pid, entry.op, resource, entry.code, entry.rule)
        earlier = sorted(self.watch.denials)
        if len(earlier) > _EARLIER_MAX:
            self._view.say(f"{len(earlier) - _EARLIER_MAX} more calls were denied before")
        for seq in earlier[-_EARLIER_MAX:]:
            self._view.say(f"{self.watch.denials[seq]}  (before)")

    # --- looking ------------------------------------------------------------------------------------------------------------

    async def _keep_looking(self) -> None:
        idle = 0
        async with anyio.create_task_group() as tasks:
            while True:
                before = self._clock.now()
                await self._look(ended=self.watch.is_blind)
                await self._see_asks(tasks)
                self._view.redraw(self.watch, self._clock.now())
                self._see_person(tasks)
                idle = idle + 1 if self._left and self._is_idle() else 0
                if idle >= _IDLE_LOOKS:
                    self._stop.set()
                await anyio.sleep(max(_LOOK_S, _LOOK_SHARE * (self._clock.now() - before)))

    async def _look(self, *, ended: bool) -> None:
        known = {pid for pid, info in self.watch.infos.items() if info.exit is None and pid not in self.watch.ended}
        infos = await self._kernel.ps(all=ended)
        if not ended and known - {info.pid for info in infos}:
            infos = await self._kernel.ps(all=True)
        self._view.begun(self.watch.see(infos))
        for event in self.watch.recall():
            self._show(event)

    def _is_idle(self) -> bool:
        live = [info for info in self.watch.infos.values() if info.exit is None]
        return all(info.state in ("waiting", "paused") for info in live)

    # --- the person ---------------------------------------------------------------------------------------------------------

    def _see_person(self, tasks: TaskGroup) -> None:
        """Have the person asked what they pressed Ctrl-C for, or for the message that the root waits for."""
        root = self.watch.infos.get(self.watch.root)
        if self._interrupts is not None and self._interrupts.pending:
            self._interrupts.pending = False
            tasks.start_soon(self._aside, self._interrupts.decide)
        if self._talk is not None:
            if self._talk.is_over:
                self._stop.set()
            elif self._talk.take_turn(root, self.watch.last_seq):
                tasks.start_soon(self._aside, self._talk.speak)
        elif root is not None and WAITS_FOR_MESSAGE in root.waiting_on:
            self._waited += 1
            if self._waited == _IDLE_LOOKS:
                ways = f"`agentos send {root.pid} TEXT`, or `agentos attach {root.pid} -i`"
                self._view.say(f"waits     pid {root.pid} for a message: {ways}")
        else:
            self._waited = 0

    async def _aside(self, question: Callable[[], Awaitable[None]]) -> None:
        """Ask the person something, one question at a time."""
        async with self._one_at_a_time:
            with self._view.aside():
                await question()

    # --- asks ---------------------------------------------------------------------------------------------------------------

    async def _see_asks(self, tasks: TaskGroup) -> None:
        pending = [ask for ask in await self._kernel.asks() if ask.pid in self.watch.infos]
        self._left = {ask.id: ask for ask in pending if ask.id in self._left}
        fresh = [ask for ask in pending if ask.id not in self._asked]
        self._asked.update(ask.id for ask in fresh)
        for ask in fresh:
            if self._people.has_approved(ask):
                await self._people.approve(self._kernel, ask)
            elif self._people.is_present:
                tasks.start_soon(self._aside, partial(self._people.consult, self._kernel, ask))
            else:
                self._left[ask.id] = ask
