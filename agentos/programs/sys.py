"""`sys`: what a Python program sees of the world.

    await sys("fs.read", path="/a")     one syscall; `await sys.fs.read("/a")` is the same
    await sys.gather(call, call, ...)   calls or async functions in parallel
    await sys.save(state)               a save point: after a crash the program starts again from its top with `sys.state`
    sys.options(timeout_s=5, retries=2) the same surface, for calls with a time of their own

Every call has a number: 1, 2, 3 in the order it is issued, and 4.2.1 for the first call of the second branch of a gather that is
itself number 4. The number depends only on what the program did before, so a program that runs again makes the same calls under the same
numbers and gets their journaled results. That is why two calls may be open at once only inside gather.

`sys` makes its calls through a `Side`: the broker, or a tape alone when a past run is only looked at.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextvars import ContextVar
from functools import partial
from pathlib import PurePath
from random import Random
from sys import _getframe
from types import FrameType
from typing import Any, NoReturn, Protocol
from uuid import UUID

import anyio

from agentos.abi.codec import decode
from agentos.abi.limits import BACKOFF_S_MAX, CALLS_IN_FLIGHT_MAX, GATHER_WIDTH_MAX
from agentos.errors import AgentOSError, Invalid
from agentos.kernel.process import AgentProcess, ProcessEnded
from agentos.programs.options import NO_TERMS, Terms, persist, terms

__all__ = ["Side", "Sys"]

_branch: ContextVar[Branch] = ContextVar("agentos_branch")


class Side(Protocol):
    """What stands behind `sys`.

    Attributes:
        identity: Name of the store, of which there is no second one.
    """

    identity: str

    def named(
        self, process: AgentProcess, op: str, positional: tuple[Any, ...], args: dict[str, Any], number: str
    ) -> dict[str, Any]:
        """Return the arguments of call `number` by name."""
        ...

    def refuse(self, process: AgentProcess, op: str, number: str, error: AgentOSError) -> AgentOSError:
        """Have call `number`, which means nothing, written down as refused; return its error, as it was the first time."""
        ...

    def may_repeat(self, op: str) -> bool:
        """Say whether it does no harm to make a call of that op twice."""
        ...

    def call(
        self, process: AgentProcess, op: str, args: dict[str, Any], *, number: str, timeout_s: float | None = None
    ) -> Awaitable[Any]:
        """Make one call, when awaited."""
        ...

    def rest(self, process: AgentProcess) -> None:
        """One line of control of the program has no code to run any more, or for now."""
        ...

    def go_on(self, process: AgentProcess) -> None:
        """One line of control more runs code."""
        ...


class Branch:
    """One line of control of a program: the program itself, or one branch of a gather."""

    __slots__ = ("busy", "count", "drawn", "prefix")

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.count = 0
        self.busy = ""
        self.drawn = ("", 0)


class Call:
    """One call that was written down and not made yet: awaiting it makes it. One that nobody awaits is told at the next call."""

    __slots__ = ("args", "at", "code", "is_made", "is_taken", "op", "positional", "sys", "terms")

    def __init__(
        self, sys: Sys, op: str, positional: tuple[Any, ...], args: dict[str, Any], limits: Terms, frame: FrameType
    ) -> None:
        self.sys = sys
        self.op = op
        self.positional = positional
        self.args = args
        self.terms = limits
        self.code, self.at = frame.f_code, frame.f_lasti  # the line is looked for when it is told: that takes time
        self.is_taken = self.is_made = False

    def __await__(self) -> Generator[Any, Any, Any]:
        """Make the call.

        Raises:
            Invalid: `invalid.state`, it was awaited before.
        """
        if self.is_made:
            raise Invalid(
                "state", f"`{self.op}` {self.told()} was awaited before", hint="keep its value, or write the call again"
            )
        self.is_taken = self.is_made = True
        if self.terms is NO_TERMS:
            return self.sys._attempt(self).__await__()  # noqa: SLF001 - the two are one
        return self.sys._persist(self).__await__()  # noqa: SLF001

    def __del__(self) -> None:
        """Remember a call that was never made."""
        if not self.is_taken:
            self.sys._forget(self)  # noqa: SLF001 - the two are one

    def __wire__(self) -> Any:
        """Refuse to be stored: somebody wants the value, and did not wait for it.

        Raises:
            Invalid: `invalid.state`.
        """
        self.is_taken = True
        raise self.not_awaited()

    def not_awaited(self) -> Invalid:
        """Return the error of a call that was never made."""
        return Invalid(
            "state",
            f"`{self.op}` {self.told()} was written without `await`, so it was not made",
            hint=f"write `await sys.{self.op}(...)`, or give it to sys.gather",
        )

    def told(self) -> str:
        """Return where the program makes it: file, line and function."""
        code, at = self.code, self.at
        line = next((line for start, end, line in code.co_lines() if start <= at < end), None) or code.co_firstlineno
        return f"at {PurePath(code.co_filename).name}:{line}, in {code.co_name}"


class Sys:
    """The syscalls of one running program, and what it was started with."""

    __slots__ = ("_forgotten", "_process", "_room", "_side", "state")

    def __init__(self, side: Side, process: AgentProcess, state: Any) -> None:
        self._side = side
        self._process = process
        self._room = anyio.Semaphore(CALLS_IN_FLIGHT_MAX)
        self._forgotten: Invalid | None = None
        self.state = state
        _branch.set(Branch(""))

    @property
    def pid(self) -> int:
        """The process's own pid."""
        return self._process.pid

    @property
    def ppid(self) -> int:
        """The pid of who started it, 0 for the host."""
        return self._process.record.ppid

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
        """Let others see a value with `Process.query(name)`: a value, or a function that returns one. A parked program runs to answer."""
        self._process.queries[name] = value

    def __call__(self, op: str, /, *positional: Any, **args: Any) -> Call:
        """Return one syscall: awaiting it makes it and returns its value.

        Raises:
            AgentOSError: (when awaited) it was denied, failed or is invalid.
        """
        return Call(self, op, positional, args, NO_TERMS, _getframe(1))

    def options(
        self, *, timeout_s: float | None = None, retries: int = 0, backoff_s: float = 1.0, backoff_s_max: float = BACKOFF_S_MAX
    ) -> Options:
        """Return the same surface for calls with a time of their own: ``await sys.options(timeout_s=30, retries=3).bank.transfer(...)``.

        Args:
            timeout_s: Seconds, waiting for people included, after which an attempt ends with `unavailable.timeout`. When that is, is
                written down with the first run of the call and stays so after a crash.
            retries: How often an `Unavailable` that cannot have happened, or of an op that is harmless to repeat, is tried again. Each
                attempt is a call of its own.
            backoff_s: Seconds before the first retry, twice as many before each further one; they are durable, like any sleep.
            backoff_s_max: Seconds that are not waited more of, unless the error says how long.

        Raises:
            Invalid: `invalid.argument`, one of them is out of range.
        """
        return Options(self, terms(timeout_s, retries, backoff_s, backoff_s_max))

    def now(self) -> Call:
        """Return seconds since the epoch, UTC, when awaited: ``clock.now``, recorded."""
        return Call(self, "clock.now", (), {}, NO_TERMS, _getframe(1))

    def random(self) -> Random:
        """Return random numbers that are the same when the program runs again: no call, nothing is recorded.

        They depend on the store, the process and the number of calls that it has made. Not for secrets: who knows those, knows them. A
        process that was restored to an earlier point draws the same numbers again.
        """
        branch, process = _branch.get(), self._process
        top = process.next_number
        number = f"{branch.prefix}.{branch.count}" if branch.prefix else str(top)
        branch.drawn = (number, branch.drawn[1] + 1 if branch.drawn[0] == number else 0)
        following = f"{branch.prefix}.{branch.count + 1}" if branch.prefix else str(top + 1)
        author = process.tape.author(following, top) if process.tape is not None else 0
        return Random(f"{self._side.identity}.{author or process.pid}.{number}.{branch.drawn[1]}")  # noqa: S311 - it says so

    def uuid(self) -> UUID:
        """Return a random (version 4) UUID, made with `random`."""
        return UUID(int=self.random().getrandbits(128), version=4)

    # --- calls --------------------------------------------------------------------------------------------------------------

    def _persist(self, call: Call) -> Coroutine[Any, Any, Any]:
        return persist(self._side, call.op, call.terms, partial(self._attempt, call), self._sleep)

    async def _sleep(self, seconds: float) -> None:
        await Call(self, "clock.sleep", (), {"seconds": seconds}, NO_TERMS, _getframe(1))

    async def _attempt(self, call: Call) -> Any:
        branch, process, op = _branch.get(), self._process, call.op
        if self._forgotten is not None:
            self._look_for_forgotten()
        if branch.busy:
            raise Invalid(
                "state", f"`{op}` was called while `{branch.busy}` is open", hint="run calls in parallel with sys.gather"
            )
        number = self._number(branch)
        args = self._side.named(process, op, call.positional, call.args, number) if call.positional else call.args
        branch.busy = op
        has_room = False
        try:
            if branch.prefix:
                await self._find_room()
                has_room = True
            if process.tape is not None:
                process.tape.place = call.told
            value = await self._side.call(process, op, args, number=number, timeout_s=call.terms.timeout_s)
            if op == "proc.save":
                self.state = args.get("state")
            return value
        finally:
            branch.busy = ""
            if has_room:
                self._room.release()

    async def _find_room(self) -> None:
        """Wait until fewer than CALLS_IN_FLIGHT_MAX calls are open; a branch that waits for this runs no code, as if its call waited."""
        try:
            self._room.acquire_nowait()
        except anyio.WouldBlock:
            process = self._process
            process.waiting += 1
            self._side.rest(process)
            try:
                await self._room.acquire()
            finally:
                process.waiting -= 1
                self._side.go_on(process)

    def _number(self, branch: Branch) -> str:
        if branch.prefix:
            branch.count += 1
            return f"{branch.prefix}.{branch.count}"
        self._process.next_number += 1
        return str(self._process.next_number)

    def _forget(self, call: Call) -> None:
        """Note that a call was dropped without being made; one of a program that is being unwound was not forgotten."""
        process = self._process
        if self._forgotten is None and not (process.unwinding or process.ended):
            self._forgotten = call.not_awaited()

    def _look_for_forgotten(self) -> None:
        """Raise the error of a call that was never awaited, once.

        Raises:
            Invalid: `invalid.state`.
        """
        forgotten, self._forgotten = self._forgotten, None
        if forgotten is not None:
            raise forgotten

    def finish(self) -> None:
        """Look, once the program has returned, whether it did all that it wrote down.

        Raises:
            Invalid: `invalid.state`, a call was never awaited.
        """
        self._look_for_forgotten()

    async def refuse(self, op: str, error: AgentOSError) -> NoReturn:
        """Have a call that is not made for a reason of the program's own written down as refused, and raise its error.

        For programs that make calls on behalf of somebody: what was wanted is in the journal, though nothing came of it.
        """
        raise self._side.refuse(self._process, op, self._number(_branch.get()), error)

    def save(self, state: Any = None) -> Call:
        """Make a save point, when awaited: after a crash the program starts from its top with this as `sys.state`.

        Raises:
            Invalid: `invalid.state` inside gather.
        """
        return Call(self, "proc.save", (), {"state": state}, NO_TERMS, _getframe(1))

    # --- gather -------------------------------------------------------------------------------------------------------------

    async def gather(self, *calls: Any) -> list[Any]:
        """Run calls (``sys.fs.read(...)``) or async functions in parallel and return their values in order.

        All of them are settled before the first error, in order, is raised. At most CALLS_IN_FLIGHT_MAX calls are open at once.
        """
        if len(calls) == 1 and isinstance(calls[0], list | tuple):
            calls = tuple(calls[0])
        for call in calls:
            if isinstance(call, Call):
                call.is_taken = True
        self._look_for_forgotten()
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
        process, side = self._process, self._side
        outcomes: list[tuple[Any, BaseException | None]] = [(None, None)] * len(calls)
        process.branches += len(calls) - 1
        for _ in range(len(calls) - 1):
            side.go_on(process)
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
                    side.rest(process)

        async with anyio.create_task_group() as tasks:
            for index, call in enumerate(calls):
                tasks.start_soon(run, index, call)
        return outcomes

    def __getattr__(self, family: str) -> _Family:
        """Return the ops of a device: ``sys.fs``."""
        if family.startswith("_"):
            raise AttributeError(family)
        return _Family(self, family)


class Options:
    """The surface of `sys` for calls with a time of their own; made by `Sys.options`."""

    __slots__ = ("_sys", "_terms")

    def __init__(self, sys: Sys, at: Terms) -> None:
        self._sys = sys
        self._terms = at

    def __call__(self, op: str, /, *positional: Any, **args: Any) -> Call:
        """As `Sys.__call__`."""
        return Call(self._sys, op, positional, args, self._terms, _getframe(1))

    def __getattr__(self, family: str) -> _Family:
        """Return the ops of a device."""
        if family.startswith("_"):
            raise AttributeError(family)
        return _Family(self, family)


class _Family:
    """``sys.fs``: its attributes are the ops of one device."""

    __slots__ = ("_name", "_sys")

    def __init__(self, sys: Sys | Options, name: str) -> None:
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
