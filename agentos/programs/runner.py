"""The runner: starts the right kind of program for a process, from its save point, with its tape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from agentos.abi.codec import decode
from agentos.abi.records import ProcessRecord, Row, StateRecord
from agentos.errors import Invalid
from agentos.kernel.difference import CODE_CHANGED, DIVERGED
from agentos.kernel.lifecycle import check_exit
from agentos.kernel.process import AgentProcess
from agentos.kernel.tape import Tape
from agentos.programs.options import BrokerSide
from agentos.programs.registry import Programs, fingerprint, is_other_code
from agentos.programs.script import run_script
from agentos.programs.sys import Sys

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage
    from agentos.broker.broker import Broker

__all__ = ["History", "ProgramRunner", "body_of", "load_tape"]

_Record = TypeVar("_Record", bound=StateRecord)


class ProgramRunner:
    """Runs programs; implements `abi.protocols.Runner`.

    Args:
        broker: The door.
        programs: Durable functions by name.
        expect_model: Raises Invalid for the name of a model that this kernel has not got; None lets every name pass.
    """

    def __init__(self, broker: Broker, programs: Programs, expect_model: Callable[[str], Any] | None = None) -> None:
        self._broker = broker
        self.programs = programs
        self._expect_model = expect_model

    def can_run(self, process: AgentProcess) -> bool:
        """Say whether this kernel has the program of the process, and the model that drives it."""
        try:
            self.expect_model(process.image)
        except Invalid:
            return False
        return self.has_program(process.image)

    def expect_model(self, image: AgentImage) -> None:
        """Look whether this kernel has the model that drives processes of an image, if one does.

        Raises:
            Invalid: `invalid.argument`, it has not.
        """
        if image.body.kind == "react" and self._expect_model is not None:
            self._expect_model(image.profile)

    def has_program(self, image: AgentImage) -> bool:
        """Say whether this kernel has the program that processes of an image run."""
        if image.body.kind == "python":
            return self.programs.get(image.body.name) is not None
        return image.body.kind in _KINDS

    async def run(self, process: AgentProcess) -> Any:
        """Run the process's program from its save point and return its exit value.

        Raises:
            Invalid: `invalid.state`, the program did not repeat itself, or is of a kind that this kernel does not run.
        """
        body = body_of(process.record.program)
        record, store = process.record, self._broker.core.store
        tape = Tape() if process.fresh else load_tape(store, process)
        process.tape, process.fresh = tape if len(tape) else None, False
        code = self.code_of(process)
        tape.code_changed = is_other_code(record.code, code)
        record.code = code or record.code  # written down with the next change of the record
        state = store.objects.unpack(record.save_state) if record.save_state else None
        side = BrokerSide(self._broker, tape.dues)
        try:
            return await self._finish(body, Sys(side, process, state), process)
        finally:
            process.queries.clear()  # they hold on to what the program has in memory

    async def _finish(self, body: _Body, sys: Sys, process: AgentProcess) -> Any:
        """Run a program to its end and look whether it did all that it has to."""
        value = await body(self.programs, sys, process)
        sys.finish()
        check_exit(process, value)
        unmade = process.tape.unmade() if process.tape is not None else ""
        if unmade:
            changed = process.tape is not None and process.tape.code_changed
            raise Invalid("state", unmade, hint=CODE_CHANGED if changed else DIVERGED)
        return value

    def code_of(self, process: AgentProcess) -> str:
        """Return the fingerprint of the process's program, "" where it has none of its own or this kernel has not got it."""
        name = process.image.body.name
        function = self.programs.get(name) if process.record.program == "python" else None
        return fingerprint(name, function) if function is not None else ""


async def _python(programs: Programs, sys: Sys, process: AgentProcess) -> Any:
    function = programs.find(process.image.body.name)
    return await function(sys, **sys.args)


async def _script(programs: Programs, sys: Sys, process: AgentProcess) -> Any:
    return await run_script(sys, process.image.body.steps)


async def _react(programs: Programs, sys: Sys, process: AgentProcess) -> Any:
    from agentos.programs.react.loop import run_react  # noqa: PLC0415 - only processes that a model drives need it

    return await run_react(sys, process.image)


class History(Protocol):
    """What a tape is read from: the store, or who asks it on behalf of another thread."""

    def tape(self, pid: int, after_seq: int, limit: int, upto: int | None = None) -> list[Row]:
        """Return at most `limit` rows of a process in order."""
        ...

    def get(self, record: type[_Record], *key: Any, at: int | None = None) -> _Record | None:
        """Return a record as it was right after row `at`."""
        ...


_Body = Callable[[Programs, Sys, AgentProcess], Awaitable[Any]]
_KINDS: dict[str, _Body] = {"react": _react, "python": _python, "script": _script}


def body_of(kind: str) -> _Body:
    """Return what runs programs of a kind.

    Raises:
        Invalid: `invalid.state`, nothing does.
    """
    body = _KINDS.get(kind)
    if body is None:
        raise Invalid("state", f"this kernel runs no `{kind}` programs", hint="use react, python, script or host")
    return body


def load_tape(store: History, process: AgentProcess, until: int | None = None) -> Tape:
    """Read what the process's program did since its save point, and not after row `until`.

    A process that was forked or restored and has not saved since continues what another (or itself) had done before row `fork_seq`; where
    that row is the fork itself, it returned 0.

    Raises:
        Invalid: `invalid.state`, some of that was erased.
    """
    spans: list[tuple[int, int, int | None, int]] = []
    record: ProcessRecord = process.record
    upto: int | None = None
    heir = 0
    while True:
        spans.append((record.pid, record.save_seq, upto, heir))
        if not record.fork_pid:
            break
        upto, heir = record.fork_seq - 1, record.pid
        before = store.get(ProcessRecord, record.fork_pid, at=upto)
        if before is None:
            said = f"process {heir} goes on from what process {record.fork_pid} did, which was erased"
            raise Invalid("state", said, hint="start another from its image", pid=heir)
        record = before
    tape = Tape()
    tape.ids = process.ids or {}
    for pid, after, last, child in reversed(spans):
        tape.read(store, pid, after, until if last is None else last)
        if last is not None:
            tape.drop_open()
            _add_fork(store, tape, pid, last, child)
    return tape


def _add_fork(store: History, tape: Tape, pid: int, last: int, child: int) -> None:
    """Enter the fork that made `child`, if it is what `pid` did next."""
    found = store.tape(pid, last, 1, last + 1)
    if found and found[0].op == "proc.fork" and found[0].outcome == "done" and decode(found[0].result) == child:
        tape.add(_returning_zero(found[0]))


def _returning_zero(row: Row) -> Row:
    row.result = b"\x00"  # the encoding of 0: what fork returns in the child
    return row
