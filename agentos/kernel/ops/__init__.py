"""kernel.ops: the handlers of the ops that the kernel serves itself, one module per family.

A handler runs on the event loop without suspending: it spends the permit, checks everything, changes memory, and leaves the changes in
`permit.changes`, which the broker appends with the call's row. One that cannot answer yet returns a `Park` and is asked again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentos.abi.syscall import Syscall
from agentos.kernel.ops import cap, ckpt, clock, human, image, msg, policy, proc, secret

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]


def syscalls(core: Core) -> list[Syscall]:
    """Return every op that the kernel serves."""
    return [
        syscall for family in (proc, msg, cap, ckpt, image, clock, human, secret, policy) for syscall in family.syscalls(core)
    ]
