"""Budgets: reserved along the whole chain of ancestors, exact, also after a reopen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, crashing, host, opened, refused, settled, started

pytestmark = pytest.mark.anyio


async def family(kernel: Kernel, *budgets: dict[str, Any] | None) -> list[Process]:
    """A line of host processes, each the child of the one before."""
    line: list[Process] = []
    for budget in budgets:
        line.append(await kernel.spawn(agentos.Image.host(), parent=line[-1] if line else None, budget=budget))
    return line


async def spend(process: Process, calls: int) -> None:
    for _ in range(calls):
        await process.call("clock.now")


async def test_a_call_counts_in_every_ancestor_and_stops_at_the_tightest() -> None:
    async with opened() as kernel:
        top, middle, leaf = await family(kernel, {"calls": 5}, None, {"calls": 4})
        await spend(leaf, 4)
        assert await refused(leaf.call("clock.now")) == "denied.budget"
        await spend(middle, 1)
        for process in (top, middle, leaf):
            assert await refused(process.call("clock.now")) == "denied.budget"
        assert [p.usage["calls"] for p in (top, middle, leaf)] == [5, 5, 4]


async def test_a_refused_reservation_takes_nothing_anywhere() -> None:
    async with opened() as kernel:
        top, leaf = await family(kernel, {"calls": 1}, {"calls": 10})
        await spend(top, 1)
        with pytest.raises(agentos.Denied, match="process 1") as caught:
            await leaf.call("clock.now")
        assert (caught.value.pid, caught.value.limit) == (top.pid, "calls")
        assert leaf.usage["calls"] == 0


async def test_denied_calls_are_free_and_failed_ones_are_not() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        stranger = await host(kernel)
        await refused(process.call("obj.put", value=1, name="x", namespace="shared"))
        assert process.usage["calls"] == 0
        await kernel.grant(process.pid, "proc.signal")
        assert await refused(process.call("proc.signal", pid=stranger.pid, signal="kill")) == "denied.capability"
        assert process.usage["calls"] == 0
        await refused(process.call("obj.get", name="gone"))
        await refused(process.call("no.op"))
        assert process.usage["calls"] == 2


async def test_children_and_depth_are_bounded() -> None:
    async with opened() as kernel:
        top = await host(kernel, budget={"children": 2, "depth": 1})
        first = await kernel.spawn(agentos.Image.host(), parent=top)
        await kernel.spawn(agentos.Image.host(), parent=top)
        assert await refused(kernel.spawn(agentos.Image.host(), parent=top)) == "denied.budget"
        assert await refused(kernel.spawn(agentos.Image.host(), parent=first)) == "denied.budget"
        await first.exit()
        assert await kernel.spawn(agentos.Image.host(), parent=top)


async def test_an_image_bounds_the_budget_it_is_spawned_with() -> None:
    async with opened() as kernel:
        image = agentos.Image.host(limits={"calls": 3})
        process = await kernel.spawn(image, budget={"calls": 100})
        assert process.info.budget["calls"] == 3
        assert await refused(kernel.spawn(image, budget={"cals": 1})) == "invalid.argument"
        assert await refused(kernel.spawn(image, budget={"calls": -1})) == "invalid.argument"
        assert await refused(kernel.spawn(image, budget={"calls": float("nan")})) == "invalid.argument"


async def test_a_process_past_its_time_fails_with_a_timeout(tmp_path: Path) -> None:
    async def wait(sys: Any) -> Any:
        return await sys.msg.recv()

    for resident in (0, 100):
        async with opened(clock=FakeClock()) as kernel:
            kernel.core.scheduler.resident_max = resident
            process = await started(kernel, wait, budget={"wall_s": 60})
            driven = await host(kernel, deadline_s=30)
            await settled(kernel)
            advance(kernel, 59)
            await settled(kernel)
            assert process.info.state == "waiting"
            advance(kernel, 1)
            exits = [await process.wait(5), await driven.wait(5)]
            assert [(ended.state, ended.error and ended.error.code) for ended in exits] == [
                ("failed", "unavailable.timeout")
            ] * 2


async def test_time_runs_on_while_the_kernel_is_closed(tmp_path: Path) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "a.db", clock=clock) as kernel:
        process = await host(kernel, budget={"wall_s": 60})
    clock.advance(3600)
    async with opened(tmp_path / "a.db", clock=clock) as kernel:
        ended = await kernel.process(process.pid).wait(5)
        assert ended.error is not None
        assert ended.error.code == "unavailable.timeout"


async def test_no_descendant_outlives_the_time_of_its_ancestors() -> None:
    """children-are-never-wider: a child's time ends with its parent's."""
    async with opened(clock=FakeClock()) as kernel:
        top = await host(kernel, budget={"wall_s": 60})
        child = await kernel.spawn(agentos.Image.host(), parent=top, budget={"wall_s": 1_000})
        advance(kernel, 61)
        assert [(await p.wait(5)).state for p in (top, child)] == ["failed", "killed"]


async def test_usage_is_exact_after_a_reopen_whatever_the_calls_came_to(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    options = {"devices": {"ledger": ledger.device}}
    async with opened(tmp_path / "a.db", **options) as kernel:
        top, leaf = await family(kernel, None, None)
        await kernel.grant(leaf.pid, "ledger.*, proc.signal")
        await spend(top, 3)
        await leaf.calls(
            [
                ("ledger.keyed", {"value": "x"}),
                ("ledger.once", {"value": "x", "fail": True}),
                ("no.op", {}),
                ("obj.get", {"name": "gone"}),
            ]
        )
        await leaf.calls([("proc.signal", {"pid": top.pid, "signal": "kill"}), ("fs.read", {"path": "x"}), ("obj.get", {})])
        used = [process.usage["calls"] for process in (top, leaf)]
    async with opened(tmp_path / "a.db", **options) as kernel:
        assert [kernel.process(process.pid).usage["calls"] for process in (top, leaf)] == used


async def test_usage_is_exact_when_a_call_was_open_while_the_account_was_written_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anyio

    monkeypatch.setattr("agentos.kernel.budget.SNAPSHOT_CALLS", 10)
    async with opened(tmp_path / "a.db") as kernel:
        process = await host(kernel)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: process.call("msg.recv"))
            await settled(kernel, lambda: kernel.core.processes.find(process.pid).open_calls)
            await spend(process, 25)
            await process.send("go")
        used = process.usage["calls"]
        assert used == 26
    async with opened(tmp_path / "a.db") as kernel:
        assert kernel.process(process.pid).usage["calls"] == used


async def test_usage_of_the_dead_stays_with_their_ancestors_after_a_crash(tmp_path: Path) -> None:
    async with crashing(tmp_path / "a.db", tmp_path / "b.db") as kernel:
        top, middle, leaf = await family(kernel, {"calls": 10}, {"calls": 6}, None)
        await spend(leaf, 2)
        await spend(middle, 1)
        await middle.exit()
        await spend(leaf, 1)
    async with opened(tmp_path / "b.db") as kernel:
        top, leaf = kernel.process(top.pid), kernel.process(leaf.pid)
        assert (top.usage["calls"], leaf.usage["calls"]) == (4, 3)
        await spend(leaf, 2)
        assert await refused(leaf.call("clock.now")) == "denied.budget", "a dead ancestor's budget still binds its descendants"


async def test_an_orphan_keeps_the_bounds_of_the_ancestors_it_lost(tmp_path: Path) -> None:
    """children-are-never-wider, also once the parent that was bounded is gone."""
    async with opened(tmp_path / "a.db") as kernel:
        top, leaf = await family(kernel, {"calls": 3}, None)
        await spend(leaf, 1)
        await top.exit()
    async with opened(tmp_path / "a.db") as kernel:
        leaf = kernel.process(leaf.pid)
        await spend(leaf, 2)
        assert await refused(leaf.call("clock.now")) == "denied.budget"
