"""tool.*: what the caller's model is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentos.abi.permit import Permit
from agentos.abi.syscall import Syscall
from agentos.tools.shown import described, shown

if TYPE_CHECKING:
    from agentos.broker.broker import Broker

__all__ = ["syscalls"]


def syscalls(broker: Broker) -> list[Syscall]:
    """Return the ops of this family that are served."""

    def list_(permit: Permit, args: dict[str, Any]) -> list[dict[str, Any]]:
        permit.spend("tool.list")
        return [described(op) for op in shown(broker, permit.process)]

    return [Syscall(broker.core.ops.find("tool.list"), list_, awaits=False)]
