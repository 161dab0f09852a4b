"""Recorded and interrupted calls: what a call of a resumed process becomes.

INVARIANT resume-never-reruns: a recorded outcome is returned or raised as it was; the device is not called and no row is appended.

A call whose intent has no outcome was interrupted by a crash (or by the kernel's closing). By effect class:

    repeatable, keyed   run again; a keyed effect gets the same key, so the other side makes it one
    probeable           the device says: happened (its result is entered), not started (run), or cannot tell (ask); it has RECONCILE_S
                        seconds to, and one that fails or says nothing cannot tell
    once                never run again by itself: a person says it happened, it did not, or the call fails

What runs again is decided again first (revoke-wins). It uses no further budget, capability use or approval: they were used by the
intent that was interrupted.
"""

from __future__ import annotations

from typing import Any

import anyio

from agentos.abi.codec import decode
from agentos.abi.limits import RECONCILE_S
from agentos.abi.op import Effect
from agentos.abi.probe import reached
from agentos.abi.records import AskRecord, Change, Row
from agentos.abi.syscall import NOT_STARTED, UNKNOWN, Park
from agentos.broker.door import Door
from agentos.broker.effect import Effects
from agentos.broker.handle import is_handle
from agentos.broker.request import Request
from agentos.broker.secrets import resolved
from agentos.errors import AgentOSError, Denied, KernelPanic, Unavailable, from_data
from agentos.kernel.ask import verdict_of
from agentos.kernel.process import ProcessEnded
from agentos.kernel.tape import Recorded

__all__ = ["Replay", "is_open"]


def is_open(recorded: Recorded) -> bool:
    """Say whether the outcome of a recorded call is still to be found out."""
    row = recorded.outcome_row
    return row is None or (row.outcome == "unknown" and row.code == "unavailable.cancelled")


class Replay:
    """Answers recorded calls, and finishes interrupted ones."""

    def __init__(self, door: Door, effects: Effects) -> None:
        self._door = door
        self._core = door.core
        self._effects = effects

    async def answer(self, call: Request, recorded: Recorded) -> Any:
        """Return or raise what the recorded call came to."""
        if is_open(recorded):
            return await self.recover(call, recorded)
        row = recorded.outcome_row
        assert row is not None
        return self.returned(call, row, recorded.head.seq)

    def returned(self, call: Request, row: Row, seq: int) -> Any:
        """Return or raise what the row of an outcome says; `seq` is the number that the call is known by."""
        process = call.process
        process.last_seq = row.seq
        if row.outcome != "done":
            raise from_data(decode(row.result), seq=seq)
        value = decode(row.result)
        if is_handle(value):
            return value
        value = call.op.restore(value)
        if call.op.name == "proc.chdir":
            process.cwd = value
        return value

    async def recover(self, call: Request, recorded: Recorded) -> Any:
        """Finish a call that was interrupted between intent and outcome, with the arguments that a person gave it, if one did.

        Raises:
            AgentOSError: as the call itself; `unavailable.outcome_unknown` when a person decides that it fails.
        """
        reached("recover")
        intent = recorded.head
        call.attempt, call.paid = 2, intent
        if call.encoded != intent.args:
            call.set_args(call.op.validate(decode(intent.args)))
        call.digest = intent.digest
        process = call.process
        if process.stack.layers:
            charges = process.stack.charges(call.op, call.resources, call.args, process.facts)
            call.reservation = self._core.quotas.resume(charges, process, intent.at)
        if call.op.effect is Effect.PROBEABLE:
            return await self._probe(call, intent)
        if call.op.effect is Effect.ONCE:
            return await self._ask(call, intent)
        return await self._rerun(call, intent)

    async def _rerun(self, call: Request, intent: Row) -> Any:
        """Close the interrupted attempt in the journal as one still open, and run the call again."""
        self._decide(call, intent)
        error = Unavailable("cancelled", f"`{call.op.name}` was interrupted and is run again", may_have_happened=True)
        self._effects.settle_error(call, intent, None, error)
        return await self._effects.run(call)

    def _decide(self, call: Request, intent: Row) -> None:
        """Decide again before anything is touched (revoke-wins); a no leaves the outcome unknown, where that matters."""
        try:
            self._door.decide(call)
        except Denied as error:
            if call.op.effect is Effect.REPEATABLE:
                raise self._effects.settle_error(call, intent, None, error) from None
            raise self._unknown(call, intent, error.message) from error

    async def _probe(self, call: Request, intent: Row) -> Any:
        reconcile = call.syscall.reconcile
        if reconcile is None:
            raise KernelPanic(f"`{call.op.name}` is probeable and cannot be probed")
        if self._core.asks.of_call(call.process.pid, call.number, "unknown_outcome") is not None:
            return await self._ask(call, intent)  # a person was asked: theirs is the answer
        self._decide(call, intent)
        permit = self._door.permit(call)
        permit.seq = intent.seq
        self._door.bind_recheck(permit, call)
        found: Any = UNKNOWN
        why = f"its device did not say within {RECONCILE_S:g} s"
        try:
            with self._core.outside(call.process), anyio.move_on_after(RECONCILE_S):
                found, why = await reconcile(permit, resolved(self._core, call)), ""
        except Denied as error:  # a late fact that is not allowed: nothing was done now, and nobody knows about then
            raise self._unknown(call, intent, error.message) from error
        except AgentOSError as error:
            why = f"its device could not say ({error.code})"
        if call.is_over:
            raise ProcessEnded
        if found is NOT_STARTED:
            return await self._rerun(call, intent)
        if found is UNKNOWN:
            return await self._ask(call, intent, why)
        return self._effects.settle(call, intent, permit, found)

    async def _ask(self, call: Request, intent: Row, why: str = "") -> Any:
        """Let a person say what became of the effect; `why` says why the device does not."""
        core, process = self._core, call.process
        record = core.asks.of_call(process.pid, call.number, "unknown_outcome")
        if record is None:
            if core.mode == "noninteractive":
                raise self._unknown(call, intent)
            because = f"the kernel stopped while this effect ran{f', and {why}' if why else ''}: did it happen?"
            changes: list[Change] = []
            record = core.asks.open(
                process, call.number, "unknown_outcome", changes, now=core.clock.now(), expires=0.0, op=call.op.name, args=call.encoded,
                digest=intent.digest, because=because, labels=process.label,
            )  # fmt: skip
            core.note(
                process.pid,
                "ask",
                {"kind": record.kind, "call": call.number, "resource": call.resource_text},
                changes,
                ask=record.ask,
            )
        while record.state == "pending":
            await self._door.wait_for(call, Park((("ask", record.ask),), None, f"ask {record.ask}"))
        return await self._settle_answer(call, intent, record)

    async def _settle_answer(self, call: Request, intent: Row, record: AskRecord) -> Any:
        answer = verdict_of(record)
        changes: list[Change] = []
        self._core.asks.close(record, "consumed", changes)
        self._core.note(call.process.pid, "consumed", {"call": call.number}, changes, ask=record.ask)
        if answer.verdict == "deny":
            raise self._unknown(call, intent)
        if answer.has_value:
            return self._effects.settle(call, intent, None, answer.value)
        return await self._rerun(call, intent)

    def _unknown(self, call: Request, intent: Row, why: str = "") -> AgentOSError:
        text = f"nobody knows whether `{call.op.name}` happened (journal {intent.seq})"
        error = Unavailable(
            "outcome_unknown", f"{text}, and it is not run again: {why}" if why else text, may_have_happened=True,
            hint="look at the other side before doing it again",
        )  # fmt: skip
        return self._effects.settle_error(call, intent, None, error)
