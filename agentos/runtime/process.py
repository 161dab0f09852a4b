"""`Process`: the host's handle of one process. It holds a pid and grants nothing by itself; the kernel object behind it does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import anyio

from agentos.abi.fence import has_fence, unwrap
from agentos.abi.labels import UNTRUSTED
from agentos.abi.limits import CALLS_IN_FLIGHT_MAX, QUERY_S, RETRIES_MAX
from agentos.abi.records import AccountRecord, Change, ProcessRecord
from agentos.abi.values import CapInfo, Event, Exit, ProcessInfo
from agentos.broker.request import Deadline
from agentos.errors import AgentOSError, Invalid, Unavailable
from agentos.kernel.holding import listing
from agentos.kernel.info import exit_from, from_record, info
from agentos.kernel.lifecycle import check_exit, end, fork, signal
from agentos.kernel.process import AgentProcess, ProcessEnded
from agentos.kernel.speculation import check_not_nested, speculate
from agentos.runtime.follower import Follower
from agentos.runtime.outcome import Outcome

if TYPE_CHECKING:
    from agentos.broker.broker import Broker
    from agentos.kernel.core import Core

__all__ = ["Process", "is_end"]

_numbers = count(1)
_LOOK_S = 0.01


class Process:
    """One process, seen by the host.

    Attributes:
        pid: Its pid.
    """

    def __init__(self, core: Core, broker: Broker, pid: int) -> None:
        self._core = core
        self._broker = broker
        self.pid = pid

    def __repr__(self) -> str:
        """Return the pid."""
        return f"<agentos.Process {self.pid}>"

    # --- calls --------------------------------------------------------------------------------------------------------------

    async def call(
        self, op: str, /, *, key: str | None = None, timeout_s: float | None = None, retries: int = 0, **args: Any
    ) -> Any:
        """Make one syscall as this process, through the door, and return its value once its row is durable.

        Args:
            op: Name of the op.
            key: Makes the call joinable: the same key gets the same call's result, also after a crash.
            timeout_s: Seconds, waiting for people included, after which the call is cancelled with `unavailable.timeout`.
            retries: How often an `Unavailable` that cannot have happened is tried again; every attempt is journaled.
            args: Arguments of the op. They count as made by a model, except those in `agentos.trusted(...)`.

        Raises:
            Denied, Unavailable, Invalid: see `agentos.errors`; `error.seq` is the journal number.

        Cancellation: before the effect was admitted the call and its ask are withdrawn; after, the effect is cancelled and
            journaled as it ended.
        """
        if not 0 <= retries <= RETRIES_MAX:
            raise Invalid("argument", f"retries is {retries}", hint=f"give 0 to {RETRIES_MAX}", field="retries")
        for attempt in range(retries + 1):
            try:
                return (await self._attempt(op, args, key, timeout_s))[0]
            except Unavailable as error:
                if error.may_have_happened or attempt == retries or error.code == "unavailable.cancelled":
                    raise
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self, op: str, args: dict[str, Any], key: str | None, timeout_s: float | None, branch: str = ""
    ) -> tuple[Any, int]:
        """Make the call once; returns its value and the number of its last row. `branch` is its place among calls made together."""
        if timeout_s is None:
            return await self._walk(op, args, key, None, branch)
        with anyio.move_on_after(timeout_s) as scope:
            deadline = Deadline(scope.deadline)
            return await self._walk(op, args, key, deadline)
        raise Unavailable(
            "timeout",
            f"`{op}` took over {timeout_s:g} s",
            may_have_happened=deadline.may_have_happened,
            hint="give it more time",
            pid=self.pid,
        )

    async def _walk(
        self, op: str, args: dict[str, Any], key: str | None, deadline: Deadline | None, branch: str = ""
    ) -> tuple[Any, int]:
        core, process = self._core, self._live()
        if process.host_calls >= CALLS_IN_FLIGHT_MAX:
            raise Unavailable(
                "overloaded", f"process {self.pid} has {CALLS_IN_FLIGHT_MAX} calls in flight", hint="wait for some"
            )
        failure: AgentOSError | None = None
        value = None
        args, vouched = unwrap(args)
        self._enter(process)
        try:
            if key is not None:
                value = await self._broker.join(process, op, args, key=key, deadline=deadline, vouched=vouched)
            else:
                number = branch or f"h{core.store.epoch}-{next(_numbers)}"
                value = await self._broker.call(process, op, args, number=number, deadline=deadline, vouched=vouched)
        except ProcessEnded:
            raise Invalid("state", f"process {self.pid} has ended", hint="see `agentos ps --all`", pid=self.pid) from None
        except AgentOSError as error:
            failure = error
        finally:
            seq = process.last_seq
            self._leave(process)
        if failure is None or failure.seq is not None:
            await core.journal.durable(seq)
        if failure is not None:
            raise failure
        return value, seq

    def _enter(self, process: AgentProcess) -> None:
        """A host call begins: while it is under way, the process is not unwound."""
        process.host_calls += 1
        process.branches += 1
        self._core.scheduler.resume(process)
        self._core.scheduler.wakes(process)

    def _leave(self, process: AgentProcess) -> None:
        """A host call is over: what `ps` shows of a host process follows from the calls that are left."""
        self._core.scheduler.suspend(process)
        process.branches -= 1
        process.host_calls -= 1
        if process.scope is not None and not process.ended:
            self._broker.door.look_whether_waiting(process)
        if process.hosted and not process.ended and process.record.state != "paused":
            process.state = "waiting" if process.branches and process.waiting >= process.branches else "ready"

    async def calls(self, calls: Iterable[tuple[str, dict[str, Any]]]) -> list[Outcome]:
        """Make several calls in parallel (CALLS_IN_FLIGHT_MAX at once) and return their outcomes in order; raises nothing they raise."""
        wanted = list(calls)
        outcomes: list[Outcome | None] = [None] * len(wanted)
        room = anyio.Semaphore(CALLS_IN_FLIGHT_MAX)
        together = f"h{self._core.store.epoch}-{next(_numbers)}"

        async def make(index: int, op: str, args: dict[str, Any]) -> None:
            async with room:
                try:
                    value, seq = await self._attempt(op, args, None, None, f"{together}.{index + 1}.1")
                    outcomes[index] = Outcome(True, value, None, seq)
                except AgentOSError as error:
                    outcomes[index] = Outcome(False, None, error, error.seq)

        async with anyio.create_task_group() as tasks:
            for index, (op, args) in enumerate(wanted):
                tasks.start_soon(make, index, op, args)
        return [outcome for outcome in outcomes if outcome is not None]

    # --- life ---------------------------------------------------------------------------------------------------------------

    async def wait(self, timeout_s: float | None = None) -> Exit:
        """Wait until the process has ended.

        Raises:
            TimeoutError: it has not ended within `timeout_s` seconds; it was not touched.
        """
        core = self._core
        with anyio.fail_after(timeout_s):
            while core.processes.get(self.pid) is not None:
                await core.waits.watch(("child", self.pid)).wait()
            record = self._record()
            await core.journal.durable(record.seq)
        return exit_from(record)

    async def signal(self, what: str) -> None:
        """Send pause, resume, interrupt or kill."""
        if what not in ("pause", "resume", "interrupt", "kill"):
            raise Invalid("argument", f"there is no signal `{what}`", hint="pause, resume, interrupt or kill", field="signal")
        core, process = self._core, self._live()
        changes: list[Change] = []
        signal(core, process, what, changes)
        await core.journal.durable(core.note(self.pid, "state", {"signal": what, "state": process.state}, changes))

    async def exit(self, value: Any = None) -> None:
        """End a host process with a value.

        Raises:
            Invalid: the value does not fit the result schema of its image; the process goes on.
        """
        core, process = self._core, self._live()
        check_exit(process, value)
        changes: list[Change] = []
        end(core, process, "exited", changes, value)
        await core.journal.durable(core.note(self.pid, "exited", {"state": "exited"}, changes))

    async def send(self, value: Any, channel: str = "main") -> int:
        """Send a message from the host and return its id."""
        core, process = self._core, self._live()
        changes: list[Change] = []
        labels = UNTRUSTED if has_fence(value) else 0
        message = core.mail.send(
            process.pid, value, channel, changes, sender=0, labels=labels, reply_to=None, now=core.clock.now()
        )
        core.waits.wake(("message", process.pid, channel))
        await core.journal.durable(core.note(self.pid, "message", {"message": message, "channel": channel}, changes))
        return message

    async def fork(self, *, grant: Iterable[str] = (), goal: Any = None, speculative: bool = False) -> Process:
        """Fork the process: a child with the same program state at its last point, an empty mailbox, and only what `grant` names.

        A speculative one changes files in an overlay, for `Kernel.merge` or `Kernel.drop`, and has no other effects outside.
        """
        core, process = self._core, self._live()
        changes: list[Change] = []
        if speculative:
            check_not_nested(process)
        child = fork(core, process, tuple(grant), goal, changes)
        if speculative:
            speculate(core, child, changes)
        await core.journal.durable(
            core.note(child.pid, "spawned", {"image": child.record.image, "parent": self.pid, "fork": True}, changes)
        )
        return Process(self._core, self._broker, child.pid)

    async def checkpoint(self, note: str = "") -> str:
        """Name this point of the process and its descendants, to go back to or to start from; returns its id. Costs one row.

        Raises:
            Invalid: the process has ended, or the note is too long.
        """
        core, process = self._core, self._live()
        changes: list[Change] = []
        record = core.checkpoints.save(process, note, changes, by=0, now=core.clock.now())
        await core.journal.durable(core.note(self.pid, "checkpoint", {"checkpoint": record.checkpoint, "note": note}, changes))
        return record.checkpoint

    async def query(self, name: str) -> Any:
        """Return what the program exposed under `name` with `sys.expose`.

        A program that was parked has given its memory back: it runs again, as far as it had come, to answer. No call of it is repeated.

        Raises:
            Unavailable: `unavailable.missing`, it exposes nothing of that name now.
        """
        process = self._live()
        if name in process.queries or process.running or process.hosted or process.record.state == "paused":
            return self._exposed(process, name)
        return await self._brought_back(process, name)

    def _exposed(self, process: AgentProcess, name: str) -> Any:
        queries = process.queries
        if name not in queries:
            raise Unavailable(
                "missing", f"process {self.pid} exposes no `{name}`", hint=f"it exposes {', '.join(queries) or 'nothing'}"
            )
        value = queries[name]
        return value() if callable(value) else value

    async def _brought_back(self, process: AgentProcess, name: str) -> Any:
        """Have a parked program run again until it exposes `name`, or waits where it waited; it keeps its memory until it has answered."""
        core = self._core
        if core.runner.can_run(process):
            self._enter(process)
            try:
                core.scheduler.ready(process)
                with anyio.move_on_after(QUERY_S):
                    while not (process.ended or name in process.queries or _waits_beside(process)):  # noqa: ASYNC110 - no event says so
                        await anyio.sleep(_LOOK_S)
                return self._exposed(process, name)
            finally:
                self._leave(process)
        return self._exposed(process, name)

    # --- looking ------------------------------------------------------------------------------------------------------------

    async def stream(self, text: Any = None, *, since: int | None = None) -> AsyncIterator[Event]:
        """Yield what this process does, as it happens, until it has ended; with `text`, send that and end with its answer.

        The events are those of `Kernel.events`, and ``delta``, pieces of what a model says. A text that the process tells in reply to a
        message is an event ``answer``: its data has `text` and `reply_to`, the message. A react process that gets messages while it works
        answers all of them at once: an answer to a later message is one to this.
        Who is slow misses pieces of what a model says, nothing else. An ended process has no events but past ones.

        Args:
            text: Message to send first, as `send` would.
            since: Journal number; what happened after that row comes first. None: from now on.

        Raises:
            Invalid: there is no such process, or `text` is for one that has ended.

        Cancellation: safe at any event; nothing of the process is touched.
        """
        follower = Follower(self._core, self.pid, since)  # follows before anything is sent
        try:
            process = self._live() if text is not None else self._core.processes.get(self.pid)
            takes_later = process is not None and process.record.program == "react"
            self._record()
            message = await self.send(text) if text is not None else None
            async for event in follower:
                shown = _as_answer(event)
                yield shown
                if is_end(event) or (message is not None and _answers(shown, message, takes_later)):
                    return
        finally:
            follower.close()

    async def caps(self) -> list[CapInfo]:
        """Return its live capabilities."""
        return listing(self._core, self._live().pid)

    @property
    def info(self) -> ProcessInfo:
        """What `ps` shows of it, ended or not."""
        core = self._core
        process = core.processes.get(self.pid)
        return (
            info(core, process) if process is not None else from_record(self._record(), core.store.get(AccountRecord, self.pid))
        )

    @property
    def usage(self) -> dict[str, float]:
        """What it and its descendants have used so far."""
        return self.info.usage

    def _live(self) -> AgentProcess:
        return self._core.processes.find(self.pid)

    def _record(self) -> ProcessRecord:
        record = self._core.store.get(ProcessRecord, self.pid)
        if record is None:
            raise Invalid("argument", f"there is no process {self.pid}", hint="see `agentos ps --all`", pid=self.pid)
        return record


def is_end(event: Event) -> bool:
    """Say whether an event is the end of its process."""
    return event.kind == "exited" or (event.kind == "call" and event.data.get("op") == "proc.exit")


def _as_answer(event: Event) -> Event:
    """Return a text that replies to a message as an ``answer``, and any other event as it is."""
    is_answer = event.kind == "call" and event.data.get("op") == "human.tell" and event.data.get("reply_to") is not None
    return replace(event, kind="answer") if is_answer else event


def _answers(event: Event, message: int, takes_later: bool) -> bool:
    if event.kind != "answer":
        return False
    answered: int = event.data["reply_to"]
    return answered == message or (takes_later and answered > message)


def _waits_beside(process: AgentProcess) -> bool:
    """Say whether the program of a process waits, while one host call is under way."""
    return process.running and process.waiting >= process.branches - 1
