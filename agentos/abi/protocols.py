"""The protocols by which a lower room reaches up, and the clock that everything is given.

The kernel schedules processes but knows no program: at boot it gets a `Runner`, and a `Checker` for what only the broker can say.
Programs issue calls but know no device: they get `Syscalls`, the broker.
"""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["Checker", "Clock", "Runner", "Syscalls"]


class Clock(Protocol):
    """Time, injected. Tests drive virtual time."""

    def now(self) -> float:
        """Return seconds since the epoch, UTC."""
        ...

    async def sleep_until(self, due: float) -> None:
        """Return when `now()` has reached `due`. Cancellation: safe."""
        ...


class Syscalls(Protocol):
    """The one door: issue a syscall as a process."""

    async def call(self, process: Any, op: str, args: dict[str, Any], *, number: str, key: str = "") -> Any:
        """Walk one call through the door and return its value; raises an AgentOSError otherwise."""
        ...


class Checker(Protocol):
    """Decides calls without making them."""

    def check(self, process: Any, op: str, args: dict[str, Any]) -> dict[str, Any]:
        """Return what would be decided about a call of `process`, and why: outcome, code, rule, because, text.

        Raises:
            Invalid: the op or its arguments are wrong.
        """
        ...


class Runner(Protocol):
    """Runs a process's program until it ends or parks."""

    def can_run(self, process: Any) -> bool:
        """Say whether this runtime has the program of `process`, and the model that drives it.

        A process that lacks one stays where it is, for a runtime that has it.
        """
        ...

    def code_of(self, process: Any) -> str:
        """Return a name of the program text that `process` runs here, "" when there is none: another text has another name."""
        ...

    def expect_model(self, image: Any) -> None:
        """Look whether this runtime has the model that drives processes of `image`, if one does.

        Raises:
            Invalid: `invalid.argument`, it has not; the hint says how to configure one.
        """
        ...

    def has_program(self, image: Any) -> bool:
        """Say whether this runtime has the program that processes of `image` run."""
        ...

    async def run(self, process: Any) -> Any:
        """Run `process` from its save point and return its exit value; raises what the program raises.

        Cancellation: the kernel cancels a run to unwind a parked process, to pause or to kill it; nothing is journaled meanwhile.
        """
        ...
