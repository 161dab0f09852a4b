"""Waiting: typed reasons to wake, and the open calls that wait for them.

A handler that cannot answer returns a `Park`; the call is entered here under each of its waits, and the handler is asked again when
one of them comes. Between the handler's look and the entry there is no await, so no wake-up can be lost (xv6's sleep/wakeup rule).
A waiting call of a running program holds an event; a process that was unwound is entered once with all its waits and no event, and
waking it makes it ready.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Protocol

import anyio

from agentos.abi.protocols import Clock
from agentos.abi.syscall import Wait
from agentos.errors import Unavailable
from agentos.kernel.process import AgentProcess, OpenCall

__all__ = ["Agenda", "WaitTable"]

_Told = Callable[[AgentProcess], None]


class Agenda(Protocol):
    """What is due beside waits: it is asked for its earliest time, and rung when that has come."""

    earliest: float | None

    def ring(self, now: float) -> None:
        """Do what is due."""
        ...


class WaitTable:
    """Wait -> the calls that wait for it, and the timers among them in order of due time.

    Args:
        make_ready: Called with a process that was unwound and has a reason to run again.
        past_deadline: Called with a process whose deadline has come.
        wake_task: Called with a process one of whose waiting tasks is about to run.
    """

    def __init__(self, make_ready: _Told, past_deadline: _Told, wake_task: _Told) -> None:
        self._make_ready = make_ready
        self._past_deadline = past_deadline
        self._wake_task = wake_task
        self._by_wait: dict[Wait, dict[OpenCall, None]] = {}
        self._watchers: dict[Wait, anyio.Event] = {}
        self._due: list[tuple[float, int, OpenCall]] = []
        self._deadlines: list[tuple[float, int, AgentProcess]] = []
        self._tick = count()
        self._live_due = 0
        self.timer_changed = anyio.Event()
        self.agenda: Agenda | None = None

    def enter(self, call: OpenCall) -> None:
        """Enter a call under each of its waits."""
        for wait in call.waits:
            self._by_wait.setdefault(wait, {})[call] = None
        if call.due is not None:
            earliest = self.next_due()
            heapq.heappush(self._due, (call.due, next(self._tick), call))
            self._live_due += 1
            if earliest is None or call.due < earliest:
                self.timer_changed.set()  # the sleeper has to look again
        call.process.open_calls[call] = None

    def leave(self, call: OpenCall) -> None:
        """Take a call out again."""
        for wait in call.waits:
            waiting = self._by_wait.get(wait)
            if waiting is not None:
                waiting.pop(call, None)
                if not waiting:
                    del self._by_wait[wait]
        if call.due is not None:
            call.due = None
            self._live_due -= 1
            self._sweep()
        call.process.open_calls.pop(call, None)

    def begin(self, call: OpenCall) -> None:
        """Start a call's wait: from here on no wake-up is lost."""
        call.event = anyio.Event()
        self.enter(call)
        call.process.waiting += 1

    async def finish(self, call: OpenCall) -> None:
        """Wait until one of the reasons of a call that began its wait comes.

        Raises:
            Unavailable: `unavailable.cancelled`, the process got an interrupt signal.

        Cancellation: the call is taken out and nothing else changes.
        """
        assert call.event is not None, "begin comes first"
        try:
            await call.event.wait()
        finally:
            call.process.waiting -= 1
            self.leave(call)
        if call.interrupted:
            raise self.interruption(call)

    def interruption(self, call: OpenCall) -> Unavailable:
        """Return the error of a call whose process got an interrupt signal."""
        return Unavailable("cancelled", f"call {call.number} was interrupted", hint="the process got an interrupt signal")

    def watch_deadline(self, process: AgentProcess, deadline: float) -> None:
        """Have `past_deadline` called when the process still lives at `deadline`."""
        heapq.heappush(self._deadlines, (deadline, next(self._tick), process))
        self.timer_changed.set()

    def wake(self, wait: Wait) -> None:
        """Wake every call that waits for `wait`."""
        for call in list(self._by_wait.get(wait, ())):
            self.wake_call(call)
        watcher = self._watchers.pop(wait, None)
        if watcher is not None:
            watcher.set()

    def watch(self, wait: Wait) -> anyio.Event:
        """Return an event that the next `wake(wait)` sets: for hosts, whose waiting is no process's."""
        return self._watchers.setdefault(wait, anyio.Event())

    def interrupt(self, process: AgentProcess) -> None:
        """Wake every waiting call of a process with an error; those that were unwound get it when they wait again."""
        for call in list(process.open_calls):
            call.interrupted = True
            process.interrupted.update(call.parked)
            self.wake_call(call)

    def wake_due(self, now: float) -> None:
        """Wake every call whose due time has come."""
        while self._due and self._due[0][0] <= now:
            _, _, call = heapq.heappop(self._due)
            if call.due is not None:
                self.wake_call(call)
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, process = heapq.heappop(self._deadlines)
            if not process.ended:
                self._past_deadline(process)
        if self.agenda is not None and self.agenda.earliest is not None and self.agenda.earliest <= now:
            self.agenda.ring(now)

    def next_due(self) -> float | None:
        """Return the earliest due time, None when no call has one."""
        while self._due and self._due[0][2].due is None:
            heapq.heappop(self._due)
        while self._deadlines and self._deadlines[0][2].ended:
            heapq.heappop(self._deadlines)
        heads = [heap[0][0] for heap in (self._due, self._deadlines) if heap]
        if self.agenda is not None and self.agenda.earliest is not None:
            heads.append(self.agenda.earliest)
        return min(heads, default=None)

    async def run(self, clock: Clock) -> None:
        """Wake calls and processes whose time has come, for ever. Sleeps until the earliest; never polls."""
        while True:
            self.timer_changed = anyio.Event()
            due = self.next_due()
            if due is None:
                await self.timer_changed.wait()
                continue
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._cancel_on_change, tasks.cancel_scope)
                await clock.sleep_until(due)
                tasks.cancel_scope.cancel()
            self.wake_due(clock.now())

    async def _cancel_on_change(self, scope: anyio.CancelScope) -> None:
        await self.timer_changed.wait()
        scope.cancel()

    def waiting_on(self, process: AgentProcess) -> tuple[str, ...]:
        """Return what the process waits for, in words, for `ps`."""
        return tuple(sorted({call.doing for call in process.open_calls if call.doing}))

    def wake_call(self, call: OpenCall) -> None:
        """Wake one call: its task, or its process when that was unwound."""
        if call.event is not None:
            if not call.event.is_set():
                call.event.set()
                call.woken = True
                self._wake_task(call.process)  # it counts as active from now on: the kernel is not idle
        else:
            self.leave(call)
            self._make_ready(call.process)

    def _sweep(self) -> None:
        """Keep the heap small when most of its timers ended early."""
        if len(self._due) > 64 and len(self._due) > 2 * self._live_due:
            self._due = [entry for entry in self._due if entry[2].due is not None]
            heapq.heapify(self._due)

    def union(self, process: AgentProcess) -> tuple[tuple[Wait, ...], float | None, str]:
        """Return all waits of a process, the earliest due time among them, and what it waits for in words."""
        calls = list(process.open_calls)
        waits = tuple(dict.fromkeys(wait for call in calls for wait in call.waits))
        return waits, min((c.due for c in calls if c.due is not None), default=None), ", ".join(self.waiting_on(process))
