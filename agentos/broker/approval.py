"""Approvals: what happens to a call that a policy layer wants a person to see.

Where a standing grant covers it, the call goes on, and its row names the ask that the grant was given with. Else the call parks on a
durable ask. The ask's digest covers the op, the arguments, the canonical resource and the preview (for a write: the difference and the
hash of what is there now). When it wakes, the call is decided again from the start; if anything in the digest has changed, the old ask is
withdrawn and a new one asked. Every ask has a preview: the device's own, or the request as it is.

INVARIANT one-shot-once: an approval is only ever used by the request whose digest equals the ask's, in the append that admits it.
"""

from __future__ import annotations

from typing import Any, Final

from agentos.abi.codec import decode, digest, encode
from agentos.abi.limits import ASK_TIMEOUT_S, PREVIEW_BYTES_MAX
from agentos.abi.records import AskRecord, Change, StandingRecord
from agentos.abi.syscall import Park
from agentos.broker.door import Door
from agentos.broker.offer import asking_about, covering, offer_of
from agentos.broker.request import Request
from agentos.errors import AgentOSError, Denied
from agentos.kernel.ask import COVERED, Answer, refusal, verdict_of
from agentos.kernel.process import ProcessEnded
from agentos.policy import Verdict

__all__ = ["Approvals"]

