"""A react process is a durable program: it is replayed, restored, forked, committed and replaced, and its prompt goes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.model import ModelRequest
from tests.agents import answering, image, made, model, told
from tests.builders import crash, host, opened, settled

pytestmark = pytest.mark.anyio
ASK = [("human.ask", {"question": "go on?"})]
READ = [("fs.read", {"path": "/a.txt"})]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "a.txt").write_text("this is a")
    return tmp_path


def kernel(place: Path, talker: Any, store: Any = ":memory:", **options: Any) -> Any:
    return opened(store, workspace=place / "w", models={"default": talker}, **options)


async def allowed(k: Any) -> None:
    """Say yes to everything that is open."""
    await settled(k)
    for ask in await k.asks():
        await k.answer(ask.id, "approve", by="ana", value="yes")


async def test_a_run_with_every_kind_of_trouble_is_replayed_as_it_was(place: Path) -> None:
    (place / "w" / "long.txt").write_text("x" * 60_000)
    wrong = [
        ("fs.write", {"path": "/etc/x", "text": "x"}),
        ("nope.x", {}),
        ("fs.read", {"path": "/long.txt"}),
        ("fs.read", {"path": "/gone"}),
    ]
    talker = model(wrong, wrong, "", [*wrong, *READ], ASK, {"text": "half", "finish": "length"}, "done")
    async with kernel(place, talker) as k:
        process = await k.spawn(image("fs.read /**", memory={"context_tokens": 3_000}), goal="try")
        await allowed(k)
        assert (await process.wait(5)).value == "done"
        report = await k.replay(process.pid)
    assert (report.ok, report.exit_equal) == (True, True)


async def test_a_resumed_process_shows_its_model_the_same_bytes(place: Path) -> None:
    store, copy = place / "s.db", place / "c.db"
    (place / "w" / "long.txt").write_text("word " * 9_000)
    turns = [[("fs.read", {"path": "/long.txt"}), ("fs.read", {"path": "/gone"})], READ, [*READ, *ASK], READ, "done"]
    straight, broken = model(*turns), model(*turns)
    async with kernel(place, straight) as k:
        process = await k.spawn(image(), goal="go")
        await allowed(k)
        await process.wait(5)
    async with kernel(place, broken, store) as k:
        process = await k.spawn(image(), goal="go")
        await settled(k)
        crash(k, store, copy)
    async with kernel(place, broken, copy) as k:
        await allowed(k)
        assert (await k.process(process.pid).wait(5)).value == "done"
    assert [request.messages for request in straight.requests] == [request.messages for request in broken.requests]
    assert [request.tools for request in straight.requests] == [request.tools for request in broken.requests]


async def test_a_process_that_is_taken_back_to_a_checkpoint_goes_on_from_there(place: Path) -> None:
    talker = answering(lambda request: [READ, ASK, READ, "done"][request.turn - 1])
    async with kernel(place, talker) as k:
        process = await k.spawn(image(), goal="go", args={"chat": True})
        await settled(k)
        point = await process.checkpoint("asked")
        await allowed(k)
        await settled(k)
        assert len(talker.requests) == 4
        await k.restore(point, mode="replace")
        await allowed(k)
        await settled(k)
        assert talker.requests[4].messages == talker.requests[2].messages
        assert (await k.replay(process.pid)).ok


async def test_a_fork_goes_on_with_a_prompt_of_its_own(place: Path) -> None:
    def talk(request: ModelRequest) -> Any:
        return READ if request.turn == 1 else ASK if request.turn == 2 else f"done by {request.pid}"

    talker = answering(talk)
    async with kernel(place, talker) as k:
        process = await k.spawn(image(), goal="go")
        await settled(k)
        child = await process.fork(grant=["fs.read /**"])
        await settled(k)
        await allowed(k)
        await allowed(k)
        values = {(await one.wait(5)).value for one in (process, child)}
        assert values == {f"done by {process.pid}", f"done by {child.pid}"}
        assert (await k.replay(child.pid)).ok
    first, second = (request for request in talker.requests if request.turn == 3)
    assert first.messages[:4] == second.messages[:4]


async def test_a_speculative_fork_writes_beside_the_files(place: Path) -> None:
    def talk(request: ModelRequest) -> Any:
        return [ASK, [("fs.write", {"path": "/new.txt", "text": "x"})], "done"][request.turn - 1]

    async with kernel(place, answering(talk)) as k:
        process = await k.spawn(image(), goal="go")
        await settled(k)
        child = await process.fork(grant=["fs.write /**", "fs.read /**"], speculative=True)
        await settled(k)
        assert (await child.wait(5)).value == "done"
        assert not (place / "w" / "new.txt").exists()


async def test_an_image_that_was_committed_starts_with_what_its_process_had_seen(place: Path) -> None:
    talker = answering(lambda request: [READ, ASK, "done", "done again"][request.turn - 1])
    async with kernel(place, talker) as k:
        process = await k.spawn(image(program={"kind": "react", "turns": 3}), goal="learn")
        await settled(k)
        point = await process.checkpoint()
        ref = await k.commit_image(point, "learnt", "1")
        other = await k.spawn(ref, goal="another goal", grant=["fs.list /**"])
        await allowed(k)
        await settled(k)
        await allowed(k)
        assert (await other.wait(5)).value == "done"
        request = next(request for request in talker.requests if request.pid == other.pid)
    assert "another goal" in [message["content"] for message in request.messages]
    assert "this is a" in [message["content"].partition("\n\n[turn")[0] for message in request.messages]
    assert "turn 2 of" not in request.messages[-1]["content"]  # its turns are its own


async def test_a_model_may_replace_its_image_where_it_holds_the_right(place: Path) -> None:
    talker = answering(
        lambda request: [("proc.exec", {"image": "second:1"})] if "You help." in str(request.messages) else "second done"
    )
    async with kernel(place, talker) as k:
        await k.register(agentos.Image.from_dict({"name": "second", "prompt": {"text": "You are the second."}}))
        process = await k.spawn(image("proc.exec", "fs.read /**"), goal="go")
        assert (await process.wait(5)).value == "second done"
        assert (await k.replay(process.pid)).ok


async def test_a_child_works_with_what_it_was_granted_and_its_typed_result_comes_back(place: Path) -> None:
    schema = {"type": "object", "properties": {"lines": {"type": "integer"}}, "required": ["lines"]}
    spawn = [("proc.spawn", {"image": "counter:1", "goal": "count", "grant": ["fs.read /a.txt"]})]

    def talk(request: ModelRequest) -> Any:
        if "You count." in str(request.messages[0]):
            return [READ, [("fs.read", {"path": "/other.txt"})], '{"lines": 1}'][request.turn - 1]
        return [spawn, [("proc.wait", {"pid": 2})], "one line"][request.turn - 1]

    talker = answering(talk)
    async with kernel(place, talker) as k:
        await k.register(
            agentos.Image.from_dict({"name": "counter", "prompt": {"text": "You count."}, "result": {"schema": schema}})
        )
        process = await k.spawn(image("fs.read /**", "proc.spawn", "proc.wait"), goal="go")
        assert (await process.wait(5)).value == "one line"
        assert made(k, 2) == [
            ("llm.complete", "done", ""), ("fs.read", "done", ""), ("llm.complete", "done", ""), ("fs.read", "denied", "denied.capability"),
            ("llm.complete", "done", ""),
        ]  # fmt: skip
    (result,) = told([request for request in talker.requests if request.pid == process.pid][-1])
    assert '"value":{"lines":1}' in result


async def test_a_process_that_the_host_ends_is_gone_with_its_open_call(place: Path) -> None:
    async with kernel(place, model(ASK)) as k:
        process = await k.spawn(image(), goal="go")
        await settled(k)
        await process.signal("kill")
        assert (await process.wait(5)).state == "killed"
        assert await k.asks() == []
        assert (await k.replay(process.pid)).ok


async def test_a_kernel_without_the_device_of_a_tool_says_so_and_goes_on(place: Path) -> None:
    store, device = place / "s.db", agentos.Device("once")

    @device.op(effect="pure")
    def look() -> str:
        return "seen"

    talker = model([("once.look", {})], "one", "two")
    async with kernel(place, talker, store, devices={"once": device}) as k:
        process = await k.spawn(image("once.*"), goal="go", args={"chat": True})
        await settled(k)
    async with kernel(place, talker, store) as k:
        await k.process(process.pid).send("and now?")
        await settled(k)
        assert k.process(process.pid).info.state == "waiting"
    assert [tool["function"]["name"] for tool in talker.requests[-1].tools] == ["obj__get", "human__ask"]


async def test_a_host_may_look_at_the_turn(place: Path) -> None:
    async with kernel(place, model(READ, ASK)) as k:
        process = await k.spawn(image(), goal="go")
        await settled(k)
        assert await process.query("turn") == 2
        assert (await host(k)).pid != process.pid
