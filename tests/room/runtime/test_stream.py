"""`Process.stream`: send a text, see what the process does about it, and stop with its answer; nothing is lost, nobody is held up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.limits import EVENTS_KEPT_MAX
from agentos.abi.model import ModelReply, ModelRequest
from agentos.abi.values import Event
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from agentos.testing import ScriptedModel
from tests.builders import host, opened, settled, started

pytestmark = pytest.mark.anyio

CHAT = {"name": "chat", "prompt": {"text": "You chat."}, "capabilities": ["obj.put **"]}


class Echo:
    """A model that says, in pieces, what it was told last; between them it lets others run."""

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []
        self.gate = anyio.Event()
        self.gate.set()

    async def complete(self, request: ModelRequest) -> ModelReply:
        self.requests.append(request)
        words = str(request.messages[-1]["content"]).partition("\n")[0].split()
        for word in words:
            if request.delta is not None:
                request.delta(f"{word} ")
            await anyio.lowlevel.checkpoint()
        await self.gate.wait()
        return ModelReply(" ".join(words))


async def chatting(kernel: Kernel) -> Process:
    return await kernel.spawn(agentos.Image.from_dict(CHAT))


async def heard(events: AsyncIterator[Event]) -> list[Event]:
    with anyio.fail_after(10):
        return [event async for event in events]


def deltas(events: list[Event]) -> str:
    return "".join(event.data["text"] for event in events if event.kind == "delta")


@pytest.fixture
def model() -> Echo:
    return Echo()


@pytest.fixture
async def kernel(model: Echo) -> AsyncIterator[Kernel]:
    async with opened(models={"default": model}) as made:
        yield made


async def test_a_stream_ends_with_the_answer_to_its_text(kernel: Kernel) -> None:
    process = await chatting(kernel)
    events = await heard(process.stream("hello my friend"))
    assert (events[-1].kind, events[-1].data["text"]) == ("answer", "hello my friend")
    assert deltas(events) == "hello my friend "
    assert process.info.state == "waiting"


async def test_each_text_gets_its_own_answer_and_the_conversation_goes_on(kernel: Kernel, model: Echo) -> None:
    process = await chatting(kernel)
    said = [(await heard(process.stream(text)))[-1].data["text"] for text in ("one", "two", "three")]
    assert said == ["one", "two", "three"]
    assert len(model.requests[-1].messages) > len(model.requests[0].messages)


async def test_two_streams_at_once_both_end(kernel: Kernel, model: Echo) -> None:
    process = await chatting(kernel)
    model.gate = anyio.Event()
    found: dict[str, list[Event]] = {}

    async def ask(text: str) -> None:
        found[text] = await heard(process.stream(text))

    async with anyio.create_task_group() as tasks:
        for text in ("one", "two", "three"):
            tasks.start_soon(ask, text)
            await settled(kernel, lambda: model.requests)
        model.gate.set()
    assert all(events[-1].kind == "answer" for events in found.values())
    assert found["three"][-1].data["text"] == "three"


async def test_a_stream_without_text_goes_on_to_the_end_of_the_process(kernel: Kernel) -> None:
    process = await kernel.spawn(agentos.Image.from_dict(CHAT), goal="finish")
    events = await heard(process.stream())
    assert events[-1].kind == "exited"
    assert deltas(events) == "finish "


async def test_the_stream_of_a_process_that_ends_instead_of_answering_ends_with_it(kernel: Kernel, model: Echo) -> None:
    process = await chatting(kernel)
    model.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            assert (await heard(process.stream("hello")))[-1].kind == "exited"

        tasks.start_soon(ask)
        await settled(kernel, lambda: model.requests)
        await process.signal("kill")


async def test_an_ended_process_has_only_past_events(kernel: Kernel) -> None:
    process = await host(kernel)
    await process.exit(1)
    assert await heard(process.stream()) == []
    assert [event.kind for event in await heard(process.stream(since=0))] == ["spawned", "exited"]
    with pytest.raises(agentos.Invalid, match="is not alive"):
        await heard(process.stream("hello"))


async def test_a_process_that_ends_itself_by_a_call_ends_its_stream(kernel: Kernel) -> None:
    async def leaves(sys: Any) -> None:
        await sys.msg.recv()
        await sys.proc.exit(value=7)

    process = await started(kernel, leaves)
    assert (await heard(process.stream("go")))[-1].data["op"] == "proc.exit"


async def test_a_program_may_answer_in_any_order(kernel: Kernel) -> None:
    async def backwards(sys: Any) -> None:
        first, second = await sys.msg.recv(), await sys.msg.recv()
        await sys.human.tell(text="second", reply_to=second.id)
        await sys.human.tell(text="first", reply_to=first.id)
        await sys.msg.recv()

    process = await started(kernel, backwards)
    answers: dict[str, str] = {}

    async def ask(text: str) -> None:
        answers[text] = (await heard(process.stream(text)))[-1].data["text"]

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, "1")
        await settled(kernel, lambda: kernel.core.mail.count(process.pid, "main") or process.info.usage["calls"] > 0)
        tasks.start_soon(ask, "2")
    assert answers == {"1": "first", "2": "second"}


async def test_a_reader_who_is_slow_misses_nothing_that_was_written(kernel: Kernel) -> None:
    busy = await host(kernel, "obj.put **")
    rows = EVENTS_KEPT_MAX + 50
    async with aclosing(busy.stream()) as events:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(busy.call, "clock.now")
            first = await anext(events)
        for _ in range(rows):
            await busy.call("clock.now")
        await busy.exit()
        rest = await heard(events)
    seqs = [event.seq for event in (first, *rest)]
    assert seqs == sorted(set(seqs))
    assert sum(event.kind == "call" for event in (first, *rest)) == rows + 1
    assert rest[-1].kind == "exited"


async def test_the_noise_of_others_ends_no_stream(kernel: Kernel) -> None:
    quiet, noisy = await host(kernel), await host(kernel)
    async with aclosing(quiet.stream()) as events:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(quiet.call, "clock.now")
            await anext(events)
        for _ in range(EVENTS_KEPT_MAX + 50):
            await noisy.call("clock.now")
        await quiet.exit()
        assert [event.kind for event in await heard(events)] == ["exited"]


async def test_a_stream_goes_on_after_a_row_that_was_seen(kernel: Kernel) -> None:
    process = await chatting(kernel)
    seen = (await heard(process.stream("one")))[-1].seq
    await heard(process.stream("two"))
    async with aclosing(process.stream(since=seen)) as events:
        with anyio.fail_after(5):
            answer = await anext(event async for event in events if event.kind == "answer")
    assert answer.data["text"] == "two"


async def test_a_stream_that_is_left_leaves_nobody_following(kernel: Kernel) -> None:
    process = await chatting(kernel)
    async with aclosing(process.stream("hello")) as events:
        await anext(events)
    await heard(process.stream("again"))
    assert not [stream for stream in kernel.core.events._streams if stream.statistics().open_receive_streams]


async def test_a_text_that_cannot_be_sent_leaves_nobody_following(kernel: Kernel) -> None:
    process = await chatting(kernel)
    with pytest.raises(agentos.AgentOSError):
        await heard(process.stream(object()))
    assert not [stream for stream in kernel.core.events._streams if stream.statistics().open_receive_streams]


async def test_a_process_that_never_was_has_no_stream(kernel: Kernel) -> None:
    with pytest.raises(agentos.Invalid, match="no process 99"):
        await heard(Process(kernel.core, kernel.broker, 99).stream())


async def test_the_end_of_the_kernel_ends_a_stream(model: Echo) -> None:
    kinds: list[str] = []

    async def look(process: Process) -> None:
        kinds.extend(event.kind for event in await heard(process.stream()))

    async with anyio.create_task_group() as tasks, opened(models={"default": model}) as kernel:
        process = await chatting(kernel)
        await settled(kernel, lambda: process.info.state == "waiting")
        tasks.start_soon(look, process)
        await settled(kernel, lambda: kernel.core.events.is_followed)
        await process.send("hello")
        await settled(kernel, lambda: process.info.usage["calls"] > 4)
    assert "answer" in kinds or "call" in kinds


async def test_a_stream_over_the_socket_is_the_same(tmp_path: Path, model: Echo) -> None:
    (tmp_path / "ws").mkdir()
    async with opened(tmp_path / "s.db", workspace=tmp_path / "ws", models={"default": model}, control=True) as kernel:
        pid = (await chatting(kernel)).pid
        async with agentos.connect(tmp_path / "s.db") as remote:
            process = remote.process(pid)
            events = await heard(process.stream("hello my friend"))
            assert (events[-1].kind, deltas(events)) == ("answer", "hello my friend ")
            later = [event.kind async for event in process.stream("again", since=events[-1].seq)]
            assert later[-1] == "answer"


def test_a_stream_of_synchronous_code_is_a_plain_iterator() -> None:
    with agentos.open_sync(":memory:", models={"default": ScriptedModel(["one", "two"])}) as kernel:
        process = kernel.spawn(agentos.Image.from_dict(CHAT))
        assert [list(process.stream(text))[-1].data["text"] for text in ("a", "b")] == ["one", "two"]


# --- results ----------------------------------------------------------------------------------------------------------------

SCHEMA = {"schema": {"type": "object", "required": ["n"]}}


async def test_a_host_that_ends_with_what_does_not_fit_is_told_and_goes_on(kernel: Kernel) -> None:
    process = await kernel.spawn(agentos.Image.host(result=SCHEMA))
    for end in (process.exit({"m": 1}), process.call("proc.exit", value=None)):
        with pytest.raises(agentos.Invalid, match="does not fit its schema"):
            await end
    assert process.info.state == "ready"
    await process.exit({"n": 1})
    assert (await process.wait(5)).value == {"n": 1}


async def test_a_program_that_ends_itself_with_what_does_not_fit_fails_unless_it_does_better(kernel: Kernel) -> None:
    @agentos.program("twice_wrong")
    async def twice_wrong(sys: Any, *, tries: int) -> None:
        for value in [{"m": 1}, {"n": 1}][:tries]:
            try:
                await sys.proc.exit(value=value)
            except agentos.Invalid:
                if tries == 1:
                    raise

    kernel.programs._given["twice_wrong"] = twice_wrong
    image = agentos.Image.program("twice_wrong", result=SCHEMA)
    failed = await (await kernel.spawn(image, args={"tries": 1})).wait(5)
    ended = await (await kernel.spawn(image, args={"tries": 2})).wait(5)
    assert (failed.state, failed.error and failed.error.code) == ("failed", "invalid.argument")
    assert (ended.state, ended.value) == ("exited", {"n": 1})
