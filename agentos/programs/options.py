"""A call's own time: `sys.options(timeout_s=..., retries=..., backoff_s=...)`.

    timeout   when an attempt's time is over is written down before it is made (``note.timer``), so a crash does not give it more. Once it
              is over the attempt is cancelled as a host's would be: an ask is withdrawn, an effect is settled by its class, and the
              journaled outcome is `unavailable.timeout`, which is what a program that runs again gets.
    retries   each attempt is a call with a number of its own, and so is the sleep before it. An error that says so (`retry` False)
              is final; one that says when (`retry_after_s`) is not tried again before.

Time is the kernel's clock, so a process that is parked meanwhile is woken when its time is over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio

from agentos.abi.limits import BACKOFF_S_MAX, RETRIES_MAX
from agentos.abi.protocols import Clock
from agentos.broker.replay import is_open
from agentos.broker.request import Deadline
from agentos.errors import AgentOSError, Invalid, KernelPanic, Unavailable
from agentos.kernel.process import AgentProcess, ProcessEnded

if TYPE_CHECKING:
    from agentos.broker.broker import Broker

__all__ = ["NO_TERMS", "BrokerSide", "Terms", "persist", "terms"]


@dataclass(frozen=True, slots=True)
class Terms:
    """How long an attempt may take, and how often it is made again. All times in seconds."""

    timeout_s: float | None = None
    retries: int = 0
    backoff_s: float = 1.0
    backoff_s_max: float = BACKOFF_S_MAX


NO_TERMS: Final = Terms()


def terms(timeout_s: float | None, retries: int, backoff_s: float, backoff_s_max: float = BACKOFF_S_MAX) -> Terms:
    """Check the options of calls.

    Raises:
        Invalid: `invalid.argument`, one is out of range.
    """
    if timeout_s is not None and not 0 < timeout_s < inf:
        raise Invalid("argument", f"timeout_s is `{timeout_s}`", hint="give seconds above 0, or None", field="timeout_s")
    if not 0 <= retries <= RETRIES_MAX:
        raise Invalid("argument", f"retries is {retries}", hint=f"give 0 to {RETRIES_MAX}", field="retries")
    if not 0 <= backoff_s <= BACKOFF_S_MAX:
        raise Invalid("argument", f"backoff_s is `{backoff_s}`", hint=f"give 0 to {BACKOFF_S_MAX:g} seconds", field="backoff_s")
    if not 0 <= backoff_s_max <= BACKOFF_S_MAX:
        hint = f"give 0 to {BACKOFF_S_MAX:g} seconds"
        raise Invalid("argument", f"backoff_s_max is `{backoff_s_max}`", hint=hint, field="backoff_s_max")
    return Terms(timeout_s, retries, backoff_s, backoff_s_max)


class _Repeats(Protocol):
    def may_repeat(self, op: str) -> bool: ...


async def persist(
    side: _Repeats, op: str, at: Terms, attempt: Callable[[], Awaitable[Any]], sleep: Callable[[float], Awaitable[None]]
) -> Any:
    """Make a call until it succeeds, fails for good, or was tried often enough.

    Raises:
        AgentOSError: what the last attempt raised.
    """
    wait_s = at.backoff_s
    for tries_left in range(at.retries, -1, -1):
        try:
            return await attempt()
        except Unavailable as error:
            may_repeat = (not error.may_have_happened or side.may_repeat(op)) and error.fields.get("retry") is not False
            if not tries_left or not may_repeat or error.code == "unavailable.cancelled":
                raise
            asked_s = float(error.fields.get("retry_after_s") or 0.0)
        if wait_s or asked_s:
            await sleep(max(wait_s, asked_s))
        wait_s = min(2 * wait_s, at.backoff_s_max)
    raise AssertionError("the last attempt returns or raises")


class BrokerSide:
    """What stands behind `sys` while a process really runs.

    Args:
        broker: The door.
        dues: Number of a call of an earlier run -> when its time is over.
    """

    __slots__ = ("_broker", "_dues", "identity")

    def __init__(self, broker: Broker, dues: dict[str, float]) -> None:
        self._broker = broker
        self._dues = dues
        self.identity = broker.core.store.identity

    def named(
        self, process: AgentProcess, op: str, positional: tuple[Any, ...], args: dict[str, Any], number: str
    ) -> dict[str, Any]:
        """Return the arguments by name; what has no such arguments is refused with a row, like any call that means nothing."""
        if process.ended or process.unwinding:
            raise ProcessEnded
        try:
            return self._broker.core.ops.find(op).named(positional, args)
        except AgentOSError as error:
            raise self.refuse(process, op, number, error) from None

    def refuse(self, process: AgentProcess, op: str, number: str, error: AgentOSError) -> AgentOSError:
        """Have a call that means nothing written down as refused, or find that it was."""
        if process.ended or process.unwinding:
            raise ProcessEnded
        return self._broker.refuse(process, op, number, error)

    def may_repeat(self, op: str) -> bool:
        """Say whether it does no harm to make a call of that op twice."""
        found = self._broker.core.ops.get(op)
        return found is not None and found.effect.is_harmless

    def rest(self, process: AgentProcess) -> None:
        """One line of control has no code to run: when none has, the process waits."""
        self._broker.core.scheduler.suspend(process)
        self._broker.door.look_whether_waiting(process)

    def go_on(self, process: AgentProcess) -> None:
        """One line of control more runs code."""
        self._broker.core.scheduler.resume(process)
        self._broker.core.scheduler.wakes(process)

    def call(
        self, process: AgentProcess, op: str, args: dict[str, Any], *, number: str, timeout_s: float | None = None
    ) -> Awaitable[Any]:
        """Make one call; with `timeout_s`, for as long at most."""
        if timeout_s is None:
            return self._broker.call(process, op, args, number=number)
        return self._timed(process, op, args, number, timeout_s)

    async def _timed(self, process: AgentProcess, op: str, args: dict[str, Any], number: str, timeout_s: float) -> Any:
        recorded = process.tape.of(number) if process.tape is not None else None
        if recorded is not None and not is_open(recorded):
            return await self._broker.call(process, op, args, number=number)
        if process.ended or process.unwinding:
            raise ProcessEnded
        due = self._due(process, number, timeout_s)
        if due <= self._broker.core.clock.now() and not self._is_inside(op):
            return self._broker.give_up(process, op, args, number=number)
        return await self._until(due, process, op, args, number)

    def _due(self, process: AgentProcess, number: str, timeout_s: float) -> float:
        """Return when the call's time is over: as an earlier run wrote down, or from now, which is then written down."""
        due = self._dues.get(number)
        if due is None:
            core = self._broker.core
            due = self._dues[number] = core.clock.now() + timeout_s
            core.note(process.pid, "timer", {"call": number, "due": due})
        return due

    def _is_inside(self, op: str) -> bool:
        found = self._broker.core.ops.get(op)
        return found is None or found.inside

    async def _until(self, due: float, process: AgentProcess, op: str, args: dict[str, Any], number: str) -> Any:
        """Make the call and cancel it when its time is over."""
        deadline = Deadline(inf, due)
        failure: AgentOSError | ProcessEnded | KernelPanic | None = None
        value: Any = None
        scope = anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            with scope:
                tasks.start_soon(_expire, self._broker.core.clock, deadline, due, scope)
                try:
                    value = await self._broker.call(process, op, args, number=number, deadline=deadline)
                except (AgentOSError, ProcessEnded, KernelPanic) as error:
                    failure = error  # raised below: out of a task group it would come as a group
            tasks.cancel_scope.cancel()
        if scope.cancelled_caught:
            return self._broker.give_up(process, op, args, number=number)
        if failure is not None:
            raise failure
        return value


async def _expire(clock: Clock, deadline: Deadline, due: float, scope: anyio.CancelScope) -> None:
    await clock.sleep_until(due)
    deadline.at = -inf
    scope.cancel()
