"""gather: branches with numbers of their own, settled before an error is raised, and nothing in parallel outside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.testing import Ledger
from tests.builders import opened, rows, settled, started

pytestmark = pytest.mark.anyio


async def result_of(kernel: Any, function: Any, *grant: str, **options: Any) -> Any:
    ended = await (await started(kernel, function, *grant, **options)).wait(10)
    assert ended.error is None, ended.error
    return ended.value


async def test_values_come_in_order_and_branches_are_numbered_by_gather_branch_and_call() -> None:
    async def nest(sys: Any) -> Any:
        await sys.clock.now()

        async def two(name: str) -> int:
            await sys.obj.put(1, name=name)
            return int((await sys.obj.put(2, name=name)).version)

        async def nested() -> Any:
            return await sys.gather(lambda: two("c"), lambda: two("d"))

        values = await sys.gather(lambda: two("a"), sys.obj.put(0, name="b"), nested)
        await sys.clock.now()
        return [values[0], values[1].version, values[2]]

    async with opened() as kernel:
        process = await started(kernel, nest)
        assert (await process.wait(5)).value == [2, 1, [2, 2]]
        numbers = sorted(row.number for row in rows(kernel, process.pid))
        assert numbers == ["1", "2.1.1", "2.1.2", "2.2.1", "2.3.1.1.1", "2.3.1.1.2", "2.3.1.2.1", "2.3.1.2.2", "3"]


async def test_the_first_error_in_order_is_raised_after_all_have_settled() -> None:
    async def work(sys: Any) -> Any:
        try:
            await sys.gather(sys.obj.put(1, name="a"), sys.obj.get("gone"), sys.fs.read("/no"), sys.obj.put(1, name="b"))
        except agentos.AgentOSError as error:
            return [error.code, [item["name"] for item in (await sys.obj.list())["items"]]]

    async with opened() as kernel:
        assert await result_of(kernel, work) == ["unavailable.missing", ["a", "b"]]


async def test_a_branch_may_raise_what_it_likes() -> None:
    async def work(sys: Any) -> Any:
        async def broken() -> None:
            await sys.clock.now()
            raise KeyError("mine")

        try:
            await sys.gather(broken, sys.obj.put(1, name="a"))
        except KeyError:
            return (await sys.obj.get("a")) + 1

    async with opened() as kernel:
        assert await result_of(kernel, work) == 2


async def test_calls_in_parallel_outside_gather_are_refused() -> None:
    async def work(sys: Any) -> Any:
        codes: list[str] = []

        async def call() -> None:
            try:
                await sys.msg.recv(timeout_s=0.01)
            except agentos.AgentOSError as error:
                codes.append(error.code)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            tasks.start_soon(call)
        return sorted(codes)

    async with opened() as kernel:
        assert await result_of(kernel, work) == ["invalid.state", "unavailable.timeout"]


async def test_save_and_fork_inside_gather_are_refused() -> None:
    async def work(sys: Any) -> Any:
        codes = []
        for call in (sys.save, sys.proc.fork):
            try:
                await sys.gather(call)
            except agentos.Invalid as error:
                codes.append(error.code)
        return codes

    async with opened() as kernel:
        assert await result_of(kernel, work, "proc.fork") == ["invalid.state"] * 2


async def test_gather_takes_calls_and_async_functions_and_nothing_else() -> None:
    async def work(sys: Any) -> Any:
        assert await sys.gather() == []
        assert await sys.gather([sys.clock.now()])
        codes = []
        for wrong in (("clock.now", {}), 3, lambda: 3):
            try:
                await sys.gather(wrong, sys.clock.now())
            except agentos.Invalid as error:
                codes.append(error.code)
        return codes

    async with opened() as kernel:
        assert await result_of(kernel, work) == ["invalid.argument"] * 3


async def test_more_branches_than_calls_in_flight_all_get_their_turn(tmp_path: Path) -> None:
    peak = [0, 0]
    device = agentos.Device("slow")

    @device.op(effect="repeatable")
    async def work_on(n: int) -> int:
        peak[0] += 1
        peak[1] = max(peak)
        await anyio.sleep(0.005)
        peak[0] -= 1
        return n

    async def work(sys: Any) -> Any:
        return sum(await sys.gather([sys.slow.work_on(n) for n in range(200)]))

    async with opened(devices={"slow": device}) as kernel:
        assert await result_of(kernel, work, "slow.*") == sum(range(200))
    assert peak[1] == 64


async def test_no_starvation_by_a_process_that_waits_in_hundreds_of_branches() -> None:
    async def wide(sys: Any) -> Any:
        return len(await sys.gather([sys.msg.recv(channel=f"c{n}") for n in range(400)]))

    async def small(sys: Any) -> Any:
        return await sys.clock.now()

    async with opened() as kernel:
        waiting = await started(kernel, wide)
        await settled(kernel)
        assert waiting.info.state == "waiting"
        assert await result_of(kernel, small)
        for n in range(400):
            await waiting.send(n, channel=f"c{n}")
        assert (await waiting.wait(10)).value == 400


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_branches_that_wait_for_different_things_wake_one_by_one(resident: int, tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        async def both(channel: str) -> list[Any]:
            return [(await sys.msg.recv(channel=channel)).value, (await sys.ledger.keyed(channel))["value"]]

        return await sys.gather(lambda: both("a"), lambda: both("b"), sys.human.ask("ok?"))

    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, work, "ledger.*")
        await settled(kernel)
        await process.send("B", channel="b")
        await settled(kernel)
        [ask] = await kernel.asks()
        await kernel.answer(ask.id, "approve", by="me", value="fine")
        await settled(kernel)
        assert process.info.state == "waiting"
        await process.send("A", channel="a")
        assert (await process.wait(5)).value == [["A", "a"], ["B", "b"], "fine"]
        assert sorted(entry["value"] for entry in ledger.entries) == ["a", "b"]
