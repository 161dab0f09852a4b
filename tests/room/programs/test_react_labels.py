"""A model is not told what its profile may not know: such a result is a handle, and the process goes on without it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.labels import names
from agentos.devices.llm.profile import Profile
from tests.agents import answering, image, made, model, told
from tests.builders import alive, crash, opened, settled

pytestmark = pytest.mark.anyio
POLICY = """policy "p" version 1
let vault = "/vault/**"
let inbox = "/inbox/**"
label $vault secret
label $inbox internal
allow * any *
"""
HUSH = "hush-4711"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name, text in (("vault/key.txt", HUSH), ("inbox/mail.txt", "a letter"), ("desk/own.txt", "ours")):
        (tmp_path / "w" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "w" / name).write_text(text)
    return tmp_path


def kernel(place: Path, talker: Any, *, clearance: str = "internal", store: Any = ":memory:") -> Any:
    models = {
        "default": Profile(talker, clearance=clearance),
        "cleared": Profile(model(SECRET, f"it is {HUSH}"), clearance="secret"),
    }
    return opened(store, workspace=place / "w", models=models, policy=POLICY)


SECRET = [("fs.read", {"path": "/vault/key.txt"})]


async def test_a_secret_result_is_a_handle_that_says_why_and_the_job_still_finishes(place: Path) -> None:
    """INVARIANT context-is-cleared: nothing that a model may not be told comes into its context."""
    talker = model([*SECRET, ("fs.read", {"path": "/desk/own.txt"})], "done without it")
    async with kernel(place, talker) as k:
        process = await k.spawn(image(), goal="read")
        assert (await process.wait(5)).value == "done without it"
    handle, other = told(talker.requests[1])
    shown = json.loads(handle)
    assert shown["why"] == "its content is secret and is not shown to this model"
    assert (shown["size_bytes"], shown["summary"]) == (len(HUSH) + 1, "text of 9 characters in 1 lines")
    assert other == "ours"
    assert HUSH not in str([request.messages for request in talker.requests])


async def test_reading_the_content_behind_the_handle_gives_a_handle_again(place: Path) -> None:
    def talk(request: Any) -> Any:
        if request.turn == 1:
            return SECRET
        found = json.loads(told(request)[0])["$handle"]
        get = {"namespace": found["namespace"], "name": found["name"]}
        return [("obj.get", get if request.turn == 2 else {**get, "start": 0, "count": 3})] if request.turn < 4 else "done"

    talker = answering(talk)
    async with kernel(place, talker) as k:
        process = await k.spawn(image("fs.read /**", "obj.*"), goal="read")
        await settled(k)
        assert (await process.wait(5)).value == "done"
    assert HUSH[:3] not in str([request.messages for request in talker.requests])


async def test_the_label_of_the_process_does_not_rise_so_it_may_still_write(place: Path) -> None:
    talker = model(
        SECRET, [("fs.write", {"path": "/desk/report.md", "text": "all well"})], [("human.ask", {"question": "ok?"})], "done"
    )
    async with kernel(place, talker) as k:
        process = await k.spawn(image(), goal="read")
        await settled(k)
        assert names(alive(k, process).label) == []
        (ask,) = await k.asks()
        await k.answer(ask.id, "approve", by="ana", value="fine")
        assert (await process.wait(5)).value == "done"
        assert (await k.replay(process.pid)).ok
    assert (place / "w" / "desk" / "report.md").read_text() == "all well"


@pytest.mark.parametrize(("clearance", "shown"), [("secret", True), ("internal", True), ("public", False)])
async def test_what_a_profile_is_cleared_for_is_shown(place: Path, clearance: str, shown: bool) -> None:
    talker = model([("fs.read", {"path": "/inbox/mail.txt"})], "done")
    async with kernel(place, talker, clearance=clearance) as k:
        assert (await (await k.spawn(image(), goal="read")).wait(5)).value == "done"
    assert ("a letter" in str(talker.requests[1].messages)) == shown


async def test_a_cleared_model_reads_secrets_and_carries_their_label(place: Path) -> None:
    talker = model(SECRET, "done")
    async with kernel(place, talker, clearance="secret") as k:
        process = await k.spawn(image(), goal="read", args={"chat": True})
        await settled(k)
        assert names(alive(k, process).label) == ["secret"]
    assert told(talker.requests[1]) == [HUSH]


async def test_a_message_that_the_model_may_not_be_told_is_a_handle_too(place: Path) -> None:
    talker = model("heard")
    async with kernel(place, talker, clearance="public") as k:
        process = await k.spawn(image())
        sender = await k.spawn(agentos.Image.host("sender", ["fs.read /**", "msg.send"]))
        letter = await sender.call("fs.read", path="/inbox/mail.txt")
        await sender.call("msg.send", to=process.pid, value=letter)
        await settled(k)
        assert names(alive(k, process).label) == []
    assert "its content is internal" in talker.requests[0].messages[-1]["content"]
    assert "a letter" not in str(talker.requests)


async def test_a_child_with_a_cleared_model_reads_what_its_parent_is_not_told(place: Path) -> None:
    spawn = ("proc.spawn", {"image": "reader:1", "goal": "read", "grant": ["fs.read /vault/**"]})
    talker = model([spawn], [("proc.wait", {"pid": 2})], "done")
    async with kernel(place, talker) as k:
        await k.register(
            agentos.Image.from_dict({"name": "reader", "prompt": {"text": "Read."}, "model": {"profile": "cleared"}})
        )
        process = await k.spawn(image("fs.read /**", "proc.*"), goal="read")
        assert (await process.wait(5)).value == "done"
        assert (await k.process(2).wait(1)).value == f"it is {HUSH}"
    assert "$handle" in told(talker.requests[2])[0]
    assert HUSH not in str([request.messages for request in talker.requests])


async def test_a_handle_is_the_same_after_a_crash(place: Path) -> None:
    store, copy = place / "s.db", place / "c.db"
    talker = model([*SECRET, ("human.ask", {"question": "on?"})], "done")
    async with kernel(place, talker, store=store) as k:
        process = await k.spawn(image(), goal="read")
        await settled(k)
        crash(k, store, copy)
    async with kernel(place, talker, store=copy) as k:
        (ask,) = await k.asks()
        await k.answer(ask.id, "approve", by="ana", value="yes")
        assert (await k.process(process.pid).wait(5)).value == "done"
        assert (await k.replay(process.pid)).ok
    assert HUSH not in str(talker.requests[-1].messages)


async def test_a_process_that_already_carries_secrets_is_stopped_at_its_model(place: Path) -> None:
    async with kernel(place, model("never")) as k:
        process = await k.spawn(image(), args={"chat": True}, goal="wait")
        await settled(k)
        alive(k, process).label = 0b011
        await process.send("go on")
        ended = await process.wait(5)
        assert made(k, process.pid)[-1] == ("llm.complete", "denied", "denied.label")
    assert ended.error.code == "denied.label"
