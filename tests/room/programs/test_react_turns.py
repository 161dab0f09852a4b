"""The turn of a react process: calls in parallel, results in order, and the ways in which a model goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.limits import ANSWER_REPAIRS_MAX, SAME_FAILURE_MAX, SAME_TURN_MAX, SAME_TURN_WARN
from agentos.abi.model import ModelReply
from agentos.programs.react.act import named
from tests.agents import answering, calls, image, made, model, names, told
from tests.builders import crash, opened, rows, settled

pytestmark = pytest.mark.anyio
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["bug", "question"]}, "at": {"$ref": "#/$defs/at"}},
    "required": ["kind", "at"],
    "$defs": {"at": {"type": "object", "properties": {"line": {"type": "integer"}}, "required": ["line"]}},
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "w").mkdir()
    for name in "abc":
        (tmp_path / "w" / f"{name}.txt").write_text(f"this is {name}")
    return tmp_path


async def run(place: Path, talker: Any, **manifest: Any) -> tuple[agentos.Exit, list[Any]]:
    """How a process ends whose model is `talker`, and its rows."""
    async with opened(workspace=place / "w", models={"default": talker}) as kernel:
        process = await kernel.spawn(image(**manifest), goal="do it")
        return await process.wait(10), made(kernel, process.pid)


async def test_the_results_of_parallel_calls_come_in_order_under_their_ids(place: Path) -> None:
    wanted = [(f"id{name}", "fs__read", {"path": f"/{name}.txt"}) for name in "cab"]
    talker = model(calls(*wanted), "done")
    ended, _ = await run(place, talker)
    assert ended.value == "done"
    results = [message for message in talker.requests[1].messages if message["role"] == "tool"]
    assert [message["tool_call_id"] for message in results] == ["idc", "ida", "idb"]
    assert told(talker.requests[1]) == ["this is c", "this is a", "this is b"]


async def test_the_calls_of_a_turn_are_open_at_the_same_time(tmp_path: Path) -> None:
    open_now: list[int] = [0, 0]
    device = agentos.Device("slow")

    @device.op("{at}", effect="repeatable")
    async def look(at: int) -> int:
        open_now[0] += 1
        open_now[1] = max(open_now)
        while open_now[1] < 3:  # noqa: ASYNC110 - the others have no event
            await anyio.sleep(0.001)
        return at

    talker = model([("slow.look", {"at": at}) for at in range(3)], "done")
    async with opened(models={"default": talker}, devices={"slow": device}) as kernel:
        process = await kernel.spawn(image("slow.look"), goal="look")
        assert (await process.wait(5)).value == "done"
    assert told(talker.requests[1]) == ["0", "1", "2"]


async def test_an_ask_among_parallel_calls_parks_the_process_while_the_others_finish_and_it_is_resumed(place: Path) -> None:
    talker = model(
        [("fs.read", {"path": "/a.txt"}), ("human.ask", {"question": "may I?"}), ("fs.read", {"path": "/b.txt"})], "done"
    )
    options: dict[str, Any] = {"workspace": place / "w", "models": {"default": talker}}
    store, copy = place / "s.db", place / "copy.db"
    async with opened(store, **options) as kernel:
        process = await kernel.spawn(image(), goal="ask")
        await settled(kernel, lambda: [row for row in rows(kernel, process.pid) if row.number == "5.3.1" and row.outcome])
        await settled(kernel)
        assert kernel.core.processes.find(process.pid).state == "waiting"
        crash(kernel, store, copy)
    async with opened(copy, **options) as kernel:
        (ask,) = await kernel.asks()
        await kernel.answer(ask.id, "approve", by="ana", value="yes, you may")
        assert (await kernel.process(process.pid).wait(5)).value == "done"
    assert len(talker.requests) == 2  # the first answer was in the journal
    assert told(talker.requests[1]) == ["this is a", "yes, you may", "this is b"]


async def test_calls_without_ids_or_with_the_same_get_names_of_their_own(place: Path) -> None:
    wanted = [(name, "fs__read", {"path": "/a.txt"}) for name in ("", "x", "x", "y" * 500)]
    talker = model(calls(*wanted), "done")
    await run(place, talker)
    messages = talker.requests[1].messages
    asked = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert asked == ["call_1_1", "x", "call_1_3", "call_1_4"]
    assert asked == [message["tool_call_id"] for message in messages if message["role"] == "tool"]


def test_no_two_calls_of_a_turn_have_one_name_whatever_the_server_calls_them() -> None:
    given = ["call_1_2", "", "call_1_2", "call_1_3", "x" * 1_000, "call_1_5x"]
    ids = [call["id"] for call in named({"calls": [{"id": name} for name in given]}, 1, 60_000)]
    assert ids[0] == "call_1_2"
    assert len(set(ids)) == len(given)


async def test_a_name_that_is_none_is_shown_again_as_one_that_every_server_takes(place: Path) -> None:
    wanted = [(str(at), name, {}) for at, name in enumerate(("fs.read", "no such tool", "", "x" * 90))]
    talker = model(calls(*wanted), "done")
    await run(place, talker)
    shown = [call["function"]["name"] for message in talker.requests[1].messages for call in message.get("tool_calls", ())]
    assert shown == ["fs__read", "no_such_tool", "unnamed", "x" * 64]


@pytest.mark.parametrize("raw", ["null", "[]", '""', '{"path": ', "yes"])
async def test_arguments_that_are_no_json_object_are_refused_with_a_row(place: Path, raw: str) -> None:
    talker = model(calls(("x", "fs__read", raw)), "done")
    ended, did = await run(place, talker)
    assert ended.value == "done"
    assert ("fs.read", "failed", "invalid.argument") in did
    assert "the arguments are no JSON object" in told(talker.requests[1])[0]


async def test_a_call_that_was_cut_off_is_told_so(place: Path) -> None:
    cut = ModelReply("", calls(("x", "fs__write", '{"path": "/a')).calls, "length")
    talker = model(cut, "done")
    await run(place, talker)
    assert "cut off at its token limit" in told(talker.requests[1])[0]


async def test_an_unknown_tool_is_told_with_the_nearest_name(place: Path) -> None:
    talker = model(calls(("x", "fs__raed", {"path": "/a.txt"}), ("y", "", {}), ("z", "n" * 9_000, {})), "done")
    ended, did = await run(place, talker)
    assert ended.value == "done"
    assert [code for op, _, code in did if not op.startswith("llm")] == ["invalid.op"] * 3
    assert "did you mean" in told(talker.requests[1])[0]
    assert max(len(op) for op, _, _ in did) <= 200


async def test_what_steers_the_program_is_no_tool_of_its_model(place: Path) -> None:
    own = ("proc__save", "proc__exit", "msg__recv", "human__tell", "sys__save")
    talker = model(calls(*((name, name, {}) for name in own)), "done")
    ended, did = await run(place, talker)
    assert ended.value == "done"
    assert {code for op, _, code in did if not op.startswith("llm")} == {"invalid.op"}


async def test_a_tool_is_found_by_its_own_name_and_by_its_verb(place: Path) -> None:
    talker = model(calls(("x", "fs.read", {"path": "/a.txt"}), ("y", "read", {"path": "/b.txt"})), "done")
    await run(place, talker)
    assert told(talker.requests[1]) == ["this is a", "this is b"]


async def test_a_call_that_failed_too_often_is_not_made_again_until_something_was_changed(place: Path) -> None:
    look, write = [("fs.read", {"path": "/new.txt"})], [("fs.write", {"path": "/new.txt", "text": "here"})]
    other = [("fs.read", {"path": "/a.txt"})]
    turns = [*([look, other] * (SAME_FAILURE_MAX + 1)), write, look, "done"]
    talker = model(*turns)
    ended, _ = await run(place, talker)
    assert ended.value == "done"
    said = [told(request)[0] for request in talker.requests[1:]]
    assert ["not made again" in text for text in said[0 : 2 * SAME_FAILURE_MAX + 2 : 2]] == [False] * SAME_FAILURE_MAX + [True]
    assert said[-1] == "here"


@pytest.mark.parametrize("long", [False, True])
async def test_the_same_turn_again_and_again_is_warned_of_and_then_ends_the_process(place: Path, long: bool) -> None:
    (place / "w" / "a.txt").write_text("x" * (100_000 if long else 10))
    talker = answering(lambda request: [("fs.read", {"path": "/a.txt"})])
    ended, _ = await run(place, talker)
    assert ended.error.code == "invalid.state"
    assert f"{SAME_TURN_MAX} turns in a row" in ended.error.message
    warned = ["turns in a row" in str(request.messages[-1]["content"]) for request in talker.requests]
    assert warned.index(True) == SAME_TURN_WARN


async def test_the_last_turn_has_no_tools_and_says_so_and_then_the_process_is_out_of_turns(place: Path) -> None:
    talker = answering(lambda request: [("fs.read", {"path": f"/{request.turn}.txt"})])
    ended, _ = await run(place, talker, program={"kind": "react", "turns": 3})
    assert (ended.error.code, ended.error.fields["limit"]) == ("denied.budget", "turns")
    assert [bool(tools) for tools in names(talker.requests)] == [True, True, False]
    assert "this is your last turn" in talker.requests[-1].messages[-1]["content"]


@pytest.mark.parametrize("turn", [{"text": ""}, {"text": "half an ans", "finish": "length"}, {"text": "no JSON"}])
async def test_an_unusable_answer_is_asked_for_again_so_often_at_most(place: Path, turn: dict[str, Any]) -> None:
    talker = answering(lambda request: ModelReply(**turn))
    ended, _ = await run(place, talker, result={"schema": {"type": "object"}})
    assert ended.error.code == "invalid.state"
    assert "no usable answer" in ended.error.message
    assert len(talker.requests) == ANSWER_REPAIRS_MAX + 1


async def test_a_repaired_answer_is_taken(place: Path) -> None:
    wrong = ["not JSON", '{"kind": "bug"}', '{"kind": "joke", "at": {"line": 1}}']
    talker = model(*wrong, '```json\n{"kind": "bug", "at": {"line": 7}}\n```')
    ended, _ = await run(place, talker, result={"schema": SCHEMA})
    assert ended.value == {"kind": "bug", "at": {"line": 7}}


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", "[1e999, -Infinity]", str(10**30)])
async def test_json_that_cannot_be_kept_is_an_unusable_answer_not_a_crash(place: Path, text: str) -> None:
    talker = model(text, json.dumps([1]))
    ended, _ = await run(place, talker, result={"schema": {"type": "array"}})
    assert (ended.state, ended.value) == ("exited", [1])


async def test_a_refusal_ends_the_process_with_the_models_words(place: Path) -> None:
    ended, _ = await run(place, model({"text": "", "finish": "refusal", "refusal": "I\nwill not"}))
    assert (ended.error.code, ended.error.message) == ("unavailable.device", "the model declined: I will not")
    assert ended.error.fields["why"] == "refusal"


async def test_more_calls_than_the_prompt_has_room_for_are_not_made_and_told(place: Path) -> None:
    wanted = [("fs.read", {"path": f"/{at}.txt"}) for at in range(40)]
    talker = model(wanted, "done")
    ended, did = await run(place, talker, memory={"context_tokens": 3_000})
    assert ended.value == "done"
    assert len([op for op, _, _ in did if op == "fs.read"]) == 10
    assert "30 more calls were not made" in told(talker.requests[1])[-1]
