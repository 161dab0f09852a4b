"""What a turn of an agent costs: a model without a server, one tool call a turn, at one agent and at many.

    turns     rate against the raw floor, CPU, rows, SQL statements and bytes of a turn, by the tool that is called
    server    the same with the real client and a server in another process, and what the client alone takes for the same prompts
    peers     the same loop in LangGraph, in one interleaved run

A turn is: what is left (`proc.status`), the model call (intent and result), the tool's call, the save point.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import anyio

from agentos.abi.model import ModelReply, ModelRequest
from agentos.devices.llm.openai import OpenAI
from tests.bench.bench_peers import note_missing, run_child, subjects
from tests.bench.harness import Raw, Size, Spent, Table, raw_rate, spread, store_bytes
from tests.bench.talk import CALLS, Talked, talk

__all__ = ["run"]

_TURNS = 60
_AGENTS = 200
_TURNS_OF_MANY = 20
_SUBJECTS = ("agentos agent", "LangGraph agent, default", "LangGraph agent, sync")
_CHECKOUT = Path(__file__).parents[2]


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield turns, turns with a server, and peers."""
    yield _turns(size, folder)
    yield anyio.run(_with_server, size, folder)
    yield _peers(size, folder)


# --- turns --------------------------------------------------------------------------------------------------------------------


def _turns(size: Size, folder: Path) -> Table:
    wanted = [(call, 1, size.of(_TURNS)) for call in CALLS]
    wanted += [(call, size.of(_AGENTS), _TURNS_OF_MANY) for call in CALLS]
    wanted += [(CALLS[0], 1, size.of(1_000))]
    seen: dict[tuple[str, int, int], list[Talked]] = {want: [] for want in wanted}
    ratios: dict[tuple[str, int, int], list[float]] = {want: [] for want in wanted}
    floor: list[Raw] = []
    for at in range(size.rounds):
        for call, agents, turns in dict.fromkeys(wanted):
            before = raw_rate(folder, size.seconds / 2)
            found = anyio.run(talk, folder / f"{call}-{agents}-{turns}-{at}", call, agents, turns)
            after = raw_rate(folder, size.seconds / 2)
            floor += [before, after]
            seen[call, agents, turns].append(found)
            ratios[call, agents, turns].append(found.turns / found.wall_s * 2 / (before.rate + after.rate))
    raw, apart = spread([found.rate for found in floor])
    table = Table(
        "a turn of an agent, by the tool that it calls",
        ("tool", "agents", "turns", "turns/s", "spread", "x raw", "CPU ms/turn", "rows", "SQL statements", "bytes"),
        note=f"rows, statements and bytes are of a turn. Raw single commits: {raw:.0f}/s {apart}, {_raw_us(floor):.0f} CPU us each",
    )
    for (call, agents, turns), rounds in seen.items():
        rate, apart = spread([found.turns / found.wall_s for found in rounds])
        one = rounds[0]
        table.add(
            call, f"{agents}", f"{turns}", f"{rate:.0f}", apart, f"{median(ratios[call, agents, turns]):.3f}",
            f"{median(found.cpu_ms for found in rounds):.2f}", f"{one.rows / one.turns:.2f}", f"{one.statements / one.turns:.2f}",
            f"{one.store_bytes / one.turns:.0f}",
        )  # fmt: skip
    return table


def _raw_us(floor: list[Raw]) -> float:
    return median(found.cpu_us for found in floor)


# --- with a server ------------------------------------------------------------------------------------------------------------


class Kept:
    """Passes requests on and keeps them, so that the same can be asked again without a kernel."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        """As the driver's."""
        self.requests.append(request)
        reply: ModelReply = await self._driver.complete(request)
        return reply


async def _with_server(size: Size, folder: Path) -> Table:
    turns = size.of(_TURNS)
    table = Table(
        f"{turns} turns with the openai client and a server on loopback, in another process",
        ("what", "turns/s", "CPU ms/turn"),
        note="the client alone: the same prompts again, without a kernel. CPU is of this process",
    )
    with _server() as url:
        kept = Kept(OpenAI("scripted", key=lambda: "none", base_url=url))
        found = await talk(folder / "server", CALLS[0], 1, turns, model=kept)
        client = OpenAI("scripted", key=lambda: "none", base_url=url)
        asked = kept.requests[-turns:]
        await client.complete(asked[0])
        with Spent() as spent:
            for request in asked:
                await client.complete(request)
        await client.close()
        await kept._driver.close()
    bare = await talk(folder / "bare", CALLS[0], 1, turns)
    table.add("agentos and the client", f"{found.turns / found.wall_s:.0f}", f"{found.cpu_ms:.2f}")
    table.add("the client alone", f"{len(asked) / spent.wall_s:.0f}", f"{spent.cpu_s / len(asked) * 1e3:.2f}")
    table.add("agentos with a model in this process", f"{bare.turns / bare.wall_s:.0f}", f"{bare.cpu_ms:.2f}")
    return table


@contextmanager
def _server() -> Iterator[str]:
    """Run the server of `tests.bench.talk` in an interpreter of its own; gives its address."""
    command = [sys.executable, "-m", "tests.bench.talk", CALLS[0]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_CHECKOUT) as process:
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


# --- peers --------------------------------------------------------------------------------------------------------------------


def _peers(size: Size, folder: Path) -> Table:
    sizes = dict.fromkeys([(1, size.of(_TURNS)), (1, size.of(200)), (size.of(_AGENTS), _TURNS_OF_MANY)])
    wanted = [(subject, agents, turns) for agents, turns in sizes for subject in subjects(_SUBJECTS)]
    seen: dict[tuple[str, int, int], list[dict[str, Any]]] = {want: [] for want in wanted}
    ratios: dict[tuple[str, int, int], list[float]] = {want: [] for want in wanted}
    for at in range(size.rounds):
        for subject, agents, turns in wanted:
            where = folder / f"peer-{subject}-{agents}-{turns}-{at}"
            where.mkdir()
            before = raw_rate(folder, size.seconds / 2)
            found = run_child(subject, "talk", where, agents, turns)
            after = raw_rate(folder, size.seconds / 2)
            found["bytes"] = store_bytes(where / "store.db")
            seen[subject, agents, turns].append(found)
            ratios[subject, agents, turns].append(found["steps"] / found["wall_s"] * 2 / (before.rate + after.rate))
    table = Table(
        "an agent's loop of model and tool",
        ("subject", "agents", "turns", "turns/s", "spread", "x raw", "CPU ms/turn", "bytes/turn"),
        note=note_missing(
            "bytes of the closed file. LangGraph keeps every message in its state, agentos pages at 24,000 tokens", _SUBJECTS
        ),
    )
    for (subject, agents, turns), rounds in seen.items():
        rate, apart = spread([found["steps"] / found["wall_s"] for found in rounds])
        cpu_ms = median(found["cpu_s"] / found["steps"] for found in rounds) * 1e3
        table.add(
            subject, f"{agents}", f"{turns}", f"{rate:.0f}", apart, f"{median(ratios[subject, agents, turns]):.3f}", f"{cpu_ms:.2f}",
            f"{rounds[0]['bytes'] / rounds[0]['steps']:.0f}",
        )  # fmt: skip
    return table
