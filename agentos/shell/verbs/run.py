"""run, spawn, wait, attach: starting processes and following them to their end."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer

from agentos.abi.image import AgentImage
from agentos.abi.units import parse_duration_s
from agentos.abi.values import ProcessInfo
from agentos.errors import Invalid
from agentos.shell import consent, words
from agentos.shell.conduct import KernelLost, Order, conduct, report_end
from agentos.shell.context import Shell, expect_as_it_is, is_remote
from agentos.shell.models import Model, chosen, expect
from agentos.shell.output import Page
from agentos.shell.programs import load_programs
from agentos.shell.remembered import remember_run, workspace_of
from agentos.shell.trees import below, find
from agentos.shell.verbs.images import is_path, load

__all__ = ["Mode", "attach", "go_on", "journal_head", "models_for", "mounts_of", "run", "spawn", "wait"]

_HELD_S, _ATTEMPTS_MAX = 0.25, 60


class Mode(StrEnum):
    """How the kernel of a command is opened: the modes of `agentos.open`."""

    ASK = "ask"
    PLAN = "plan"
    NONINTERACTIVE = "noninteractive"


Image = Annotated[str, typer.Argument(help="A manifest's path, NAME:VERSION or a digest.")]
Goal = Annotated[str | None, typer.Option(help="What it is for.", metavar="TEXT")]
ProgramFiles = Annotated[
    list[Path] | None, typer.Option("--program", help="Python file with the programs to register.", metavar="FILE.py")
]
Grant = Annotated[list[str] | None, typer.Option(help="Grant this instead of all that the image requests.", metavar="CAP")]
PolicyFiles = Annotated[list[Path] | None, typer.Option("--policy", help="Policy layer of the process.", metavar="FILE")]
NoPolicy = Annotated[bool, typer.Option("--no-policy", help="No default policy: capabilities alone decide.")]
Approve = Annotated[list[str] | None, typer.Option(help="Approve what this rule asks: its name, or file:line.", metavar="RULE")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Grant what the image requests.")]
Mount = Annotated[list[str] | None, typer.Option(help="Another folder, seen as /mnt/NAME.", metavar="NAME=PATH[:ro]")]
InMode = Annotated[
    Mode | None, typer.Option("--mode", help="plan: nothing outside is changed. noninteractive: what would be asked is denied.")
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="A line for every call.")]
Interactive = Annotated[bool, typer.Option("--interactive", "-i", help="Talk to it: it gets what you type, and answers.")]
Timeout = Annotated[str | None, typer.Option(help="Stop following after this long, with status 124.", metavar="DURATION")]


async def run(  # noqa: PLR0913, PLR0917 - the frozen options
    shell: Shell,
    image: Image,
    goal: Goal = None,
    program: ProgramFiles = None,
    grant: Grant = None,
    policy: PolicyFiles = None,
    no_policy: NoPolicy = False,
    approve: Approve = None,
    yes: Yes = False,
    new: Annotated[bool, typer.Option("--new", help="Start another, though one is unfinished.")] = False,
    mount: Mount = None,
    mode: InMode = None,
    verbose: Verbose = False,
    timeout: Timeout = None,  # noqa: ASYNC109 - the option's name; the deadline is a scope
    model: Model = None,
    interactive: Interactive = False,
) -> int:
    """Start a process, follow it, print its result.

    Run again after a crash or an interrupt, it goes on with the unfinished process of the same image, goal and workspace.
    """
    timeout_s, mounts = _duration(timeout), mounts_of(mount or [])
    load_programs(program or [])
    found = load(shell, image)
    if interactive:
        expect_talk(shell, found)
    models = await _models(shell, model, found)
    unfinished = None if new else await _unfinished(shell, found, goal)
    if unfinished is None:
        consent.obtain(shell, found, yes=yes, grant=grant)
    order = Order(
        approve or (), verbose=verbose, timeout_s=timeout_s, mounts=mounts, mode=mode, no_policy=no_policy, models=models,
        talk=interactive,
    )  # fmt: skip
    await _expect_alone(shell, mode, unfinished.pid if unfinished is not None else 0)
    if unfinished is not None:
        shell.output.note(
            f"resuming process {unfinished.pid} (started {words.clock(unfinished.created)}); --new starts another"
        )
        return await go_on(shell, unfinished.pid, order)
    layers = consent.layers(found, policy or [], none=no_policy)
    pid = 0
    try:
        async with shell.driving(mounts=mounts, mode=mode, no_policy=no_policy, models=models) as kernel:
            since = journal_head(shell, kernel)
            args = {"chat": True} if interactive else None
            pid = await _start(shell, kernel, image, goal=goal, args=args, grant=grant or None, policy=layers)
            return await conduct(shell, kernel, pid, order, since=since)
    except KernelLost:
        return await go_on(shell, pid, order)


async def spawn(  # noqa: PLR0913, PLR0917 - the frozen options
    shell: Shell,
    image: Image,
    goal: Goal = None,
    grant: Grant = None,
    policy: PolicyFiles = None,
    no_policy: NoPolicy = False,
    yes: Yes = False,
    name: Annotated[str | None, typer.Option(help="What `ps` calls it.")] = None,
    model: Model = None,
) -> None:
    """Start a process and print its pid. It runs in the kernel that holds the store; without one, `wait` runs it."""
    found = load(shell, image)
    models = await _models(shell, model, found)
    consent.obtain(shell, found, yes=yes, grant=grant)
    layers = consent.layers(found, policy or [], none=no_policy)
    async with shell.driving(resume=False, models=models) as kernel:
        pid = await _start(shell, kernel, image, goal=goal, grant=grant or None, policy=layers, name=name)
        running = is_remote(kernel)
    if not running:
        shell.output.note(f"no kernel runs; drive it with: {shell.hint('wait', pid)}")
    shell.output.emit(
        Page({"pid": pid, "image": found.ref, "digest": found.digest, "kernel": running}, text=str(pid), name=lambda _: pid)
    )


async def wait(  # noqa: PLR0913, PLR0917 - one option per wish
    shell: Shell,
    pid: Annotated[int, typer.Argument(help="A process.")],
    timeout: Timeout = None,  # noqa: ASYNC109 - the option's name; the deadline is a scope
    program: ProgramFiles = None,
    approve: Approve = None,
    no_policy: NoPolicy = False,
    mount: Mount = None,
    mode: InMode = None,
    verbose: Verbose = False,
    model: Model = None,
) -> int:
    """Follow a process to its end and print its result; without a running kernel, be the kernel that runs it."""
    timeout_s, mounts = _duration(timeout), mounts_of(mount or [])
    load_programs(program or [])
    await _expect_alone(shell, mode, pid)
    order = Order(
        approve or (), verbose=verbose, timeout_s=timeout_s, mounts=mounts, mode=mode, no_policy=no_policy,
        models=await models_for(shell, model, pid),
    )  # fmt: skip
    return await go_on(shell, pid, order)


async def attach(  # noqa: PLR0913, PLR0917 - one option per wish
    shell: Shell,
    pid: Annotated[int, typer.Argument(help="A process.")],
    interactive: Interactive = False,
    program: ProgramFiles = None,
    approve: Approve = None,
    no_policy: NoPolicy = False,
    verbose: Verbose = False,
    model: Model = None,
) -> int:
    """Follow a process in this terminal, answer its asks, and talk to it with -i; without a running kernel, be the kernel that runs it."""
    load_programs(program or [])
    if interactive:
        expect_talk(shell, await _image_of(shell, pid))
    models = await models_for(shell, model, pid)
    order = Order(approve or (), verbose=verbose, no_policy=no_policy, models=models, talk=interactive)
    return await go_on(shell, pid, order)


async def models_for(shell: Shell, model: str | None, pid: int) -> dict[str, Any]:
    """Return the profiles for the kernel of our own that goes on with a process.

    Raises:
        Invalid: `invalid.argument`, there is no such model or process.
    """
    return {} if model is None else chosen(model, await _image_of(shell, pid))


async def _image_of(shell: Shell, pid: int) -> AgentImage:
    async with shell.looking() as view:
        infos = await view.ps(all=True)
    return load(shell, find(infos, pid).digest)


async def _models(shell: Shell, model: str | None, image: AgentImage) -> dict[str, Any]:
    """Return the profiles for a kernel of our own that starts a process; where another has the store, its models count.

    Raises:
        Invalid: `invalid.argument`, there is no such model, or none for the image; `invalid.state`, another kernel has its own.
    """
    if shell.has_store:
        async with shell.looking() as kernel:
            if is_remote(kernel):
                expect_as_it_is(model=model)
                return {}
    models = chosen(model, image)
    expect(image, models)
    return models


def expect_talk(shell: Shell, image: AgentImage) -> None:
    """Refuse to talk where nobody sits, or to what does not listen.

    Raises:
        Invalid: `invalid.argument`.
    """
    if not shell.has_person:
        hint = "`agentos send PID TEXT` sends one message"
        raise Invalid("argument", "there is no terminal to talk at", hint=hint, field="--interactive")
    if image.body.kind != "react":
        said = f"image `{image.ref}` runs a program of kind {image.body.kind}, no agent"
        raise Invalid("argument", said, hint="leave -i out", field="--interactive")


async def go_on(shell: Shell, pid: int, order: Order) -> int:
    """Follow a process that has a past: to its end, in whatever kernel runs it, and in the next one when that ends before it."""
    for attempt in range(_ATTEMPTS_MAX):
        try:
            return await _go_on_once(shell, pid, order)
        except KernelLost:
            shell.output.note("the kernel that ran it has ended")
        except Invalid as error:
            if error.reason != "held" or attempt == _ATTEMPTS_MAX - 1:
                raise
            await anyio.sleep(_HELD_S)  # it is on its way out: its socket is gone, its lease not yet
    raise AssertionError("the last attempt returns or raises")


async def _go_on_once(shell: Shell, pid: int, order: Order) -> int:
    async with shell.looking() as view:
        infos = await view.ps(all=True)
    info = find(infos, pid)
    if info.exit is not None:
        return report_end(shell, info, below(infos, pid))
    opened: dict[str, Any] = {"mounts": order.mounts, "mode": order.mode, "no_policy": order.no_policy, "models": order.models}
    async with shell.driving(**opened) as kernel:
        since = journal_head(shell, kernel)
        _expect_runnable(shell, kernel, pid)
        return await conduct(shell, kernel, pid, order, since=since, resumed=True)


def journal_head(shell: Shell, kernel: Any) -> int:
    """Return the newest journal number, so that a follower misses nothing of what comes after."""
    if not is_remote(kernel):
        return int(kernel.core.journal.head)
    from agentos.runtime.clock import SystemClock  # noqa: PLC0415 - only beside another kernel
    from agentos.store import open_store  # noqa: PLC0415

    with open_store(shell.store, clock=SystemClock(), writer=False) as store:
        return store.journal.head


def _expect_runnable(shell: Shell, kernel: Any, pid: int) -> None:
    """Refuse to wait in a kernel of our own for what nothing here can bring to an end.

    Raises:
        Invalid: `invalid.state`, a program of the tree is not registered, an application drives it, or it is paused.
    """
    root = None if is_remote(kernel) else kernel.core.processes.get(pid)
    if root is None:
        return
    if root.record.state == "paused":
        hint = f"`{shell.hint('resume', pid)}` lets it go on"
        raise Invalid("state", f"process {pid} {words.paused(root.record.resumes)}", hint=hint, pid=pid)
    if root.hosted:
        raise Invalid("state", f"process {pid} is driven by an application", hint="start that application", pid=pid)
    for process in (root, *root.descendants()):
        expect(process.image, kernel.languages.profiles)
        if not process.hosted and not kernel.core.runner.can_run(process):
            name = process.image.body.name or process.record.program
            hint = "name the Python file that has it: --program FILE.py"
            raise Invalid(
                "state",
                f"process {process.pid} runs the program `{name}`, which is not registered here",
                hint=hint,
                pid=process.pid,
            )


async def _start(shell: Shell, kernel: Any, image: str, **options: Any) -> int:
    process = await kernel.spawn(Path(image) if is_path(image) else image, **options)
    remember_run(shell.store, process.pid, shell.workspace)
    pid: int = process.pid
    return pid


async def _unfinished(shell: Shell, image: AgentImage, goal: str | None) -> ProcessInfo | None:
    """Return the newest process that an earlier run of the same image, goal and workspace left unfinished.

    Raises:
        Invalid: it is paused: somebody wanted it to stand still.
    """
    if not shell.has_store:
        return None
    async with shell.looking() as kernel:
        infos = await kernel.ps()
    here = shell.workspace.resolve()
    for info in reversed(infos):
        is_same = not info.ppid and info.digest == image.digest and info.goal == goal
        if is_same and workspace_of(shell.store, info.pid) in (None, here):
            if info.state == "paused":
                hint = f"`{shell.hint('resume', info.pid)}` lets it go on, --new starts another"
                why = words.paused("poison" in info.waiting_on)
                raise Invalid("state", f"process {info.pid} of this image and goal {why}", hint=hint, pid=info.pid)
            return info
    return None


async def _expect_alone(shell: Shell, mode: Mode | None, pid: int) -> None:
    """Refuse a mode that denies more while processes of others are unfinished: they would go on in it, and fail of it.

    Raises:
        Invalid: `invalid.state`.
    """
    if mode in (None, Mode.ASK) or not shell.has_store:
        return
    async with shell.looking() as kernel:
        infos, is_held = await kernel.ps(all=True), is_remote(kernel)
    own = {info.pid for info in below(infos, pid)} if pid else set()
    others = [info.pid for info in infos if info.exit is None and info.pid not in own]
    if others and not is_held:
        hint = "give this run a store of its own with --store FILE, or finish them first: see `agentos ps`"
        said = f"unfinished processes of this store ({len(others)}) would go on with mode `{mode}` and be denied what they wait for"
        raise Invalid("state", said, hint=hint, field="--mode")


def _duration(text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration_s(text) if not text.isdigit() else float(text)
    except ValueError as error:
        raise Invalid("argument", str(error), hint="write for example 90s or 10m", field="--timeout") from error


def mounts_of(given: list[str]) -> dict[str, Any]:
    """Return the folders that `--mount` names.

    Raises:
        Invalid: a text is not NAME=PATH.
    """
    mounts: dict[str, Any] = {}
    for text in given:
        name, equals, place = text.partition("=")
        if not (equals and name and place):
            raise Invalid("argument", f"`{text}` is not NAME=PATH", hint="write NAME=PATH or NAME=PATH:ro", field="--mount")
        mounts[name] = (place.removesuffix(":ro"), "ro") if place.endswith(":ro") else place
    return mounts
