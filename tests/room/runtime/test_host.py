"""The embedded API as a host uses it: calls that can be cancelled, bounded and joined; events; opening and closing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.records import ProcessRecord
from agentos.kernel.event import EventBus
from agentos.testing import FakeClock, Ledger
from tests.builders import alive, code_of, crash, crashing, host, live, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio


async def test_a_key_joins_the_call_that_was_made_with_it(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    options = {"devices": {"ledger": ledger.device}}
    async with crashing(tmp_path / "a.db", tmp_path / "b.db", **options) as kernel:
        process = await host(kernel, "ledger.*")
        values: list[Any] = []

        async def call() -> None:
            values.append(await process.call("ledger.once", key="pay-1", value="x", delay_s=0.02))

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(call)
        values.append(await process.call("ledger.once", key="pay-1", value="x", delay_s=0.02))
        assert await refused(process.call("ledger.once", key="pay-1", value="y")) == "invalid.argument"
        assert await refused(process.call("ledger.keyed", key="pay-1", value="x")) == "invalid.argument"
    async with opened(tmp_path / "b.db", **options) as kernel:
        values.append(await kernel.process(process.pid).call("ledger.once", key="pay-1", value="x", delay_s=0.02))
    assert all(value == values[0] for value in values)
    assert len(values) == 5
    assert len(ledger.entries) == 1


async def test_a_call_that_failed_may_be_made_again_with_its_key(tmp_path: Path) -> None:
    async with opened() as kernel:
        process = await host(kernel)
        assert await refused(process.call("obj.get", key="k", name="x")) == "unavailable.missing"
        await process.call("obj.put", value=1, name="x")
        assert await process.call("obj.get", key="k", name="x") == 1


async def test_a_call_past_its_time_says_whether_it_may_have_happened(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel:
        process = await host(kernel, "ledger.*")
        for op, unknown in (("repeatable", False), ("keyed", True), ("once", True)):
            with pytest.raises(agentos.Unavailable) as caught:
                await process.call(f"ledger.{op}", value="x", delay_s=5, timeout_s=0.03)
            assert (caught.value.code, caught.value.may_have_happened) == ("unavailable.timeout", unknown)
            assert rows(kernel, process.pid)[-1].outcome == ("unknown" if unknown else "failed")
        assert process.info.state == "ready"


async def test_only_what_cannot_have_happened_is_tried_again(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}) as kernel:
        process = await host(kernel, "ledger.*")
        assert await refused(process.call("ledger.repeatable", value="x", fail=True, retries=2)) == "unavailable.device"
        assert sum(row.kind == "intent" for row in rows(kernel, process.pid)) == 3
        assert (
            await refused(process.call("ledger.once", value="x", delay_s=5, timeout_s=0.02, retries=5)) == "unavailable.timeout"
        )
        assert sum(row.kind == "intent" for row in rows(kernel, process.pid)) == 4
        assert await refused(process.call("clock.now", retries=-1)) == "invalid.argument"


async def test_at_most_64_calls_of_a_process_are_in_flight() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        errors: list[str] = []

        async def wait(n: int) -> None:
            try:
                await process.call("msg.recv", channel=f"c{n}")
            except agentos.Unavailable as error:
                errors.append(error.code)

        async with anyio.create_task_group() as tasks:
            for n in range(70):
                tasks.start_soon(wait, n)
            await settled(kernel, lambda: len(errors) == 6)
            assert len(alive(kernel, process).open_calls) == 64
            tasks.cancel_scope.cancel()
        assert errors == ["unavailable.overloaded"] * 6
        assert len(await process.calls([("clock.now", {})] * 200)) == 200


async def test_a_host_call_is_durable_when_it_returns(tmp_path: Path) -> None:
    async with crashing(tmp_path / "a.db", tmp_path / "b.db") as kernel:
        process = await host(kernel, goal="kept")
        await process.call("obj.put", value="kept", name="x")
    async with opened(tmp_path / "b.db") as kernel:
        process = kernel.process(process.pid)
        assert (await process.call("obj.get", name="x"), process.info.goal) == ("kept", "kept")


async def test_what_a_host_call_left_open_follows_its_effect_class(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    async with opened(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel, anyio.create_task_group() as tasks:
        process = await host(kernel, "ledger.*")
        for op in ("repeatable", "keyed", "probeable", "once"):
            tasks.start_soon(lambda op=op: process.call(f"ledger.{op}", value=op, delay_s=0.2))
        await settled(kernel, lambda: kernel.core.effects == 4)
        await kernel.core.journal.durable(kernel.core.journal.head)
        crash(kernel, tmp_path / "a.db", tmp_path / "b.db")
        tasks.cancel_scope.cancel()
    second = Ledger(tmp_path / "ledger2")
    async with opened(tmp_path / "b.db", devices={"ledger": second.device}) as kernel:
        await settled(kernel, lambda: list(kernel.core.asks) and len(second.entries) == 2)
        [ask] = await kernel.asks()
        assert (ask.kind, ask.op) == ("unknown_outcome", "ledger.once")
        assert sorted(entry["op"] for entry in second.entries) == ["keyed", "probeable"]
        await kernel.answer(ask.id, "approve", by="me", value={"value": "once", "when": 9})
        await settled(kernel, lambda: not alive(kernel, process.pid).open_calls)
        assert len(second.entries) == 2
        outcomes = {entry.op: entry.outcome async for entry in kernel.audit(pid=process.pid)}
        assert outcomes["ledger.once"] == "done"


async def test_a_second_opener_is_told_who_holds_the_store(tmp_path: Path) -> None:
    import os

    async with opened(tmp_path / "a.db") as kernel:
        process = await host(kernel)
        with pytest.raises(agentos.Invalid) as caught:
            async with opened(tmp_path / "a.db"):
                pass
        assert (code_of(caught.value), caught.value.reason, caught.value.pid) == ("invalid.store", "held", os.getpid())
        assert await process.call("clock.now")


async def test_a_store_that_agents_could_reach_is_refused(tmp_path: Path) -> None:
    """state-is-outside-mounts"""
    with pytest.raises(agentos.Invalid) as caught:
        async with opened(tmp_path / "a.db", workspace=tmp_path):
            pass
    assert (caught.value.code, caught.value.reason) == ("invalid.store", "in_mount")


async def test_closing_ends_no_process_and_leaves_no_task(tmp_path: Path) -> None:
    """nothing-outlives-the-runtime"""
    stopped: list[str] = []

    async def endless(sys: Any) -> Any:
        try:
            while True:
                await sys.clock.now()
        finally:
            stopped.append("endless")

    async def foreign(sys: Any) -> Any:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append("foreign")

    with anyio.fail_after(10):
        async with opened(tmp_path / "a.db") as kernel:
            await started(kernel, endless)
            await started(kernel, foreign)
            await anyio.sleep(0.02)
    assert sorted(stopped) == ["endless", "foreign"]
    async with opened(tmp_path / "a.db", resume=False) as kernel:
        assert [info.state in ("ready", "waiting") for info in await kernel.ps()] == [True, True]
        assert len(live(kernel, ProcessRecord)) == 2


async def test_an_effect_gets_its_time_when_the_kernel_closes(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        return (await sys.ledger.once("x", delay_s=0.1))["value"]

    ledger = Ledger(tmp_path / "ledger")
    options = {"devices": {"ledger": ledger.device}, "grace_s": 2.0}
    async with opened(tmp_path / "a.db", **options) as kernel:
        process = await started(kernel, work, "ledger.*")
        await settled(kernel, lambda: kernel.core.effects)
    assert len(ledger.entries) == 1
    async with opened(tmp_path / "a.db", programs=[agentos.program("work")(work)], **options) as kernel:
        assert (await kernel.process(process.pid).wait(5)).value == "x"
        assert len(ledger.entries) == 1


async def test_a_store_opened_without_resuming_moves_nothing(tmp_path: Path) -> None:
    async def work(sys: Any) -> Any:
        return (await sys.msg.recv()).value

    async with opened(tmp_path / "a.db") as kernel:
        process = await started(kernel, work)
        await settled(kernel)
    async with opened(tmp_path / "a.db", programs=[agentos.program("work")(work)], resume=False) as kernel:
        await kernel.process(process.pid).send("x")
        await settled(kernel)
        assert not rows(kernel, process.pid)
    async with opened(tmp_path / "a.db", programs=[agentos.program("work")(work)]) as kernel:
        assert (await kernel.process(process.pid).wait(5)).value == "x"


# --- events -----------------------------------------------------------------------------------------------------------------


async def test_events_tell_what_happens_and_resume_from_any_row() -> None:
    async with opened() as kernel:
        seen: list[agentos.Event] = []

        async def follow() -> None:
            async for event in kernel.events(since=0):
                seen.append(event)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await anyio.sleep(0.01)
            process = await host(kernel)
            await process.call("obj.put", value=1, name="x")
            await refused(process.call("fs.read", path="x"))
            await process.exit(3)
            await settled(kernel, lambda: any(event.kind == "exited" for event in seen))
            tasks.cancel_scope.cancel()
        assert [event.kind for event in seen if event.pid == process.pid] == ["spawned", "call", "denied", "exited"]
        again: list[agentos.Event] = []
        with anyio.move_on_after(0.05):
            async for event in kernel.events(since=seen[1].seq):
                again.append(event)
        assert again == seen[2:]


async def test_nobody_waits_for_a_follower_who_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """nobody-waits-for-a-follower: one that falls too far behind loses its stream and holds nobody up."""
    monkeypatch.setattr("agentos.kernel.event.EVENTS_KEPT_MAX", 10)
    async with opened() as kernel:
        process = await host(kernel)
        follower = kernel.core.events.follow()
        with anyio.fail_after(5):
            for n in range(50):
                await process.call("obj.put", value=n, name="x")
        assert not kernel.core.events.is_followed
        assert sum([1 async for _ in follower]) == 10
        follower.close()
    bus = EventBus()
    assert not bus.is_followed


async def test_a_stream_of_a_process_ends_with_it() -> None:
    async def work(sys: Any) -> Any:
        await sys.human.tell((await sys.msg.recv()).value)

    async with opened() as kernel:
        process = await started(kernel, work)
        await settled(kernel)
        with anyio.fail_after(5):
            kinds = [(event.kind, event.data.get("text")) async for event in process.stream("hello")]
        assert kinds[-1][0] == "exited"
        assert ("call", "hello") in kinds


async def test_idle_means_that_nothing_is_due() -> None:
    async def sleep(sys: Any) -> Any:
        await sys.clock.sleep(10)
        return 1

    async with opened(clock=FakeClock()) as kernel:
        process = await started(kernel, sleep)
        await kernel.run_until_idle(2)
        assert process.info.state == "waiting"
        clock = kernel.core.clock
        assert isinstance(clock, FakeClock)
        clock.advance(10)
        await kernel.run_until_idle(2)
        assert process.info.state == "exited"
