"""human.*: questions and notes to people. An answer is a value; it never grants anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentos.abi.codec import encode
from agentos.abi.limits import QUESTION_BYTES_MAX
from agentos.abi.permit import Permit
from agentos.abi.syscall import Park, Syscall
from agentos.errors import Denied, Invalid
from agentos.kernel.ask import refusal, verdict_of
from agentos.kernel.ops.serve import serve

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]


def syscalls(core: Core) -> list[Syscall]:
    """Return the ops of this family."""
    return serve(core, "human", {"ask": _ask, "tell": _tell})


def _ask(core: Core, permit: Permit, args: dict[str, Any]) -> Any:
    if len(args["question"].encode()) > QUESTION_BYTES_MAX:
        raise Invalid("argument", f"question has over {QUESTION_BYTES_MAX} bytes", hint="ask shorter", field="question")
    record = core.asks.of_call(permit.pid, permit.number, "question")
    now = core.clock.now()
    if record is None:
        if core.mode == "noninteractive":
            raise Denied("human", "nobody is there to ask", hint="this kernel runs noninteractive")
        expires = now + args["timeout_s"] if args["timeout_s"] is not None else 0.0
        record = core.asks.open(
            permit.process, permit.number, "question", permit.changes, now=now, expires=expires, op="human.ask", args=encode(args),
            labels=permit.process.label,
        )  # fmt: skip
    elif record.state == "decided":
        answer = verdict_of(record)
        core.asks.close(record, "consumed", permit.changes)
        if answer.verdict == "deny":
            raise refusal(record)
        return answer.value
    elif record.expires and now >= record.expires:
        core.asks.close(record, "expired", permit.changes)
        raise refusal(record)
    return Park((("ask", record.ask),), record.expires or None, f"ask {record.ask}")


def _tell(core: Core, permit: Permit, args: dict[str, Any]) -> None:
    if len(args["text"].encode()) > QUESTION_BYTES_MAX:
        raise Invalid("argument", f"text has over {QUESTION_BYTES_MAX} bytes", hint="tell shorter", field="text")
