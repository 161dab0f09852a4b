"""secret.*: what a process may know of the secrets it may use: that it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentos.abi.permit import Permit
from agentos.abi.syscall import Syscall
from agentos.kernel.ops.serve import serve

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]


def syscalls(core: Core) -> list[Syscall]:
    """Return the ops of this family."""
    return serve(core, "secret", {"use": _use})


def _use(core: Core, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
    """Answer once capability and policy have agreed; whether there is such a secret is not said."""
    return {"name": args["name"], "may": True}
