"""asks, approve, deny: what waits for a person. Without a running kernel the answer is stored, and found when a kernel opens."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from agentos.errors import Invalid
from agentos.runtime.clock import SystemClock
from agentos.shell import words
from agentos.shell.askframe import framed, subject
from agentos.shell.context import Shell, is_remote
from agentos.shell.output import Page
from agentos.shell.people import whoami
from agentos.shell.verbs.signals import parse_json

__all__ = ["approve", "asks", "deny"]

AskId = Annotated[int, typer.Argument(help="The ask, as `asks` shows it.", metavar="ID")]
Reason = Annotated[str | None, typer.Option(help="Told to the agent and kept in the journal.")]


async def asks(
    shell: Shell,
    ask: Annotated[int | None, typer.Argument(help="Show this one in full.", metavar="[ID]")] = None,
    show_all: Annotated[bool, typer.Option("--all", "-a", help="Answered and withdrawn ones too.")] = False,
) -> None:
    """List what waits for a person."""
    async with shell.looking() as kernel:
        found = await kernel.asks(state=None if show_all or ask is not None else "pending")
    if ask is not None:
        one = next((each for each in found if each.id == ask), None)
        if one is None:
            raise Invalid("argument", f"there is no ask {ask}", hint="see `agentos asks --all`", ask=ask)
        shell.output.emit(Page(one, text="\n".join(framed(one)), name=lambda each: each.id))
        return
    now = SystemClock().now()
    columns: list[tuple[str, Any]] = [
        ("id", lambda each: each.id), ("kind", lambda each: each.kind), ("pid", lambda each: each.pid), ("wants", subject),
        ("rule", lambda each: each.rule), ("state", lambda each: each.state), ("age", lambda each: words.age(each.created, now)),
        ("expires", lambda each: f"in {words.span(each.expires - now)}" if each.expires and each.state == "pending" else ""),
    ]  # fmt: skip
    shell.output.emit(Page(found, columns, name=lambda each: each.id, empty="nothing waits for a person"))


async def approve(  # noqa: PLR0913, PLR0917 - one option per kind of answer
    shell: Shell,
    ask: AskId,
    reply: Annotated[str | None, typer.Option(help="Answer a question with this text.")] = None,
    happened: Annotated[
        str | None, typer.Option(help="Unknown outcome: it happened, with this result.", metavar="JSON")
    ] = None,
    run: Annotated[bool, typer.Option("--run", help="Unknown outcome: run it again.")] = False,
    edit: Annotated[str | None, typer.Option(help="Approve with these arguments changed.", metavar="JSON")] = None,
    reason: Reason = None,
) -> None:
    """Approve an ask, answer a question, or say what an unknown effect came to."""
    if sum(given is not None for given in (reply, happened)) + run > 1:
        raise Invalid("argument", "--reply, --happened and --run exclude each other", hint="give one of them", field="reply")
    answer: dict[str, Any] = {"reason": reason}
    if reply is not None:
        answer["value"] = reply
    if happened is not None:
        answer["value"] = parse_json(happened, "--happened")
    if edit is not None:
        answer["edit"] = _changes(edit)
    async with shell.looking() as kernel:
        await _expect_fit(kernel, ask, has_value="value" in answer, run=run)
        await kernel.answer(ask, "approve", by=whoami(), **answer)
        running = is_remote(kernel)
    _confirm(shell, ask, "approved", running=running)


async def deny(shell: Shell, ask: AskId, reason: Reason = None) -> None:
    """Deny an ask: the call fails with denied.human."""
    async with shell.looking() as kernel:
        await kernel.answer(ask, "deny", by=whoami(), reason=reason)
        running = is_remote(kernel)
    _confirm(shell, ask, "denied", running=running)


async def _expect_fit(kernel: Any, ask: int, *, has_value: bool, run: bool) -> None:
    """Refuse to guess what happened to an effect whose outcome is unknown."""
    found = next((each for each in await kernel.asks() if each.id == ask), None)
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
