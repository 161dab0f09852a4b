"""Messages and waits: nothing is lost, nothing arrives twice, whatever came first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import agentos
from agentos.abi.records import MessageRecord, TimerRecord
from agentos.testing import FakeClock
from tests.builders import advance, alive, host, live, opened, refused, rows, settled, started

pytestmark = pytest.mark.anyio


async def hear(sys: Any, **args: Any) -> Any:
    message = await sys.msg.recv(**args)
    return [message.value, message.sender, message.channel]


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_no_wake_up_is_lost_when_the_message_comes_before_after_or_meanwhile(resident: int) -> None:
    async with opened() as kernel:
        kernel.core.scheduler.resident_max = resident
        for pause in (None, 0, 5):
            process = await started(kernel, hear)
            if pause is not None:
                for _ in range(pause):
                    await anyio.lowlevel.checkpoint()
            await process.send("hi")
            assert (await process.wait(5)).value == ["hi", 0, "main"]
        late = await started(kernel, hear)
        await settled(kernel)
        await late.send("hi")
        assert (await late.wait(5)).value[0] == "hi"


async def test_a_message_is_received_once_and_in_order() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        for n in range(5):
            await process.send(n)
        received = [(await process.call("msg.recv")).value for _ in range(5)]
        assert received == list(range(5))
        assert not live(kernel, MessageRecord)


async def test_two_receivers_of_one_channel_get_one_message_each() -> None:
    async with opened() as kernel:
        process = await host(kernel)
        got: list[Any] = []

        async def receive() -> None:
            got.append((await process.call("msg.recv")).value)

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(receive)
            await settled(kernel, lambda: len(alive(kernel, process).open_calls) == 3)
            for n in range(3):
                await process.send(n)
        assert sorted(got) == [0, 1, 2]


async def test_channels_and_senders_are_kept_apart() -> None:
    async with opened() as kernel:
        receiver = await host(kernel)
        sender = await host(kernel, f"msg.send {receiver.pid}")
        await receiver.send("host, other", channel="other")
        await receiver.send("host, main")
        await sender.call("msg.send", to=receiver.pid, value="sender, main")
        message = await receiver.call("msg.recv", sender=sender.pid)
        assert (message.value, message.sender) == ("sender, main", sender.pid)
        assert (await receiver.call("msg.recv", channel="other")).value == "host, other"
        assert (await receiver.call("msg.recv")).value == "host, main"


async def test_sending_needs_a_capability_for_the_receiver() -> None:
    async with opened() as kernel:
        a, b = await host(kernel), await host(kernel)
        sender = await host(kernel, f"msg.send {a.pid}")
        assert await sender.call("msg.send", to=a.pid, value=1)
        assert await refused(sender.call("msg.send", to=b.pid, value=1)) == "denied.capability"
        assert await refused(sender.call("msg.send", to=999, value=1)) == "denied.capability"


async def test_a_full_mailbox_refuses_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.kernel.message.MAILBOX_MESSAGES_MAX", 3)
    async with opened() as kernel:
        receiver = await host(kernel)
        sender = await host(kernel, "msg.send")
        for n in range(3):
            await sender.call("msg.send", to=receiver.pid, value=n)
        assert await refused(sender.call("msg.send", to=receiver.pid, value=3)) == "unavailable.overloaded"
        assert await refused(receiver.send(3)) == "unavailable.overloaded"
        assert rows(kernel, sender.pid)[-1].code == "unavailable.overloaded"
        assert [(await receiver.call("msg.recv")).value for _ in range(3)] == [0, 1, 2]
        assert await sender.call("msg.send", to=receiver.pid, value=4)


async def test_no_process_fills_a_mailbox_so_that_its_user_is_not_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentos.kernel.message.MAILBOX_MESSAGES_MAX", 20)
    async with opened() as kernel:
        receiver = await host(kernel)
        sender = await host(kernel, "msg.send")
        for n in range(18):
            await sender.call("msg.send", to=receiver.pid, value=n)
        assert await refused(sender.call("msg.send", to=receiver.pid, value=18)) == "unavailable.overloaded"
        await receiver.send("heard")
        await receiver.send("heard")
        assert await refused(receiver.send("too much")) == "unavailable.overloaded"


async def test_a_message_that_cannot_be_stored_is_refused_whole(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        process = await host(kernel)
        for channel in ("", "x" * 201, "\ud800"):
            assert await refused(process.send("x", channel=channel)) == "invalid.argument"
        assert await refused(process.send(object())) == "invalid.argument"
        assert await refused(process.send("\ud800")) == "invalid.argument"
        await process.send("good")
        assert (await process.call("msg.recv")).value == "good"


async def test_unread_messages_survive_a_reopen_and_replies_name_what_they_answer(tmp_path: Path) -> None:
    async with opened(tmp_path / "a.db") as kernel:
        a = await host(kernel, "msg.send")
        b = await host(kernel, "msg.send")
        question = await a.call("msg.send", to=b.pid, value={"q": 1})
        await b.call("msg.send", to=a.pid, value={"a": 2}, reply_to=question)
    async with opened(tmp_path / "a.db") as kernel:
        answer = await kernel.process(a.pid).call("msg.recv")
        assert (answer.value, answer.reply_to, answer.sender) == ({"a": 2}, question, b.pid)
        asked = await kernel.process(b.pid).call("msg.recv")
        assert (asked.id, await kernel.process(b.pid).call("msg.ack", ids=[asked.id, 999])) == (question, 1)


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_a_wait_for_a_message_times_out_when_it_said_also_after_a_reopen(tmp_path: Path, resident: int) -> None:
    clock = FakeClock()
    async with opened(tmp_path / "a.db", clock=clock) as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, hear, args={"timeout_s": 3600.0})
        await settled(kernel)
        advance(kernel, 3000)
        await settled(kernel)
        assert process.info.state == "waiting"
    async with opened(tmp_path / "a.db", clock=clock, programs=[agentos.program("hear")(hear)]) as kernel:
        process = kernel.process(process.pid)
        await settled(kernel)
        advance(kernel, 599)
        await settled(kernel)
        assert process.info.state == "waiting"
        advance(kernel, 1)
        ended = await process.wait(5)
        assert ended.error is not None
        assert ended.error.code == "unavailable.timeout"
        assert not live(kernel, TimerRecord)


@pytest.mark.parametrize("resident", [0, 100], ids=["unwound", "resident"])
async def test_a_sleep_of_days_ends_when_it_should_over_a_reopen(tmp_path: Path, resident: int) -> None:
    async def sleep(sys: Any) -> Any:
        begun = await sys.clock.now()
        await sys.clock.sleep(3 * 86_400)
        return await sys.clock.now() - begun

    clock = FakeClock()
    async with opened(tmp_path / "a.db", clock=clock) as kernel:
        kernel.core.scheduler.resident_max = resident
        process = await started(kernel, sleep)
        await settled(kernel)
        advance(kernel, 86_400)
    clock.advance(86_400)
    async with opened(tmp_path / "a.db", clock=clock, programs=[agentos.program("sleep")(sleep)]) as kernel:
        await settled(kernel)
        assert kernel.process(process.pid).info.state == "waiting"
        advance(kernel, 86_400 + 5)
        assert (await kernel.process(process.pid).wait(5)).value == 3 * 86_400 + 5


async def test_many_sleepers_wake_in_order_of_their_time() -> None:
    order: list[int] = []

    async def nap(sys: Any, seconds: int) -> None:
        await sys.clock.sleep(seconds)
        order.append(seconds)

    async with opened(clock=FakeClock()) as kernel:
        for seconds in (30, 10, 20):
            await started(kernel, nap, args={"seconds": seconds})
        await settled(kernel)
        for _ in range(3):
            advance(kernel, 10)
            await settled(kernel)
        assert order == [10, 20, 30]


async def test_a_cancelled_host_wait_leaves_no_timer_and_no_process_behind() -> None:
    async with opened(clock=FakeClock()) as kernel:
        process = await host(kernel)
        with anyio.move_on_after(0.02):
            await process.call("clock.sleep", seconds=1000)
        assert not live(kernel, TimerRecord)
        assert process.info.state == "ready"
        assert not alive(kernel, process).open_calls
        assert kernel.core.waits.next_due() is None
        assert await refused(process.call("clock.sleep", seconds=1000, timeout_s=0.02)) == "unavailable.timeout"
        assert rows(kernel, process.pid)[-1].code == "unavailable.timeout"


async def test_waiting_for_a_child_returns_its_exit_before_and_after_it_ended() -> None:
    async with opened() as kernel:
        parent = await host(kernel, "proc.wait")
        child = await kernel.spawn(agentos.Image.host(), parent=parent)
        found: list[Any] = []

        async def wait() -> None:
            found.append(await parent.call("proc.wait", pid=child.pid))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await settled(kernel, lambda: alive(kernel, parent).open_calls)
            await child.exit({"n": 1})
        found.append(await parent.call("proc.wait", pid=child.pid))
        assert found == [agentos.Exit("exited", {"n": 1})] * 2
        assert await refused(parent.call("proc.wait", pid=999)) == "invalid.argument"
