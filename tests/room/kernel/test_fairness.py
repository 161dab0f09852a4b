"""no-starvation: what a tree gets depends on its weight, not on how greedy the others are. Figures are printed; bounds are generous."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import agentos
from agentos.kernel.slots import Slots
from agentos.kernel.tree import Tree
from agentos.runtime.kernel import Kernel
from tests.builders import alive, opened, settled, started

pytestmark = pytest.mark.anyio


def counter(name: str, counts: dict[str, int]) -> Callable[..., Any]:
    """A program that makes pure calls as fast as it can and counts them under the name it is given."""

    async def count(sys: Any, who: str = name) -> None:
        counts[who] = 0
        while True:
            for _ in range(500):
                await sys.clock.now()
                counts[who] += 1
            await sys.save()

    count.__name__ = f"count_{name}"
    return count


async def greedy_trees(kernel: Kernel, counts: dict[str, int], trees: int, each: int) -> None:
    """Trees of several processes that all loop."""

    async def greedy(sys: Any, tree: int) -> None:
        for _ in range(each - 1):
            await sys.proc.spawn("looping", args={"who": f"greedy {tree}"})
        await sys.proc.exec("looping", args={"who": f"greedy {tree}"})

    async def looping(sys: Any, who: str) -> None:
        counts.setdefault(who, 0)
        while True:
            for _ in range(500):
                await sys.clock.now()
                counts[who] += 1
            await sys.save()

    kernel.programs._given["looping"] = agentos.program("looping")(looping)
    await kernel.register(agentos.Image.program("looping"))
    kernel.programs._given["greedy"] = agentos.program("greedy")(greedy)
    image = agentos.Image.program("greedy", capabilities=["proc.spawn, proc.exec"])
    async with anyio.create_task_group() as tasks:
        for tree in range(trees):
            tasks.start_soon(lambda tree=tree: kernel.spawn(image, args={"tree": tree}))


async def test_no_starvation_a_newcomer_gets_its_share_beside_twenty_greedy_trees() -> None:
    counts: dict[str, int] = {}
    async with opened() as kernel:
        await greedy_trees(kernel, counts, trees=20, each=4)
        await anyio.sleep(0.4)
        process = await started(kernel, counter("newcomer", counts))
        await settled(kernel, lambda: counts.get("newcomer"))
        before, begun = dict(counts), time.perf_counter()
        await anyio.sleep(1.0)
        took = time.perf_counter() - begun
        made = {who: count - before[who] for who, count in counts.items()}
        assert process.info.state == "running"
    share = sum(made.values()) / 21
    print(
        f"\n21 trees, 81 processes, {sum(made.values()) / took:,.0f} calls/s; newcomer {made['newcomer'] / share:.2f} of its fair share"
    )
    assert made["newcomer"] >= share / 2
    assert min(made.values()) >= share / 2


async def test_weights_hold() -> None:
    counts: dict[str, int] = {}
    async with opened() as kernel:
        for name, weight in (("heavy", 3), ("light", 1), ("other", 1)):
            await started(kernel, counter(name, counts), weight=weight)
        counts.update(dict.fromkeys(counts, 0))
        await anyio.sleep(1.0)
    ratio = counts["heavy"] / counts["light"]
    print(f"\nweights 3:1 gave {ratio:.2f}:1, 1:1 gave {counts['light'] / counts['other']:.2f}:1")
    assert 3 * 0.7 <= ratio <= 3 * 1.3
    assert 0.7 <= counts["light"] / counts["other"] <= 1.3


async def test_a_tree_that_computes_without_calls_holds_nobody_back() -> None:
    counts: dict[str, int] = {}

    async def quiet(sys: Any) -> None:
        await sys.clock.now()
        await anyio.sleep_forever()

    async with opened() as kernel:
        await started(kernel, quiet)
        await started(kernel, counter("busy", counts))
        await started(kernel, counter("second", counts))
        await anyio.sleep(0.1)
        before, longest = counts["busy"], 0
        with anyio.fail_after(20):
            while counts["busy"] < before + 500:
                seen, others = counts["busy"], counts["second"]
                while counts["busy"] == seen:
                    await anyio.lowlevel.checkpoint()
                longest = max(longest, counts["second"] - others)
    print(f"\nbeside a silent tree: at most {longest} calls of the other tree between two of one")
    assert longest < 1_000


async def test_the_host_is_served_beside_greedy_trees() -> None:
    counts: dict[str, int] = {}
    async with opened() as kernel:
        await greedy_trees(kernel, counts, trees=5, each=2)
        process = await kernel.spawn(agentos.Image.host())
        took = []
        for _ in range(10):
            begun = time.perf_counter()
            await process.call("clock.now")
            took.append(time.perf_counter() - begun)
    print(
        f"\na host call beside 10 looping processes: median {sorted(took)[5] * 1000:.1f} ms, longest {max(took) * 1000:.1f} ms"
    )
    assert sorted(took)[5] < 0.5


async def test_no_starvation_slots_go_round_between_trees() -> None:
    slots = Slots("one", 1)
    greedy, newcomer = Tree(1, 1.0), Tree(2, 1.0)
    order: list[str] = []

    async def use(tree: Tree, name: str) -> None:
        await slots.acquire(tree)
        order.append(name)
        await anyio.lowlevel.checkpoint()
        slots.release()

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(use, greedy, "greedy")
        await anyio.lowlevel.checkpoint()
        tasks.start_soon(use, newcomer, "newcomer")
    assert order.index("newcomer") <= 3
    assert slots.free == 1


async def test_a_waiter_for_a_slot_that_is_cancelled_takes_none() -> None:
    slots, tree = Slots("one", 1), Tree(1, 1.0)
    await slots.acquire(tree)
    with anyio.move_on_after(0.01):
        await slots.acquire(tree)

    async def use() -> None:
        await slots.acquire(tree)
        slots.release()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(use)
        await anyio.lowlevel.checkpoint()
        slots.release()
        tasks.cancel_scope.cancel()
    assert slots.free == 1


MANY = 2_000


async def test_thousands_of_parked_processes_cost_little_and_reopen_fast(tmp_path: Path) -> None:
    async def park(sys: Any) -> Any:
        return (await sys.msg.recv()).value

    agentos.program("park")(park)
    async with opened(tmp_path / "a.db") as kernel:
        kernel.core.scheduler.resident_max = 0
        image = agentos.Image.program("park")
        await kernel.spawn(image)
        memory, begun = _resident_bytes(), time.perf_counter()
        async with anyio.create_task_group() as tasks:
            for _ in range(MANY):
                tasks.start_soon(kernel.spawn, image)
        spawned = time.perf_counter() - begun
        await settled(kernel)
        parked = time.perf_counter() - begun
        each = (_resident_bytes() - memory) / MANY
        last = max(info.pid for info in await kernel.ps())
        assert alive(kernel, last).record.state == "waiting"
    begun = time.perf_counter()
    async with opened(tmp_path / "a.db") as kernel:
        reopening = time.perf_counter() - begun
        await settled(kernel)
        assert len(await kernel.ps()) == MANY + 1
        assert kernel.core.scheduler.running == 0
        await kernel.process(last).send("wake")
        assert (await kernel.process(last).wait(5)).value == "wake"
    print(
        f"\n{MANY} processes: spawned {MANY / spawned:,.0f}/s, parked after {parked:.2f} s, {each:,.0f} bytes each, "
        f"reopened in {reopening * 1000:.0f} ms"
    )
    assert reopening < 1.0
    assert each < 40_000


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
