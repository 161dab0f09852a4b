"""Effects: what lies between ADMIT and SETTLE.

    ADMIT    one append: the intent, the use of capability, approval and budget; wait until it is durable
    effect   the device runs, holding a permit; only now may anything outside be touched
    SETTLE   one append: result or error, true cost, label; synchronous, so that no cancellation can come between

INVARIANT intent-before-effect: no device is called before the intent of the call is durable, so after a crash at any point the journal
says not started (no intent), unknown (intent only) or done (both).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import anyio

from agentos.abi.codec import decode, encode
from agentos.abi.labels import UNTRUSTED, pack
from agentos.abi.limits import RESULT_BYTES_MAX
from agentos.abi.op import Effect
from agentos.abi.permit import Permit
from agentos.abi.probe import reached
from agentos.abi.records import Change, Row
from agentos.broker.door import Door, error_bytes, settle_quota
from agentos.broker.files import before_effect, compared_labels, found_labels, settle_files
from agentos.broker.handle import put_behind_handle, wants_handle, why_not_told
from agentos.broker.labels import own_label, raise_label, result_label
from agentos.broker.obligation import log_call
from agentos.broker.pieces import Pieces
from agentos.broker.request import Request, is_host_call
from agentos.broker.secrets import resolved
from agentos.errors import AgentOSError, Denied, Invalid, Unavailable
from agentos.kernel.budget import Account
from agentos.kernel.flow import ProcessFlow
from agentos.kernel.lifecycle import charge_late
from agentos.kernel.process import ProcessEnded
from agentos.kernel.slots import Slots

__all__ = ["Effects"]

_HARMLESS = frozenset({Effect.PURE, Effect.LOCAL, Effect.REPEATABLE})


class Effects:
    """Runs calls that reach outside."""

    def __init__(self, door: Door) -> None:
        self._door = door
        self._core = door.core

    async def run(self, call: Request) -> Any:
        """Walk one effectful call from ADMIT to SETTLE and return its value.

        Raises:
            AgentOSError: what the device raised, journaled; `unavailable.cancelled` when the process was killed before the effect.

        Cancellation: before the intent is durable nothing happens outside; after that the device is cancelled and the outcome is
            journaled as unknown (or failed, where repeating is harmless).
        """
        slots = self._core.slots.get(call.op.slot if call.syscall.slot is None else call.syscall.slot(call.args))
        if slots is None and call.syscall.estimate is None:
            return await self._admitted(call, None)
        has_slot = False
        try:
            while True:
                crowded = self._hold(call)
                if crowded is None and (has_slot or slots is None or slots.acquire_now()):
                    has_slot = False  # who runs it gives it back
                    return await self._admitted(call, slots)
                call.count(False)
                if crowded is not None:
                    if has_slot and slots is not None:
                        has_slot = False
                        slots.release()
                    await self._wait(call, crowded.freed)
                elif slots is not None:
                    await self._wait(call, partial(slots.acquire, call.process.tree), slots.release)
                    has_slot = True
                self._door.decide_again(call)  # what was revoked or used up meanwhile is gone
                if call.paid is None:
                    self._door.reserve(call)
        finally:
            if has_slot and slots is not None:
                slots.release()
            call.let_go()

    def _hold(self, call: Request) -> Account | None:
        """Hold what the call may cost of every budget that bounds it, or return the account that has no room until others are over.

        Raises:
            Denied: `denied.budget`, or `denied.policy` where a limit has less left than the least (journaled).
            Invalid: what it would cost cannot be told from its arguments (journaled).
        """
        if call.syscall.estimate is None:
            return None
        try:
            wanted = self._core.quotas.bounded(call.reservation, call.syscall.estimate(call.args), self._core.clock.now())
            found = call.process.account.hold(wanted, call.process.pid)
        except AgentOSError as error:
            raise self._door.fail(call, error) from None
        if isinstance(found, Account):
            return found
        call.hold = found
        return None

    async def _wait(
        self, call: Request, ready: Callable[[], Awaitable[None]], give_back: Callable[[], None] | None = None
    ) -> None:
        """Wait for a slot or for room. A process that is paused meanwhile makes no effect until it is resumed, and keeps no slot."""
        while True:
            self._core.scheduler.suspend(call.process)
            try:
                await ready()
            finally:
                self._core.scheduler.resume(call.process)
            if not call.is_over and call.process.record.state != "paused":
                return
            if give_back is not None:
                give_back()
            if call.is_over:
                raise ProcessEnded
            await self._door.wait_while_paused(call)

    async def _admitted(self, call: Request, slots: Slots | None) -> Any:
        core, process = self._core, call.process
        core.effects += 1
        core.scheduler.suspend(process)
        try:
            return await (self._cancellable(call) if is_host_call(call.number) else self._admit_and_run(call))
        finally:
            core.scheduler.resume(process)
            core.end_effect()
            if slots is not None:
                slots.release()

    async def _cancellable(self, call: Request) -> Any:
        """Run an effect of a host's call: the end of the process cancels it, as it does its program's."""
        with anyio.CancelScope() as scope:
            call.process.host_scopes[scope] = None
            try:
                return await self._admit_and_run(call)
            finally:
                del call.process.host_scopes[scope]
        raise ProcessEnded

    async def _admit_and_run(self, call: Request) -> Any:
        permit = self._door.permit(call)
        permit.units = call.hold.units if call.hold is not None else None
        reached("admit.before")
        try:
            intent = self._admit(call)
        except Denied as error:  # another call took the last use while this one waited for a slot or a preview
            raise self._door.fail(call, error) from None
        permit.seq = intent.seq
        self._door.bind_recheck(permit, call)
        permit.keep = partial(self._keep, call, intent)
        try:
            reached("admit.appended")
            await self._core.journal.durable(intent.seq)
            reached("admit.durable")
            if call.process.ended:
                raise Unavailable("cancelled", f"process {call.process.pid} ended before the effect")
            if self._core.events.is_followed:
                permit.delta = Pieces(self._core, call, intent)
            self._core.journal.check_lease()  # another kernel may act by now: then nothing is done, and nothing can be settled
            value = await call.syscall.handler(permit, resolved(self._core, call))
            reached("effect.done")
            if permit.delta is not None:
                permit.delta.end()
        except AgentOSError as error:
            raise self.settle_error(call, intent, permit, error) from None
        except Exception as error:  # noqa: BLE001 - settled and raised; a cause may hold a secret
            wrapped = Unavailable("device", f"`{call.op.name}` failed: {type(error).__name__}: {error}"[:2000])
            raise self.settle_error(call, intent, permit, wrapped) from (None if call.secrets else error)
        except BaseException:
            self._settle_cancelled(call, intent, permit)
            raise
        return self.settle(call, intent, permit, value)

    def _admit(self, call: Request) -> Row:
        changes: list[Change] = []
        self._door.settle_belongings(call, 0, changes)
        if call.reservation is not None:
            self._core.quotas.changes(call.reservation, changes)
        before_effect(self._core, call, changes)
        row = call.row("intent", "", self._core.clock.now())
        row.parent = call.paid.seq if call.paid is not None else 0
        if call.hold is not None:
            row.cost = encode(call.hold.least)
        call.process.intents[self._core.append(row, changes)], call.hold = call.hold, None
        return row

    async def _keep(self, call: Request, intent: Row, data: bytes) -> str:
        """Make the before-image of what an effect is about to replace durable, tied to the intent; returns its digest."""
        digest = self._core.store.objects.put(data)
        row = Row(
            pid=call.process.pid, number="", kind="note", op="note.before", resource=intent.resource, parent=intent.seq, outcome="done",
            args=encode({"object": digest, "bytes": len(data), "labels": found_labels(self._core, call)}), at=self._core.clock.now(),
        )  # fmt: skip
        await self._core.journal.durable(self._core.append(row))
        return digest

    # --- SETTLE -------------------------------------------------------------------------------------------------------------

    def settle(self, call: Request, intent: Row, permit: Permit | None, value: Any) -> Any:
        """Append the result and return it as a replay would."""
        try:
            encoded = self._core.secrets.scrub_encoded(encode(value))
            if len(encoded) > RESULT_BYTES_MAX:
                raise Invalid("argument", f"result has {len(encoded)} bytes, {RESULT_BYTES_MAX} at most")
            result = decode(encoded)
            restored = call.op.restore(result)
        except (AgentOSError, ValueError) as error:
            text = f"`{call.op.name}` returned what cannot be kept: {error}"[:2000]
            raise self.settle_error(call, intent, permit, Unavailable("device", text, may_have_happened=True)) from error
        reached("settle.before")
        changes: list[Change] = []
        own = own_label(call, permit.labels if permit is not None else 0)
        own |= settle_files(self._core, call, succeeded=True, changes=changes)
        label = result_label(call, result, own)
        why = why_not_told(self._core, call, label)
        kept = bool(why) or wants_handle(call, label, len(encoded))
        if kept:
            held = permit or self._door.permit(call)
            held.changes = changes
            labels = call.process.label | label
            result = restored = put_behind_handle(self._door.objects, held, result, label=labels, why=why)
            encoded, label, own = encode(result), 0, 0
        self._append(call, intent, permit, "done", result=encoded, changes=changes, label=label, own=own)
        reached("settle.appended")
        flow: ProcessFlow = call.process.facts["flow"]
        if not kept:
            flow.note_result(call.op, result, call.args, seq=call.process.last_seq, label=own)
        return restored

    def settle_error(self, call: Request, intent: Row, permit: Permit | None, error: AgentOSError) -> AgentOSError:
        """Append the failure and return the error with the intent's number."""
        self._core.secrets.scrub_error(error)
        unknown = isinstance(error, Unavailable) and error.may_have_happened
        outcome = "unknown" if unknown else "denied" if isinstance(error, Denied) else "failed"
        changes: list[Change] = []
        label = compared_labels(self._core, call)
        if why_not_told(self._core, call, label):
            label = 0  # it was refused before anything was compared
        settle_files(self._core, call, succeeded=False, changes=changes)
        if call.op.untrusted:  # what an error says comes from outside, too: a device's, or a redirect's name
            label |= UNTRUSTED
        self._append(call, intent, permit, outcome, code=error.code, result=error_bytes(error), changes=changes, label=label)
        error.seq = intent.seq
        return error

    def _settle_cancelled(self, call: Request, intent: Row, permit: Permit) -> None:
        harmless = call.op.effect in _HARMLESS or intent.seq > self._core.journal.durable_seq
        if self._core.closing and not harmless and is_host_call(call.number):
            return  # as if the kernel had been killed here: the next one finds out, or asks, what became of it
        timed_out = call.timed_out
        if call.deadline is not None:
            call.deadline.may_have_happened = not harmless
        error = Unavailable(
            "timeout" if timed_out else "cancelled",
            f"`{call.op.name}` was cancelled while it ran",
            may_have_happened=not harmless,
        )
        outcome = "failed" if harmless and (timed_out or call.process.hosted) else "unknown"
        changes: list[Change] = []
        settle_files(self._core, call, succeeded=False, changes=changes)
        self._append(call, intent, permit, outcome, code=error.code, result=error_bytes(error), changes=changes)

    def _append(  # noqa: PLR0913 - the columns of a result
        self,
        call: Request,
        intent: Row,
        permit: Permit | None,
        outcome: str,
        *,
        code: str = "",
        result: bytes,
        changes: list[Change],
        label: int = 0,
        own: int = 0,
    ) -> None:
        core, process = self._core, call.process
        hold = process.intents.pop(intent.seq, None)
        if hold is not None:
            process.account.release(hold)
        cost = permit.cost if permit is not None else decode(intent.cost) if intent.cost else None
        if cost:
            process.account.charge(cost)
            if process.ended:
                charge_late(core, process, cost, changes)
        if not process.ended:
            if (
                call.op.effect is not Effect.ONCE
                and outcome == "failed"
                and code == "unavailable.cancelled"
                and call.cap is not None
            ):
                for cap in (call.cap, *call.secrets.values()):
                    core.caps.return_use(cap, changes)
            raise_label(process, label, changes)
        settle_quota(core, call, cost, changes, succeeded=outcome == "done")
        row = Row(
            pid=process.pid, number=call.number, kind="result", op=call.op.name, outcome=outcome, code=code,
            labels=pack(process.label, own), cost=encode(cost) if cost else b"", result=result, parent=intent.seq, at=core.clock.now(),
        )  # fmt: skip
        process.last_seq = core.append(row, changes)
        if "log" in call.obligations:
            log_call(call, process.last_seq, outcome)