_CHARS_MAX: Final = (2_000, 200, 20)  # of one text in the preview of a request: the first that makes it fit
_ITEMS_MAX: Final = 50
_DEPTH_MAX: Final = 4


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
        if record is None and self._is_covered(call, None, changes):
            return True
        preview: Any = None
        if record is None or record.state == "decided":
            preview = await self._look(call)
            verdict = call.verdict or verdict
            record = core.asks.of_call(process.pid, call.number, "approval")
            if record is not None:
                if self._settles(call, record, self._digest(call, preview), changes):
                    return True
                core.asks.close(record, "withdrawn", changes)
                record = None
        if self._is_covered(call, record, changes):
            return True
        if record is None:
            if verdict.outcome == "allow":
                self._note(call, "withdrawn", changes)
                return True
            record = self._open(call, verdict, preview, changes)
        elif record.expires and core.clock.now() >= record.expires:
            core.asks.close(record, "expired", changes)
            raise self._door.fail(call, refusal(record), changes)
        await self._wait(call, record, changes)
        return False

    async def note_preview(self, call: Request) -> None:
        """Journal what a call will do, before it does: a layer requires it of a call that no person is shown."""
        preview = await self._look(call)
        self._core.note(call.process.pid, "preview", {"call": call.number, "op": call.op.name, "preview": preview})

    async def _look(self, call: Request) -> Any:
        """Return the preview. The call is decided again after it: while the device looked, rights and labels may have changed."""
        preview = await self._preview(call)
        if call.is_over:
            raise ProcessEnded
        self._door.decide_again(call)
        return preview

    def _note(self, call: Request, what: str, changes: list[Change]) -> None:
        if changes:
            self._core.note(call.process.pid, what, {"call": call.number}, changes)

    def _is_covered(self, call: Request, record: AskRecord | None, changes: list[Change]) -> bool:
        """Let a standing grant answer, if one does: a pending ask of the call is decided by it, else the row names the grant's own ask."""
        grant = covering(self._core, call)
        if grant is None:
            return False
        core, process = self._core, call.process
        if record is not None:
            core.asks.settle(record, Answer("approve", grant.by, f"{COVERED}{grant.ask}", at=core.clock.now()), changes)
        if changes:
            data = {"verdict": "approve", "by": grant.by, "scope": f"{COVERED}{grant.ask}"}
            core.note(
                process.pid, "answered", data, changes, ask=record.ask if record is not None else grant.ask, rule=grant.rule
            )
        call.approval = record if record is not None else _stand_in(grant)
        return True

    def _settles(self, call: Request, record: AskRecord, bound: bytes, changes: list[Change]) -> bool:
        """Apply a person's answer. False when it was given for something else than the call is now."""
        answer = verdict_of(record)
        if answer.verdict == "deny":
            error = refusal(record)
            self._core.asks.close(record, "consumed", changes)
            raise self._door.fail(call, error, changes)
        if record.digest != bound or (answer.scope.startswith(COVERED) and covering(self._core, call) is None):
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
            call.process.facts["flow"].note_human(answer.edit)
            call.set_args(call.op.validate({**call.args, **answer.edit}))
            call.digest = original
            self._door.decide(call)
        except AgentOSError as error:
            assert call.approval is not None, "an edit comes with an answer"
            self._core.asks.close(call.approval, "consumed", changes)
            raise self._door.fail(call, error, changes) from None

    async def _preview(self, call: Request) -> Any:
        if call.syscall.preview is None:
            return _request(call)
        with self._core.outside(call.process):
            return await call.syscall.preview(call.args, {"pid": call.process.pid, "resources": call.resources})

    def _digest(self, call: Request, preview: Any) -> bytes:
        more = [call.process.cwd.encode()] if _is_command(call) else []
        if call.op.asks:
            more.append(b"label %d" % call.process.label)  # what it is asked to take off is what the person is shown
        return digest(call.op.key_bytes, call.encoded, call.resource_text.encode(), encode(preview), *more)

    def _open(self, call: Request, verdict: Verdict, preview: Any, changes: list[Change]) -> AskRecord:
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
        asking = asking_about(call)
        return core.asks.open(
            process, call.number, "approval", changes, now=now, expires=0.0 if suspend else now + timeout_s, op=call.op.name,
            args=call.encoded, preview=encode(preview), digest=self._digest(call, preview), rule=verdict.rule, rule_name=verdict.name,
            because=verdict.because or "", labels=process.label | call.label, resource=call.resource_text, effect=call.op.effect.value,
            layer=next((rule.layer for rule in asking if rule.rule == verdict.rule), ""), remember=verdict.remember,
            question=verdict.question, offer=offer_of(core, call, asking),
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


def _stand_in(grant: StandingRecord) -> AskRecord:
    """Return what stands for the approval of a covered call: the ask that the grant was given with. It is of no call and long over."""
    return AskRecord(ask=grant.ask, pid=0, live=0, state="consumed", op=grant.op, rule=grant.rule)


# --- the preview of a call whose device makes none ------------------------------------------------------------------------------


def _is_command(call: Request) -> bool:
    return any(template.kind == "argv" for template in call.op.resources)


def _request(call: Request) -> dict[str, Any]:
    """Return the request as it is, with long values cut; the digest covers them whole."""
    shown: dict[str, Any] = {"op": call.op.name, "resource": call.resource_text[: _CHARS_MAX[0]]}
    if _is_command(call):
        shown["cwd"] = call.process.cwd
    args = decode(call.encoded)
    for chars in _CHARS_MAX:
        request = shown | {"args": _cut(args, chars)}
        if len(encode(request)) <= PREVIEW_BYTES_MAX:
            return request
    return shown | {"args": {name: f"... ({len(encode(value))} bytes)" for name, value in args.items()}}


def _cut(value: Any, chars: int, depth: int = 0) -> Any:
    """Return plain data of bounded size that says where it was cut."""
    if isinstance(value, str):
        return value if len(value) <= chars else f"{value[:chars]}... ({len(value)} characters)"
    if isinstance(value, bytes):
        return f"{value[:chars].hex(' ')}{'...' if len(value) > chars else ''} ({len(value)} bytes)"
    if not isinstance(value, dict | list):
        return value
    if depth == _DEPTH_MAX:
        return f"... ({len(value)} items)"
    if isinstance(value, list):
        kept = [_cut(item, chars, depth + 1) for item in value[:_ITEMS_MAX]]
        return kept if len(value) <= _ITEMS_MAX else [*kept, f"... ({len(value)} items)"]
    named = {name[:chars]: _cut(item, chars, depth + 1) for name, item in list(value.items())[:_ITEMS_MAX]}
    return named if len(value) <= _ITEMS_MAX else named | {"...": f"({len(value)} items)"}
