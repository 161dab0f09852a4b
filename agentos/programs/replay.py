"""Replay: a process's program runs again from its journal alone, and everything it does is compared with what is recorded.

A process has *lives*. It ran from its birth until it was unwound, replaced its image, was restored, or its kernel ended; then again from
its last save point. Each life is repeated by itself: it begins with the state of its save point, gets the calls that were recorded since,
and may stop wherever its last row is; the last one has to end as the process did. Within a life, calls are compared through its saves.

INVARIANT replay-has-no-effect: what stands behind `sys` here holds a tape and the table of ops, and nothing else: no device, no broker, no
journal that could be written.

Rows are read in pages as the program comes to them, so memory is bounded by what lies between two save points.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Protocol

import anyio

from agentos.abi.codec import decode, encode, plain
from agentos.abi.image import AgentImage
from agentos.abi.limits import REPLAY_CACHE_ROWS
from agentos.abi.op import OpTable
from agentos.abi.records import AccountRecord, ImageRecord, ProcessRecord, Row
from agentos.abi.syscall import Syscall
from agentos.abi.values import Divergence, Exit, ReplayReport
from agentos.broker.handle import is_handle
from agentos.broker.replay import is_open
from agentos.broker.request import Request
from agentos.errors import AgentOSError, Invalid, KernelPanic, from_data
from agentos.kernel.budget import Account
from agentos.kernel.difference import CODE_CHANGED, DIVERGED
from agentos.kernel.lifecycle import error_data
from agentos.kernel.process import AgentProcess, ProcessEnded
from agentos.kernel.tape import Recorded, Tape
from agentos.programs.registry import Programs, fingerprint, is_other_code
from agentos.programs.runner import History, body_of, load_tape
from agentos.programs.sys import Sys

__all__ = ["Replay", "Source"]

_BEGINS_ANEW: Final = frozenset({"note.parked", "note.restored", "proc.exec", "ckpt.restore"})
_DOES_NOT_RETURN: Final = frozenset({"proc.exit", "proc.exec", "ckpt.restore"})


class Source(History, Protocol):
    """What a replay reads: history, saved states, and whose they are."""

    identity: str

    def unpack(self, packed: bytes) -> Any:
        """Return a saved state."""
        ...


class Replay:
    """One replay of one process.

    Args:
        source: Where its history is.
        ops: The ops that calls were made of.
        programs: The programs to run.
        pid: The process.
        upto: Rows after this one are left out; None for none.

    Attributes:
        steps: Grows while the program comes on: calls and pages of rows.
        last: Where the program made its last call.
        is_over: Set from outside: no call goes on any more.
    """

    def __init__(self, source: Source, ops: OpTable, programs: Programs, pid: int, upto: int | None = None) -> None:
        self.source = source
        self.ops = ops
        self.programs = programs
        self.pid = pid
        self.upto = upto
        self.steps = 0
        self.last = ""
        self.is_over = False
        self.calls = 0
        self.lives = 0
        self.scope: anyio.CancelScope | None = None

    async def run(self) -> ReplayReport:
        """Repeat every life and return what came of it.

        Raises:
            Invalid: `invalid.state`, it is no program, or one that is not registered, or a call's device is not mounted here.
        """
        process = self.source.get(ProcessRecord, self.pid)  # as it was before: one that runs may end meanwhile
        if process is None:
            raise Invalid("argument", f"there is no process {self.pid}", hint="see `agentos ps --all`", pid=self.pid)
        life: _Life | None = None
        for life in self._lives():
            self.lives += 1
            await life.run()
            self.calls += life.calls
            if life.divergence is not None or self.is_over:
                return self._report(life.divergence, None)
        if self.upto is not None or life is None or not process.exit:
            return self._report(None, None)
        return self._compared(life, process)

    def _lives(self) -> Iterator[_Life]:
        """Yield the lives in which the program did something, and the first in any case."""
        after = 0
        while True:
            first = self._first_row(after)
            if first is None and after:
                return
            at = first.seq - 1 if first is not None else self.upto
            life = _Life(self, at, self._next_boot(at if first is not None else None))
            yield life
            life.read_to_end()
            if first is None or life.boundary is None:
                return
            after = life.boundary

    def _first_row(self, after: int) -> Row | None:
        """Return the first row after `after` that the program made."""
        for row in self.rows(after):
            if row.kind != "note" and row.number[:1].isdigit():
                return row
        return None

    def rows(self, after: int, *, pid: int | None = None) -> Iterator[Row]:
        """Yield the rows of the process (or `pid`) after row `after`."""
        while True:
            page = self.source.tape(self.pid if pid is None else pid, after, REPLAY_CACHE_ROWS, self.upto)
            self.steps += 1
            yield from page
            if len(page) < REPLAY_CACHE_ROWS or self.is_over:
                return
            after = page[-1].seq

    def _next_boot(self, after: int | None) -> int | None:
        """Return the first row after `after` with which a kernel started: whatever ran before, ended before it."""
        if after is None:
            return None
        return next((row.seq for row in self.rows(after, pid=0) if row.op == "note.boot"), None)

    def _compared(self, life: _Life, process: ProcessRecord) -> ReplayReport:
        """Compare how the last life ended with how the process did."""
        was, now = decode(process.exit), life.ending
        if _is_erased(process):
            said = f"how process {self.pid} ended was erased"
            raise Invalid("state", said, hint="what is erased cannot be compared", pid=self.pid)
        if was["state"] == "killed" or (now is None and _is_from_outside(was)):
            return self._report(None, None)
        if now is not None and encode(now) == process.exit:
            return self._report(None, True)
        shown = "it waits" if now is None else _told(plain(now))
        text = f"the process ended otherwise\n  recorded: {_told(was)}\n  now:      {shown}"
        hint = CODE_CHANGED if life.tape.code_changed else DIVERGED
        return self._report(Divergence("", None, self.lives, text, hint), False)

    def _report(self, divergence: Divergence | None, exit_equal: bool | None) -> ReplayReport:
        return ReplayReport(divergence is None, self.pid, self.calls, self.lives, exit_equal, divergence)


class _Life:
    """One run of the program, from its save point to where its rows end. It is the `Side` of its `sys`.

    Args:
        replay: The replay that it is part of.
        at: Row right before the first one that is new in this life; None for a process that never made a call.
        boot: Row with which the next kernel started, None when none did.
    """

    def __init__(self, replay: Replay, at: int | None, boot: int | None) -> None:
        self._replay = replay
        self.identity = replay.source.identity
        record = replay.source.get(ProcessRecord, replay.pid, at=at)
        if record is None or _is_erased(record):
            raise self._not_there(at)
        if record.program == "host":
            raise Invalid(
                "state", f"process {replay.pid} is driven by its host: it has no program to run again", pid=replay.pid
            )
        self.process = AgentProcess(record, None, self._image(record), Account(AccountRecord(pid=record.pid), {}, None))
        self.process.branches, self.process.next_number = 1, record.save_number
        self._after = at if at is not None else 0
        self._since = self._after
        self._boot = boot
        self._is_read = at is None
        self.boundary: int | None = None
        self.tape = load_tape(replay.source, self.process, at)
        self.tape.saved = self._saved
        self.tape.code_changed = self._is_changed(record)
        self.process.tape = self.tape
        self.calls = 0
        self.divergence: Divergence | None = None
        self.ending: Exit | None = None
        self._failure: AgentOSError | None = None

    def _not_there(self, at: int | None) -> Invalid:
        """Return why there is no process to run again: what it was is gone, or is not before the row that was asked for."""
        replay = self._replay
        first = next(iter(replay.source.tape(replay.pid, 0, 1)), None)
        if at is not None and at == replay.upto and first is not None and at < first.seq:
            said = f"process {replay.pid} did not exist yet at journal row {at}"
            return Invalid("state", said, hint="choose a row of its life: `agentos log` numbers them", pid=replay.pid)
        when = f" before journal {at + 1}" if at is not None else ""
        said = f"what process {replay.pid} was{when} is not kept any more: it was erased"
        return Invalid("state", said, hint="what is erased cannot be compared", pid=replay.pid)

    def _image(self, record: ProcessRecord) -> AgentImage:
        found = self._replay.source.get(ImageRecord, record.image_digest)
        if found is None:
            raise KernelPanic(f"the store does not have the image of process {record.pid}")
        return AgentImage.from_data(decode(found.manifest))

    def _is_changed(self, record: ProcessRecord) -> bool:
        if record.program != "python":
            return False
        name = self.process.image.body.name
        return is_other_code(record.code, fingerprint(name, self._replay.programs.find(name)))

    def _saved(self, head: Row) -> dict[str, Any]:
        """Return the arguments of a recorded save."""
        record = self._replay.source.get(ProcessRecord, self.process.pid, at=head.seq)
        return {"state": self._replay.source.unpack(record.save_state) if record is not None and record.save_state else None}

    # --- the run ------------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the program until it ends, differs, or waits for what this life never got."""
        process, replay = self.process, self._replay
        body = body_of(process.record.program)
        state = replay.source.unpack(process.record.save_state) if process.record.save_state else None
        with anyio.CancelScope() as replay.scope:
            try:
                sys = Sys(self, process, state)
                value = await body(replay.programs, sys, process)
                sys.finish()
                self._end(Exit("exited", value))
            except ProcessEnded:
                pass
            except KernelPanic:
                raise
            except Exception as error:  # noqa: BLE001 - as the edge of a running program: every error of it is how it ended
                self._end(Exit("failed", None, error_data(error)))
        if self._failure is not None:
            raise self._failure
        self._look_for_unmade()

    def _end(self, ending: Exit) -> None:
        """Note how the program ended; a value that cannot be stored is a failure, as it is when it really runs."""
        if self.divergence is not None or self._failure is not None or self.process.unwinding:
            return
        try:
            encode(ending)
        except AgentOSError as refused:
            ending = Exit("failed", None, error_data(refused))
        self.ending = ending

    def _stop(self) -> None:
        """Let the program do nothing more."""
        self.process.unwinding = True
        if self._replay.scope is not None:
            self._replay.scope.cancel()

    def _look_for_unmade(self) -> None:
        """Every row of the life has to have been come to."""
        while self.divergence is None and not len(self.tape) and self._read_page():
            pass
        if self.divergence is None and not self._replay.is_over and (unmade := self.tape.unmade()):
            self._diverged(Invalid("state", unmade, hint=CODE_CHANGED if self.tape.code_changed else DIVERGED))

    def _diverged(self, error: Invalid) -> None:
        number = (error.where or "").removeprefix("call ")
        self.divergence = Divergence(number, error.seq, self._replay.lives, error.message, error.hint)
        self._stop()

    # --- rows ---------------------------------------------------------------------------------------------------------------

    def _read_page(self) -> bool:
        """Read on; False when the life has no more rows."""
        if self._is_read or self._replay.is_over:
            return False
        replay = self._replay
        rows = replay.source.tape(replay.pid, self._after, REPLAY_CACHE_ROWS, replay.upto)
        replay.steps += 1
        for row in rows:
            if self._boot is not None and row.seq > self._boot:
                self.boundary, self._is_read = self._boot, True
                return True
            self.tape.add(row)
            self._after = row.seq
            if row.op in _BEGINS_ANEW and row.outcome == "done":
                self.boundary, self._is_read = row.seq, True
                return True
        if len(rows) < REPLAY_CACHE_ROWS:
            self.boundary, self._is_read = self._boot, True
        return True

    def read_to_end(self) -> None:
        """Find out where the life ended; what is left of its rows is of no interest."""
        while self._read_page():
            self.tape = Tape()

    def _find(self, number: str) -> Recorded | None:
        """Return the recorded call of that number, with its outcome if it has one within the life."""
        while True:
            recorded = self.tape.of(number)
            if (recorded is not None and not is_open(recorded)) or not self._read_page():
                return recorded

    # --- what stands behind `sys` -------------------------------------------------------------------------------------------

    def named(
        self, process: AgentProcess, op: str, positional: tuple[Any, ...], args: dict[str, Any], number: str
    ) -> dict[str, Any]:
        """Return the arguments by name; what has no such arguments now had none then."""
        if process.unwinding or self._replay.is_over:
            raise ProcessEnded
        try:
            return self._replay.ops.find(op).named(positional, args)
        except AgentOSError as error:
            raise self.refuse(process, op, number, error) from None

    def refuse(self, process: AgentProcess, op: str, number: str, error: AgentOSError) -> AgentOSError:
        """Return the error with which a call that means nothing was refused."""
        if process.unwinding or self._replay.is_over:
            raise ProcessEnded
        recorded = self._find(number)
        self._expect_refused(number, op, recorded, error)
        if recorded is None:
            return error
        self._count(recorded)
        return from_data(decode(recorded.head.result), seq=recorded.head.seq)

    def may_repeat(self, op: str) -> bool:
        """Say whether it does no harm to make a call of that op twice."""
        found = self._replay.ops.get(op)
        return found is not None and found.effect.is_harmless

    def rest(self, process: AgentProcess) -> None:
        """One line of control has no code to run; when none has, the life is over."""
        if process.waiting >= process.branches:
            self._stop()

    def go_on(self, process: AgentProcess) -> None:
        """One line of control more runs code."""

    async def call(
        self, process: AgentProcess, op: str, args: dict[str, Any], *, number: str, timeout_s: float | None = None
    ) -> Any:
        """Compare a call with the recorded one, and return or raise what that came to; wait for ever for what never came."""
        replay = self._replay
        if process.unwinding or replay.is_over:
            raise ProcessEnded
        replay.steps += 1
        replay.last = f"call {number}, {op}, {self.tape.place()}"
        recorded = self._find(number)
        try:
            request = Request(process, Syscall(replay.ops.find(op), _no_handler), args, number, "")
        except AgentOSError as error:
            request, refused = None, error
        if request is None:
            self._expect_refused(number, op, recorded, refused)
        else:
            self._take(request)
        if recorded is None or is_open(recorded):
            return await self._wait_for_ever(process)
        self._count(recorded)
        return self._answer(process, op, recorded)

    def _count(self, recorded: Recorded) -> None:
        """One call is equal; it counts in the life that first made it."""
        self.tape.discard(recorded.head.number)
        self.calls += recorded.head.seq > self._since

    def _take(self, request: Request) -> None:
        try:
            self.tape.take(request.number, request.op.name, request.digest, request.args, ids=request.op.ids)
        except Invalid as difference:
            self._diverged(difference)
            raise ProcessEnded from None

    def _expect_refused(self, number: str, op: str, recorded: Recorded | None, refused: AgentOSError) -> None:
        """A call that means nothing now has to have meant nothing then, or not to have been looked at."""
        if recorded is None or (recorded.head.op == op and not recorded.head.digest):
            return
        if self._replay.ops.get(op) is None and _was_made(recorded, op):
            raise self._not_mounted(op, number)
        head = recorded.head
        text = f"call {number} (journal {head.seq}) was {head.op} {head.resource}, now it is refused: {refused.message}"
        self._diverged(Invalid("state", text, hint=refused.hint, where=f"call {number}", seq=head.seq))
        raise ProcessEnded

    def _not_mounted(self, op: str, number: str) -> ProcessEnded:
        device = op.partition(".")[0]
        self._failure = Invalid(
            "state", f"call {number} is of `{op}`, and no device `{device}` is mounted here",
            hint="replay it where the device is mounted: in the application that ran the process", op=op,
        )  # fmt: skip
        self._stop()
        return ProcessEnded()

    async def _wait_for_ever(self, process: AgentProcess) -> None:
        process.waiting += 1
        self.rest(process)
        try:
            await anyio.sleep_forever()
        finally:
            process.waiting -= 1

    def _answer(self, process: AgentProcess, op: str, recorded: Recorded) -> Any:
        """Return or raise what a recorded call came to; see `broker.replay`."""
        row = recorded.outcome_row
        assert row is not None, "it is not open"
        if row.outcome != "done":
            raise from_data(decode(row.result), seq=recorded.head.seq)
        if op in _DOES_NOT_RETURN:
            self._stop()
            raise ProcessEnded
        if not row.result:
            head = recorded.head
            said = f"what call {head.number} (journal {head.seq}) returned was erased from the journal"
            self._failure = Invalid("state", said, hint="what is erased cannot be compared", seq=head.seq)
            self._stop()
            raise ProcessEnded
        value = decode(row.result)
        if is_handle(value):
            return value
        value = self._replay.ops.find(op).restore(value)
        if op == "proc.chdir":
            process.cwd = value
        return value


def _no_handler(*_: Any) -> Any:
    raise KernelPanic("a replay has no effect")


def _was_made(recorded: Recorded | None, op: str) -> bool:
    """Say whether a call was recorded as one of `op` that its kernel knew."""
    return recorded is not None and recorded.head.op == op and bool(recorded.head.digest)


def _is_erased(record: ProcessRecord) -> bool:
    return bool(record.exit) and bool(decode(record.exit).get("erased"))


def _is_from_outside(was: dict[str, Any]) -> bool:
    """Say whether a process failed of something else than its program: its time was over, or it did not repeat itself."""
    error = was.get("error") or {}
    fields = error.get("fields") or {}
    late = error.get("code") == "unavailable.timeout" and fields.get("limit") in ("wall_s", "deadline_s")
    return late or (error.get("code") == "invalid.state" and str(fields.get("where", "")).startswith("call "))


def _told(ending: dict[str, Any]) -> str:
    error = ending.get("error")
    said = f"{error['code']} {error['type']}: {error['message']}" if error else repr(ending.get("value"))
    return f"{ending['state']} {said}"[:400]
