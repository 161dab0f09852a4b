"""schedule, schedules, unschedule, up: standing orders to start processes, and a kernel that stays to carry them out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agentos.abi.values import Schedule
from agentos.errors import Invalid
from agentos.runtime.clock import SystemClock
from agentos.shell import consent, words
from agentos.shell.context import Shell, is_remote
from agentos.shell.models import Model, chosen
from agentos.shell.output import Format, Page
from agentos.shell.programs import load_programs
from agentos.shell.remembered import remember_schedule
from agentos.shell.verbs.images import is_path, load
from agentos.shell.verbs.run import (
    Goal,
    Grant,
    Image,
    InMode,
    Mount,
    NoPolicy,
    PolicyFiles,
    ProgramFiles,
    Yes,
    journal_head,
    mounts_of,
)  # fmt: skip
from agentos.shell.watch import told

__all__ = ["schedule", "schedules", "unschedule", "up"]

Ids = Annotated[list[int], typer.Argument(help="Schedules.", metavar="ID...")]
_CALM = frozenset({"spawned", "exited", "ask", "answered", "denied", "skipped", "poisoned", "schedule.failed", "slow"})


async def schedule(  # noqa: PLR0913, PLR0917 - its options
    shell: Shell,
    image: Image,
    every: Annotated[str | None, typer.Option(help="Time from one run to the next.", metavar="DURATION")] = None,
    cron: Annotated[str | None, typer.Option(help="Calendar: five fields, or @daily and the like.", metavar="FIELDS")] = None,
    at: Annotated[str | None, typer.Option(help="One run, at this time.", metavar="ISO")] = None,
    zone: Annotated[str, typer.Option(help="Time zone of the calendar.")] = "UTC",
    first: Annotated[str | None, typer.Option(help="No run before this time.", metavar="ISO")] = None,
    overlap: Annotated[str, typer.Option(help="skip, allow or replace, while the last run lives.")] = "skip",
    goal: Goal = None,
    grant: Grant = None,
    policy: PolicyFiles = None,
    no_policy: NoPolicy = False,
    yes: Yes = False,
    name: Annotated[str | None, typer.Option(help="What `ps` calls its processes.")] = None,
) -> None:
    """Have processes started every so often, by a calendar, or once, and print the number of the order."""
    found = load(shell, image)
    consent.obtain(shell, found, yes=yes, grant=grant)
    layers = consent.layers(found, policy or [], none=no_policy)
    async with shell.driving(resume=False) as kernel:
        number = await kernel.schedule(
            Path(image) if is_path(image) else image, every=every, cron=cron, at=at, zone=zone, first=first, overlap=overlap, goal=goal,
            grant=grant or None, policy=layers, name=name,
        )  # fmt: skip
        remember_schedule(shell.store, number, shell.workspace)
        [made] = [each for each in await kernel.schedules() if each.id == number]
        running = is_remote(kernel)
    if not running:
        shell.output.note(f"no kernel runs; keep one with: {shell.hint('up')}")
    shell.output.emit(Page(made, text=f"{number}", name=lambda _: number))
    shell.output.note(f"next run: {words.clock(made.due or 0)}")


async def schedules(
    shell: Shell,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Those that are done or cancelled too.")] = False,
    pause: Annotated[list[int] | None, typer.Option(help="Start no runs of this one until --resume.", metavar="ID")] = None,
    resume: Annotated[list[int] | None, typer.Option(help="Start its runs again.", metavar="ID")] = None,
) -> None:
    """List schedules; with --pause or --resume, change them first."""
    if pause or resume:
        async with shell.changing() as kernel:
            for number in pause or []:
                await kernel.pause_schedule(number)
            for number in resume or []:
                await kernel.resume_schedule(number)
    async with shell.looking() as kernel:
        shell.output.emit(_page(await kernel.schedules(all=show_all)))


async def unschedule(shell: Shell, schedules: Ids) -> None:
    """End schedules. Processes that they have started go on."""
    async with shell.changing() as kernel:
        for number in schedules:
            await kernel.unschedule(number)
    text = "\n".join(f"schedule {number} ended" for number in schedules)
    shell.output.emit(Page([{"schedule": number} for number in schedules], text=text, name=lambda item: item["schedule"]))


async def up(  # noqa: PLR0913, PLR0917 - one option per wish
    shell: Shell,
    program: ProgramFiles = None,
    no_policy: NoPolicy = False,
    mount: Mount = None,
    mode: InMode = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="A line for every event.")] = False,
    model: Model = None,
) -> None:
    """Run the kernel of this store until it is interrupted: schedules, unfinished processes, and what other commands start."""
    if shell.output.format not in (Format.TABLE, Format.JSONL):
        raise Invalid("argument", "a kernel has no end, so it makes no document", hint="use -o jsonl", field="--output")
    load_programs(program or [])
    shell.parting = ["interrupted: processes are parked, nothing is lost", f"go on with: {shell.again()}"]
    models = chosen(model, None)
    async with shell.driving(mounts=mounts_of(mount or []), mode=mode, no_policy=no_policy, models=models) as kernel:
        if is_remote(kernel):
            held_by = getattr(kernel, "held_by", None)
            said = f"a kernel runs this store already, in process {held_by}"
            raise Invalid("state", said, hint="nothing is left to do", field="--store")
        since = journal_head(shell, kernel)
        live, orders = await kernel.ps(), await kernel.schedules()
        counts = f"{_counted(len(live), 'process', 'es')}, {_counted(len(orders), 'schedule')}"
        shell.output.note(f"running {shell.store}: {counts}; Ctrl-C ends it")
        async for event in kernel.events(since):
            if event.kind == "delta":
                continue
            if shell.output.format is Format.JSONL:
                shell.output.emit_line(event)
            elif verbose or event.kind in _CALM:
                shell.output.say(told(event))


def _counted(count: int, what: str, plural: str = "s") -> str:
    return f"{count} {what}{'' if count == 1 else plural}"


def _page(found: list[Schedule]) -> Page:
    now = SystemClock().now()
    columns: list[tuple[str, Any]] = [
        ("id", lambda each: each.id), ("image", lambda each: each.image), ("when", _when), ("state", lambda each: each.state),
        ("next", lambda each: words.clock(each.due) if each.due is not None else "-"),
        ("in", lambda each: words.span(max(each.due - now, 0)) if each.due is not None else "-"), ("runs", lambda each: each.runs),
        ("skipped", lambda each: each.skipped), ("last pid", lambda each: each.last_pid or "-"),
    ]  # fmt: skip
    return Page(found, columns, name=lambda each: each.id, empty="no schedules")


def _when(found: Schedule) -> str:
    if found.cron:
        return found.cron if found.zone == "UTC" else f"{found.cron} {found.zone}"
    return f"every {words.span(found.every_s)}" if found.every_s else "once"
