"""asks, approve, deny: what waits for a person, and what was approved to stand.

Without a running kernel the answer is stored, and found when a kernel opens.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from agentos.errors import Invalid
from agentos.runtime.clock import SystemClock
from agentos.shell import words
from agentos.shell.askframe import ALL_LINES, columns_of, framed, offered, subject
from agentos.shell.context import Shell
from agentos.shell.escape import line
from agentos.shell.output import Page
from agentos.shell.people import expect_arguments, whoami
from agentos.shell.verbs.signals import parse_json

__all__ = ["approve", "asks", "deny"]

AskId = Annotated[int, typer.Argument(help="The ask, as `asks` shows it.", metavar="ID")]
Reason = Annotated[str | None, typer.Option(help="Told to the agent and kept in the journal.")]
By = Annotated[str | None, typer.Option(help="Who answers; the user's name when left out.", metavar="NAME")]


async def asks(
    shell: Shell,
    ask: Annotated[int | None, typer.Argument(help="Show this one in full.", metavar="[ID]")] = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Answered and withdrawn ones too.")] = False,
    standing: Annotated[bool, typer.Option("--standing", help="What was approved to stand, not what waits.")] = False,
) -> None:
    """List what waits for a person, calls that were made together next to each other."""
    if standing:
        await _standing(shell)
        return
    async with shell.looking() as kernel:
        if ask is not None:
            one = await kernel.ask(ask)
            width = columns_of(sys.stdout)
            lines = [*framed(one, lines_max=ALL_LINES, columns=width), *offered(one, columns=width)]
            shell.output.emit(Page(one, text="\n".join(lines), name=lambda each: each.id))
            return
        found = await kernel.asks(state=None if show_all else "pending")
    first = {each.batch: each.id for each in reversed(found) if each.batch}
    found = sorted(found, key=lambda each: (first.get(each.batch, each.id), each.id))
    now = SystemClock().now()
    columns: list[tuple[str, Any]] = [
        ("id", lambda each: each.id), ("kind", lambda each: each.kind), ("pid", lambda each: each.pid), ("batch", lambda each: each.batch),
        ("wants", subject), ("rule", lambda each: each.rule), ("state", lambda each: each.state),
        ("age", lambda each: words.age(each.created, now)),
        ("expires", lambda each: f"in {words.span(each.expires - now)}" if each.expires and each.state == "pending" else ""),
    ]  # fmt: skip
    shell.output.emit(Page(found, columns, name=lambda each: each.id, empty="nothing waits for a person"))


async def _standing(shell: Shell) -> None:
    """List the standing grants."""
    now = SystemClock().now()
    async with shell.looking() as kernel:
        found = await kernel.standing()
    columns: list[tuple[str, Any]] = [
        ("id", lambda each: each.id), ("scope", lambda each: f"{each.scope} {each.holder[:12]}".rstrip()),
        ("answers", lambda each: each.rule), ("with", lambda each: each.offer), ("uses", lambda each: each.uses),
        ("by", lambda each: each.by), ("ask", lambda each: each.ask), ("age", lambda each: words.age(each.created, now)),
        ("expires", lambda each: f"in {words.span(each.expires - now)}" if each.expires else ""),
        ("because", lambda each: each.reason),
    ]  # fmt: skip
    shell.output.emit(Page(found, columns, name=lambda each: each.id, empty="nothing was approved to stand"))


async def approve(  # noqa: PLR0913, PLR0917 - one option per kind of answer
    shell: Shell,
    ask: AskId,
    reply: Annotated[str | None, typer.Option(help="Answer a question with this text.")] = None,
    happened: Annotated[
        str | None, typer.Option(help="Unknown outcome: it happened, with this result.", metavar="JSON")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Unknown outcome: run it again.")] = False,
    edit: Annotated[str | None, typer.Option(help="Approve with these arguments changed.", metavar="JSON")] = None,
    scope: Annotated[str, typer.Option(help="once, process, tree, image, project, or a duration such as 8h.")] = "once",
    reason: Reason = None,
    by: By = None,
) -> None:
    """Approve an ask, answer a question, or say what an unknown effect came to."""
    if sum(given is not None for given in (reply, happened)) + run > 1:
        raise Invalid("argument", "--reply, --happened and --run exclude each other", hint="give one of them", field="reply")
    answer: dict[str, Any] = {"reason": reason, "scope": scope}
    if reply is not None:
        answer["value"] = reply
    if happened is not None:
        answer["value"] = parse_json(happened, "--happened")
    if edit is not None:
        answer["edit"] = _changes(edit)
    async with shell.looking() as kernel:
        await _expect_fit(kernel, ask, has_value="value" in answer, run=run, edit=answer.get("edit", {}))
        answered = await kernel.answer(ask, "approve", by=by or whoami(), **answer)
        running = shell.host_of(kernel) is not None
    _confirm(shell, ask, "approved", running=running)
    if scope != "once":
        shell.output.note(line(f"stored for {scope}: {answered.offer}"))


async def deny(shell: Shell, ask: AskId, reason: Reason = None, by: By = None) -> None:
    """Deny an ask: the call fails with denied.human."""
    async with shell.looking() as kernel:
        await kernel.answer(ask, "deny", by=by or whoami(), reason=reason)
        running = shell.host_of(kernel) is not None
    _confirm(shell, ask, "denied", running=running)


async def _expect_fit(kernel: Any, ask: int, *, has_value: bool, run: bool, edit: dict[str, Any]) -> None:
    """Refuse to guess what happened to an effect whose outcome is unknown, and to change an argument that the call does not have."""
    found = next((each for each in await kernel.asks() if each.id == ask), None)
    if found is not None:
        expect_arguments(found, edit)
    if found is None or found.kind != "unknown_outcome" or has_value or run:
        return
    hint = "look whether it happened, then give --happened JSON (its result) or --run (do it again)"
    raise Invalid("argument", f"ask {ask} is about an effect that may have happened already", hint=hint, ask=ask)


def _confirm(shell: Shell, ask: int, done: str, *, running: bool) -> None:
    text = f"ask {ask} {done}" + ("" if running else "; no kernel runs, the answer is stored")
    shell.output.emit(Page({"ask": ask, "answer": done, "kernel": running}, text=text, name=lambda _: ask))


def _changes(text: str) -> dict[str, Any]:
    changed = parse_json(text, "--edit")
    if not isinstance(changed, dict):
        raise Invalid("argument", f"`{text}` is not an object", hint='give arguments: \'{"path": "/b.txt"}\'', field="--edit")
    return changed
