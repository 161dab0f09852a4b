"""sys.options: a call's own time is decided once and survives crashes; what cannot have happened is tried again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, alive, crashing, live, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio


async def caught(call: Any) -> list[Any]:
    try:
        return ["done", await call]
    except agentos.Unavailable as error:
        return [error.code, error.may_have_happened]


def again(path: Path, program: Callable[..., Any], **options: Any) -> Any:
    return opened(path, programs=[agentos.program(program.__name__)(program)], **options)


async def test_an_answer_that_comes_in_time_is_the_answer_and_one_too_late_has_nobody_waiting() -> None:
    async def asks(sys: Any) -> Any:
        first = await caught(sys.options(timeout_s=60).human.ask("quick?"))
        return [first, await caught(sys.options(timeout_s=60).human.ask("slow?"))]

    async with opened(clock=FakeClock()) as kernel:
        process = await started(kernel, asks, "human.ask")
        await settled(kernel)
        advance(kernel, 59)
        await kernel.answer((await kernel.asks())[0].id, "approve", by="pat", value="yes")
        await settled(kernel)
        advance(kernel, 61)
        assert (await process.wait(5)).value == [["done", "yes"], ["unavailable.timeout", False]]
        assert [ask.state for ask in await kernel.asks(None)] == ["consumed", "withdrawn"]
        assert [row.op for row in rows(kernel, process.pid)] == ["human.ask", "human.ask"]
        assert (await kernel.replay(process.pid)).ok


@pytest.mark.parametrize("resident", [0, 100], ids=["parked", "resident"])
async def test_a_crash_gives_a_call_no_more_time(resident: int, tmp_path: Path) -> None:
    async def patient(sys: Any) -> Any:
        return [await caught(sys.options(timeout_s=100).msg.recv()), await sys.now()]

    clock = FakeClock()
    start = clock.now()
    async with crashing(tmp_path / "a.db", tmp_path / "b.db", clock=clock) as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, patient)
        await settled(kernel)
        advance(kernel, 70)
        await settled(kernel)
    async with again(tmp_path / "b.db", patient, clock=clock) as kernel:
        await settled(kernel)
        advance(kernel, 29)
        await settled(kernel)
        assert kernel.process(process.pid).info.state == "waiting"
        advance(kernel, 2)
        assert (await kernel.process(process.pid).wait(5)).value == [["unavailable.timeout", False], start + 101]
        assert (await kernel.replay(process.pid)).ok


async def test_time_that_passed_while_nobody_ran_counts() -> None:
    clock = FakeClock()

    async def patient(sys: Any) -> Any:
        return await caught(sys.options(timeout_s=100).human.ask("?"))

    async with opened(clock=clock) as kernel:
        kernel.core.scheduler.resident_max = 0
        process = await started(kernel, patient, "human.ask")
        await settled(kernel, lambda: alive(kernel, process).open_calls and not alive(kernel, process).running)
        advance(kernel, 1000)
        assert (await process.wait(5)).value == ["unavailable.timeout", False]
        assert not await kernel.asks()


@pytest.mark.parametrize("effect", ["once", "keyed", "repeatable"])
async def test_an_effect_that_takes_too_long_is_settled_by_its_class(effect: str, tmp_path: Path) -> None:
    async def slow(sys: Any) -> Any:
        return await caught(sys.options(timeout_s=5)(f"ledger.{effect}", value="x", delay_s=30))

    ledger = Ledger(tmp_path / "ledger")
    async with opened(devices={"ledger": ledger.device}, clock=FakeClock()) as kernel:
        process = await started(kernel, slow, "ledger.*")
        await settled(kernel, lambda: kernel.core.effects)
        advance(kernel, 6)
        expected = ["unavailable.timeout", effect != "repeatable"]
        assert (await process.wait(5)).value == expected
        assert rows(kernel, process.pid)[-1].outcome == ("failed" if effect == "repeatable" else "unknown")
        assert (await kernel.replay(process.pid)).ok


@pytest.mark.parametrize("effect", ["once", "keyed", "repeatable"])
async def test_an_effect_that_a_crash_interrupted_is_not_taken_up_once_its_time_is_over(effect: str, tmp_path: Path) -> None:
    async def slow(sys: Any) -> Any:
        return await caught(sys.options(timeout_s=5)(f"ledger.{effect}", value="x", delay_s=0.2))

    ledger, clock = Ledger(tmp_path / "ledger"), FakeClock()
    options = {"devices": {"ledger": ledger.device}, "clock": clock}
    async with crashing(tmp_path / "a.db", tmp_path / "b.db", **options) as kernel:
        process = await started(kernel, slow, "ledger.*")
        await settled(kernel, lambda: kernel.core.effects)
        kernel.core.journal.flush()
    clock.advance(60)
    entries = len(ledger.entries)
    async with again(tmp_path / "b.db", slow, **options) as kernel:
        expected = ["unavailable.timeout", effect != "repeatable"]
        assert (await kernel.process(process.pid).wait(5)).value == expected
        assert not kernel.core.store.open_intents(process.pid, 0)
        assert not await kernel.asks()
        assert (await kernel.replay(process.pid)).ok
    assert len(ledger.entries) == entries


async def test_a_call_that_waited_for_a_person_when_its_time_was_over_is_not_made(tmp_path: Path) -> None:
    async def late(sys: Any) -> Any:
        return await caught(sys.options(timeout_s=5).ledger.once("x"))

    ledger, clock = Ledger(tmp_path / "ledger"), FakeClock()
    options = {"devices": {"ledger": ledger.device}, "clock": clock}
    async with crashing(tmp_path / "a.db", tmp_path / "b.db", **options) as kernel:
        process = await started(kernel, late, "ledger.*", policy='restrict "p" version 1\nask ledger.once\n')
        await settled(kernel)
        await kernel.answer((await kernel.asks())[0].id, "approve", by="pat")
    clock.advance(60)
    async with again(tmp_path / "b.db", late, **options) as kernel:
        assert (await kernel.process(process.pid).wait(5)).value == ["unavailable.timeout", False]
        assert [ask.state for ask in await kernel.asks(None)] == ["withdrawn"]
    assert not ledger.entries


async def test_what_cannot_have_happened_is_tried_again_after_a_durable_pause(tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    def flaky() -> int:
        """Fail twice."""
        count = len(tries.read_text()) if tries.exists() else 0
        tries.write_text("x" * (count + 1))
        if count < 2:
            raise agentos.Unavailable("device", "busy")
        return count

    async def insists(sys: Any) -> Any:
        return [await sys.options(retries=5, backoff_s=10).flaky.flaky(), await sys.now()]

    device, clock = agentos.Device("flaky"), FakeClock()
    device.op(effect="once", resource="it")(flaky)
    start = clock.now()
    options = {"devices": {"flaky": device}, "clock": clock}
    async with crashing(tmp_path / "a.db", tmp_path / "b.db", **options) as kernel:
        process = await started(kernel, insists, "flaky.*")
        await settled(kernel)
        assert [row.number for row in rows(kernel, process.pid) if row.kind == "intent"] == ["1"]
        advance(kernel, 10)
        await settled(kernel)
    async with again(tmp_path / "b.db", insists, **options) as kernel:
        await settled(kernel)
        assert len(tries.read_text()) == 2
        advance(kernel, 20)
        assert (await kernel.process(process.pid).wait(5)).value == [2, start + 30]
        made = [row.number for row in rows(kernel, process.pid) if row.op == "flaky.flaky" and row.kind == "intent"]
        assert made == ["1", "3", "5"]
        assert (await kernel.replay(process.pid)).ok


async def test_what_may_have_happened_or_is_refused_is_not_tried_again(tmp_path: Path) -> None:
    def vague() -> int:
        raise agentos.Unavailable("device", "who knows", may_have_happened=True)

    async def tries(sys: Any) -> Any:
        safe = sys.options(retries=3, backoff_s=0)
        return [await refused(safe.vague.vague()), await refused(safe.fs.read("/x")), await refused(safe("no.op"))]

    device = agentos.Device("vague")
    device.op(effect="once", resource="it")(vague)
    async with opened(devices={"vague": device}) as kernel:
        process = await started(kernel, tries, "vague.*")
        assert (await process.wait(5)).value == ["unavailable.device", "denied.capability", "invalid.op"]
        assert [row.number for row in rows(kernel, process.pid) if row.kind != "result"] == ["1", "2", "3"]


async def test_options_work_in_gather_and_each_branch_has_its_own_time() -> None:
    async def waits(sys: Any) -> Any:
        quick, slow = sys.options(timeout_s=10), sys.options(timeout_s=50)
        return await sys.gather(caught(quick.msg.recv(channel="a")), caught(slow.msg.recv(channel="b")), sys.now())

    async with opened(clock=FakeClock()) as kernel:
        process = await started(kernel, waits)
        await settled(kernel)
        advance(kernel, 20)
        await settled(kernel)
        await process.send("in time", channel="b")
        value = (await process.wait(5)).value
        assert [value[0], value[1][1]["value"]] == [["unavailable.timeout", False], "in time"]
        assert (await kernel.replay(process.pid)).ok
        assert not live(kernel, agentos.abi.records.TimerRecord)


async def test_options_out_of_range_are_refused() -> None:
    async def wrong(sys: Any) -> Any:
        codes = []
        for given in ({"timeout_s": 0}, {"timeout_s": float("nan")}, {"retries": -1}, {"retries": 1000}, {"backoff_s": -1}):
            try:
                sys.options(**given)
            except agentos.Invalid as error:
                codes.append(error.field)
        return codes

    async with opened() as kernel:
        value = (await (await started(kernel, wrong)).wait(5)).value
        assert value == ["timeout_s", "timeout_s", "retries", "retries", "backoff_s"]
