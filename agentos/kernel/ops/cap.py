"""cap.*: what a process can do with the capabilities it holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.codec import decode, encode
from agentos.abi.limits import ASK_TIMEOUT_S
from agentos.abi.permit import Permit
from agentos.abi.records import AskRecord
from agentos.abi.syscall import Park, Syscall
from agentos.errors import Denied, Invalid
from agentos.kernel.ask import refusal, verdict_of
from agentos.kernel.grant import Purse
from agentos.kernel.holding import listing
from agentos.kernel.ops.serve import serve
from agentos.kernel.process import AgentProcess, Cap
from agentos.policy import CapSpec, parse_capability

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]

_HOLDS_SHOWN: Final = 50
_ROWS_SEEN: Final = 200


def syscalls(core: Core) -> list[Syscall]:
    """Return the ops of this family."""
    handlers = {"list": _list, "drop": _drop, "request": _request, "grant": _grant, "derive": _derive, "revoke": _revoke}
    return serve(core, "cap", handlers)


def _list(core: Core, permit: Permit, args: dict[str, Any]) -> list[dict[str, Any]]:
    process: AgentProcess = permit.process
    for cap in process.caps.values():
        permit.labels |= _givers_label(cap)
    return [asdict(cap) for cap in listing(core, process.pid)]


def _givers_label(cap: Cap) -> int:
    """Return the label of the other processes that a capability passed through: they wrote its text."""
    label, above = 0, cap.parent
    while above is not None:
        label |= above.holder.label if above.holder is not cap.holder else 0
        above = above.parent
    return label


def _held(process: AgentProcess, cap: int) -> Cap:
    """Return one of the process's own capabilities; whether another process holds it is not said."""
    held = process.caps.get(cap)
    if held is None:
        raise Invalid("argument", f"process {process.pid} holds no capability {cap}", field="cap", hint="see `cap.list`")
    return held


def _drop(core: Core, permit: Permit, args: dict[str, Any]) -> None:
    core.caps.revoke(_held(permit.process, args["cap"]), permit.changes, "dropped")


def _derive(core: Core, permit: Permit, args: dict[str, Any]) -> int:
    parent = _held(permit.process, args["cap"])
    to = core.processes.find(args["to"])
    wanted = parse_capability(args["text"], core.ops)
    return core.caps.derive(parent, wanted, to, permit.changes, now=core.clock.now()).cap


def _grant(core: Core, permit: Permit, args: dict[str, Any]) -> int:
    wanted = parse_capability(args["text"], core.ops)
    to, now = core.processes.find(args["to"]), core.clock.now()
    giver = Purse(permit.process, now, to).take(wanted)
    return core.caps.derive(giver, wanted, to, permit.changes, now=now).cap


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


# --- asking a person ----------------------------------------------------------------------------------------------------------


def _request(core: Core, permit: Permit, args: dict[str, Any]) -> int | Park:
    """Ask, wait, and mint what the person granted: the text that was asked for, or the one they put in its place."""
    wanted = parse_capability(args["text"], core.ops)
    now = core.clock.now()
    record = core.asks.of_call(permit.pid, permit.number, "capability")
    if record is None:
        record = _ask(core, permit, wanted, args["why"])
    elif record.state == "decided":
        answer = verdict_of(record)
        refused = refusal(record) if answer.verdict == "deny" else None
        core.asks.close(record, "consumed", permit.changes)
        if refused is not None:
            raise refused
        granted = parse_capability(answer.edit["text"], core.ops) if answer.edit else wanted
        return core.caps.mint(permit.process, granted, permit.changes, now=now, origin=f"ask {record.ask}").cap
    elif 0 < record.expires <= now:
        core.asks.close(record, "expired", permit.changes)
        raise refusal(record)
    return Park((("ask", record.ask),), record.expires or None, f"ask {record.ask}")


def _ask(core: Core, permit: Permit, wanted: CapSpec, why: str) -> AskRecord:
    if core.mode == "noninteractive":
        raise Denied("human", "nobody is there to ask", hint="this kernel runs noninteractive")
    process: AgentProcess = permit.process
    now, image = core.clock.now(), process.image
    expires = 0.0 if image.on_timeout == "suspend" else now + (image.ask_timeout_s or ASK_TIMEOUT_S)
    shown = {
        "holds": [cap.record.text for cap in process.caps.values()][:_HOLDS_SHOWN],
        "denied": _denied_call(core, process, wanted),
    }
    return core.asks.open(
        process, permit.number, "capability", permit.changes, now=now, expires=expires, op="cap.request", resource=wanted.text,
        args=encode({"text": wanted.text, "why": why}), preview=encode(shown), labels=process.label,
    )  # fmt: skip


def _denied_call(core: Core, process: AgentProcess, wanted: CapSpec) -> dict[str, Any] | None:
    """Return the latest call that was denied for want of what is asked for, from the journal: seq, op, resource, arguments."""
    for row in reversed(core.store.newest(process.pid, _ROWS_SEEN)):
        if row.code == "denied.capability" and row.op in wanted.ops:
            return {"seq": row.seq, "op": row.op, "resource": row.resource, "args": decode(row.args) if row.args else {}}
    return None
