"""A conversation: a react process without a goal waits for messages, answers each, and goes on after a crash."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.codec import decode
from agentos.runtime.kernel import Kernel
from tests.agents import answering, image, model
from tests.builders import crash, opened, rows, settled

pytestmark = pytest.mark.anyio


def answers(kernel: Kernel, pid: int) -> list[tuple[str, int | None]]:
    """What the process told people: (text, message that it answers)."""
    found = [decode(row.args) for row in rows(kernel, pid) if row.op == "human.tell"]
    return [(each["text"], each.get("reply_to")) for each in found]


def echo(request: Any) -> Any:
    """The newest words of a user, given back."""
    said = [message["content"] for message in request.messages if message["role"] == "user"]
    return f"you said {said[-1].partition(chr(10))[0]}"


async def test_each_message_gets_its_answer_with_its_number(tmp_path: Path) -> None:
    async with opened(workspace=tmp_path, models={"default": answering(echo)}) as kernel:
        process = await kernel.spawn(image())
        await settled(kernel)
        assert not [row for row in rows(kernel, process.pid) if row.op == "llm.complete"]
        numbers = []
        for text in ("one", "two"):
            numbers.append(await process.send(text))
            await settled(kernel)
        assert answers(kernel, process.pid) == [("you said one", numbers[0]), ("you said two", numbers[1])]
        assert process.info.state == "waiting"


async def test_a_message_that_comes_while_a_turn_runs_is_in_the_next_one(tmp_path: Path) -> None:
    gate = anyio.Event()

    async def talk(request: Any) -> Any:
        if request.turn == 1:
            await gate.wait()
            return [("human.ask", {"question": "?", "timeout_s": 0.01})]
        return "done"

    talker = answering(talk)
    async with opened(workspace=tmp_path, models={"default": talker}) as kernel:
        process = await kernel.spawn(image(), goal="begin")
        await settled(kernel, lambda: talker.requests)
        await process.send("and be quick")
        gate.set()
        assert (await process.wait(5)).value == "done"
    assert "and be quick" in talker.requests[1].messages[-1]["content"]


async def test_a_conversation_goes_on_after_a_crash_between_messages(tmp_path: Path) -> None:
    store, copy, talker = tmp_path / "s.db", tmp_path / "c.db", answering(echo)
    async with opened(store, models={"default": talker}) as kernel:
        process = await kernel.spawn(image())
        await process.send("one")
        await settled(kernel)
        crash(kernel, store, copy)
    async with opened(copy, models={"default": talker}) as kernel:
        again = await kernel.process(process.pid).send("two")
        await settled(kernel)
        assert answers(kernel, process.pid)[1:] == [("you said two", again)]
        assert (await kernel.replay(process.pid)).ok
    assert [request.turn for request in talker.requests] == [1, 2]
    assert "you said one" in [message["content"] for message in talker.requests[1].messages]


async def test_the_bound_of_turns_is_for_each_message(tmp_path: Path) -> None:
    turns = [[("fs.read", {"path": "/none"})], "one", [("fs.read", {"path": "/none2"})], "two"]
    async with opened(workspace=tmp_path, models={"default": model(*turns)}) as kernel:
        process = await kernel.spawn(image(program={"kind": "react", "turns": 2}))
        for text in ("a", "b"):
            await process.send(text)
            await settled(kernel)
        assert [text for text, _ in answers(kernel, process.pid)] == ["one", "two"]


async def test_who_sent_a_message_is_told_and_only_the_hosts_are_the_users_own_words(tmp_path: Path) -> None:
    policy = 'policy "p" version 1\nallow fs.write "/**" when path from { prompt }\nallow msg.send any *\n'
    write = [("fs.write", {"path": "/theirs.txt", "text": "x"}), ("fs.write", {"path": "/mine.txt", "text": "x"})]
    talker = answering(lambda request: write if request.turn == 1 else "done")
    async with opened(workspace=tmp_path, models={"default": talker}, policy=policy) as kernel:
        sender = await kernel.spawn(agentos.Image.host("sender", ["msg.send"]))
        process = await kernel.spawn(image(), args={"chat": True})
        await process.signal("pause")
        await sender.call("msg.send", to=process.pid, value="write /theirs.txt")
        await process.send("write /mine.txt")
        await process.signal("resume")
        await settled(kernel)
        texts = [message["content"] for message in talker.requests[0].messages]
        assert f"[message from process {sender.pid}]\nwrite /theirs.txt" in texts
    assert not (tmp_path / "theirs.txt").exists()
    assert (tmp_path / "mine.txt").exists()


async def test_a_long_message_is_shown_in_part_and_read_on_as_an_object(tmp_path: Path) -> None:
    text = "".join(f"line {at}\n" for at in range(20_000))
    talker = model([("obj.get", {"name": "messages/1", "start": len(text) - 11, "count": 11})], "done")
    async with opened(workspace=tmp_path, models={"default": talker}) as kernel:
        process = await kernel.spawn(image(memory={"context_tokens": 4_000}))
        await process.send(text)
        await settled(kernel)
        assert answers(kernel, process.pid) == [("done", 1)]
    assert (
        "[cut: 208890 characters in all; read on with obj__get(name='messages/1'" in talker.requests[0].messages[1]["content"]
    )
    assert talker.requests[1].messages[-1]["content"].startswith("line 19999\n")


@pytest.mark.parametrize("text", ["x" * 100_000, "世" * 30_000])
async def test_a_long_answer_is_told_as_far_as_a_note_takes_it(tmp_path: Path, text: str) -> None:
    async with opened(workspace=tmp_path, models={"default": model(text)}) as kernel:
        process = await kernel.spawn(image())
        await process.send("talk")
        await settled(kernel)
        ((said, _),) = answers(kernel, process.pid)
        assert 5_000 < len(said) <= 16_384
        assert process.info.state == "waiting"


async def test_a_model_that_declines_does_not_end_a_conversation(tmp_path: Path) -> None:
    talker = model({"text": "", "finish": "refusal", "refusal": "no"}, "gladly")
    async with opened(workspace=tmp_path, models={"default": talker}) as kernel:
        process = await kernel.spawn(image())
        for text in ("bad", "good"):
            await process.send(text)
            await settled(kernel)
        assert [text for text, _ in answers(kernel, process.pid)] == ["[the model declined: no]", "gladly"]


async def test_many_messages_at_once_come_in_portions_and_none_is_lost(tmp_path: Path) -> None:
    seen: set[str] = set()

    def talk(request: Any) -> Any:
        seen.update(word for message in request.messages for word in str(message["content"]).split() if word.startswith("note"))
        return [("obj.get", {"name": f"none{request.turn}"})] if request.turn < 6 else "done"

    async with opened(workspace=tmp_path, models={"default": answering(talk)}) as kernel:
        process = await kernel.spawn(image(), goal="wait", args={"chat": True})
        for at in range(70):
            await process.send(f"note{at}")
        await settled(kernel)
    assert seen == {f"note{at}" for at in range(70)}


async def test_a_message_without_words_is_shown_as_one_that_every_server_takes(tmp_path: Path) -> None:
    talker = model("", {"finish": "refusal"}, "done")
    async with opened(workspace=tmp_path, models={"default": talker}) as kernel:
        process = await kernel.spawn(image())
        for text in ("", " \n"):
            await process.send(text)
            await settled(kernel)
        assert len(talker.requests) == 3
        shown = [message["content"] for message in talker.requests[-1].messages[1:]]
    assert [text.partition("\n\n[turn")[0] for text in shown if not text.startswith("[")] == ["(nothing)"] * 4
