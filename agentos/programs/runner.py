"""The runner: starts the right kind of program for a process, from its save point, with its tape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agentos.abi.codec import decode
from agentos.abi.records import ProcessRecord, Row
from agentos.errors import Invalid, KernelPanic
from agentos.kernel.process import AgentProcess
from agentos.kernel.tape import Tape
from agentos.programs.registry import Programs
from agentos.programs.script import run_script
from agentos.programs.sys import Sys

if TYPE_CHECKING:
    from agentos.broker.broker import Broker
    from agentos.store import Store

__all__ = ["ProgramRunner", "load_tape"]


class ProgramRunner:
    """Runs programs; implements `abi.protocols.Runner`."""

    def __init__(self, broker: Broker, programs: Programs) -> None:
        self._broker = broker
        self.programs = programs

    def can_run(self, process: AgentProcess) -> bool:
        """Say whether this kernel has the program of the process."""
        if process.record.program == "python":
            return self.programs.get(process.image.body.name) is not None
        return process.record.program in _KINDS

    async def run(self, process: AgentProcess) -> Any:
        """Run the process's program from its save point and return its exit value.

        Raises:
            Invalid: `invalid.state`, the program did not repeat itself, or is of a kind that this kernel does not run.
        """
        body = _KINDS.get(process.record.program)
        if body is None:
            raise Invalid(
                "state", f"this kernel runs no `{process.record.program}` programs", hint="use python, script or host"
            )
        process.tape = None if process.fresh else load_tape(self._broker.core.store, process)
        process.fresh = False
        record = process.record
        state = self._broker.core.store.objects.unpack(record.save_state) if record.save_state else None
        value = await body(self, Sys(self._broker, process, state), process)
        unmade = process.tape.unmade() if process.tape is not None else ""
        if unmade:
            raise Invalid("state", unmade, hint="a durable program must make the same calls when it runs again")
        return value

    async def _python(self, sys: Sys, process: AgentProcess) -> Any:
        function = self.programs.find(process.image.body.name)
        return await function(sys, **sys.args)

    async def _script(self, sys: Sys, process: AgentProcess) -> Any:
        return await run_script(sys, process.image.body.steps)


_KINDS: dict[str, Callable[[ProgramRunner, Sys, AgentProcess], Awaitable[Any]]] = {
    "python": ProgramRunner._python,  # noqa: SLF001 - the table of this class's own kinds
    "script": ProgramRunner._script,  # noqa: SLF001
}


def load_tape(store: Store, process: AgentProcess) -> Tape | None:
    """Read what the process's program did since its save point; None when that is nothing.

    A fork that has not saved yet continues its parent's tape as it was at the fork, where the fork itself returned 0.
    """
    record = process.record
    tape = Tape()
    if record.fork_pid:
        _read_forked(store, record, tape)
    tape.read(store, process.pid, record.save_seq)
    return tape if len(tape) else None


def _read_forked(store: Store, record: ProcessRecord, tape: Tape) -> None:
    parent = store.get(ProcessRecord, record.fork_pid, at=record.fork_seq - 1)
    if parent is None:
        raise KernelPanic(f"process {record.pid} was forked from process {record.fork_pid}, which the store does not have")
    if parent.fork_pid:
        _read_forked(store, parent, tape)
    tape.read(store, parent.pid, parent.save_seq, record.fork_seq - 1)
    tape.drop_open()
    fork = store.tape(parent.pid, record.fork_seq - 1, 1)
    if fork and fork[0].seq == record.fork_seq:
        tape.add(_returning_zero(fork[0]))


def _returning_zero(row: Row) -> Row:
    assert row.op == "proc.fork"
    assert decode(row.result) != 0
    row.result = b"\x00"  # the encoding of 0: what fork returns in the child
    return row
