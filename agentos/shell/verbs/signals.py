"""kill, pause, resume, send: changing what processes do."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from agentos.errors import Invalid
from agentos.shell.context import Shell, is_remote
from agentos.shell.output import Page

__all__ = ["kill", "pause", "resume", "send"]

Pids = Annotated[list[int], typer.Argument(help="Pids.", metavar="PID...")]


async def kill(shell: Shell, pids: Pids) -> None:
    """End processes and everything they started."""
    await _signal(shell, pids, "kill", "killed")


async def pause(shell: Shell, pids: Pids) -> None:
    """Stop processes at their next call, until `resume`."""
    await _signal(shell, pids, "pause", "paused")


async def resume(shell: Shell, pids: Pids) -> None:
    """Let paused processes go on."""
    if not await _signal(shell, pids, "resume", "resumed"):
        shell.output.note(f"no kernel runs; drive it with: {shell.hint('wait', pids[0])}")


async def send(
    shell: Shell,
    pid: Annotated[int, typer.Argument(help="Who receives it.")],
    text: Annotated[str, typer.Argument(help="The message.")],
    channel: Annotated[str, typer.Option(help="Channel of the receiver.")] = "main",
    as_json: Annotated[bool, typer.Option("--json", help="TEXT is a JSON value.")] = False,
) -> None:
    """Send a process a message, from the host."""
    value = parse_json(text, "TEXT") if as_json else text
    async with shell.changing() as kernel:
        message = await kernel.process(pid).send(value, channel=channel)
    data = {"message": message, "pid": pid, "channel": channel}
    shell.output.emit(Page(data, text=f"message {message} sent to process {pid}", name=lambda _: message))


def parse_json(text: str, field: str) -> Any:
    """Return the JSON value of an argument.

    Raises:
        Invalid: it is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        hint = "quote it for your shell, for example with single quotes"
        raise Invalid("argument", f"`{text}` is not JSON: {error}", hint=hint, field=field) from error


async def _signal(shell: Shell, pids: list[int], what: str, done: str) -> bool:
    """Signal each, and say whether a kernel runs them."""
    async with shell.changing() as kernel:
        running = is_remote(kernel)
        for pid in pids:
            await kernel.process(pid).signal(what)
    text = "\n".join(f"process {pid} {done}" for pid in pids)
    shell.output.emit(Page([{"pid": pid, "signal": what} for pid in pids], text=text, name=lambda item: item["pid"]))
    return running
