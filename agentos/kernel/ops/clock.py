"""clock.*: time that a replay sees again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentos.abi.permit import Permit
from agentos.abi.syscall import Park, Syscall
from agentos.kernel.ops.serve import serve

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]


def syscalls(core: Core) -> list[Syscall]:
    """Return the ops of this family."""
    return serve(core, "clock", {"now": _now, "sleep": _sleep})


def _now(core: Core, permit: Permit, args: dict[str, Any]) -> float:
    return core.clock.now()


def _sleep(core: Core, permit: Permit, args: dict[str, Any]) -> Park | None:
    due = permit.deadline if permit.deadline is not None else core.clock.now() + args["seconds"]
    return None if core.clock.now() >= due else Park((), due, "timer")
