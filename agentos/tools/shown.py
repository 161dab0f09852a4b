"""Which ops a process is shown as tools: those that its image names, else those that it holds capabilities for.

INVARIANT visibility-is-not-authority: what is shown here is decided by the door like anything else, and what is not shown is not thereby
denied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agentos.abi.op import Op
from agentos.abi.ops import builtin
from agentos.tools.declaration import declaration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentos.broker.broker import Broker
    from agentos.kernel.process import AgentProcess

__all__ = ["OWN_FLOW", "OWN_RIGHTS", "described", "shown"]

OWN_FLOW: Final = frozenset({
    "proc.save", "proc.fork", "proc.exec", "proc.exit", "msg.recv", "msg.ack", "ckpt.restore", "tool.list", "llm.info", "human.tell",
})  # fmt: skip
"""What steers the program that runs the model, and is no tool of it."""
OWN_RIGHTS: Final = frozenset(op.name for op in builtin() if op.self_right is not False)
"""Ops that a process may call without a capability: for these, not being shown is what keeps a model away."""
_ALWAYS: Final = ("obj.get",)
_USUAL: Final = ("human.ask",)


def shown(broker: Broker, process: AgentProcess) -> list[Op]:
    """Return the ops that a process is shown, in the order of the op table.

    `obj.get` is always among them: with it a model reads what was put out of its prompt, in the process's own namespace.
    """
    ops, served = broker.core.ops, broker.door.served
    wanted: set[str] = {*_ALWAYS}
    named = [tool.name for tool in process.image.tools if tool.kind == "op"]
    for pattern in named:
        wanted.update(op.name for op in ops.matching(pattern))
    if not process.image.tools:
        wanted.update(_USUAL, _held(process))
    return [op for op in ops if op.name in wanted and op.name in served and op.name not in OWN_FLOW]


def _held(process: AgentProcess) -> Iterable[str]:
    """Yield the names of the ops that a process holds capabilities for."""
    for name, caps in process.by_op.items():
        if caps:
            yield name


def described(op: Op) -> dict[str, Any]:
    """Return a tool as `tool.list` tells it."""
    function = declaration(op)["function"]
    return {
        "name": function["name"],
        "description": function["description"],
        "ops": [op.name],
        "schema": function["parameters"],
        "effect": op.effect.value,
    }
