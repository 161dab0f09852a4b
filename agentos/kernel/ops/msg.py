"""msg.*: durable messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentos.abi.permit import Permit
from agentos.abi.records import Change, MessageRecord
from agentos.abi.syscall import Park, Syscall
from agentos.abi.values import Message
from agentos.errors import Unavailable
from agentos.kernel.message import as_message
from agentos.kernel.ops.serve import serve

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]


def syscalls(core: Core) -> list[Syscall]:
    """Return the ops of this family."""
    return serve(core, "msg", {"send": _send, "recv": _recv, "ack": _ack})


def _send(core: Core, permit: Permit, args: dict[str, Any]) -> int:
    to = core.processes.find(args["to"])
    message = core.mail.send(
        to.pid, args["value"], args["channel"], permit.changes, sender=permit.pid, labels=permit.process.label,
        reply_to=args["reply_to"], now=core.clock.now(),
    )  # fmt: skip
    core.waits.wake(("message", to.pid, args["channel"]))
    return message


def _recv(core: Core, permit: Permit, args: dict[str, Any]) -> Message | Park:
    record = core.mail.receive(permit.pid, args["channel"], args["sender"], permit.changes)
    if record is not None:
        permit.labels |= record.labels
        return as_message(record)
    timeout_s = args["timeout_s"]
    due = permit.deadline if permit.deadline is not None else None if timeout_s is None else core.clock.now() + timeout_s
    if due is not None and core.clock.now() >= due:
        raise Unavailable("timeout", f"no message came on channel `{args['channel']}`", hint="wait longer, or go on without")
    return Park((("message", permit.pid, args["channel"]),), due, f"message on {args['channel']}")


def _ack(core: Core, permit: Permit, args: dict[str, Any]) -> int:
    core.journal.flush()
    acked = 0
    for message in args["ids"]:
        record = core.store.get(MessageRecord, message)
        if record is not None and record.pid == permit.pid and record.state == "received":
            replaced = record.seq
            record.state = "acked"
            permit.changes.append(Change(record, replaced))
            acked += 1
    return acked
