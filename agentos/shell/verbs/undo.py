"""undo, merge, drop: taking file effects back, and what speculative processes have tried."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from agentos.abi.values import UndoReport
from agentos.errors import Denied, Invalid
from agentos.shell import status
from agentos.shell.context import Shell
from agentos.shell.escape import line
from agentos.shell.output import Page

__all__ = ["drop", "merge", "undo"]

Pid = Annotated[int, typer.Argument(help="A speculative process.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

_OTHERS_SHOWN = 10


async def undo(
    shell: Shell,
    pid: Annotated[int | None, typer.Argument(help="A process, with its descendants; alive or ended.")] = None,
    seq: Annotated[int | None, typer.Option(help="Only the call of this journal row.", metavar="N")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Everything since this checkpoint.", metavar="ID")] = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> int:
    """Take file effects back. Status 1 when something stands against it; then nothing, or nothing more, was done."""
    said: dict[str, Any] = {"pid": pid, "seq": seq, "checkpoint": checkpoint}
    if sum(given is not None for given in said.values()) != 1:
        hint = "undo PID, undo --seq N, or undo --checkpoint ID"
        raise Invalid("argument", "an undo is of one process, one call, or one checkpoint", hint=hint, field="pid")
    async with shell.changing() as kernel:
        if not dry_run and not yes:
            planned = await kernel.undo(**said, dry_run=True)
            if _is_something(planned) and not planned.conflicts:
                _expect_yes(shell, planned)
        report = await kernel.undo(**said, dry_run=dry_run)
    return _show(shell, report)


async def merge(shell: Shell, pid: Pid, dry_run: DryRun = False) -> int:
    """Make the files of a speculative process true, all or none. Status as for `undo`."""
    async with shell.changing() as kernel:
        report = await kernel.merge(pid, dry_run=dry_run)
    return _show(shell, report)


async def drop(shell: Shell, pid: Pid) -> None:
    """Throw away what a speculative process has tried, and end it."""
    async with shell.changing() as kernel:
        await kernel.drop(pid)
    shell.output.emit(Page({"dropped": pid}, text=f"process {pid} and what it tried are gone", name=lambda _: pid))


def _is_something(report: UndoReport) -> bool:
    return bool(report.restored or report.created or report.deleted or report.moved)


def _expect_yes(shell: Shell, report: UndoReport) -> None:
    """Return when the person at the terminal says yes to what was shown.

    Raises:
        Invalid: there is nobody to ask.
        Denied: `denied.human`, the person said no.
    """
    count = len(report.restored) + len(report.created) + len(report.deleted) + len(report.moved)
    what = f"{count} path{'' if count == 1 else 's'}"
    if not shell.has_person:
        hint = "say --yes, or look first with --dry-run"
        raise Invalid("argument", f"nobody is here to say whether to change {what}", hint=hint, field="--yes")
    shell.output.note("\n".join(_lines(report)))
    print(f"change {what}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Denied("human", "nothing was changed", hint="look first with --dry-run")


def _show(shell: Shell, report: UndoReport) -> int:
    shell.output.emit(Page(report, text="\n".join(_lines(report)), name=lambda each: each.pid or ""))
    return status.ERROR if report.conflicts or report.refused else status.OK


def _lines(report: UndoReport) -> list[str]:
    would = "would be " if report.dry_run or report.conflicts else ""
    lines: list[str] = []
    for word, paths in (("restored", report.restored), ("created", report.created), ("deleted", report.deleted)):
        for path in paths:
            lines.append(f"{would}{word}  {line(path)}")
            if report.dry_run and report.diffs.get(path):
                lines += [f"  {line(each)}" for each in report.diffs[path].splitlines()]
    lines += [f"{would}moved  {line(path)} -> {line(to)}" for path, to in report.moved]
    for each in report.conflicts:
        found = f": {each['found']} instead of {each['expected']}" if "found" in each else ""
        lines.append(f"conflict  {line(each['path'])}  {line(each['why'] + found)}")
        lines += [f"  {line(text)}" for text in str(each.get("diff", "")).splitlines()]
    lines += [f"refused  {each['op']} {line(each['path'])}  {each['code']}: {line(each['message'])}" for each in report.refused]
    if report.conflicts:
        lines.append("nothing was changed")
    lines += [
        f"not covered  {each['op']} {line(each['resource']) or 'of what was erased'}  (journal {each['seq']})"
        for each in report.not_covered[:_OTHERS_SHOWN]
    ]
    if report.not_covered_count > _OTHERS_SHOWN:
        lines.append(f"not covered  {report.not_covered_count - _OTHERS_SHOWN} more")
    if report.pid is not None:
        lines.append(f"done by process {report.pid}; undo {report.pid} takes it back")
    return lines or ["there is nothing to do"]
