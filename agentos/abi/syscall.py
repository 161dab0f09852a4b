"""A served op: the declaration, bound to the code that performs it. Devices and rooms hand lists of these to the broker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from agentos.abi.op import Op

__all__ = ["NOT_STARTED", "UNKNOWN", "Estimate", "Park", "Syscall", "Wait"]


class _Verdict:
    """What a device answers when it is asked whether an effect happened."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name


NOT_STARTED: Final = _Verdict("agentos.NOT_STARTED")
"""The device is sure that the effect did not happen: it is run again."""
UNKNOWN: Final = _Verdict("agentos.UNKNOWN")
"""The device cannot tell: a person is asked."""

Wait = tuple[str | int, ...]
"""One typed reason to wake up: ``("child", pid)``, ``("message", pid, channel)``, ``("ask", id)``, ``("resume", pid)``."""


@dataclass(frozen=True, slots=True)
class Park:
    """Returned by the handler of a pure or local op that cannot answer yet: ask again when one of `waits` has come.

    `due` is the absolute time (seconds) at which it must be asked again at the latest; it is made durable, so that it is the same
    after a crash. `doing` is what `ps` shows, for example ``child 4``.
    """

    waits: tuple[Wait, ...]
    due: float | None = None
    doing: str = ""


@dataclass(frozen=True, slots=True)
class Estimate:
    """About what a call will cost, before it is made.

    Attributes:
        least: What it costs in any case, ``{"tokens": n, "usd": x}``: the question of a model call.
        units: What it wants beyond that, in units that the kernel may cut down to what there is room for: tokens of the answer.
        each: What each of these units costs.
    """

    least: dict[str, float]
    units: int = 0
    each: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Syscall:
    """One op with its handler.

    handler: called as ``handler(permit, args)`` with the validated arguments. It spends the permit first. Sync for pure and local ops
        that rooms of the kernel serve (they run on the event loop without suspending, put state changes into `permit.changes`, and
        may return a `Park`); async for everything that leaves the kernel.
    reconcile: async, same signature; tells after a crash whether the effect happened: the result, NOT_STARTED or UNKNOWN.
    preview: what a person is shown before the effect: ``preview(args, facts)`` -> plain data. Async; observes the target, so the
        broker calls it only once capability and policy have agreed to ask.
    awaits: True when `handler` is a coroutine function.
    slot: Which scarce resource a call occupies, by its arguments, where that is not the same for every call of the op.
    clearance: The strictest level that may go out with a call, by its arguments, in place of the op's own.
    estimate: About what a call will cost, from its arguments: held from the budget until the true cost is known.
    meets: Obligations (``require``) that whoever serves the op fulfils by itself, beyond those the broker does: ``sandbox``.
    """

    op: Op
    handler: Callable[..., Any]
    reconcile: Callable[..., Any] | None = None
    preview: Callable[..., Any] | None = None
    awaits: bool = True
    meets: frozenset[str] = frozenset()
    slot: Callable[[dict[str, Any]], str] | None = None
    clearance: Callable[[dict[str, Any]], int] | None = None
    estimate: Callable[[dict[str, Any]], Estimate] | None = None
