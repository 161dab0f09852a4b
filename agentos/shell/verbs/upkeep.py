"""backup, archive, erase, tidy, retention: what a store needs over the years."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from agentos.abi.units import parse_duration_s
from agentos.errors import Denied, Invalid
from agentos.runtime.clock import SystemClock
from agentos.shell import words
from agentos.shell.context import Shell
from agentos.shell.output import Page
from agentos.shell.people import whoami

__all__ = ["archive", "backup", "erase", "retention_add", "retention_ls", "retention_rm", "tidy"]

Tree = Annotated[int | None, typer.Option(help="Only this tree: the pid of its first process.")]
Namespace = Annotated[str | None, typer.Option(help="Only objects of this namespace and below, and the calls that name them.")]
Label = Annotated[str | None, typer.Option(help="Only what carries this label: internal, secret or untrusted.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Change nothing; say what would go.")]


async def backup(shell: Shell, path: Annotated[Path, typer.Argument(help="The new file.")]) -> None:
    """Copy the store into a new file, verified, while work goes on."""
    async with shell.looking() as kernel:
        shell.expect_outside(kernel, path)
        report = await kernel.backup(path.absolute())
    said = f"{report.path}: {report.rows:,} rows, {report.bytes:,} bytes, {report.seconds:.1f} s\nhead {report.head}"
    shell.output.emit(Page(report, text=said, name=lambda each: each.head))


async def archive(
    shell: Shell,
    tree: Tree = None,
    keep: Annotated[
        str, typer.Option(help="Leave alone what ended less than this long ago: 12h, 30d.", metavar="DURATION")
    ] = "0s",
) -> None:
    """Move the journal rows of what is over into the archive, where they take less room."""
    async with shell.changing() as kernel:
        moved = await kernel.archive(tree=tree, keep_s=_seconds(keep))
    said = f"{moved.rows:,} rows moved, into {moved.pages:,} page{'' if moved.pages == 1 else 's'} of {moved.bytes:,} bytes"
    shell.output.emit(Page(moved, text=said, name=lambda each: each.rows))


async def erase(  # noqa: PLR0913, PLR0917 - one option per way to say what
    shell: Shell,
    tree: Tree = None,
    pid: Annotated[int | None, typer.Option(help="Only this process.")] = None,
    namespace: Namespace = None,
    label: Label = None,
    older: Annotated[
        str | None, typer.Option(help="Only what ended this long ago or longer: 12h, 30d.", metavar="DURATION")
    ] = None,
    dry_run: DryRun = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Erase the content of what is over, down to the bytes of the file. Nothing brings it back."""
    if all(given is None for given in (tree, pid, namespace, label, older)):
        hint = "--tree, --pid, --namespace, --label or --older; several are joined by and"
        raise Invalid("argument", "nothing says what to erase", hint=hint, field="--tree")
    before = SystemClock().now() - _seconds(older) if older is not None else None
    said: dict[str, Any] = {"tree": tree, "pid": pid, "namespace": namespace, "label": label, "before": before}
    async with shell.changing() as kernel:
        if not dry_run and not yes:
            found = await kernel.erase(**said, dry_run=True)
            _expect_yes(shell, f"erase the content of {found.rows:,} rows and {found.records:,} versions of records, for good?")
        report = await kernel.erase(**said, dry_run=dry_run, by=whoami())
    verb = "would erase" if dry_run else "erased"
    text = f"{verb} the content of {report.rows:,} rows and {report.records:,} versions of records; {report.objects:,} objects went"
    shell.output.emit(Page(report, text=text, name=lambda each: each.rows))


async def tidy(shell: Shell, dry_run: DryRun = False) -> None:
    """Apply the retention rules, remove objects that nothing refers to, and give free pages back to the disk."""
    async with shell.changing() as kernel:
        report = await kernel.tidy(dry_run=dry_run)
    verb = "would have" if dry_run else "has"
    said = (
        f"tidy {verb} archived {report.archived:,} rows, erased the content of {report.erased:,}, removed {report.objects:,} objects "
        f"({report.bytes:,} bytes), in {report.seconds:.1f} s"
    )
    shell.output.emit(Page(report, text=said, name=lambda each: each.archived))


async def retention_ls(shell: Shell) -> None:
    """List the retention rules."""
    async with shell.looking() as kernel:
        rules = await kernel.retention()
    columns: list[tuple[str, Any]] = [
        ("id", lambda rule: rule.id), ("action", lambda rule: rule.action), ("scope", lambda rule: rule.scope),
        ("value", lambda rule: rule.value), ("keep", lambda rule: words.span(rule.keep_s)),
        ("since", lambda rule: words.clock(rule.created)),
    ]  # fmt: skip
    shell.output.emit(Page(rules, columns, name=lambda rule: rule.id, empty="no retention rules: everything is kept"))


async def retention_add(
    shell: Shell,
    action: Annotated[str, typer.Argument(help="archive or erase.", metavar="ACTION")],
    keep: Annotated[str, typer.Option(help="How long after its end a tree is left alone: 12h, 30d.", metavar="DURATION")],
    tree: Tree = None,
    namespace: Namespace = None,
    label: Label = None,
) -> None:
    """Make a retention rule: without --tree, --namespace or --label for everything that is over."""
    scopes: dict[str, Any] = {"tree": tree, "namespace": namespace, "label": label}
    given = {scope: value for scope, value in scopes.items() if value is not None}
    if len(given) > 1:
        raise Invalid(
            "argument", f"--{' and --'.join(given)} exclude each other", hint="make a rule for each", field=max(given)
        )
    scope, value = next(iter(given.items()), ("all", None))
    async with shell.changing() as kernel:
        if tree is not None and (of := kernel.process(tree).info.tree) != tree:
            raise Invalid("argument", f"process {tree} belongs to tree {of}", hint=f"say --tree {of}", field="tree")
        rule = await kernel.retain(scope, value, keep_s=_seconds(keep), action=action)
    about = f"{rule.scope} {rule.value}".rstrip()
    said = f"rule {rule.id}: {rule.action} {about}, {words.span(rule.keep_s)} after its end"
    shell.output.emit(Page(rule, text=said, name=lambda each: each.id))


async def retention_rm(
    shell: Shell, rule: Annotated[int, typer.Argument(help="The rule, as `retention ls` shows it.", metavar="ID")]
) -> None:
    """End a retention rule."""
    async with shell.changing() as kernel:
        ended = await kernel.forget_retention(rule)
    shell.output.emit(Page({**asdict(ended), "live": False}, text=f"rule {rule} ended", name=lambda _: rule))


def _seconds(text: str) -> float:
    try:
        return parse_duration_s(text)
    except ValueError as error:
        raise Invalid("argument", str(error), hint="12h, 30d", field="DURATION") from error


def _expect_yes(shell: Shell, question: str) -> None:
    """Return when the person at the terminal says yes.

    Raises:
        Invalid: there is nobody to ask.
        Denied: `denied.human`, the person said no.
    """
    if not shell.has_person:
        said = f"nobody is here to answer: {question}"
        raise Invalid("argument", said, hint="say --yes, or look first with --dry-run", field="--yes")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Denied("human", "nothing was erased", hint="look first with --dry-run")
