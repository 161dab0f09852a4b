"""Forking with capabilities: what each costs, piece by piece, and against a fork with none."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.records import Change, Row
from agentos.kernel import grant, lifecycle
from agentos.kernel.core import Core
from agentos.kernel.process import AgentProcess
from tests.bench.harness import Size, Table
from tests.bench.traffic import kernel

__all__ = ["run"]

_COUNTS = (0, 5, 20, 100)
_FORKS = 40


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield one table."""
    rounds = max(2, size.of(10))
    table = Table(
        "fork by capabilities granted, CPU us (best of some rounds)",
        ("capabilities", "fork", "to fork with none", "plan, first time", "plan, again", "derive", "append"),
        note="fork = process, grants and changes in memory; append = its row and changes into the journal's buffer, no commit",
    )
    for cells in anyio.run(_measure, folder / "fork", rounds):
        table.add(*cells)
    yield table


async def _measure(folder: Path, rounds: int) -> list[Sequence[str]]:
    texts = [f"fs.read /d{number}/**" for number in range(max(_COUNTS))]
    found: list[Sequence[str]] = []
    async with kernel(folder) as opened:
        core = opened.core
        bare = 0.0
        for count in _COUNTS:
            image = agentos.Image.host(f"parent{count}", capabilities=["proc.fork self", *texts[:count]])
            parent = core.processes.find((await opened.spawn(image)).pid)
            fork, append = _fork_us(core, parent, texts[:count], rounds)
            bare = bare or fork
            plan_first, plan_again, derive = _pieces_us(core, parent, texts[:count], rounds)
            figures = (fork, plan_first, plan_again, derive, append)
            whole, *rest = [f"{figure:.1f}" for figure in figures]
            found.append((str(count), whole, f"{fork / bare:.1f}x", *rest))
    return found


def _fork_us(core: Core, parent: AgentProcess, texts: Sequence[str], rounds: int) -> tuple[float, float]:
    """Return what a fork costs in memory, and its append."""
    forks: list[float] = []
    appends: list[float] = []
    for _ in range(rounds):
        made: list[tuple[AgentProcess, list[Change]]] = []

        def fork(made: list[tuple[AgentProcess, list[Change]]] = made) -> None:
            changes: list[Change] = []
            made.append((lifecycle.fork(core, parent, texts, None, changes), changes))

        forks.append(_each_us(fork))
        todo = iter(list(made))

        def append(todo: Iterator[Any] = todo) -> None:
            core.append(Row(pid=parent.pid, number="1", kind="call", op="proc.fork", outcome="done"), next(todo)[1])

        appends.append(_each_us(append))
        for child, _ in made:
            changes: list[Change] = []
            lifecycle.end(core, child, "killed", changes)
            core.note(child.pid, "exited", {}, changes)
        core.journal.flush()
    return min(forks), min(appends)


def _pieces_us(core: Core, parent: AgentProcess, texts: Sequence[str], rounds: int) -> tuple[float, float, float]:
    """Return what planning costs for the first time and again, and deriving what was planned."""

    def first() -> None:
        core.caps.plans.clear()
        grant.plan(core, parent.image, texts, parent)

    planned = grant.plan(core, parent.image, texts, parent)
    child = lifecycle.fork(core, parent, (), None, [])
    derives = []
    for _ in range(rounds):
        derives.append(_each_us(lambda: grant.give(core, child, planned, []), 5))
        for cap in list(child.caps.values()):
            core.caps.revoke(cap, [])
    firsts = min(_each_us(first) for _ in range(rounds))
    agains = min(_each_us(lambda: grant.plan(core, parent.image, texts, parent)) for _ in range(rounds))
    return firsts, agains, min(derives)


def _each_us(work: Callable[[], object], count: int = _FORKS) -> float:
    begun = time.process_time()
    for _ in range(count):
        work()
    return (time.process_time() - begun) / count * 1e6
