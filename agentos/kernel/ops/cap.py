"""cap.*: what a process can do with the capabilities it holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agentos.abi.codec import encode
from agentos.abi.permit import Permit
from agentos.abi.syscall import Park, Syscall
from agentos.errors import Denied, Invalid
from agentos.kernel.ask import refusal, verdict_of
from agentos.kernel.ops.serve import serve
from agentos.kernel.process import AgentProcess, Cap
from agentos.policy import parse_capability

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]


def syscalls(core: Core) -> list[Syscall]:
    """Return the ops of this family."""
    handlers = {"list": _list, "drop": _drop, "request": _request, "derive": _derive, "revoke": _revoke}
    return serve(core, "cap", handlers)


def _list(core: Core, permit: Permit, args: dict[str, Any]) -> list[dict[str, Any]]:
    process: AgentProcess = permit.process
    return [asdict(cap.info()) for cap in process.caps.values()]


def _drop(core: Core, permit: Permit, args: dict[str, Any]) -> None:
    core.caps.revoke(core.caps.find_held(permit.process, args["cap"]), permit.changes, "dropped")


def _derive(core: Core, permit: Permit, args: dict[str, Any]) -> int:
    parent = core.caps.find_held(permit.process, args["cap"])
    to = core.processes.find(args["to"])
    wanted = parse_capability(args["text"], core.ops)
    return core.caps.derive(parent, wanted, to, permit.changes, now=core.clock.now()).cap


def _revoke(core: Core, permit: Permit, args: dict[str, Any]) -> int:
    cap = core.caps.get(args["cap"])
    if cap is None or not _descends(cap, permit.process):
        raise Invalid("argument", f"capability {args['cap']} was not derived from yours", field="cap", hint="see `cap.list`")
    return core.caps.revoke(cap, permit.changes)


def _descends(cap: Cap, process: AgentProcess) -> bool:
    """Say whether a capability was derived, over any number of steps, from one that the process holds."""
    above = cap.parent
    while above is not None:
        if above.holder is process:
            return True
        above = above.parent
    return False


def _request(core: Core, permit: Permit, args: dict[str, Any]) -> int | Park:
    wanted = parse_capability(args["text"], core.ops)
    record = core.asks.of_call(permit.pid, permit.number, "capability")
    if record is None:
        if core.mode == "noninteractive":
            raise Denied("human", "nobody is there to ask", hint="this kernel runs noninteractive")
        record = core.asks.open(
            permit.process, permit.number, "capability", permit.changes, now=core.clock.now(), expires=0.0, op="cap.request",
            args=encode({"text": wanted.text, "why": args["why"]}), labels=permit.process.label,
        )  # fmt: skip
    elif record.state == "decided":
        refused = refusal(record) if verdict_of(record).verdict == "deny" else None
        core.asks.close(record, "consumed", permit.changes)
        if refused is not None:
            raise refused
        return core.caps.mint(permit.process, wanted, permit.changes, now=core.clock.now(), origin=f"ask {record.ask}").cap
    return Park((("ask", record.ask),), None, f"ask {record.ask}")
