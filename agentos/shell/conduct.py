"""Conducting a run: follow a process, then report how it ended. The result goes to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from agentos.abi.values import Exit, ProcessInfo
from agentos.errors import Unavailable
from agentos.kernel.ask import Ask
from agentos.shell import status, words
from agentos.shell.askframe import columns_of, framed
from agentos.shell.context import Shell, is_remote
from agentos.shell.follow import Followed, Follower
from agentos.shell.groups import leaves
from agentos.shell.interrupts import Interrupts
from agentos.shell.output import Format, Page
from agentos.shell.people import People
from agentos.shell.talk import WAITS_FOR_MESSAGE, Talk
from agentos.shell.trees import drawn
from agentos.shell.views import Lines, Live, View
from agentos.shell.watch import Watch

if TYPE_CHECKING:
    from agentos.runtime.kernel import Kernel

__all__ = ["KernelLost", "Order", "conduct", "report_end"]

_ASK_LINES_MAX = 24


class KernelLost(Exception):
    """The kernel in another process has ended, and with it the connection: look again who runs the process."""


@dataclass(frozen=True, slots=True)
class Order:
    """How a run is to be followed.

    Attributes:
        approve: Rules whose asks are approved ahead.
        verbose: Tell every call.
        timeout_s: Seconds after which to stop following.
        mounts: Folders to mount, when the kernel is our own.
        mode: What the kernel does about effects and questions, when it is our own; None: it asks.
        no_policy: Processes of an application may go on without its policy.
        models: Model profiles of the kernel, when it is our own.
        talk: Have the person talk to the process.
    """

    approve: Sequence[str] = ()
    verbose: bool = False
    timeout_s: float | None = None
    mounts: dict[str, Any] = field(default_factory=dict)
    mode: str | None = None
    no_policy: bool = False
    models: dict[str, Any] = field(default_factory=dict)
    talk: bool = False


async def conduct(shell: Shell, kernel: Kernel, pid: int, order: Order, *, since: int, resumed: bool = False) -> int:
    """Follow a process, report, and return the exit status.

    Args:
        shell: The command.
        kernel: The kernel that runs it.
        pid: The process.
        order: How.
        since: Journal number before its first event of interest.
        resumed: It has a past.

    Raises:
        Unavailable: `unavailable.timeout`, it has not ended in time; it was not touched.
        KernelLost: the kernel was another process's, and that has ended.
    """
    shell.parting = _parting(shell, kernel, pid)
    await _tell_others(shell, kernel, pid)
    watch = Watch(every_call=order.verbose)
    view: View = Live() if sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb") else Lines()
    interrupts = Interrupts(shell, kernel, pid) if shell.has_person else None
    talk = Talk(kernel.process(pid), view, interrupts) if order.talk and interrupts is not None else None
    people = People(order.approve, is_present=shell.has_person, say=shell.output.note)
    try:
        follower = Follower(kernel, people, view, watch, interrupts=interrupts, talk=talk)
        with interrupts.caught() if interrupts is not None else nullcontext():
            followed = await follower.follow(pid, since=since, timeout_s=order.timeout_s, resumed=resumed)
    except TimeoutError as error:
        said = f"process {pid} has not ended within {words.span(order.timeout_s or 0)}"
        raise Unavailable("timeout", said, hint=f"it was not touched; {shell.parting[-1]}", pid=pid) from error
    except (Unavailable, BaseExceptionGroup) as error:
        if is_remote(kernel) and all(_is_loss(leaf) for leaf in leaves(error)):
            raise KernelLost from error
        raise
    finally:
        view.close()
    infos = [replace(info, usage=watch.usage(info)) for info in followed.infos]
    if followed.exit is None and talk is not None and talk.is_over:
        return _report_left(shell, pid, infos)
    if followed.exit is None:
        return _report_pending(shell, followed, infos)
    return _report(shell, pid, followed.exit, infos, watch)


async def _tell_others(shell: Shell, kernel: Kernel, pid: int) -> None:
    """Say that a kernel of our own runs what else is unfinished in its store: that may cost something too."""
    if is_remote(kernel):
        return
    others = [info.pid for info in await kernel.ps() if info.tree != pid and not info.ppid and _goes_on(kernel, info)]
    if others:
        named = ", ".join(map(str, others[:5])) + (", ..." if len(others) > 5 else "")
        shell.output.note(f"unfinished processes of this store go on as well: {named}; see `{shell.hint('ps')}`")


def _goes_on(kernel: Kernel, info: ProcessInfo) -> bool:
    process = kernel.core.processes.get(info.pid)
    if process is None or process.hosted or info.state == "paused" or not kernel.core.runner.can_run(process):
        return False
    return not any(each.startswith(("ask ", WAITS_FOR_MESSAGE)) for each in info.waiting_on)


def _is_loss(error: BaseException) -> bool:
    return isinstance(error, Unavailable) and error.code == "unavailable.cancelled"


def report_end(shell: Shell, info: ProcessInfo, infos: list[ProcessInfo]) -> int:
    """Report a process that had ended before anybody followed it, and return the exit status."""
    assert info.exit is not None
    return _report(shell, info.pid, info.exit, infos, None)


def _report(shell: Shell, pid: int, end: Exit, infos: list[ProcessInfo], watch: Watch | None) -> int:
    denials = [watch.denials[seq] for seq in sorted(watch.denials)] if watch is not None else []
    root = next(info for info in infos if info.pid == pid)
    shell.output.note("\n".join([*drawn(infos), _counts(root, infos, len(denials) if watch is not None else None)]))
    data: dict[str, Any] = {
        "pid": pid, "image": root.image, "digest": root.digest, "state": end.state, "value": end.value, "usage": root.usage,
        "processes": infos,
    }  # fmt: skip
    data["cost"] = {name: root.usage[name] for name in ("calls", "tokens", "usd") if name in root.usage}
    if watch is not None:
        data["denied"] = denials
        data["turns"] = list(watch.turns.over)
    if end.state == "exited":
        text = "" if end.value is None else words.value(end.value)
        shell.output.emit(Page(data, text=text, name=lambda _: pid))
        return status.OK
    code = end.error.code if end.error is not None else end.state
    message = end.error.message if end.error is not None else f"process {pid} was {end.state}"
    hint = (end.error.hint if end.error is not None else "") or f"see: {shell.hint('log', pid)}"
    if shell.output.format in (Format.TABLE, Format.NAME):
        kind = f" {end.error.type}" if end.error is not None and end.error.type else ""
        shell.output.note(f"process {pid} {end.state}: {message}  [{code}{kind}]\n  {hint}")
    else:
        fields = end.error.fields if end.error is not None else {}
        shell.output.emit(Page({"code": code, "message": message, "hint": hint, "fields": fields, **data}))
    return status.of_exit(end)


def _report_left(shell: Shell, pid: int, infos: list[ProcessInfo]) -> int:
    root = next(info for info in infos if info.pid == pid)
    shell.output.note(
        f"process {pid} waits for a message, {words.cost(root.usage)}\ntalk on with: {shell.hint('attach', pid, '-i')}"
    )
    if shell.output.format not in (Format.TABLE, Format.NAME):
        shell.output.emit(Page({"pid": pid, "state": root.state, "usage": root.usage, "processes": infos}))
    return status.OK


def _report_pending(shell: Shell, followed: Followed, infos: list[ProcessInfo]) -> int:
    count = len(followed.asks)
    message = f"process {followed.pid} waits for a person: {count} ask{'s' if count != 1 else ''}"
    hint = "; ".join(_how_to_answer(shell, ask) for ask in followed.asks[:3])
    if shell.output.format in (Format.TABLE, Format.NAME):
        for ask in followed.asks[:10]:
            shell.output.note("\n".join(framed(ask, lines_max=_ASK_LINES_MAX, columns=columns_of(sys.stderr))))
            shell.output.note(f"  {_how_to_answer(shell, ask)}")
        shell.output.note(f"{message}; it stays parked. Then go on with: {shell.again()}")
    else:
        error = {"code": "pending.approval", "message": message, "hint": hint}
        shell.output.emit(Page({**error, "pid": followed.pid, "asks": followed.asks, "processes": infos}))
    return status.PENDING


def _how_to_answer(shell: Shell, ask: Ask) -> str:
    ways: dict[str, list[tuple[str, ...]]] = {
        "question": [("--reply", "TEXT")],
        "unknown_outcome": [("--happened", "JSON"), ("--run",)],
    }
    approvals = [shell.hint("approve", ask.id, *way) for way in ways.get(ask.kind, [()])]
    return "  or  ".join([*approvals, shell.hint("deny", ask.id)])


def _counts(root: ProcessInfo, infos: list[ProcessInfo], denied: int | None) -> str:
    plural = "" if len(infos) == 1 else "es"
    parts = [f"{len(infos)} process{plural}", words.cost(root.usage)]
    if denied is not None:
        parts.insert(1, f"{denied} denied")
    return ", ".join(parts)


def _parting(shell: Shell, kernel: Kernel, pid: int) -> list[str]:
    """Return what to say when the command is interrupted."""
    if is_remote(kernel):
        return [f"interrupted: process {pid} goes on in the kernel that runs it", f"follow it with: {shell.hint('wait', pid)}"]
    return [f"interrupted: process {pid} is parked, nothing is lost", f"go on with: {shell.again()}"]
