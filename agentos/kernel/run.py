"""The edge of a running program: what its return, its error and its unwinding mean for the process."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from agentos.abi.records import Change
from agentos.abi.values import ErrorData
from agentos.errors import AgentOSError, KernelPanic
from agentos.kernel.lifecycle import end, end_below, error_data
from agentos.kernel.process import AgentProcess, ProcessEnded
from agentos.kernel.schedule import ScheduleTable

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["install"]

log = logging.getLogger("agentos.kernel")


def install(core: Core) -> None:
    """Give the scheduler and the timers what they call at the edge of a program, and what starts processes when their time has come."""

    async def run_process(process: AgentProcess) -> None:
        await _run_process(core, process)

    def past_deadline(process: AgentProcess) -> None:
        _end_in_time(core, process)

    core.run_process = run_process
    core.past_deadline = past_deadline
    core.schedules = core.waits.agenda = ScheduleTable(core)


async def _run_process(core: Core, process: AgentProcess) -> None:
    """Run a program once: to its end, or until it is unwound.

    Every error of a program ends here and becomes the exit of its process; only cancellation and panics go on.
    """
    for call in [call for call in process.open_calls if call.event is None]:
        core.waits.leave(call)
    process.unwinding = False
    process.branches = 1 + process.host_calls
    process.state = "running"
    process.record.waits = b""  # a version written from here on, by a save or a label, must not look parked after a crash
    process.next_number = process.record.save_number
    process.cwd = process.record.cwd
    process.calls_since_save = 0
    try:
        value = await core.runner.run(process)
    except ProcessEnded:
        return
    except KernelPanic:
        raise
    except AgentOSError as error:
        finish(core, process, "failed", error=error_data(error))
    except Exception as error:
        log.info("program_failed pid=%d error=%s", process.pid, type(error).__name__, exc_info=error)
        finish(core, process, "failed", error=error_data(error))
    else:
        finish(core, process, "exited", value)


def finish(core: Core, process: AgentProcess, state: str, value: Any = None, error: ErrorData | None = None) -> None:
    """End a process with a row of its own."""
    if process.ended or process.unwinding:
        return
    changes: list[Change] = []
    try:
        end(core, process, state, changes, value, error)
    except AgentOSError as refused:
        changes.clear()
        end(core, process, "failed", changes, None, error_data(refused))
    core.note(process.pid, "exited", {"state": process.state, **({"error": str(error)} if error else {})}, changes)


def _end_in_time(core: Core, process: AgentProcess) -> None:
    """End a process whose time is over, with all that it started: nobody waits for that any more."""
    error = _deadline_error(process)
    changes: list[Change] = []
    end_below(core, process, changes, by=process.pid, why=f"its {error.fields['limit']} was over")
    end(core, process, "failed", changes, None, error)
    core.note(process.pid, "exited", {"state": "failed", "error": str(error)}, changes)


def _deadline_error(process: AgentProcess) -> ErrorData:
    limit = "wall_s" if "wall_s" in process.account.limits else "deadline_s"
    return ErrorData(
        code="unavailable.timeout",
        message=f"process {process.pid} ran past its {'wall time' if limit == 'wall_s' else 'deadline'}",
        hint="give it more time",
        fields={"limit": limit},
    )
