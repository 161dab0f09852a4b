"""checkpoint, checkpoints, restore, fork, diff, image commit: points of history, going back to them and starting from them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

from agentos.abi.values import Diff, RestoreReport
from agentos.errors import Invalid
from agentos.runtime.clock import SystemClock
from agentos.shell import words
from agentos.shell.context import Shell, is_remote
from agentos.shell.output import Format, Page
from agentos.shell.remembered import remember_run, workspace_of

__all__ = ["checkpoint", "checkpoints", "diff", "fork", "image_commit", "restore"]

Checkpoint = Annotated[str, typer.Argument(help="A checkpoint, such as c12.", metavar="ID")]

_EFFECTS_SHOWN = 20
_SIDE_CHARS = 100


async def checkpoint(
    shell: Shell,
    pid: Annotated[int, typer.Argument(help="A process; its descendants belong to it.")],
    note: Annotated[str, typer.Option(help="What to remember it by.")] = "",
) -> None:
    """Name this point of a process and its descendants; prints its id."""
    async with shell.changing() as kernel:
        name = await kernel.process(pid).checkpoint(note)
    shell.output.emit(Page({"checkpoint": name, "pid": pid, "note": note}, text=name, name=lambda _: name))


async def checkpoints(
    shell: Shell,
    pid: Annotated[int | None, typer.Argument(help="Only those of this process.")] = None,
    drop: Annotated[list[str] | None, typer.Option(help="Forget this one; may be repeated.", metavar="ID")] = None,
) -> None:
    """List checkpoints, oldest first; or forget some."""
    if drop:
        async with shell.changing() as kernel:
            for name in drop:
                await kernel.drop_checkpoint(name)
        shell.output.emit(Page([{"dropped": name} for name in drop], text="", name=lambda item: item["dropped"]))
        return
    async with shell.looking() as kernel:
        found = await kernel.checkpoints(pid)
    now = SystemClock().now()
    columns: list[tuple[str, Any]] = [
        ("id", lambda each: each.id), ("pid", lambda each: each.pid), ("journal", lambda each: each.seq),
        ("age", lambda each: words.age(each.at, now)), ("by", lambda each: f"pid {each.by}" if each.by else "host"),
        ("note", lambda each: words.quoted(each.note, 60) if each.note else ""),
    ]  # fmt: skip
    shell.output.emit(Page(found, columns, name=lambda each: each.id, empty="there are no checkpoints"))


async def restore(
    shell: Shell,
    checkpoint: Checkpoint,
    new: Annotated[bool, typer.Option("--new", help="Leave the process alone and start it once more, under new pids.")] = False,
) -> None:
    """Take a process and its descendants back to a checkpoint; says what has happened since and is not taken back."""
    async with shell.changing() as kernel:
        running = is_remote(kernel)
        report = await kernel.restore(checkpoint, mode="new" if new else "replace")
        old, first = next(iter(report.pids.items()))
        if new:
            _remember(shell, kernel.process(old).info.tree, first)
    shell.output.emit(Page(report, text="\n".join(_restored(report)), name=lambda _: first))
    if not running and shell.output.format is Format.TABLE:
        shell.output.note(f"no kernel runs; drive it with: {shell.hint('wait', first)}")


def _remember(shell: Shell, tree: int, pid: int) -> None:
    """Remember a branch of a run as a run: only what this command line started goes on without an application's policy."""
    workspace = workspace_of(shell.store, tree)
    if workspace is not None:
        remember_run(shell.store, pid, workspace)


def _restored(report: RestoreReport) -> list[str]:
    pairs = [f"{old}" if old == new else f"{old} as {new}" for old, new in report.pids.items()]
    lines = [
        f"restored {report.checkpoint}: process{'' if len(pairs) == 1 else 'es'} {', '.join(pairs)}  (journal {report.seq})"
    ]
    for what, pids in (("ended, started since", report.killed), ("living again", report.revived)):
        lines += [f"  {what}: {', '.join(map(str, pids))}"] if pids else []
    lines += [f"  asks withdrawn: {', '.join(map(str, report.withdrawn))}"] if report.withdrawn else []
    if report.effects_count:
        lines.append(f"done since and not taken back: {report.effects_count}")
        lines += [f"  {_effect(effect)}" for effect in report.effects[:_EFFECTS_SHOWN]]
        lines += [f"  ... and {report.effects_count - _EFFECTS_SHOWN} more"] if report.effects_count > _EFFECTS_SHOWN else []
    lines += (
        ["shared objects left as they are:", *(f"  {name}" for name in report.shared[:_EFFECTS_SHOWN])] if report.shared else []
    )
    if report.not_restored:
        lines.append("capabilities not as they were:")
        lines += [
            f"  pid {each['pid']} cap {each['cap']} {words.quoted(each['text'], 60)}: {each['reason']}"
            for each in report.not_restored
        ]
    return lines


