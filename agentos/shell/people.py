"""`People`: who answers the asks of a followed tree: rules that were approved ahead, then the person at the terminal, else nobody."""

from __future__ import annotations

import getpass
import json
import shutil
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import anyio

from agentos.abi.op import closest
from agentos.errors import Denied, Invalid
from agentos.kernel.ask import Ask
from agentos.shell.askframe import ALL_LINES, framed, may_widen, offered, subject
from agentos.shell.escape import line, wrapped

if TYPE_CHECKING:
    from agentos.runtime.kernel import Kernel

__all__ = ["Hangup", "Interrupted", "People", "expect_arguments", "matches", "read_line", "whoami"]

_LOOK_S = 0.5
_LINES_AROUND, _LINES_LEAST = 12, 8


class Interrupted(Exception):
    """Ctrl-C or Ctrl-D at a prompt: the command ends as if it had been interrupted."""


class Hangup(Interrupted):
    """Ctrl-D: the person has nothing more to say."""


def whoami() -> str:
    """Return the name that answers are signed with."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "a person"


def matches(ask: Ask, rule: str) -> bool:
    """Say whether `--approve RULE` means the rule that asked: by its name, its ``file:line``, or that with less of the path."""
    if ask.kind != "approval" or not rule or not ask.rule:
        return False
    return rule in (ask.rule_name, ask.rule) or PurePosixPath(ask.rule).match(rule)


def expect_arguments(ask: Ask, edit: dict[str, Any]) -> None:
    """Refuse to change an argument that the call does not have: its program would be told of a mistake that a person made.

    Raises:
        Invalid: `invalid.argument`.
    """
    unknown = next((name for name in edit if ask.kind == "approval" and name not in ask.args), None)
    if unknown is not None:
        hint = closest(unknown, ask.args) or f"it has {', '.join(ask.args)}"
        raise Invalid("argument", f"`{ask.op}` has no argument `{unknown}`", hint=hint, field="edit", ask=ask.id)


@contextmanager
def suppress_settled() -> Iterator[None]:
    """Take it well when an ask is settled already: then there is nothing left to do."""
    try:
        yield
    except Invalid as error:
        if error.code != "invalid.state":
            raise


class People:
    """Answers asks.

    Args:
        approve: Rules whose asks are approved ahead.
        is_present: Whether a person sits at the terminal.
        say: Writes a line to the person.
    """

    def __init__(self, approve: Sequence[str] = (), *, is_present: bool = False, say: Callable[[str], None]) -> None:
        self._rules = tuple(approve)
        self.is_present = is_present
        self._say = say

    def has_approved(self, ask: Ask) -> bool:
        """Say whether the rule that asked was approved ahead."""
        return any(matches(ask, rule) for rule in self._rules)

    async def approve(self, kernel: Kernel, ask: Ask) -> None:
        """Answer an ask whose rule was approved ahead; somebody else may have been faster, which settles it too."""
        try:
            with suppress_settled():
                await kernel.answer(ask.id, "approve", by="--approve")
        except Denied as error:
            self._say(line(f"ask {ask.id} stays open: {error.message}"))

    async def consult(self, kernel: Kernel, ask: Ask) -> None:
        """Show an ask to the person at the terminal, until there is an answer from them or from elsewhere.

        Asks of one batch are shown together, for one decision; an ask that was settled meanwhile is not shown at all.

        Raises:
            Interrupted: they pressed Ctrl-C; nothing was answered.

        Cancellation: the open question is taken back and nothing is answered.
        """
        while len(batch := await self._batch(kernel, ask)) > 1:
            self._list(batch)
            choice = await self._asked(kernel, batch, partial(_together, batch))
            if choice is None:
                continue  # one of them was settled elsewhere
            verdict, more = choice
            if verdict == "look":
                await self._consult_one(kernel, batch[more["at"]])
                continue
            for each in batch:
                await self._take(kernel, each, verdict, more)
            return
        for each in batch:
            await self._consult_one(kernel, each)

    async def _batch(self, kernel: Kernel, ask: Ask) -> list[Ask]:
        """Return the pending asks that the person decides together with one, itself among them; none once it is settled."""
        pending = await kernel.asks()
        if not any(each.id == ask.id for each in pending):
            return []
        if not ask.batch or ask.kind != "approval":
            return [ask]
        return [each for each in pending if (each.batch, each.kind) == (ask.batch, ask.kind) and not self.has_approved(each)]

    async def _consult_one(self, kernel: Kernel, ask: Ask) -> None:
        self._show(ask, all_of_it=False)
        while (answer := await self._asked(kernel, [ask], partial(_QUESTIONS.get(ask.kind, _approval), ask))) is not None:
            verdict, more = answer
            if verdict == "show":
                self._show(ask, all_of_it=True)
            elif verdict == "remember":
                more = await self._scope(kernel, ask)
                if more and await self._take(kernel, ask, "approve", more):
                    return
            elif await self._take(kernel, ask, verdict, more):
                return

    async def _take(self, kernel: Kernel, ask: Ask, verdict: str, more: dict[str, Any]) -> bool:
        """Answer an ask; False when the answer was not taken."""
        try:
            await kernel.answer(ask.id, verdict, by=whoami(), **more)
        except (Invalid, Denied) as error:
            self._say(line(f"not taken: {error.message}" + (f"; {error.hint}" if error.hint else "")))
            return False
        return True

    async def _scope(self, kernel: Kernel, ask: Ask) -> dict[str, Any]:
        """Show what a wider scope would store and what that would have covered, and have the person choose; nothing = none."""
        for each in offered(await kernel.ask(ask.id), columns=shutil.get_terminal_size().columns):
            self._say(each)
        scope = await read_line("for how long or how far (empty: not at all)? ")
        return {"scope": scope} if scope and await _confirmed(ask.op if ask.irreversible else "") else {}

    def _list(self, batch: Sequence[Ask]) -> None:
        columns = shutil.get_terminal_size().columns
        self._say(line(f"{len(batch)} calls that process {_who(batch[0])} made together"))
        for rule, because in dict.fromkeys((each.rule, each.because) for each in batch if each.rule):
            self._say(line(f"  rule     {rule}" + (f"  because {because}" if because else "")))
        for number, each in enumerate(batch, 1):
            mark = " (irreversible)" if each.irreversible else ""
            self._say(_cut(line(f"│ {number}  ask {each.id}{mark}  {subject(each)}"), max(columns, 20)))

    def _show(self, ask: Ask, *, all_of_it: bool) -> None:
        size = shutil.get_terminal_size()
        lines_max = ALL_LINES if all_of_it else max(size.lines - _LINES_AROUND, _LINES_LEAST)
        for each in framed(ask, lines_max=lines_max, columns=size.columns):
            self._say(each)

    async def _asked(self, kernel: Kernel, asks: Sequence[Ask], question_: Question) -> tuple[str, dict[str, Any]] | None:
        """Ask the person until there is an answer; None when one of the asks was settled meanwhile: answered elsewhere, or withdrawn."""
        open_ids = {ask.id for ask in asks}
        found: tuple[str, dict[str, Any]] | None = None
        gone = False

        async def question() -> None:
            nonlocal found
            while found is None:
                found = await question_(self._say)
            tasks.cancel_scope.cancel()

        async def look() -> None:
            nonlocal gone
            while open_ids <= {each.id for each in await kernel.asks()}:  # noqa: ASYNC110 - a remote kernel tells nobody
                await anyio.sleep(_LOOK_S)
            gone = found is None
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(question)
            tasks.start_soon(look)
        if gone:
            self._say(f"ask {', '.join(map(str, sorted(open_ids)))}: settled elsewhere")
        return found


def _cut(text: str, columns: int) -> str:
    first, *rest = wrapped(text, columns)
    return f"{next(wrapped(text, columns - 3))}..." if rest else first


def _who(ask: Ask) -> str:
    image = ask.lineage[0].partition(" ")[2] if ask.lineage else ""
    return f"{ask.pid} ({image})" if image else str(ask.pid)


Say = Callable[[str], None]
Question = Callable[[Say], Awaitable["tuple[str, dict[str, Any]] | None"]]


async def read_line(prompt: str) -> str:
    """Read a line from the terminal; cancelling takes the prompt back.

    Raises:
        Interrupted: Ctrl-C at the prompt; `Hangup`: Ctrl-D.
    """
    from prompt_toolkit import PromptSession  # noqa: PLC0415 - only a person at a terminal needs it

    session: PromptSession[str] = PromptSession(interrupt_exception=Interrupted, eof_exception=Hangup)
    return (await session.prompt_async(prompt)).strip()


async def _reason() -> dict[str, Any]:
    reason = await read_line("reason (may be empty): ")
    return {"reason": reason} if reason else {}


async def _confirmed(op: str) -> bool:
    """Have the verb of an op typed whose effect nothing takes back; an empty op needs no confirming."""
    verb = op.rpartition(".")[2]
    return not op or await read_line(f"nothing takes this back. Type `{verb}` to approve: ") == verb


async def _together(batch: Sequence[Ask], say: Say) -> tuple[str, dict[str, Any]] | None:
    choice = await read_line(f"[a]pprove all, [d]eny all, or a number (1-{len(batch)}) to look at one? ")
    if choice in ("a", "all", "approve"):
        for op in dict.fromkeys(ask.op for ask in batch if ask.irreversible):
            if not await _confirmed(op):
                return None
        return "approve", {}
    if choice in ("d", "deny"):
        return "deny", await _reason()
    if choice.isdecimal() and 0 < int(choice) <= len(batch):
        return "look", {"at": int(choice) - 1}
    say(f"that is none of the {len(batch)}")
    return None


async def _approval(ask: Ask, say: Say) -> tuple[str, dict[str, Any]] | None:
    wider = "[r]emember, " if may_widen(ask) else ""
    choice = await read_line(f"[a]pprove, [d]eny, [e]dit, {wider}[s]how all? ")
    if choice in ("a", "approve", "y", "yes"):
        return ("approve", {}) if await _confirmed(ask.op if ask.irreversible else "") else None
    if choice in ("r", "remember") and may_widen(ask):
        return "remember", {}
    if choice in ("d", "deny", "n", "no"):
        return "deny", await _reason()
    if choice in ("s", "show"):
        return "show", {}
    if choice in ("e", "edit"):
        changed = _object(await read_line('arguments to change, as JSON, for example {"path": "/b.md"}: '))
        if changed is not None:
            try:
                expect_arguments(ask, changed)
            except Invalid as error:
                say(line(f"not taken: {error.message}; {error.hint}"))
                return None
            return ("approve", {"edit": changed}) if await _confirmed(ask.op if ask.irreversible else "") else None
        say("that is no JSON object")
    elif choice:
        say(f"that is none of them: {wider}[a], [d], [e], [s]")
    return None


async def _question(ask: Ask, say: Say) -> tuple[str, dict[str, Any]] | None:
    del ask, say
    reply = await read_line("answer (empty: refuse to answer): ")
    return ("approve", {"value": reply}) if reply else ("deny", await _reason())


async def _unknown(ask: Ask, say: Say) -> tuple[str, dict[str, Any]] | None:
    choice = await read_line("it may have happened. [h]appened, [r]un again, [f]ail? ")
    if choice in ("r", "run"):
        return ("approve", {}) if await _confirmed(ask.op) else None
    if choice in ("f", "fail", "d", "deny"):
        return "deny", await _reason()
    if choice in ("h", "happened"):
        try:
            return "approve", {"value": json.loads(await read_line("its result, as JSON: "))}
        except ValueError:
            say("that is no JSON")
    return None


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


_QUESTIONS = {"question": _question, "unknown_outcome": _unknown}
