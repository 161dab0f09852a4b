"""Two hundred agents at once on one kernel, with the real client and a server on loopback: all finish, fairly, and leave nothing behind."""

from __future__ import annotations

import gc
import itertools
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.devices.llm.openai import OpenAI
from agentos.devices.llm.profile import Profile
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from tests.builders import FastClock, opened
from tests.model_server import Answer, Served, serving
from tests.room.runtime.agent_server import TURNS, script, turn_of

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(60)]

AGENTS = 200
SLOTS = 16
RSS_KB_PER_AGENT = 300
PAGE_KB = os.sysconf("SC_PAGE_SIZE") // 1024
PATIENCE_S = 50.0

AGENT = agentos.Image.from_dict({
    "name": "agent", "prompt": {"text": "You take notes."}, "tools": ["obj.put"], "capabilities": ["obj.*"],
})  # fmt: skip


@agentos.program("greedy-by-calls")
async def greedy_by_calls(sys: Any) -> None:
    """Have fifty model calls under way, over and over, until it is ended."""
    while True:
        ask = [{"role": "user", "content": "greedy"}]
        await sys.gather(*(sys.llm.complete(messages=ask) for _ in range(50)))
        await sys.save(None)


@agentos.program("greedy-by-children")
async def greedy_by_children(sys: Any) -> None:
    """Have fifty agents as children, of which new ones come when these are done."""
    while True:
        pids = [await sys.proc.spawn(AGENT.ref, goal="a greedy one") for _ in range(50)]
        for pid in pids:
            await sys.proc.wait(pid)
        await sys.save(None)


@asynccontextmanager
async def kernel_at(url: str, folder: Path, *, slots: int = SLOTS, **options: Any) -> AsyncIterator[Kernel]:
    """A kernel whose one profile is at `url`."""
    profile = Profile(OpenAI("m", key=lambda: "k", base_url=url), slots=slots, timeout_s=20)
    async with opened(
        folder / "store.db", models={"default": profile}, programs=[greedy_by_calls, greedy_by_children], **options
    ) as kernel:
        yield kernel


async def agents(kernel: Kernel, count: int) -> list[Process]:
    """Start so many agents at once, each a tree of its own."""
    started: list[Process] = []

    async def start(number: int) -> None:
        started.append(await kernel.spawn(AGENT, goal=f"agent {number}: take notes"))

    async with anyio.create_task_group() as tasks:
        for number in range(count):
            tasks.start_soon(start, number)
    return started


async def finished(processes: list[Process]) -> None:
    """Wait until every process has ended well."""
    for process in processes:
        ended = await process.wait(PATIENCE_S)
        assert (ended.state, ended.value) == ("exited", "that is all"), ended.error


def rss_kb() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KB


def open_files() -> int:
    """How many files and sockets this process holds open."""
    return len(os.listdir("/proc/self/fd"))


async def eventually(holds: Callable[[], bool], seconds: float = 5) -> None:
    """Wait until a condition holds that no event announces."""
    with anyio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110
            await anyio.sleep(0.005)