def _effect(effect: dict[str, Any]) -> str:
    undo = "  (undo can)" if effect["undoable"] else ""
    return f"{effect['seq']}  pid {effect['pid']}  {effect['op']} {words.quoted(effect['resource'], 60)}  {effect['outcome']}{undo}"


async def fork(
    shell: Shell,
    pid: Annotated[int | None, typer.Argument(help="A process, alive or ended.")] = None,
    checkpoint: Annotated[str | None, typer.Option(help="Start from this checkpoint.", metavar="ID")] = None,
    seq: Annotated[int | None, typer.Option(help="Start from what it was right after this journal row.", min=1)] = None,
    grant: Annotated[list[str] | None, typer.Option(help="What it may; instead of what was held then.", metavar="CAP")] = None,
    speculative: Annotated[
        bool, typer.Option("--speculative", help="What it does to files is seen by it alone, until `merge` or `drop`.")
    ] = False,
) -> None:
    """Start a process that goes on from what another was; prints its pid."""
    if (pid is None) == (checkpoint is None) or (checkpoint is not None and seq is not None):
        hint = "fork PID, fork PID --seq ROW, or fork --checkpoint ID"
        raise Invalid("argument", "a fork is of one process at one point", hint=hint, field="pid")
    async with shell.changing() as kernel:
        running = is_remote(kernel)
        child = await kernel.fork(pid=pid, checkpoint=checkpoint, seq=seq, speculative=speculative, grant=grant)
        source = pid if pid is not None else next(c.pid for c in await kernel.checkpoints() if c.id == checkpoint)
        _remember(shell, kernel.process(source).info.tree, child.pid)
    shell.output.emit(
        Page({"pid": child.pid, "from": pid, "checkpoint": checkpoint}, text=str(child.pid), name=lambda _: child.pid)
    )
    if not running and shell.output.format is Format.TABLE:
        shell.output.note(f"no kernel runs; drive it with: {shell.hint('wait', child.pid)}")


async def diff(
    shell: Shell,
    a: Annotated[str, typer.Argument(help="The older checkpoint.", metavar="A")],
    b: Annotated[str | None, typer.Argument(help="The newer one; now, when left out.", metavar="B")] = None,
) -> None:
    """Show what has changed between two checkpoints of one process, or since one."""
    pages: list[Diff] = []
    async with shell.changing() as kernel:
        while not pages or pages[-1].cursor is not None:
            pages.append(await kernel.diff(a, b, cursor=pages[-1].cursor if pages else None))
    items = [item for page in pages for item in page.items]
    first = pages[0]
    data = {"a": first.a, "b": first.b, "seqs": first.seqs, "complete": first.complete, "items": items}
    head = f"{first.a} (journal {first.seqs[0]}) -> {first.b} (journal {first.seqs[1]})"
    lines = [head, *(line for item in items for line in _changed(item))] if items else [f"{head}: nothing has changed"]
    lines += [] if first.complete else ["more rows lie between than are looked through for files and shared objects"]
    shell.output.emit(Page(data, text="\n".join(lines), name=lambda _: first.b))


def _changed(item: dict[str, Any]) -> Iterable[str]:
    sign = "+" if item["before"] is None else "-" if item["after"] is None else "~"
    before, after = item["before"], item["after"]
    text = f"  {after['text']}" if isinstance(after, dict) and item["what"] == "capability" else ""
    yield f"{sign} {item['what']} {words.quoted(item['key'] + text, _SIDE_CHARS)}"
    if item["what"] == "file" and isinstance(after, dict) and "bytes" in after:
        yield f"    {after['bytes']:,} bytes now{'; what was there is kept' if before is not None else ''}"
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted({*before, *after}):
            if before.get(name) != after.get(name) and name != "digest":
                yield f"    {name}: {_side(before.get(name))} -> {_side(after.get(name))}"
    elif before is not None and after is not None:
        yield f"    {_side(before)} -> {_side(after)}"
    else:
        shown = after if before is None else before
        yield f"    {_side({name: value for name, value in shown.items() if name != 'digest'} if isinstance(shown, dict) else shown)}"


def _side(value: Any) -> str:
    return words.quoted(value, _SIDE_CHARS)


async def image_commit(
    shell: Shell,
    checkpoint: Checkpoint,
    name: Annotated[str, typer.Argument(help="Name of the image.")],
    version: Annotated[str, typer.Argument(help="Its version.")] = "1",
) -> None:
    """Make an image of a checkpoint: processes started from it begin with the state and the objects of then; prints its digest."""
    async with shell.changing() as kernel:
        digest = await kernel.commit_image(checkpoint, name, version)
    shell.output.emit(Page({"image": f"{name}:{version}", "digest": digest}, text=digest, name=lambda _: f"{name}:{version}"))
