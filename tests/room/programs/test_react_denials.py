"""What a react process does with a no: it is told once why, does not ask again while nothing has changed, and may once something has."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.kernel.budget import used_by
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock
from tests.agents import FILES, answering, image, made, model, told
from tests.builders import opened, rows, settled

pytestmark = pytest.mark.anyio
POLICY = """policy "desk" version 1
allow fs.read, fs.list "/**"
allow fs.write "/out/**"
ask fs.write "/asked/**" because "somebody looks"
allow cap.request, human.ask, msg.send any *
"""
WRITE = [("fs.write", {"path": "/secret.txt", "text": "x"})]
ASKED = [("fs.write", {"path": "/asked/a.txt", "text": "x"})]
READ = [("fs.read", {"path": "/a.txt"})]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_text("this is a")
    for name in ("out", "asked"):
        (tmp_path / name).mkdir()
    return tmp_path


def kernel(place: Path, talker: Any, **options: Any) -> Any:
    return opened(workspace=place, models={"default": talker}, policy=POLICY, **options)


def errors(talker: Any) -> list[Any]:
    """What the newest results of each turn say, errors as data."""
    found = []
    for request in talker.requests[1:]:
        text = told(request)[0]
        found.append(json.loads(text)["error"] if text.startswith('{"error"') else text)
    return found


async def allowed(k: Kernel, verdict: str = "approve", **options: Any) -> None:
    """Answer the one question that is open."""
    await settled(k)
    (ask,) = await k.asks()
    await k.answer(ask.id, verdict, by="ana", **options)


async def test_a_denial_is_told_with_its_reason_and_not_made_again_and_another_call_is(place: Path) -> None:
    talker = model(WRITE, WRITE, READ, "done")
    async with kernel(place, talker) as k:
        process = await k.spawn(image(), goal="write")
        assert (await process.wait(5)).value == "done"
        did = [(outcome, code) for op, outcome, code in made(k, process.pid) if op == "fs.write"]
    first, again, other = errors(talker)
    assert (first["code"], first["decision"]) == ("denied.policy", True)
    assert "do not make this call again" in first["hint"]
    assert "was denied before and was not made again" in again["message"]
    assert other == "this is a"
    assert did == [("denied", "denied.policy")] * 2


async def test_a_denial_names_its_rule_and_what_could_be_asked_for(place: Path) -> None:
    talker = model(WRITE, "done")
    async with kernel(place, talker) as k:
        process = await k.spawn(image("fs.read /**"), goal="write")
        await process.wait(5)
    (error,) = errors(talker)
    assert error["code"] == "denied.capability"
    assert "fs.write" in error["request"]


async def test_a_capability_that_a_person_grants_lets_a_denied_call_be_made_again(place: Path) -> None:
    write = [("fs.write", {"path": "/out/b.txt", "text": "x"})]
    request = [("cap.request", {"text": "fs.write /out/**", "why": "the report"})]
    talker = model(write, write, request, write, "done")
    async with kernel(place, talker) as k:
        process = await k.spawn(image("fs.read /**", "cap.request"), goal="write")
        await allowed(k)
        assert (await process.wait(5)).value == "done"
    assert (place / "out" / "b.txt").read_text() == "x"
    assert "fs__write" not in [tool["function"]["name"] for tool in talker.requests[0].tools]
    assert "fs__write" in [tool["function"]["name"] for tool in talker.requests[-1].tools]  # the tools were looked at again


async def test_a_capability_that_the_host_grants_meanwhile_lets_a_denied_call_be_made_again(place: Path) -> None:
    write = [("fs.write", {"path": "/out/b.txt", "text": "x"})]
    talker = model(write, [("human.ask", {"question": "go on?"})], write, "done")
    async with kernel(place, talker) as k:
        process = await k.spawn(image("fs.read /**"), goal="write")
        await settled(k)
        await k.grant(process.pid, "fs.write /out/**")
        await allowed(k, value="yes")
        assert (await process.wait(5)).value == "done"
    assert (place / "out" / "b.txt").exists()


async def test_what_a_person_rejected_is_not_asked_again_whatever_else_changed(place: Path) -> None:
    talker = model(ASKED, [("fs.write", {"path": "/out/o.txt", "text": "x"})], ASKED, "done")
    async with kernel(place, talker) as k:
        process = await k.spawn(image(), goal="write")
        await allowed(k, "deny", reason="not today")
        assert (await process.wait(5)).value == "done"
        assert await k.asks() == []
    first, other, again = errors(talker)
    assert first["code"] == "denied.human"
    assert "rejected by a person" in first["hint"]
    assert "o.txt" in other
    assert "not made again" in again["message"]


async def test_what_nobody_answered_is_asked_again_once_somebody_is_there(place: Path) -> None:
    """Whoever makes a model ask at night does not block the same call of the morning."""
    talker = model(ASKED, ASKED, "done")
    clock = FakeClock()
    async with kernel(place, talker, clock=clock) as k:
        process = await k.spawn(image(asks={"timeout": "1h"}), goal="write")
        await settled(k)
        clock.advance(3_601)
        await allowed(k)
        assert (await process.wait(5)).value == "done"
    first, again = errors(talker)
    assert (first["code"], "nobody was there" in first["hint"]) == ("denied.human", True)
    assert "error" not in str(again)


async def test_after_something_was_changed_the_door_decides_again_about_what_was_denied(place: Path) -> None:
    talker = model(WRITE, [("fs.write", {"path": "/out/o.txt", "text": "x"})], WRITE, "done")
    async with kernel(place, talker) as k:
        await (await k.spawn(image(), goal="write")).wait(5)
    first, _, again = errors(talker)
    assert again["message"] == first["message"]


async def test_a_word_of_the_user_lets_a_denied_call_be_made_again_and_one_of_another_process_does_not(place: Path) -> None:
    talker = model(WRITE, "no", WRITE, "no", WRITE, "no")
    async with kernel(place, talker) as k:
        sender = await k.spawn(agentos.Image.host("sender", ["msg.send"]))
        process = await k.spawn(image(), args={"chat": True}, goal="write")
        await settled(k)
        await sender.call("msg.send", to=process.pid, value="try it again")
        await settled(k)
        await process.send("try it again")
        await settled(k)
        did = [row for row in made(k, process.pid) if row[0] == "fs.write"]
    texts = [told(request)[0] for request in talker.requests if request.messages[-1]["role"] == "tool"]
    assert ["was not made again" in text for text in texts] == [False, True, False]
    assert len(did) == 3


async def test_when_the_budget_is_used_up_the_process_ends_with_that(place: Path) -> None:
    talker = answering(lambda request: [("fs.read", {"path": f"/{request.turn}.txt"})])
    async with kernel(place, talker) as k:
        process = await k.spawn(image(*FILES, limits={"calls": 20}), goal="read")
        ended = await process.wait(5)
    assert (ended.state, ended.error.code) == ("failed", "denied.budget")
    assert ended.error.fields["limit"] == "calls"


async def test_what_is_denied_again_without_being_made_costs_no_call_before_and_after_a_reopen(tmp_path: Path) -> None:
    store, talker = tmp_path / "s.db", model(WRITE, WRITE, WRITE, [("human.ask", {"question": "what now?"})])
    async with opened(store, models={"default": talker}) as k:
        process = await k.spawn(image("fs.read /**"), goal="write")
        await settled(k)
        used = process.usage["calls"]
        assert used == sum(used_by(row).get("calls", 0) for row in rows(k, process.pid))
    async with opened(store, models={"default": talker}) as k:
        await settled(k)
        assert k.process(process.pid).usage["calls"] == used
