"""log, audit: what happened, from the journal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio.to_thread
import typer

from agentos.errors import Invalid
from agentos.runtime.outcome import Entry
from agentos.shell import status, words
from agentos.shell.context import Shell
from agentos.shell.output import Format, Page
from agentos.shell.turns import Turns
from agentos.shell.watch import told

if TYPE_CHECKING:
    from agentos.store import AuditReport

__all__ = ["audit", "log"]


async def log(
    shell: Shell,
    pid: Annotated[int, typer.Argument(help="A process.")],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until the process ends.")] = False,
) -> None:
    """Show what a process did, one line per call."""
    async with shell.looking() as kernel:
        process = kernel.process(pid)
        entries = [entry async for entry in kernel.audit(pid=pid)]
        _show(shell, entries)
        if follow and process.info.exit is None:
            await _follow(shell, kernel, pid, entries[-1].seq if entries else 0)


async def audit(  # noqa: PLR0913, PLR0917 - one option per filter
    shell: Shell,
    pid: Annotated[int | None, typer.Option(help="Only this process.")] = None,
    op: Annotated[str | None, typer.Option(help="Only this op.")] = None,
    outcome: Annotated[str | None, typer.Option(help="done, denied, failed, unknown or pending.")] = None,
    since: Annotated[int, typer.Option(help="Only what comes after this journal number.", min=0)] = 0,
    verify: Annotated[bool, typer.Option("--verify", help="Check the hash chain instead.")] = False,
    head: Annotated[str | None, typer.Option(help="With --verify: a head kept elsewhere.", metavar="SEQ:HEX")] = None,
    export: Annotated[Path | None, typer.Option(help="Write the journal into this new file instead.", metavar="FILE")] = None,
    verify_export: Annotated[
        Path | None, typer.Option(help="Check such a file instead; no store is needed.", metavar="FILE")
    ] = None,
) -> int:
    """Show the audit trail, one entry per call; or verify it, with status 1 when it is broken."""
    if sum((verify, export is not None, verify_export is not None)) > 1:
        said = "--verify, --export and --verify-export exclude each other"
        raise Invalid("argument", said, hint="do one after the other", field="--verify")
    if verify_export is not None:
        return await _verify_export(shell, verify_export, head)
    if export is not None:
        return await _export(shell, export, since, pid)
    async with shell.looking() as kernel:
        if verify or head is not None:
            return _reported(shell, await kernel.verify_audit(head))
        if shell.output.format is Format.JSONL:
            async for entry in kernel.audit(since=since, pid=pid, op=op, outcome=outcome):
                shell.output.emit_line(entry)
            return status.OK
        _show(shell, [entry async for entry in kernel.audit(since=since, pid=pid, op=op, outcome=outcome)])
    return status.OK


def _reported(shell: Shell, report: AuditReport) -> int:
    where = f"broken at row {report.first_bad_seq}" if report.first_bad_seq is not None else "broken"
    said = f"ok: {report.rows} rows" if report.ok else f"{where}: {report.reason}"
    shell.output.emit(Page(report, text=f"{said}\nhead {report.head}", name=lambda _: report.head))
    return status.OK if report.ok else status.ERROR


async def _export(shell: Shell, path: Path, since: int, pid: int | None) -> int:
    async with shell.looking() as kernel:
        shell.expect_outside(kernel, path)
        if pid is not None:
            kernel.process(pid)
        rows = await kernel.export(Path.cwd() / path, since=since, pid=pid)
    data = {"path": str(path), "rows": rows}
    shell.output.emit(Page(data, text=f"{path}: {rows:,} rows", name=lambda _: str(path)))
    return status.OK


async def _verify_export(shell: Shell, path: Path, head: str | None) -> int:
    from agentos.store.export import verify_lines  # noqa: PLC0415 - looking at a running kernel loads no store

    def check() -> AuditReport:
        try:
            with path.open("rb") as file:
                return verify_lines(file, head)
        except OSError as error:
            said = f"`{path}` cannot be read: {str(error.strerror).lower()}"
            raise Invalid("argument", said, hint="give an exported file", field="--verify-export") from error

    return _reported(shell, await anyio.to_thread.run_sync(check))


def _show(shell: Shell, entries: list[Entry]) -> None:
    columns: list[tuple[str, Any]] = [
        ("journal", lambda entry: entry.seq), ("at", lambda entry: words.clock(entry.at)), ("pid", lambda entry: entry.pid),
        ("call", lambda entry: entry.pseq), ("outcome", lambda entry: entry.outcome), ("op", lambda entry: entry.op),
        ("resource", lambda entry: words.quoted(entry.resource, 80)), ("decided by", _decided_by),
    ]  # fmt: skip
    shell.output.emit(Page(entries, columns, name=lambda entry: entry.seq, empty="no calls"))


def _decided_by(entry: Entry) -> str:
    parts = [entry.code, entry.rule, f"cap {entry.cap}" if entry.cap else "", f"ask {entry.ask}" if entry.ask else ""]
    return "  ".join(part for part in parts if part)


async def _follow(shell: Shell, kernel: Any, pid: int, since: int) -> None:
    turns = Turns()
    async for event in kernel.events(since=since):
        if event.pid != pid or event.kind == "delta":
            continue
        over = turns.hear(event)
        if shell.output.for_people:
            for each in (*over, event):
                shell.output.say(told(each))
        else:
            shell.output.emit_line(event)
        if event.kind == "exited":
            return
