"""Signals: pause holds calls, also over a reopen; resume, interrupt and kill reach a process wherever it waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.records import AskRecord, TimerRecord
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, alive, host, live, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio


async def listen(sys: Any) -> list[Any]:
    return [(await sys.msg.recv()).value, (await sys.msg.recv()).value]


async def stubborn(sys: Any) -> list[str]:
    codes = []
    for _ in range(2):
        try:
            await sys.msg.recv()
        except agentos.Unavailable as error:
            codes.append(error.code)
    return codes


@contextmanager
def nobody_admitted(kernel: agentos.Kernel) -> Iterator[None]:
    """No process begins to run meanwhile, however slow the machine is."""
    kernel.core.scheduler.admitting = False
    yield
    kernel.core.scheduler.admitting = True
    kernel.core.scheduler._work.set()


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_a_paused_process_makes_no_call_until_it_is_resumed(resident: int) -> None:
    async with opened() as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, listen)
        await settled(kernel)
        await process.signal("pause")
        await process.send(1)
        await process.send(2)
        await settled(kernel)
        assert process.info.state == "paused"
        assert len(rows(kernel, process.pid)) <= 1
        await process.signal("resume")
        assert (await process.wait(5)).value == [1, 2]


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_a_process_that_waited_before_a_pause_is_shown_waiting_after_it(resident: int) -> None:
    async with opened() as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, listen)
        await settled(kernel)
        for signal in ("pause", "resume"):
            await process.signal(signal)
            await settled(kernel)
        assert (process.info.state, process.info.waiting_on) == ("waiting", ("message on main",))


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_a_call_made_while_paused_is_held(resident: int) -> None:
    running = []

    async def work(sys: Any) -> int:
        running.append(1)
        await anyio.sleep(0.01)
        await sys.obj.put(1, name="made")
        return 7

    async with opened() as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, work)
        await settled(kernel, lambda: running)
        await process.signal("pause")
        await anyio.sleep(0.03)
        await settled(kernel)
        assert process.info.state == "paused"
        assert not rows(kernel, process.pid)
        await process.signal("resume")
        assert (await process.wait(5)).value == 7


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_pause_survives_a_reopen(tmp_path: Path, resident: int) -> None:
    agentos.program("listen")(listen)
    async with opened(tmp_path / "a.db") as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, listen)
        await settled(kernel)
        await process.signal("pause")
        await process.send(1)
        await settled(kernel)
    async with opened(tmp_path / "a.db") as kernel:
        process = kernel.process(process.pid)
        await process.send(2)
        await settled(kernel)
        assert process.info.state == "paused"
        await process.signal("resume")
        assert (await process.wait(5)).value == [1, 2]


async def test_an_approved_effect_of_a_paused_process_waits_for_resume(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}, policy='policy "p"\nask ledger.keyed') as kernel:
        process = await host(kernel, "ledger.*")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: process.call("ledger.keyed", value="x"))
            await settled(kernel, lambda: alive(kernel, process).open_calls)
            await process.signal("pause")
            [ask] = await kernel.asks()
            await kernel.answer(ask.id, "approve", by="me")
            await settled(kernel)
            assert not ledger.entries
            await process.signal("resume")
        assert len(ledger.entries) == 1


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_interrupt_ends_the_open_wait_once(resident: int) -> None:
    async with opened() as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, stubborn)
        await settled(kernel)
        await process.signal("interrupt")
        await settled(kernel)
        assert process.info.state == "waiting"
        assert process.info.waiting_on
        await process.signal("interrupt")
        assert (await process.wait(5)).value == ["unavailable.cancelled"] * 2


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_interrupt_ends_every_branch_of_a_gather(resident: int) -> None:
    async def branches(sys: Any) -> list[str]:
        async def one(channel: str) -> str:
            try:
                return str((await sys.msg.recv(channel=channel)).value)
            except agentos.Unavailable as error:
                return error.code

        return list(await sys.gather(lambda: one("a"), lambda: one("b")))

    async with opened() as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, branches)
        await settled(kernel)
        await process.signal("interrupt")
        assert (await process.wait(5)).value == ["unavailable.cancelled"] * 2


async def test_kill_takes_every_descendant() -> None:
    async with opened() as kernel:
        top = await host(kernel)
        child = await kernel.spawn(agentos.Image.host(), parent=top)
        grandchild = await kernel.spawn(agentos.Image.host(), parent=child)
        await top.signal("kill")
        assert [(await p.wait(1)).state for p in (top, child, grandchild)] == ["killed"] * 3
        assert await kernel.ps() == []


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_kill_ends_a_waiting_program_with_its_asks_and_timers(resident: int) -> None:
    async def curious(sys: Any) -> Any:
        return await sys.gather(sys.human.ask("why?"), sys.clock.sleep(1000))

    async with opened(clock=FakeClock()) as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, curious)
        await settled(kernel)
        assert len(await kernel.asks()) == 1
        await process.signal("kill")
        assert (await process.wait(1)).state == "killed"
        assert not live(kernel, AskRecord)
        assert not live(kernel, TimerRecord)
        assert not list(kernel.core.asks)
        advance(kernel, 2000)
        await settled(kernel)


async def test_a_kill_in_an_effect_is_journaled_as_unknown_and_never_as_done(tmp_path: Path) -> None:
    async def slow(sys: Any) -> None:
        await sys.ledger.once("x", delay_s=5)

    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel:
        process = await started(kernel, slow, "ledger.*")
        await settled(kernel, lambda: kernel.core.effects)
        await anyio.sleep(0.02)
        await process.signal("kill")
        await settled(kernel)
        [intent, result] = rows(kernel, process.pid)
        assert (intent.kind, result.kind, result.outcome) == ("intent", "result", "unknown")
        assert not ledger.entries


async def test_signals_from_a_program_reach_its_own_descendants_only() -> None:
    async with opened() as kernel:
        stranger = await host(kernel)
        process = await host(kernel, "proc.signal")
        child = await kernel.spawn(agentos.Image.host(), parent=process)
        assert await refused(process.call("proc.signal", pid=stranger.pid, signal="kill")) == "denied.capability"
        await process.call("proc.signal", pid=child.pid, signal="kill")
        assert [info.pid for info in await kernel.ps()] == [stranger.pid, process.pid]


async def test_a_child_that_is_paused_and_resumed_before_it_ran_runs_once() -> None:
    async def leaf(sys: Any) -> int:
        return 5

    async def parent(sys: Any) -> Any:
        with nobody_admitted(kernel):
            child = await sys.proc.spawn("leaf")
            await sys.proc.signal(child, "pause")
            await sys.proc.signal(child, "resume")
        return (await sys.proc.wait(child)).value

    async with opened() as kernel:
        kernel.programs._given["leaf"] = agentos.program("leaf")(leaf)
        await kernel.register(agentos.Image.program("leaf"))
        process = await started(kernel, parent, "proc.*")
        assert (await process.wait(5)).value == 5


async def test_a_child_that_is_killed_before_it_ran_leaves_the_kernel_idle() -> None:
    async def leaf(sys: Any) -> int:
        return 5

    async def parent(sys: Any) -> Any:
        with nobody_admitted(kernel):
            child = await sys.proc.spawn("leaf")
            await sys.proc.signal(child, "kill")
        return (await sys.proc.wait(child)).state

    async with opened() as kernel:
        kernel.programs._given["leaf"] = agentos.program("leaf")(leaf)
        await kernel.register(agentos.Image.program("leaf"))
        process = await started(kernel, parent, "proc.*")
        await settled(kernel)
        assert (await process.wait(5)).value == "killed"


async def test_pausing_twice_and_resuming_what_runs_change_nothing() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        await process.signal("resume")
        assert process.info.state == "ready"
        await process.signal("pause")
        await process.signal("pause")
        await process.signal("resume")
        assert await process.call("obj.put", value=1, name="x")
