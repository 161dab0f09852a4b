"""caps, grant, revoke, check, explain: who may do what, and why."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from agentos.errors import Invalid
from agentos.runtime.clock import SystemClock
from agentos.runtime.outcome import Decision
from agentos.shell import status
from agentos.shell.captree import drawn, expiry, passes_to, related
from agentos.shell.context import Shell, is_remote
from agentos.shell.output import Page
from agentos.shell.remembered import workspace_of
from agentos.shell.trees import find

__all__ = ["caps", "check", "explain", "grant", "revoke"]

Pid = Annotated[int, typer.Argument(help="A process.")]
OpName = Annotated[str, typer.Argument(help="Name of the op, for example fs.read.")]
Arguments = Annotated[list[str] | None, typer.Argument(help="VALUE is JSON, or else text.", metavar="NAME=VALUE...")]
_STATUS = {"allow": status.OK, "ask": status.PENDING, "deny": status.DENIED}


async def caps(
    shell: Shell,
    pid: Annotated[int | None, typer.Argument(help="Only this process.")] = None,
    tree: Annotated[bool, typer.Option("--tree", help="Draw what was derived from what.")] = False,
) -> None:
    """List live capabilities."""
    now = SystemClock().now()
    async with shell.looking() as kernel:
        if pid is not None:
            find(await kernel.ps(all=True), pid)
        found = await kernel.caps(None if tree else pid)
    if tree:
        found = related(found, pid)
    columns: list[tuple[str, Any]] = [
        ("cap", lambda cap: cap.id), ("pid", lambda cap: cap.pid), ("capability", lambda cap: cap.text),
        ("uses left", lambda cap: "" if cap.uses_left is None else cap.uses_left),
        ("expires", lambda cap: expiry(cap, now)),
        ("passes to", passes_to),
        ("from", lambda cap: " -> ".join(cap.chain[:-1])),
    ]  # fmt: skip
    text = "\n".join(drawn(found, now)) if tree and found else None
    shell.output.emit(Page(found, columns, text=text, name=lambda cap: cap.id, empty="no live capabilities"))


async def grant(
    shell: Shell, pid: Pid, text: Annotated[str, typer.Argument(help="For example 'fs.read /src/** uses 20'.", metavar="CAP")]
) -> None:
    """Give a process a capability, from the host."""
    async with shell.changing() as kernel:
        cap = await kernel.grant(pid, text)
    shell.output.emit(
        Page({"cap": cap, "pid": pid, "text": text}, text=f"capability {cap} granted to process {pid}", name=lambda _: cap)
    )


async def revoke(
    shell: Shell,
    cap: Annotated[int, typer.Argument(help="Its handle, as `caps` shows it.")],
    standing: Annotated[bool, typer.Option("--standing", help="A standing grant, as `asks --standing` shows it.")] = False,
) -> None:
    """Take a capability back, and everything that was derived from it; or an approval that stands."""
    async with shell.changing() as kernel:
        if standing:
            grant = await kernel.revoke_standing(cap)
            text = f"standing grant {cap} ended; what it covered is asked again"
            shell.output.emit(Page(grant, text=text, name=lambda each: each.id))
            return
        ended = await kernel.revoke(cap)
    shell.output.emit(Page({"cap": cap, "ended": ended}, text=f"{ended} capabilities ended", name=lambda _: cap))


async def check(shell: Shell, pid: Pid, op: OpName, args: Arguments = None) -> int:
    """Decide a call without making it. Status 0 allow, 3 deny, 4 ask."""
    decision = await _decide(shell, pid, op, args)
    text = f"{decision.outcome}  {op}"
    text += "".join(f"  {part}" for part in (decision.code, decision.rule, decision.because) if part)
    shell.output.emit(Page(_data(decision), text=text, name=lambda _: decision.outcome))
    return _STATUS[decision.outcome]


async def explain(shell: Shell, pid: Pid, op: OpName, args: Arguments = None) -> int:
    """Decide a call without making it, and say which capability and which rules decide. Status as for `check`."""
    decision = await _decide(shell, pid, op, args)
    explanation = decision.explain()
    shell.output.emit(Page({**_data(decision), "explanation": explanation}, text=explanation, name=lambda _: decision.outcome))
    return _STATUS[decision.outcome]


async def _decide(shell: Shell, pid: int, op: str, args: list[str] | None) -> Decision:
    given = arguments(args or [])
    async with shell.changing() as kernel:
        found = kernel.check(pid, op, **given)
        is_elsewhere = is_remote(kernel) or workspace_of(shell.store, kernel.process(pid).info.tree) is not None
    if not is_elsewhere:
        shell.output.note(
            f"an application started process {pid}, and none runs: the policy it opens the store with is not known here"
        )
    return found


def _data(decision: Decision) -> dict[str, Any]:
    return {
        "outcome": decision.outcome, "code": decision.code, "rule": decision.rule, "because": decision.because, "cap": decision.cap,
    }  # fmt: skip


def arguments(given: list[str]) -> dict[str, Any]:
    """Return ``NAME=VALUE`` words as arguments; a value that is JSON is that value, anything else is text.

    Raises:
        Invalid: a word without ``=``.
    """
    parsed: dict[str, Any] = {}
    for word in given:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise Invalid("argument", f"`{word}` is not NAME=VALUE", hint="write for example path=/src/a.py", field="arguments")
        try:
            parsed[name] = json.loads(text)
        except ValueError:
            parsed[name] = text
    return parsed
