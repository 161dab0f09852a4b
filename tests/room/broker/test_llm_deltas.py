"""Pieces of what a model says: shown to who follows, never journaled, never with a secret in them, never waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.limits import EVENTS_KEPT_MAX
from agentos.abi.model import ModelReply, ModelRequest, Usage, model_failed
from agentos.abi.values import Event
from agentos.devices.llm.profile import Price, Profile
from agentos.devices.llm.scripted import ScriptedModel
from agentos.runtime.kernel import Kernel
from tests.builders import crashing, host, opened, rows, settled, started

pytestmark = pytest.mark.anyio

HELLO = [{"role": "user", "content": "hello"}]
SECRET = "tops-3cret-value"


class Streamer:
    """Says its pieces one by one, and waits where it is told to."""

    def __init__(self, *pieces: str, hold: bool = False, error: Exception | None = None) -> None:
        self.pieces, self.hold, self.error = pieces, hold, error
        self.said, self.streamed = anyio.Event(), False
        self.delta: Any = None

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.streamed, self.delta = request.delta is not None, request.delta
        for piece in self.pieces:
            if request.delta is not None:
                request.delta(piece)
        self.said.set()
        if self.hold:
            await anyio.sleep_forever()
        if self.error is not None:
            raise self.error
        return ModelReply("".join(self.pieces), (), "stop", Usage(10, 5), "m")


async def ask(process: Any) -> Any:
    return await process.call("llm.complete", messages=HELLO)


async def heard(kernel: Kernel, act: Any) -> list[Event]:
    """The events of what `act` does."""
    follower = kernel.core.events.follow()
    await act()
    found = []
    while follower.statistics().current_buffer_used:
        found.append(await follower.receive())
    follower.close()
    return found


def texts(events: list[Event]) -> list[str]:
    return [event.data["text"] for event in events if event.kind == "delta"]


async def test_pieces_reach_followers_with_the_number_of_their_call_and_no_row() -> None:
    async with opened(models={"default": Streamer("one ", "two")}) as kernel:
        process = await host(kernel)
        events = await heard(kernel, lambda: ask(process))
        assert [event.kind for event in events] == ["started", "delta", "delta", "call"]
        intent = events[0].seq
        assert [(e.seq, e.data["attempt"], e.data["op"]) for e in events[1:3]] == [(intent, 1, "llm.complete")] * 2
        assert texts(events) == ["one ", "two"]
        assert len(rows(kernel, process.pid)) == 2


async def test_nobody_follows_then_nothing_is_streamed() -> None:
    model = Streamer("x")
    async with opened(models={"default": model}) as kernel:
        await ask(await host(kernel))
        assert not model.streamed


async def test_the_event_stream_of_a_kernel_has_them_in_order() -> None:
    model = Streamer("one ", "two")
    async with opened(models={"default": model}) as kernel:
        process = await host(kernel)
        since = kernel.core.journal.head
        found: list[Event] = []

        async def follow() -> None:
            async for event in kernel.events(since=since):
                found.append(event)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await settled(kernel, lambda: kernel.core.events.is_followed)
            await ask(process)
            await settled(kernel, lambda: len(found) == 4)
            tasks.cancel_scope.cancel()
        assert [event.kind for event in found] == ["started", "delta", "delta", "call"]
        assert [event.kind for event in [e async for e in first(kernel.events(since=since), 2)]] == [
            "started",
            "call",
        ]  # not replayed


async def first(events: Any, count: int) -> Any:
    async for event in events:
        yield event
        count -= 1
        if not count:
            return


@pytest.mark.parametrize("cut", range(1, len(SECRET)))
async def test_a_secret_that_is_split_over_pieces_is_never_shown(cut: int) -> None:
    pieces = ("before ", SECRET[:cut], SECRET[cut:], " after")
    async with opened(models={"default": Streamer(*pieces)}, secrets={"TOKEN": SECRET}) as kernel:
        process = await host(kernel)
        shown = texts(await heard(kernel, lambda: ask(process)))
        assert "".join(shown) == "before [secret TOKEN] after"
        assert shown[0] == "before "


async def test_a_secret_said_letter_by_letter_is_never_shown_and_what_only_begins_like_one_is() -> None:
    said = f"tops-3crets tops {SECRET} tops-"
    async with opened(models={"default": Streamer(*said)}, secrets={"TOKEN": SECRET}) as kernel:
        process = await host(kernel)
        assert "".join(texts(await heard(kernel, lambda: ask(process)))) == said.replace(SECRET, "[secret TOKEN]")


async def test_a_device_that_goes_on_talking_after_its_answer_is_not_heard() -> None:
    model = Streamer("x")
    async with opened(models={"default": model}) as kernel:
        process = await host(kernel)
        await heard(kernel, lambda: ask(process))

        async def talk_on() -> None:
            model.delta("more")

        assert await heard(kernel, talk_on) == []


async def test_who_is_slow_misses_pieces_and_no_event() -> None:
    model = Streamer(*["x"] * (2 * EVENTS_KEPT_MAX))
    async with opened(models={"default": model}) as kernel:
        process = await host(kernel)
        events = await heard(kernel, lambda: ask(process))
        assert [event.kind for event in events if event.kind != "delta"] == ["started", "call"]
        assert len(texts(events)) <= EVENTS_KEPT_MAX // 2


async def test_the_event_of_an_answer_says_what_it_was_and_cost() -> None:
    model = ScriptedModel([[("fs.read", {"path": "/a"})]])
    async with opened(models={"default": Profile(model, Price(1.0, 1.0))}) as kernel:
        process = await host(kernel)
        done = (await heard(kernel, lambda: process.call("llm.complete", messages=HELLO, turn=1)))[-1]
        shown = {name: done.data[name] for name in ("op", "turn", "finish", "calls", "text", "model")}
        assert shown == {
            "op": "llm.complete",
            "turn": 1,
            "finish": "calls",
            "calls": ["fs__read"],
            "text": "",
            "model": "scripted",
        }
        assert (
            done.data["usd"]
            == done.data["cost"]["usd"]
            == pytest.approx(sum(done.data["tokens"][n] for n in ("input", "output")) / 1e6)
        )


async def test_the_event_of_a_failure_says_why_and_whether_to_try_again() -> None:
    failing = Streamer(error=model_failed("rate", "slow down", retry=True, retry_after_s=3.0))
    async with opened(models={"default": failing}) as kernel:
        process = await host(kernel)

        async def act() -> None:
            with pytest.raises(agentos.Unavailable):
                await ask(process)

        fields = (await heard(kernel, act))[-1].data["error"]["fields"]
        assert (fields["why"], fields["retry"], fields["retry_after_s"]) == ("rate", True, 3.0)


async def patient(sys: Any) -> None:
    await sys.llm.complete(messages=HELLO)


async def test_the_pieces_of_an_attempt_after_a_crash_start_anew(tmp_path: Path) -> None:
    store, copy = tmp_path / "a.db", tmp_path / "b.db"
    slow = Streamer("lost", hold=True)
    async with crashing(store, copy, models={"default": slow}, durability="strict") as kernel:
        process = await started(kernel, patient)
        await slow.said.wait()
    program = agentos.program("patient")(patient)
    async with opened(copy, models={"default": Streamer("found")}, programs=[program], resume=False) as kernel:
        follower = kernel.core.events.follow()
        await kernel.process(process.pid).signal("resume")
        with anyio.fail_after(5):
            async for event in follower:
                if event.kind == "delta":
                    break
        follower.close()
        assert (event.data["attempt"], event.data["text"], event.data["number"]) == (2, "found", "1")
