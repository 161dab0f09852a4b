"""`sys`: what a Python program sees of the world.

    await sys("fs.read", path="/a")     one syscall; `await sys.fs.read("/a")` is the same
    await sys.gather(call, call, ...)   calls or async functions in parallel
    await sys.save(state)               a save point: after a crash the program starts again from its top with `sys.state`

Every call has a number: 1, 2, 3 in the order it is issued, and 4.2.1 for the first call of the second branch of a gather that is
itself number 4. The number depends only on what the program did before, so a program that runs again makes the same calls under the same
numbers and gets their journaled results. That is why two calls may be open at once only inside gather.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from agentos.abi.codec import decode
from agentos.abi.limits import CALLS_IN_FLIGHT_MAX, GATHER_WIDTH_MAX
from agentos.errors import Invalid
from agentos.kernel.process import AgentProcess, ProcessEnded

if TYPE_CHECKING:
    from agentos.broker.broker import Broker

__all__ = ["Sys"]

_branch: ContextVar[Branch] = ContextVar("agentos_branch")


class Branch:
    """One line of control of a program: the program itself, or one branch of a gather."""

    __slots__ = ("busy", "count", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.count = 0
        self.busy = ""


class Sys:
    """The syscalls of one running program, and what it was started with."""

    __slots__ = ("_broker", "_process", "_room", "state")

    def __init__(self, broker: Broker, process: AgentProcess, state: Any) -> None:
        self._broker = broker
        self._process = process
        self._room = anyio.Semaphore(CALLS_IN_FLIGHT_MAX)
        self.state = state
        _branch.set(Branch(""))

    @property
    def pid(self) -> int:
        """The process's own pid."""
        return self._process.pid

    @property
    def goal(self) -> Any:
        """The goal it was started with, None when there is none."""
        return self._process.goal

    @property
    def args(self) -> dict[str, Any]:
        """The arguments it was started with."""
        args = self._process.record.args
        return decode(args) if args else {}

    def expose(self, name: str, value: Any) -> None:
        """Let others see a value with `Process.query(name)` while the program runs: a value, or a function that returns one."""
        self._process.queries[name] = value

    async def __call__(self, op: str, /, *positional: Any, **args: Any) -> Any:
        """Make one syscall and return its value.

        Raises:
            AgentOSError: it was denied, failed or is invalid.
        """
        branch = _branch.get()
        if branch.busy:
            raise Invalid(
                "state", f"`{op}` was called while `{branch.busy}` is open", hint="run calls in parallel with sys.gather"
            )
        number = self._number(branch)
        if positional:
            args = self._broker.core.ops.find(op).named(positional, args)
        branch.busy = op
        try:
            if branch.prefix:
                await self._find_room()
                try:
                    return await self._broker.call(self._process, op, args, number=number)
                finally:
                    self._room.release()
            return await self._broker.call(self._process, op, args, number=number)
        finally:
            branch.busy = ""

    async def _find_room(self) -> None:
        """Wait until fewer than CALLS_IN_FLIGHT_MAX calls are open; a branch that waits for this runs no code, as if its call waited."""
        try:
            self._room.acquire_nowait()
        except anyio.WouldBlock:
            process, core = self._process, self._broker.core
            process.waiting += 1
            core.scheduler.suspend(process)
            self._broker.door.look_whether_waiting(process)
            try:
                await self._room.acquire()
            finally:
                process.waiting -= 1
                core.scheduler.resume(process)
                core.scheduler.wakes(process)

    def _number(self, branch: Branch) -> str:
        if branch.prefix:
            branch.count += 1
            return f"{branch.prefix}.{branch.count}"
        self._process.next_number += 1
        return str(self._process.next_number)

    async def save(self, state: Any = None) -> None:
        """Make a save point: after a crash the program starts from its top with this as `sys.state`.

        Raises:
            Invalid: `invalid.state` inside gather.
        """
        await self("proc.save", state=state)
        self.state = state

    async def gather(self, *calls: Any) -> list[Any]:
        """Run calls (``sys.fs.read(...)``) or async functions in parallel and return their values in order.

        All of them are settled before the first error, in order, is raised. At most CALLS_IN_FLIGHT_MAX calls are open at once.
        """
        if len(calls) == 1 and isinstance(calls[0], list | tuple):
            calls = tuple(calls[0])
        if len(calls) > GATHER_WIDTH_MAX:
            raise Invalid("argument", f"gather of {len(calls)} branches, {GATHER_WIDTH_MAX} at most", hint="work in portions")
        if not calls:
            return []
        branch = _branch.get()
        if branch.busy:
            raise Invalid(
                "state", f"gather was called while `{branch.busy}` is open", hint="nest gather inside gather's functions"
            )
        number, branch.busy = self._number(branch), "gather"
        try:
            return _values(await self._run_branches(number, calls))
        finally:
            branch.busy = ""

    async def _run_branches(self, number: str, calls: tuple[Any, ...]) -> list[tuple[Any, BaseException | None]]:
        process, scheduler = self._process, self._broker.core.scheduler
        outcomes: list[tuple[Any, BaseException | None]] = [(None, None)] * len(calls)
        process.branches += len(calls) - 1
        for _ in range(len(calls) - 1):
            scheduler.resume(process)
        finished = 0

        async def run(index: int, call: Any) -> None:
            nonlocal finished
            _branch.set(Branch(f"{number}.{index + 1}"))
            try:
                outcomes[index] = (await _awaitable(call), None)
            except (Exception, ProcessEnded) as error:  # noqa: BLE001 - a branch is a task edge; gather raises it
                outcomes[index] = (None, error)
            finally:
                finished += 1
                if finished < len(calls):
                    process.branches -= 1
                    scheduler.suspend(process)
                    self._broker.door.look_whether_waiting(process)

        async with anyio.create_task_group() as tasks:
            for index, call in enumerate(calls):
                tasks.start_soon(run, index, call)
        return outcomes

    def __getattr__(self, family: str) -> _Family:
        """Return the ops of a device: ``sys.fs``."""
        if family.startswith("_"):
            raise AttributeError(family)
        return _Family(self, family)


class _Family:
    """``sys.fs``: its attributes are the ops of one device."""

    __slots__ = ("_name", "_sys")

    def __init__(self, sys: Sys, name: str) -> None:
        self._sys = sys
        self._name = name

    def __getattr__(self, verb: str) -> Callable[..., Awaitable[Any]]:
        return partial(self._sys, f"{self._name}.{verb.removesuffix('_')}")


def _awaitable(call: Any) -> Awaitable[Any]:
    """Return what to await for one branch of a gather: an awaitable, an async function, or ``(op, args)`` is refused clearly."""
    if inspect.isawaitable(call):
        return call
    if callable(call):
        made = call()
        if inspect.isawaitable(made):
            return made
    raise Invalid(
        "argument", f"gather got a `{type(call).__name__}`", hint="give calls such as sys.fs.read(...), or async functions"
    )


def _values(outcomes: list[tuple[Any, BaseException | None]]) -> list[Any]:
    ended = next((error for _, error in outcomes if isinstance(error, ProcessEnded)), None)
    error = ended or next((error for _, error in outcomes if error is not None), None)
    if error is not None:
        raise error
    return [value for value, _ in outcomes]
