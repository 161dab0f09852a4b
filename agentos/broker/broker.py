"""The broker: `call` is the one way in. See `agentos.broker.door` for the steps."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import anyio

from agentos.abi.codec import decode
from agentos.abi.limits import REPLAY_CACHE_ROWS
from agentos.abi.records import Row
from agentos.abi.syscall import Syscall
from agentos.broker.approval import Approvals
from agentos.broker.door import Door
from agentos.broker.effect import Effects
from agentos.broker.obligation import redacted
from agentos.broker.replay import Replay
from agentos.broker.request import Deadline, Request, is_host_call
from agentos.errors import AgentOSError, Denied, Invalid, Unavailable, from_data
from agentos.kernel.core import Core
from agentos.kernel.lifecycle import error_data
from agentos.kernel.process import AgentProcess, OpenCall, ProcessEnded
from agentos.kernel.run import finish
from agentos.kernel.tape import Recorded, Tape
from agentos.memory.objects import ObjectTable
from agentos.policy import Verdict

__all__ = ["Broker"]

log = logging.getLogger("agentos.broker")


class Broker:
    """The one door of a kernel; implements `abi.protocols.Syscalls`.

    Args:
        core: The kernel's state.
        syscalls: Everything that is served.
        objects: Object memory, for results that come back as handles.
    """

    def __init__(self, core: Core, syscalls: Iterable[Syscall], objects: ObjectTable) -> None:
        self.core = core
        self.door = Door(core, syscalls, objects)
        self._effects = Effects(self.door)
        self._approvals = Approvals(self.door)
        self._replay = Replay(self.door, self._effects)
        self._flights: dict[tuple[int, str], anyio.Event] = {}

    async def call(  # noqa: PLR0913 - everything after `args` is about how the call was made
        self,
        process: AgentProcess,
        op: str,
        args: dict[str, Any],
        *,
        number: str,
        key: str = "",
        deadline: Deadline | None = None,
        vouched: tuple[Any, ...] = (),
    ) -> Any:
        """Walk one call through the door and return its value; `process.last_seq` is then the number of its last row.

        Args:
            process: The caller, whose code is active.
            op: Name of the op.
            args: Arguments by name, not yet validated.
            number: Number of the call in its process, unique and, for programs, the same on every run.
            key: The host's own idempotency key.
            deadline: When the caller will have cancelled it; names the error and learns whether the effect may exist.
            vouched: Values that the host calls its own (`agentos.trusted`).

        Raises:
            AgentOSError: the call was denied, failed or is invalid; one row says so.
            ProcessEnded: the process ended or is being unwound; the call was not made.
        """
        if process.ended or (process.unwinding and not is_host_call(number)):
            raise ProcessEnded
        tape = process.tape
        try:
            call = self.door.resolve(process, op, args, number, key)
        except AgentOSError as error:
            raise self.refuse(process, op, number, error) from None
        call.deadline, call.vouched = deadline, vouched
        if tape is not None:
            recorded = self._recall(process, tape, call)
            if not len(tape):
                process.tape = None
            if recorded is not None:
                process.calls_since_save += 1
                return await self._replay.answer(call, recorded)
        scheduler = self.core.scheduler
        if scheduler.charge(process):
            await scheduler.turn(process)
            if call.is_over:
                raise ProcessEnded
        return await self._walk(call)

    def _recall(self, process: AgentProcess, tape: Tape, call: Request) -> Recorded | None:
        """Take the recorded call from the tape; a program that does not repeat itself ends here, whatever it would catch."""
        try:
            return tape.take(call.number, call.op.name, call.digest, call.args, ids=call.op.ids)
        except Invalid as difference:
            finish(self.core, process, "failed", error=error_data(difference))
            raise ProcessEnded from None

    async def _walk(self, call: Request) -> Any:
        door = self.door
        door.count_call(call)
        while True:
            if call.process.record.state == "paused":
                await door.wait_while_paused(call)
            try:
                verdict = door.decide(call)
                if "redact" in call.obligations and self._redact(call):
                    continue
            except AgentOSError as error:
                raise door.fail(call, error) from None
            if verdict is None or verdict.outcome == "allow" or await self._approvals.obtain(call, verdict):
                break
        if "preview" in call.obligations and (call.approval is None or not call.approval.number):
            await self._approvals.note_preview(call)
        door.reserve(call)
        if call.op.inside:
            return await door.inside(call)
        value = await self._effects.run(call)
        if call.is_over:
            raise ProcessEnded
        return value

    def _redact(self, call: Request) -> bool:
        """Take secrets and credentials out of the arguments; True when that changed them, so that they are decided again.

        The digest stays that of the call as the program made it, by which a replay knows it again.
        """
        clean = redacted(call.args, self.core.secrets.scrub_text)
        if clean == call.args:
            return False
        original = call.digest
        call.set_args(call.op.validate(clean))
        call.digest = original
        return True

    def refuse(self, process: AgentProcess, op: str, number: str, error: AgentOSError) -> AgentOSError:
        """Return the error of a call that means nothing, as it was recorded or else with the row that says so now.

        Raises:
            ProcessEnded: the call was made once, and its device is not mounted here: the process waits for a kernel that has it.
        """
        recorded = process.tape.of(number) if process.tape is not None else None
        if process.tape is None or recorded is None:
            return self.door.refuse(process, op, number, error)
        head = recorded.head
        if head.op == op and head.digest and op not in self.door.served and process.scope is not None:
            self._wait_for_device(process, op)
            raise ProcessEnded
        process.tape.discard(number)
        return from_data(decode(head.result), seq=head.seq) if head.op == op and not head.digest else error

    def _wait_for_device(self, process: AgentProcess, op: str) -> None:
        """Leave a program where it is, as one that this kernel has not got: what it did with the device cannot be told to it here."""
        device = op.partition(".")[0]
        log.warning("device_missing pid=%d op=%s", process.pid, op)
        process.unwinding, process.state = True, "waiting"
        self.core.waits.enter(OpenCall(process, "", [("device", device)], None, f"device {device}"))
        assert process.scope is not None, "it runs"
        process.scope.cancel()

    def give_up(self, process: AgentProcess, op: str, args: dict[str, Any], *, number: str) -> Any:
        """Say what became of a program's call whose time is over and which is not under way any more.

        What it was journaled as is returned or raised; an intent of an earlier run is settled by its class; else it was not made.

        Raises:
            Unavailable: `unavailable.timeout`, or what else the call came to.
            ProcessEnded: the process ended or is being unwound.
        """
        if process.ended or process.unwinding:
            raise ProcessEnded
        try:
            call = self.door.resolve(process, op, args, number, "")
        except AgentOSError as error:
            raise self.door.refuse(process, op, number, error) from None
        if process.tape is not None:
            self._recall(process, process.tape, call)
            process.tape = process.tape if len(process.tape) else None
        store = self.core.store
        own = [row for row in store.newest(process.pid, REPLAY_CACHE_ROWS) if row.number == number and row.kind != "intent"]
        if own and not (own[-1].outcome == "unknown" and own[-1].code == "unavailable.cancelled"):
            return self._replay.returned(call, own[-1], own[-1].parent or own[-1].seq)
        floor = process.account.record.floor
        intent = next((row for row in store.open_intents(process.pid, floor - 1) if row.number == number), None)
        has_effect = intent is not None and call.op.effect.value != "repeatable"
        late = Unavailable(
            "timeout", f"`{op}` was not done in its time", may_have_happened=has_effect, hint="give it more time"
        )
        raise self.door.fail(call, late) if intent is None else self._effects.settle_error(call, intent, None, late)

    # --- keyed host calls and interrupted ones ------------------------------------------------------------------------------

    async def join(
        self,
        process: AgentProcess,
        op: str,
        args: dict[str, Any],
        *,
        key: str,
        deadline: Deadline | None = None,
        vouched: tuple[Any, ...] = (),
    ) -> Any:
        """Make a host call with a key, or join the one that was made with it, before or after a crash.

        Raises:
            Invalid: the key was used for another op or other arguments.
        """
        number = f"={key}"
        flight = (process.pid, number)
        while flight in self._flights:
            await self._flights[flight].wait()
        landed = self._flights[flight] = anyio.Event()
        try:
            recorded = self._recorded(process.pid, key)
            if recorded is None:
                return await self.call(process, op, args, number=number, key=key, deadline=deadline, vouched=vouched)
            call = self.door.resolve(process, op, args, number, key)
            if recorded.head.op != op or recorded.head.digest != call.digest:
                raise Invalid(
                    "argument",
                    f"key `{key}` was used for another call (journal {recorded.head.seq})",
                    field="key",
                    hint="use a new key",
                )
            return await self._replay.answer(call, recorded)
        finally:
            del self._flights[flight]
            landed.set()

    def _recorded(self, pid: int, key: str) -> Recorded | None:
        head = self.core.store.keyed(pid, key)
        if head is None or head.outcome == "denied" or (head.kind == "call" and head.outcome == "failed"):
            return None
        result = self.core.store.result_of(head.seq) if head.kind == "intent" else None
        return Recorded(head, result)

    async def settle_orphan(self, process: AgentProcess, intent: Row) -> None:
        """Finish a host call that a crash interrupted: nobody waits for its value any more, but its effect has to be known.

        A repeatable one is closed as cancelled, since running it again would serve nobody.
        """
        number, key = intent.number, intent.key
        flight = (process.pid, number)
        while flight in self._flights:
            await self._flights[flight].wait()
        recorded = Recorded(intent, self.core.store.result_of(intent.seq))
        if recorded.result is not None or process.ended:
            return  # a host that came back with its key was faster
        landed = self._flights[flight] = anyio.Event()
        self.core.scheduler.resume(process)
        process.branches += 1
        process.host_calls += 1
        try:
            call = self.door.resolve(process, intent.op, decode(intent.args), number, key)
            if call.op.effect.value == "repeatable" and not key:
                cancelled = Unavailable("cancelled", "the kernel stopped while this ran; nobody waits for it")
                self._effects.settle_error(call, intent, None, cancelled)
            else:
                await self._replay.recover(call, recorded)
        except (AgentOSError, ProcessEnded):
            return  # journaled by the walk; there is no caller to tell
        finally:
            process.host_calls -= 1
            process.branches -= 1
            self.core.scheduler.suspend(process)
            del self._flights[flight]
            landed.set()

    def check(self, process: AgentProcess, op: str, args: dict[str, Any]) -> tuple[Request, Verdict | None, Denied | None]:
        """Decide a call without making it: no effect, no row."""
        call = self.door.resolve(process, op, args, "check", "")
        try:
            return call, self.door.decide(call), None
        except Denied as error:
            return call, call.verdict, error
