"""The door: the walk of one syscall, each room once.

    resolve      op table -> typed call -> canonical resource                (nothing observed yet)
    replay       a resumed program gets its journaled result back           (nothing below runs)
    turn         the scheduler's pacing; a paused process waits here
    decide       capability, policy layers, labels, obligations, limits      `broker.decide`; a person: `broker.approval`
    reserve      budget along the whole ancestor chain, limits of policies   kernel.budget, kernel.quota
    inside       pure and local: run, one row with its state changes         here
    outside      intent, effect, result                                      `broker.effect`

INVARIANT no-effect-without-permit: this module and `broker.effect` are the only ones that make permits, after `decide`.
INVARIANT check-before-observe: resolve is lexical; the first look at a target is a device's, with a permit in hand.
INVARIANT rows-are-exact: a pure, local, denied or failed call appends one row, an effect two; every call that got past resolve has one.

A pure or local call completes without suspending.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final

from agentos.abi.codec import decode, encode
from agentos.abi.labels import pack
from agentos.abi.limits import CALLS_PER_SAVE_MAX, CALLS_PER_SAVE_WARN, RESULT_BYTES_MAX, SUSPECT_RESUMES
from agentos.abi.permit import Permit, claim_seal
from agentos.abi.probe import reached
from agentos.abi.records import Change, Row
from agentos.abi.syscall import Park, Syscall
from agentos.broker.decide import Decisions
from agentos.broker.files import compared_labels
from agentos.broker.handle import not_told, put_behind_handle, wants_handle, why_not_told
from agentos.broker.labels import endorsed, own_label, raise_label, result_label
from agentos.broker.obligation import log_call
from agentos.broker.offer import still_covered
from agentos.broker.request import Request
from agentos.errors import AgentOSError, Denied, Invalid, Unavailable
from agentos.kernel.budget import used_by
from agentos.kernel.core import Core
from agentos.kernel.flow import ProcessFlow
from agentos.kernel.lifecycle import encodable
from agentos.kernel.poison import caught_up
from agentos.kernel.process import AgentProcess, OpenCall, ProcessEnded
from agentos.memory.objects import ObjectTable

__all__ = ["Door", "error_bytes", "settle_quota"]

log = logging.getLogger("agentos.broker")

_SEAL: Final = claim_seal()
_NOT_BY_RULE: Final = frozenset({"denied.budget", "denied.label"})  # the rule that allowed a call did not deny it


class Door:
    """What every way through the broker shares: resolving, deciding, parking, and the rows of a call.

    Args:
        core: The kernel's state.
        syscalls: Everything that is served: kernel ops, memory ops, devices.
        objects: Where results are kept that come back as handles.
    """

    def __init__(self, core: Core, syscalls: Iterable[Syscall], objects: ObjectTable) -> None:
        self.core = core
        self.objects = objects
        self.decisions = Decisions(core)
        self.decide = self.decisions.decide
        self.served: dict[str, Syscall] = {}
        self.overlaid: dict[str, Syscall] = {}  # what serves a process that works on a file overlay instead
        for syscall in syscalls:
            self.serve(syscall)

    def serve(self, syscall: Syscall) -> None:
        """Serve one more op."""
        assert syscall.op.name not in self.served, f"{syscall.op.name} is served twice"
        self.served[syscall.op.name] = syscall

    # --- resolve ------------------------------------------------------------------------------------------------------------

    def resolve(self, process: AgentProcess, name: str, args: dict[str, Any], number: str, key: str) -> Request:
        """Return the typed call.

        Raises:
            Invalid: unknown op, an op that nothing serves, bad arguments, a malformed resource.
        """
        syscall = self.served.get(name)
        if process.record.overlay and name in self.overlaid:
            syscall = self.overlaid[name]
        if syscall is None:
            op = self.core.ops.find(name)
            raise Invalid(
                "op", f"nothing serves `{op.name}` in this kernel", hint="mount its device: open(devices=...)", field=name
            )
        return Request(process, syscall, args, number, key)

    def refuse(self, process: AgentProcess, name: str, number: str, error: AgentOSError) -> AgentOSError:
        """Append the one row of a call that could not even be resolved, and return its error with the row's number."""
        row = Row(
            pid=process.pid, number=number, kind="call", op=str(name)[:100], outcome="denied" if isinstance(error, Denied) else "failed",
            code=error.code, result=error_bytes(error), labels=process.label, at=self.core.clock.now(),
        )  # fmt: skip
        error.seq = process.last_seq = self.core.append(row)
        if not process.ended:
            process.account.charge(used_by(row))
        return error

    # --- inside: pure and local ---------------------------------------------------------------------------------------------

    async def inside(self, call: Request) -> Any:
        """Run a pure or local call: one row, in one append with its state changes."""
        permit = self.permit(call)
        if call.op.late:
            self.bind_recheck(permit, call)
        process, core = call.process, self.core
        handler, awaits = call.syscall.handler, call.syscall.awaits
        while True:
            permit.deadline = core.timers.due(process.pid, call.number)
            try:
                value = handler(permit, call.args)
                if awaits:
                    value = await self._awaited(process, value)
            except AgentOSError as error:
                raise self.fail(call, self._label_refused(call, permit, error), permit.changes) from None
            if type(value) is not Park:
                value = self.done(call, permit, value)
                if "log" in call.obligations:
                    await core.journal.durable(process.last_seq)
                return value
            call.count(False)
            await self._park_inside(call, value, permit)
            await self.wait_while_paused(call)
            permit.renew()
            permit.changes = []
            self.decide_again(call)
            self.reserve(call)

    def _label_refused(self, call: Request, permit: Permit, error: AgentOSError) -> AgentOSError:
        """Return the error of a call. A refusal that depends on what was looked at tells of it, too."""
        label = permit.labels | (compared_labels(self.core, call) if call.op.late else 0)
        if label and not call.process.ended:
            why = why_not_told(self.core, call, label)
            if why:
                return not_told(call, why)
            raise_label(call.process, label, permit.changes)
        return error

    async def _park_inside(self, call: Request, park: Park, permit: Permit) -> None:
        """Wait as `park`; a call that is cancelled meanwhile is withdrawn."""
        try:
            await self.park(call, park, permit.changes)
        except (ProcessEnded, AgentOSError):
            raise
        except BaseException:
            self.withdraw(call)
            raise

    def withdraw(self, call: Request) -> None:
        """A waiting call was cancelled by who made it: its ask and timer end. One that is only unwound goes on when it is made again."""
        process, core = call.process, self.core
        if call.is_over or process.unwinding or core.closing:
            return
        for record in core.asks.all_of_call(process.pid, call.number):
            changes: list[Change] = []
            core.asks.close(record, "withdrawn", changes)
            core.note(process.pid, "withdrawn", {"call": call.number}, changes, ask=record.ask)
        reason = "timeout" if call.timed_out else "cancelled"
        self.fail(call, Unavailable(reason, f"`{call.op.name}` was cancelled while it waited"))

    def reserve(self, call: Request) -> None:
        """Take the call from the budget of its process and of every ancestor, and from the limits of its policies.

        Raises:
            Denied: `denied.budget`, or `denied.policy` when a limit is full (journaled).
        """
        core, process = self.core, call.process
        try:
            if call.charges and call.reservation is None:
                call.reservation = core.quotas.reserve(call.charges, process, core.clock.now())
            if not call.is_counted:
                process.account.reserve_call(process.pid)
                call.is_counted = True
        except Denied as error:
            raise self.fail(call, error) from None

    async def _awaited(self, process: AgentProcess, pending: Any) -> Any:
        with self.core.outside(process):
            return await pending

    def permit(self, call: Request) -> Permit:
        """Admit the call. Its key is the same on every attempt of this call, and of no other call of any store.

        What the kernel does itself, without awaiting, has none.
        """
        permit = Permit(_SEAL, call.process.pid, call.op.name, call.resources, call.number, call.process)
        permit.attempt = call.attempt
        if not call.op.inside or call.syscall.awaits:
            permit.key = f"{self.core.store.identity}.{call.process.pid}.{call.key or call.number}.{call.digest.hex()}"
        return permit

    def decide_again(self, call: Request) -> None:
        """Decide once more after a wait: what was revoked meanwhile is gone (revoke-wins)."""
        try:
            self.decide(call)
            if not still_covered(self.core, call):
                raise Denied(
                    "human", "the standing grant that covered this call ended while it waited", hint="make the call again"
                )
        except Denied as error:
            raise self.fail(call, error) from None

    def done(self, call: Request, permit: Permit, value: Any) -> Any:
        """Append the row of a pure or local call that succeeded and return the value as a replay would."""
        core, process, changes = self.core, call.process, permit.changes
        encoded = self._encoded(call, value, changes)
        result, label, carried, kept, why = decode(encoded), 0, 0, False, ""
        if permit.labels or call.label or call.obligations or _is_looked_at(call):
            carried = own_label(call, endorsed(core, call, permit, value) if permit.labels else 0)
            label = result_label(call, result, carried)
            why = why_not_told(core, call, label)
            kept = bool(why) or wants_handle(call, label, len(encoded))
        if kept:
            result = put_behind_handle(self.objects, permit, result, label=process.label | label, why=why)
            encoded, label, carried = encode(result), 0, 0
        if not process.ended:
            self._settle_done(call, label, changes)
        row = call.row("call", "done", core.clock.now())
        row.result = encoded
        if label or carried:
            row.labels = pack(row.labels | label, carried)
        if call.op.name == "proc.save":
            row.args = b""  # the record keeps the state, as a tree that shares what did not change
        reached("done.before")
        process.last_seq = core.append(row, changes)
        reached("done.appended")
        if "log" in call.obligations:
            log_call(call, process.last_seq, "done")
        if call.is_over and call.op.name != "proc.exit":
            raise ProcessEnded
        if kept:
            return result
        if process.stack.uses_provenance:
            flow: ProcessFlow = process.facts["flow"]
            flow.note_result(call.op, result, call.args, seq=process.last_seq, label=carried)
        return call.op.restore(result)

    def _settle_done(self, call: Request, label: int, changes: list[Change]) -> None:
        try:
            self.settle_belongings(call, label, changes)
        except Denied as error:  # another call took the last use while this one awaited
            raise self.fail(call, error, changes) from None
        if call.reservation is not None:
            settle_quota(self.core, call, None, changes, succeeded=True)

    def _encoded(self, call: Request, value: Any, changes: list[Change]) -> bytes:
        try:
            encoded = encode(value)
            if call.syscall.awaits:
                encoded = self.core.secrets.scrub_encoded(encoded)
                call.op.restore(decode(encoded))  # a device may return something else than it declared
            if len(encoded) > RESULT_BYTES_MAX:
                raise Invalid("argument", f"result has {len(encoded)} bytes, {RESULT_BYTES_MAX} at most")
        except AgentOSError as error:
            raise self.fail(call, error, changes) from None
        except ValueError as error:
            text = f"`{call.op.name}` returned what cannot be kept: {error}"[:2000]
            raise self.fail(call, Unavailable("device", text), changes) from error
        return encoded

    def settle_belongings(self, call: Request, labels: int, changes: list[Change]) -> None:
        """Use the capability and the approval up, end the timer, raise the label: all in the append that records the call."""
        core, process = self.core, call.process
        if call.attempt == 1 and call.secrets:
            core.caps.use_all([*([call.cap] if call.cap is not None else []), *call.secrets.values()], changes)
        elif call.attempt == 1 and call.cap is not None:
            core.caps.use(call.cap, changes)
        if call.approval is not None and call.approval.live:
            core.asks.close(call.approval, "consumed", changes)
        core.timers.end(process.pid, call.number, changes)
        if labels & ~process.label:
            raise_label(process, labels, changes)
        if process.account.is_due:
            changes.append(core.account_change(process))

    def fail(self, call: Request, error: AgentOSError, changes: list[Change] | None = None) -> AgentOSError:
        """Append the one row of a call that was denied or failed inside, and return its error with the row's number.

        Its timer and its ask end with it. A failed call counts as a call, a denied one does not.
        """
        core = self.core
        changes = changes if changes is not None else []
        if not call.process.ended:
            core.timers.end(call.process.pid, call.number, changes)
            for record in core.asks.all_of_call(call.process.pid, call.number):
                core.asks.close(record, "consumed" if record is call.approval else "withdrawn", changes)
            call.count(not isinstance(error, Denied))
            self._settle_failed(call, error, changes)
        row = call.row("call", "denied" if isinstance(error, Denied) else "failed", core.clock.now())
        core.secrets.scrub_error(error)
        row.code, row.result = error.code, error_bytes(error)
        row.rule = error.rule or ("" if error.code in _NOT_BY_RULE else row.rule)
        error.seq = call.process.last_seq = core.append(row, changes)
        return error

    def _settle_failed(self, call: Request, error: AgentOSError, changes: list[Change]) -> None:
        """A call that was not made takes nothing from a limit; one that failed counts."""
        if call.reservation is not None:
            if isinstance(error, Denied) or error.code in ("unavailable.cancelled", "unavailable.timeout"):
                self.core.quotas.release(call.reservation, changes)
                call.reservation = None
            else:
                settle_quota(self.core, call, None, changes, succeeded=False)

    # --- waiting ------------------------------------------------------------------------------------------------------------

    async def park(self, call: Request, park: Park, changes: list[Change]) -> None:
        """Wait for one of the reasons; what the handler changed, and a new due time, are written down first.

        Raises:
            ProcessEnded: the process ended or is unwound.
            Unavailable: it was interrupted (journaled).
        """
        core, process = self.core, call.process
        if park.due is not None and core.timers.due(process.pid, call.number) is None:
            core.timers.start(process.pid, call.number, park.due, changes)
        if changes:
            ask = next((int(key) for kind, key, *_ in park.waits if kind == "ask"), 0)
            told = {"for": park.doing, "call": call.number} | ({} if park.due is None else {"due": park.due})
            core.note(process.pid, "ask" if ask else "waits", told, changes, ask=ask)
        await self.wait_for(call, park)

    async def wait_for(self, call: Request, park: Park) -> None:
        """Wait for one of the reasons; nothing is written down."""
        due, own = park.due, call.deadline.due if call.deadline is not None else None
        if own is not None:
            due = own if due is None else min(own, due)
        await self._wait(call.process, OpenCall(call.process, call.number, park.waits, due, park.doing), call)

    async def _wait(self, process: AgentProcess, waiting: OpenCall, call: Request) -> None:
        """Wait as part of a process: when all its calls wait, it is waiting, and may be unwound."""
        core = self.core
        if call.number in process.interrupted:
            process.interrupted.discard(call.number)
            raise self.fail(call, core.waits.interruption(waiting))
        core.waits.begin(waiting)
        core.scheduler.suspend(process)
        self.look_whether_waiting(process)
        try:
            await core.waits.finish(waiting)
        except AgentOSError as error:
            raise self.fail(call, error) from None
        finally:
            if not waiting.woken:
                core.scheduler.resume(process)
            core.scheduler.wakes(process)
        if call.is_over:
            raise ProcessEnded
        if process.state == "waiting":
            process.state = "ready" if process.hosted else "running"

    def look_whether_waiting(self, process: AgentProcess) -> None:
        """Mark a process as waiting when all its open calls wait; one that keeps a task for it may then be unwound."""
        if process.waiting < process.branches or process.unwinding:
            return
        if process.record.state != "paused":
            process.state = "waiting"
        if process.running and not process.host_calls:
            if process.record.resumes >= SUSPECT_RESUMES:
                caught_up(self.core, process)
            self.core.scheduler.waits(process)

    async def wait_while_paused(self, call: Request) -> None:
        """Hold a call of a paused process until it is resumed."""
        process = call.process
        while process.record.state == "paused":
            await self.wait_for(call, Park((("resume", process.pid),), None, "resume"))

    def count_call(self, call: Request) -> None:
        """Bound the calls that a resumed program would have to repeat.

        Raises:
            Invalid: CALLS_PER_SAVE_MAX calls since the last save point.
        """
        process = call.process
        process.calls_since_save += 1
        if process.calls_since_save == CALLS_PER_SAVE_WARN and not process.hosted:
            log.warning("save_is_due pid=%d calls=%d calls_max=%d", process.pid, CALLS_PER_SAVE_WARN, CALLS_PER_SAVE_MAX)
        if (
            process.calls_since_save > CALLS_PER_SAVE_MAX
            and not process.hosted
            and call.op.name not in ("proc.save", "proc.exit")
        ):
            error = Invalid(
                "state",
                f"process {process.pid} made {CALLS_PER_SAVE_MAX} calls since its last save",
                hint="call `sys.save(state)` in loops",
            )
            raise self.fail(call, error)

    def bind_recheck(self, permit: Permit, call: Request) -> None:
        """Give a device the way to have late facts decided."""
        permit.recheck = partial(self.decisions.recheck, call)


def _is_looked_at(call: Request) -> bool:
    """Say whether the result of a call can have a label or a handle of its own."""
    process = call.process
    return call.op.untrusted or process.stack.labels_values or process.image.handles != "never"


def settle_quota(
    core: Core, call: Request, cost: Mapping[str, float] | None, changes: list[Change], *, succeeded: bool
) -> None:
    """Write down what the call took from the limits of its policies."""
    if call.reservation is not None:
        core.quotas.changes(call.reservation, changes)
        core.quotas.settle(call.reservation, cost, succeeded, core.clock.now(), changes)
        call.reservation = None


def error_bytes(error: AgentOSError) -> bytes:
    """Return what a row keeps of an error: its data, without fields that cannot be stored."""
    data = error.to_data()
    if "fields" in data:
        data["fields"] = encodable(data["fields"])
    return encode(data)
