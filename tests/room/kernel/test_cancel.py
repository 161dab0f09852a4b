"""The end of a process reaches everything below it: in one append, with a row for each that says by whom and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.codec import decode
from agentos.abi.records import AskRecord, CapRecord, TimerRecord
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, host, live, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio


def ends(kernel: Kernel) -> dict[int, dict[str, Any]]:
    """What the exited notes say, by pid."""
    return {row.pid: decode(row.args) for row in rows(kernel, notes=True) if row.op == "note.exited"}


async def waiting(sys: Any) -> Any:
    """Wait for a person, a message and an hour."""
    return await sys.gather(sys.human.ask("why?"), sys.msg.recv(), sys.clock.sleep(3600))


async def lineage(kernel: Kernel, **options: Any) -> list[int]:
    """A host process, its child, which waits, and a child of that."""
    top = await host(kernel, "obj.*", **options)
    child = await started(kernel, waiting, "obj.put", parent=top)
    below = await started(kernel, waiting, "obj.put", parent=child)
    await settled(kernel)
    return [top.pid, child.pid, below.pid]


async def test_a_kill_tells_of_each_descendant_and_takes_what_it_held() -> None:
    async with opened(clock=FakeClock()) as kernel:
        top, child, below = await lineage(kernel)
        assert (len(live(kernel, AskRecord)), len(live(kernel, TimerRecord)), len(live(kernel, CapRecord))) == (2, 2, 3)
        await kernel.process(top).signal("kill")
        exits = [await kernel.process(pid).wait(1) for pid in (child, below)]
        assert [(each.state, each.error and each.error.code) for each in exits] == [("killed", "unavailable.cancelled")] * 2
        assert [each.error and each.error.fields for each in exits] == [{"ancestor": top, "by": 0, "why": "it was killed"}] * 2
        said = ends(kernel)
        assert set(said) == {top, child, below}
        assert said[top] == {"state": "killed", "by": 0, "why": "it was killed"}
        assert not any(live(kernel, kind) for kind in (AskRecord, TimerRecord, CapRecord))


async def test_a_kill_by_a_process_says_by_which() -> None:
    async with opened() as kernel:
        top = await host(kernel, "proc.signal")
        child = await kernel.spawn(agentos.Image.host(), parent=top)
        below = await kernel.spawn(agentos.Image.host(), parent=child)
        await top.call("proc.signal", pid=child.pid, signal="kill")
        assert ends(kernel)[below.pid]["by"] == top.pid
        assert (ends(kernel)[below.pid]["ancestor"], ends(kernel)[child.pid]["by"]) == (child.pid, top.pid)
        assert [info.pid for info in await kernel.ps()] == [top.pid]


@pytest.mark.parametrize("options", [{"deadline_s": 60}, {"budget": {"wall_s": 60}}], ids=["deadline_s", "wall_s"])
async def test_time_that_is_over_ends_the_descendants_too(options: dict[str, Any]) -> None:
    async with opened(clock=FakeClock()) as kernel:
        top, child, below = await lineage(kernel, **options)
        advance(kernel, 60)
        ended = await kernel.process(top).wait(1)
        assert (ended.state, ended.error and ended.error.code) == ("failed", "unavailable.timeout")
        exits = [await kernel.process(pid).wait(1) for pid in (child, below)]
        limit = "wall_s" if "budget" in options else "deadline_s"
        assert [each.error and each.error.fields["why"] for each in exits] == [f"its {limit} was over"] * 2
        assert not live(kernel, AskRecord)


async def test_a_deadline_is_kept_by_a_process_that_is_just_being_unwound() -> None:
    async with opened(clock=FakeClock()) as kernel:
        kernel.core.scheduler.resident_max = 0
        process = await started(kernel, waiting, deadline_s=60)
        while not kernel.core.processes.find(process.pid).unwinding:
            await anyio.lowlevel.checkpoint()
        kernel.core.past_deadline(kernel.core.processes.find(process.pid))
        assert (await process.wait(1)).state == "failed"


@pytest.mark.parametrize("fails", [False, True], ids=["exits", "fails"])
async def test_the_children_of_a_process_that_ends_by_itself_go_on(fails: bool) -> None:
    async def leaves(sys: Any) -> None:
        await sys.proc.spawn("waiting", name="orphan")
        if fails:
            raise ValueError("gone")

    async with opened() as kernel:
        kernel.programs._given["waiting"] = agentos.program("waiting")(waiting)
        await kernel.register(agentos.Image.program("waiting"))
        process = await started(kernel, leaves, "proc.spawn")
        assert (await process.wait(5)).state == ("failed" if fails else "exited")
        await settled(kernel)
        assert [(info.name, info.state) for info in await kernel.ps()] == [("orphan", "waiting")]


async def test_an_interrupt_reaches_the_process_alone() -> None:
    async with opened() as kernel:
        _, child, below = await lineage(kernel)
        await kernel.process(child).signal("interrupt")
        await settled(kernel)
        assert kernel.process(child).info.state == "failed"
        assert kernel.process(below).info.state == "waiting"


@pytest.mark.parametrize("effect", ["repeatable", "keyed", "once"])
async def test_effects_below_a_killed_process_are_cancelled_and_settle_by_class(tmp_path: Path, effect: str) -> None:
    async def slow(sys: Any) -> None:
        await sys(f"ledger.{effect}", value="x", delay_s=30)

    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel, anyio.create_task_group() as tasks:
        top = await host(kernel, "ledger.*")
        by_host = await kernel.spawn(agentos.Image.host(), parent=top, grant=["ledger.*"])
        program = await started(kernel, slow, "ledger.*", parent=top)
        codes: list[str] = []

        async def call() -> None:
            codes.append(await refused(by_host.call(f"ledger.{effect}", value="y", delay_s=30)))

        tasks.start_soon(call)
        await settled(kernel, lambda: kernel.core.effects == 2)
        await anyio.sleep(0.02)
        with anyio.fail_after(2):
            await top.signal("kill")
            await settled(kernel)
        results = [row for pid in (by_host.pid, program.pid) for row in rows(kernel, pid) if row.kind == "result"]
        assert len(results) == 2
        assert {row.outcome for row in results} <= ({"failed", "unknown"} if effect == "repeatable" else {"unknown"})
    assert codes == ["invalid.state"]
    assert not ledger.entries


async def test_a_follower_of_a_descendant_sees_its_end() -> None:
    async with opened() as kernel:
        top, child, _ = await lineage(kernel)
        seen: list[str] = []

        async def follow() -> None:
            async for event in kernel.process(child).stream():
                seen.append(event.kind)

        with anyio.fail_after(2):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(follow)
                await anyio.sleep(0.01)
                await kernel.process(top).signal("kill")
        assert seen == ["exited"]