async def test_two_hundred_agents_finish_within_the_slots_and_leave_nothing_behind(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    asked = itertools.count()

    def answer(served: Served) -> Answer:
        return script(0.5 if next(asked) in range(TURNS, TURNS + 2 * SLOTS) else 0)(served)

    with serving(answer) as server:
        async with kernel_at(server.url, tmp_path) as kernel:
            await finished(await agents(kernel, 1))  # what is imported and compiled once
        gc.collect()
        before, tasks, files = rss_kb(), len(anyio.get_running_tasks()), open_files()
        async with kernel_at(server.url, tmp_path) as kernel:
            wall, cpu = time.monotonic(), time.thread_time()
            await finished(await agents(kernel, AGENTS))
            wall, cpu = time.monotonic() - wall, time.thread_time() - cpu
            gc.collect()
            grown = (rss_kb() - before) / AGENTS
            assert all(slots.free > 0 for slots in kernel.core.slots.values())
        await eventually(lambda: server.open_now == 0 and open_files() <= files)
        assert len(anyio.get_running_tasks()) == tasks
        assert len(server.requests) == (AGENTS + 1) * TURNS, "no request was made twice"
        assert server.open_max == SLOTS
    turns = AGENTS * TURNS
    figures = {"turns_s": turns / wall, "loop_cpu_ms_per_turn": cpu * 1000 / turns, "rss_kb_per_agent": grown}
    record_property("figures", figures)
    assert grown < RSS_KB_PER_AGENT


# --- fairness -----------------------------------------------------------------------------------------------------------------


async def served_in(folder: Path, greedy: str = "") -> tuple[list[int], float]:
    """Run eight ordinary agents; return the turns of requests as they came, 0 for greedy ones, and how many seconds they took."""
    seen: list[tuple[int, float]] = []

    def answer(served: Served) -> Answer:
        seen.append((turn_of(served), served.at))
        return script(0.02)(served)

    folder.mkdir()
    with serving(answer) as server:
        async with kernel_at(server.url, folder, slots=4) as kernel:
            await finished(await agents(kernel, 1))
            seen.clear()
            if greedy:
                await kernel.spawn(agentos.Image.program(greedy, capabilities=["proc.spawn", "proc.wait"]))
                await eventually(lambda: len(seen) > 8)
            await finished(await agents(kernel, 8))
    own = [at for at, (turn, _) in enumerate(seen) if turn]
    between = seen[own[0] : own[-1] + 1]
    return [turn for turn, _ in between], between[-1][1] - between[0][1]


@pytest.mark.parametrize("greedy", ["greedy-by-calls", "greedy-by-children"])
async def test_a_greedy_tree_does_not_hold_the_others_up(tmp_path: Path, greedy: str) -> None:
    """INVARIANT no-starvation: a tree that has fifty calls waiting at any time gets about one share of nine."""
    alone, alone_s = await served_in(tmp_path / "alone")
    beside, beside_s = await served_in(tmp_path / "beside", greedy)
    assert sorted(alone) == sorted(turn for turn in beside if turn) == sorted([*range(1, TURNS + 1)] * 8)
    assert 0 < beside.count(0) < 10 * TURNS, "in order of arrival it would be fifty in each turn"
    assert beside_s < 3 * alone_s + 0.2, "in order of arrival it would be seven times as long"


# --- servers that go away -----------------------------------------------------------------------------------------------------


@contextmanager
def server_process(port: int) -> Iterator[str]:
    """A server in a process of its own, which ends by SIGKILL."""
    command = [sys.executable, "-m", "tests.room.runtime.agent_server", str(port), "0.02"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


async def test_agents_outlast_a_server_that_dies_and_comes_back(tmp_path: Path) -> None:
    port = free_port()
    with ExitStack() as first:
        url = first.enter_context(server_process(port))
        async with kernel_at(url, tmp_path, clock=FastClock(20)) as kernel:
            started = await agents(kernel, 40)
            await eventually(lambda: kernel.core.journal.head > 40 * 12, PATIENCE_S)
            first.close()
            await eventually(lambda: kernel.core.slots["llm/default"].free == SLOTS)  # every attempt under way has failed
            with server_process(port):
                await finished(started)
            failed = [row.error async for row in kernel.audit(op="llm.complete", outcome="failed")]
    assert len(failed) > SLOTS
    assert {error["fields"]["why"] for error in failed if error} == {"connection"}


async def test_a_kernel_closes_in_time_while_every_slot_waits_for_an_answer(tmp_path: Path) -> None:
    """And the agents go on with the next kernel, whose server answers: what was interrupted keeps to its slots, too."""
    gone, usual = threading.Event(), script()

    def answer(served: Served) -> Answer:
        gone.wait(20)
        return usual(served)

    with serving(answer) as server:
        files, tasks = open_files(), len(anyio.get_running_tasks())
        async with kernel_at(server.url, tmp_path, grace_s=0.2) as kernel:
            started = [process.pid for process in await agents(kernel, 40)]
            await eventually(lambda: server.open_now == SLOTS)
            closing = time.monotonic()
        assert time.monotonic() - closing < 2.5
        assert len(anyio.get_running_tasks()) == tasks
        gone.set()
        await eventually(lambda: server.open_now == 0 and open_files() <= files)
    with serving(script(0.01)) as server:
        async with kernel_at(server.url, tmp_path, slots=4) as kernel:
            await finished([kernel.process(pid) for pid in started])
        assert server.open_max == 4
