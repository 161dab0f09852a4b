"""Approvals: what happens to a call that a policy layer wants a person to see.

The call parks on a durable ask. The ask's digest covers the op, the arguments, the canonical resource and the preview (for a write: the
difference and the hash of what is there now). When it wakes, the call is decided again from the start; if anything in the digest
has changed, the old ask is withdrawn and a new one asked.

INVARIANT one-shot-once: an approval is only ever used by the request whose digest equals the ask's, in the append that admits it.
"""

from __future__ import annotations

from typing import Any

from agentos.abi.codec import digest, encode
from agentos.abi.limits import ASK_TIMEOUT_S
from agentos.abi.records import AskRecord, Change
from agentos.abi.syscall import Park
from agentos.broker.door import Door
from agentos.broker.request import Request
from agentos.errors import AgentOSError, Denied
from agentos.kernel.ask import Answer, refusal, verdict_of
from agentos.kernel.process import ProcessEnded
from agentos.policy import Verdict

__all__ = ["Approvals"]


class Approvals:
    """Asks people about calls."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._core = door.core

    async def obtain(self, call: Request, verdict: Verdict) -> bool:
        """Get an approval for the call, waiting for a person.

        Returns:
            True when `call.approval` holds it; False when the call must be decided again first (it waited).

        Raises:
            Denied: `denied.human`, a person said no or nobody answered in time; the row is appended.

        Cancellation: the ask is withdrawn, unless the process is only being unwound or the kernel is closing.
        """
        core, process = self._core, call.process
        record = core.asks.of_call(process.pid, call.number, "approval")
        changes: list[Change] = []
        if record is None or record.state == "decided":
            preview = await self._preview(call)
            bound = self._digest(call, preview)
            if record is not None:
                if self._settles(call, record, bound, changes):
                    return True
                core.asks.close(record, "withdrawn", changes)
            record = self._open(call, verdict, preview, bound, changes)
        elif record.expires and core.clock.now() >= record.expires:
            core.asks.close(record, "expired", changes)
            raise self._door.fail(call, refusal(record), changes)
        await self._wait(call, record, changes)
        return False

    def _settles(self, call: Request, record: AskRecord, bound: bytes, changes: list[Change]) -> bool:
        """Apply a person's answer. False when it was given for something else than the call is now."""
        answer = verdict_of(record)
        if answer.verdict == "deny":
            error = refusal(record)
            self._core.asks.close(record, "consumed", changes)
            raise self._door.fail(call, error, changes)
        if record.digest != bound:
            return False
        call.approval = record
        if answer.edit:
            self._edit(call, answer, changes)
        return True

    def _edit(self, call: Request, answer: Answer, changes: list[Change]) -> None:
        """Take the arguments as the person changed them; a deny still denies, and they are what the row shows.

        The digest stays that of the program's own call, by which a replay knows it again.
        """
        assert answer.edit is not None
        original = call.digest
        try:
            call.set_args(call.op.validate({**call.args, **answer.edit}))
            call.digest = original
            self._door.decide(call)
        except AgentOSError as error:
            assert call.approval is not None, "an edit comes with an answer"
            self._core.asks.close(call.approval, "consumed", changes)
            raise self._door.fail(call, error, changes) from None

    async def _preview(self, call: Request) -> Any:
        if call.syscall.preview is None:
            return None
        with self._core.outside(call.process):
            return await call.syscall.preview(call.args, {"pid": call.process.pid, "resources": call.resources})

    def _digest(self, call: Request, preview: Any) -> bytes:
        return digest(call.op.key_bytes, call.encoded, call.resource_text.encode(), encode(preview))

    def _open(self, call: Request, verdict: Verdict, preview: Any, bound: bytes, changes: list[Change]) -> AskRecord:
        core, process = self._core, call.process
        if core.mode == "noninteractive":
            error = Denied(
                "human",
                "this call needs an approval, and nobody is there to ask",
                rule=verdict.rule,
                hint="run with mode `ask`",
            )
            raise self._door.fail(call, error, changes)
        now = core.clock.now()
        suspend = process.image.on_timeout == "suspend"
        timeout_s = verdict.timeout_s or process.image.ask_timeout_s or ASK_TIMEOUT_S
        return core.asks.open(
            process, call.number, "approval", changes, now=now, expires=0.0 if suspend else now + timeout_s, op=call.op.name,
            args=call.encoded, preview=encode(preview) if preview is not None else b"", digest=bound, rule=verdict.rule,
            rule_name=verdict.name, because=verdict.because or "", labels=process.label,
        )  # fmt: skip

    async def _wait(self, call: Request, record: AskRecord, changes: list[Change]) -> None:
        core, process = self._core, call.process
        if changes:
            core.note(process.pid, "ask", {"kind": record.kind, "call": call.number, "resource": call.resource_text}, changes,
                      ask=record.ask, rule=record.rule)  # fmt: skip
        try:
            await self._door.wait_for(call, Park((("ask", record.ask),), record.expires or None, f"ask {record.ask}"))
        except ProcessEnded:
            raise
        except AgentOSError:
            raise
        except BaseException:
            self._door.withdraw(call)
            raise
