"""replay: running a process again from its journal, to prove that it repeats itself or to go on differently from one point."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentos.abi.values import ReplayReport
from agentos.errors import Invalid
from agentos.shell import status
from agentos.shell.context import Shell, is_remote
from agentos.shell.output import Page
from agentos.shell.programs import load_programs
from agentos.shell.remembered import remember_run, workspace_of
from agentos.shell.verbs.run import ProgramFiles, wait

if TYPE_CHECKING:
    from agentos.runtime.kernel import Kernel

__all__ = ["replay"]


async def replay(
    shell: Shell,
    pid: Annotated[int, typer.Argument(help="A process, alive or ended.")],
    upto: Annotated[int | None, typer.Option(help="Look no further than this journal row.", min=1, metavar="SEQ")] = None,
    live_after: Annotated[
        int | None, typer.Option(help="Start a process that goes on for real after this journal row.", min=1, metavar="SEQ")
    ] = None,
    program: ProgramFiles = None,
) -> int:
    """Run a process again from its journal, without effects, and show the first difference: status 0 when there is none, else 1.

    With --live-after, a new process goes on from what this one was right after a row, and is followed to its end.
    """
    load_programs(program or [])
    if live_after is not None:
        return await _go_on(shell, pid, live_after, program or [])
    async with shell.looking() as kernel:
        report = await kernel.replay(pid, upto=upto)
    shell.output.emit(Page(report, text=_told(report), name=lambda _: pid))
    return status.OK if report.ok else status.ERROR


async def _go_on(shell: Shell, pid: int, seq: int, files: list[Path]) -> int:
    async with shell.changing() as kernel:
        _expect_program(kernel, pid)
        child = await kernel.fork(pid=pid, seq=seq)
        workspace = workspace_of(shell.store, kernel.process(pid).info.tree)
        if workspace is not None:
            remember_run(shell.store, child.pid, workspace)
    shell.output.note(f"process {child.pid} goes on from process {pid} after journal {seq}")
    shell.argv = ["wait", str(child.pid), *(word for file in files for word in ("--program", str(file))), *shell.place()]
    return await wait(shell, child.pid)


def _expect_program(kernel: Kernel, pid: int) -> None:
    """Refuse to start what could not go on here.

    Raises:
        Invalid: `invalid.state`, the program is not registered.
    """
    image = kernel.process(pid).info.digest
    if is_remote(kernel) or kernel.core.runner.has_program(kernel.core.images.by_digest(image)):
        return
    name = kernel.process(pid).info.image
    hint = "name the Python file that has it: --program FILE.py"
    raise Invalid("state", f"process {pid} runs a program of `{name}`, which is not registered here", hint=hint, pid=pid)


def _told(report: ReplayReport) -> str:
    compared = (
        f"{report.calls} call{'' if report.calls == 1 else 's'} in {report.lives} {'life' if report.lives == 1 else 'lives'}"
    )
    found = report.divergence
    if found is None:
        ends = {True: "and it ends as it did", False: "", None: "its end is not compared"}
        return f"process {report.pid} repeats itself: {compared}, {ends[report.exit_equal]}"
    lines = [f"process {report.pid} differs in life {found.life}, after {compared}", found.message]
    return "\n".join([*lines, f"  {found.hint}"] if found.hint else lines)
