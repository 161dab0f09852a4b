"""cost: what models were paid for, summed from the journal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer

from agentos.abi.codec import decode
from agentos.runtime.clock import SystemClock
from agentos.shell import words
from agentos.shell.context import Shell
from agentos.shell.output import Page
from agentos.shell.trees import below

__all__ = ["By", "Sum", "cost"]


class By(StrEnum):
    """What costs are summed by."""

    PROCESS = "process"
    MODEL = "model"
    DAY = "day"


@dataclass(slots=True)
class Sum:
    """What calls of one process, model or day cost together; `calls` counts those that cost something beside themselves."""

    by: str
    calls: int = 0
    tokens: float = 0.0
    usd: float = 0.0

    def add(self, spent: dict[str, float]) -> None:
        """Add one call."""
        self.calls += 1
        self.tokens += spent.get("tokens", 0.0)
        self.usd += spent.get("usd", 0.0)


async def cost(
    shell: Shell,
    pid: Annotated[int | None, typer.Argument(help="A process, with all it started; none: the whole store.")] = None,
    by: Annotated[By, typer.Option("--by", help="What to sum by.")] = By.PROCESS,
) -> None:
    """Show what models cost: calls, tokens and US dollars, summed from the journal; beside a running kernel too."""
    if not shell.has_store:
        raise shell.no_store()
    pids: list[int | None] = [None]
    if pid is not None:
        async with shell.looking() as kernel:
            pids = [info.pid for info in below(await kernel.ps(all=True), pid)]
    sums: dict[str, Sum] = {}
    total = Sum("total")
    for key, spent in _spent(shell, pids, by):
        sums.setdefault(key, Sum(key)).add(spent)
        total.add(spent)
    items = sorted(sums.values(), key=lambda each: int(each.by) if by is By.PROCESS else each.by)
    shell.output.emit(_page(shell, [*items, total], by))


def _spent(shell: Shell, pids: list[int | None], by: By) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield what each call cost, page by page; the content of calls is not read."""
    from agentos.store import open_store  # noqa: PLC0415 - the read-only store is enough, beside whoever has it

    with open_store(shell.store, clock=SystemClock(), writer=False) as store:
        for pid in pids:
            since, following = -1, 0
            while following > since:
                since = following
                page, following = store.spent(since, pid)
                for number, op, resource, at, data in page:
                    spent = decode(data)
                    if "tokens" in spent or "usd" in spent:
                        yield _key(by, number, op, resource, at), spent


def _key(by: By, pid: int, op: str, resource: str, at: float) -> str:
    if by is By.PROCESS:
        return str(pid)
    if by is By.DAY:
        return words.clock(at).partition(" ")[0]
    return resource if op.startswith("llm.") else op


def _page(shell: Shell, items: list[Sum], by: By) -> Page:
    columns: list[tuple[str, Any]] = [
        ("profile" if by is By.MODEL else by.value, lambda each: words.quoted(each.by, 60)),
        ("calls", lambda each: words.amount(each.calls)),
        ("tokens", lambda each: words.amount(each.tokens)), ("cost", lambda each: words.money(each.usd) if each.usd else "-"),
    ]  # fmt: skip
    if shell.output.for_people:
        return Page(items if len(items) > 1 else [], columns, empty="no call has cost tokens or money so far")
    return Page({"by": by.value, "items": items[:-1], "total": items[-1]}, name=lambda data: f"{data['total'].usd:.6f}")
