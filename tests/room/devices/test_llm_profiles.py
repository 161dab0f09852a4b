"""Profiles: which model a name means, what a recording answers, and what becomes of agents whose model is not there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.model import ModelReply, ModelRequest, Vectors
from agentos.devices.llm.openai import OpenAI
from agentos.devices.llm.profile import Price, Profile, driver_from, expect_model
from agentos.devices.llm.scripted import Recorder, Recording, ScriptedModel
from agentos.errors import Invalid, Unavailable
from tests.builders import crashing, host, opened, rows, settled
from tests.model_server import Answer, serving

pytestmark = pytest.mark.anyio
AGENT = agentos.Image.from_dict({"name": "a", "prompt": {"text": "You help."}})


def request(*said: str, turn: int = 0) -> ModelRequest:
    """A conversation: a system prompt, then users and the model in turns."""
    messages = [{"role": "user" if at % 2 == 0 else "assistant", "content": text} for at, text in enumerate(said)]
    return ModelRequest(1, [{"role": "system", "content": "You help."}, *messages], turn=turn)


# --- names ------------------------------------------------------------------------------------------------------------------


def test_a_text_names_a_profile_turns_a_recording_or_a_recorder(tmp_path: Path) -> None:
    usual = Profile(ScriptedModel(["hi"]), Price(1.0), clearance="secret")
    (tmp_path / "turns.yaml").write_text("- hello\n")
    (tmp_path / "made.jsonl").write_text("")
    assert driver_from("default", {"default": usual}) is usual
    assert isinstance(driver_from(f"scripted:{tmp_path}/turns.yaml", {}).driver, ScriptedModel)
    assert isinstance(driver_from(f"replay:{tmp_path}/made.jsonl", {}).driver, Recording)
    recorded = driver_from(f"record:{tmp_path}/new.jsonl", {"default": usual})
    assert (type(recorded.driver), recorded.price, recorded.clearance) == (Recorder, Price(1.0), "secret")


@pytest.mark.parametrize("text", ["default", "record:x.jsonl", "gpt-9"])
def test_without_any_model_the_error_names_the_ways_to_one(text: str) -> None:
    with pytest.raises(Invalid, match="no model is configured") as caught:
        driver_from(text, {})
    assert all(way in caught.value.hint for way in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "scripted:FILE"))


def test_a_name_that_is_nearly_one_is_guessed() -> None:
    with pytest.raises(Invalid) as caught:
        expect_model({"large": Profile(ScriptedModel([]))}, "larg")
    assert caught.value.hint == "did you mean `large`?"


# --- recordings -------------------------------------------------------------------------------------------------------------


async def recorded(path: Path, *requests: ModelRequest) -> Recording:
    recorder = Recorder(ScriptedModel(lambda made: f"answer to {made.messages[-1]['content']}"), path)
    for made in requests:
        await recorder.complete(made)
    return Recording(path)


async def test_the_conversation_of_then_gets_its_answer_whoever_asks_and_however_often(tmp_path: Path) -> None:
    recording = await recorded(tmp_path / "r", request("one"), request("two"))
    assert [(await recording.complete(request(text))).text for text in ("two", "one", "two")] == [
        "answer to two",
        "answer to one",
        "answer to two",
    ]


async def test_a_run_whose_file_times_differ_gets_the_answer_of_its_turn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recording = await recorded(tmp_path / "r", request("go", turn=1), request("go", "list", "a 10:00", turn=2))
    assert (await recording.complete(request("go", turn=1))).text == "answer to go"
    assert (await recording.complete(request("go", "list", "a 11:30", turn=2))).text == "answer to a 10:00"
    assert "turn=2 what=message 4 of 4 (user) is another" in caplog.text


async def test_a_conversation_that_began_otherwise_has_no_answer_and_the_error_says_where(tmp_path: Path) -> None:
    recording = await recorded(tmp_path / "r", request("go", turn=1))
    with pytest.raises(Unavailable, match=r"no answer to turn 1: message 2 of 2 \(user\) is another") as caught:
        await recording.complete(request("stop", turn=1))
    assert caught.value.fields["retry"] is False
    with pytest.raises(Unavailable, match="no answer to turn 5: it ends with turn 1"):
        await recording.complete(request("go", "so", "on", turn=5))


async def test_a_recording_is_its_owners_and_holds_no_prompt(tmp_path: Path) -> None:
    await recorded(tmp_path / "r", request("what nobody else may read"))
    assert (tmp_path / "r").stat().st_mode & 0o777 == 0o600
    assert "You help" not in (tmp_path / "r").read_text()


@pytest.mark.parametrize("text", ["no json", "{}", json.dumps({"head": "h", "turn": 1, "marks": [], "reply": {"calls": 1}})])
def test_a_file_that_is_no_recording_is_refused_with_its_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "r").write_text(text + "\n")
    with pytest.raises(Invalid, match=":1: "):
        Recording(tmp_path / "r")


# --- agents without their model ---------------------------------------------------------------------------------------------


async def test_an_agent_whose_model_is_not_there_is_not_started() -> None:
    async with opened() as kernel:
        with pytest.raises(agentos.Invalid, match="no model is configured"):
            await kernel.spawn(AGENT, goal="x")
        assert await kernel.ps() == []


async def test_an_agent_waits_for_a_kernel_that_has_its_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store, copy = tmp_path / "a.db", tmp_path / "b.db"
    slow = ScriptedModel(["never"], delay_s=60)
    async with crashing(store, copy, models={"default": slow}, durability="strict") as kernel:
        process = await kernel.spawn(AGENT, goal="x")
        await settled(kernel, lambda: slow.requests)
    async with opened(copy) as kernel:
        await kernel.run_until_idle(5)
        assert kernel.process(process.pid).info.waiting_on == ("model default",)
        assert [record.msg.split()[0] for record in caplog.records if "missing" in record.msg] == ["model_missing"]
    async with opened(copy, models={"default": ScriptedModel(["here"])}) as kernel:
        assert (await kernel.process(process.pid).wait(10)).value == "here"


# --- vectors ----------------------------------------------------------------------------------------------------------------


async def test_vectors_come_in_the_order_of_their_texts_in_requests_of_2048() -> None:
    texts = ["x" * (at % 50 + 1) for at in range(5_000)]
    with serving() as server:
        made: Vectors = await _closing(OpenAI("m", key=lambda: "k", base_url=server.url), lambda d: d.embed(texts, 30))
    assert [vector[0] for vector in made.vectors] == [float(len(text)) for text in texts]
    assert [len(served.json["input"]) for served in server.requests] == [2_048, 2_048, 904]
    assert made.usage is not None
    assert made.usage.input == 30


async def test_vectors_cost_what_the_server_says() -> None:
    with serving() as server:
        profile = Profile(OpenAI("m", key=lambda: "k", base_url=server.url), Price(input=1.0))
        async with opened(models={"vectors": profile}) as kernel:
            process = await host(kernel, "llm.embed vectors")
            assert await process.call("llm.embed", texts=["hello", "hi"], profile="vectors") == [[5.0, 1.0], [2.0, 1.0]]
            assert (process.usage["tokens"], process.usage["usd"]) == (10, pytest.approx(10e-6))


@pytest.mark.parametrize(
    "data", [[], [{"index": 1, "embedding": [1.0]}], [{"index": 0, "embedding": ["x"]}], [{"index": 0, "embedding": 1}], 7]
)
async def test_vectors_of_another_shape_are_no_answer(data: Any) -> None:
    body = json.dumps({"object": "list", "data": data, "model": "m", "usage": {"prompt_tokens": 1, "total_tokens": 1}})
    with serving([Answer(body=body)]) as server, pytest.raises(Unavailable) as caught:
        await _closing(OpenAI("m", key=lambda: "k", base_url=server.url), lambda d: d.embed(["a"], 5))
    assert caught.value.fields["why"] == "reply"


async def _closing(driver: OpenAI, use: Callable[[OpenAI], Any]) -> Any:
    try:
        return await use(driver)
    finally:
        await driver.close()


# --- connections ------------------------------------------------------------------------------------------------------------


async def test_fifty_kernels_leave_no_connection_open() -> None:
    with serving(lambda served: Answer("x")) as server:

        async def once() -> None:
            async with opened(models={"default": OpenAI("m", key=lambda: "k", base_url=server.url)}) as kernel:
                await (await host(kernel)).call("llm.complete", messages=[{"role": "user", "content": "x"}])

        await once()
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(50):
            await once()
        for _ in range(100):  # the server's own ends close a little later
            if len(os.listdir("/proc/self/fd")) <= before + 4:
                break
            await anyio.sleep(0.05)
        assert len(os.listdir("/proc/self/fd")) <= before + 4


# --- waiting ----------------------------------------------------------------------------------------------------------------


async def test_a_server_that_says_when_is_asked_again_then_and_each_attempt_has_its_rows() -> None:
    with serving([Answer("slow down", status=429, headers={"retry-after": "0.2"}), Answer("done")]) as server:
        async with opened(models={"default": OpenAI("m", key=lambda: "k", base_url=server.url)}) as kernel:
            process = await kernel.spawn(AGENT, goal="x")
            assert (await process.wait(20)).value == "done"
            made = [(row.op, row.outcome) for row in rows(kernel, process.pid) if row.op in ("llm.complete", "clock.sleep")]
            assert made == [
                ("llm.complete", ""),
                ("llm.complete", "failed"),
                ("clock.sleep", "done"),
                ("llm.complete", ""),
                ("llm.complete", "done"),
            ]
        assert server.requests[1].at - server.requests[0].at >= 0.2


async def test_a_date_to_wait_for_counts_from_the_date_of_the_answer() -> None:
    headers = {"Retry-After": "Wed, 21 Oct 2020 07:28:07 GMT", "Date": "Wed, 21 Oct 2020 07:28:00 GMT"}
    from agentos.devices.llm.openai import _retry_after

    assert _retry_after({name.lower(): value for name, value in headers.items()}) == 7.0
    assert _retry_after({"retry-after": headers["Retry-After"]}) is None
    assert _retry_after({"retry-after": headers["Date"], "date": headers["Retry-After"]}) is None


async def test_the_deadline_of_a_process_ends_its_attempts() -> None:
    with serving(lambda served: Answer("no", status=500)) as server:
        async with opened(models={"default": OpenAI("m", key=lambda: "k", base_url=server.url)}) as kernel:
            process = await kernel.spawn(AGENT, goal="x", deadline_s=0.5)
            ended = await process.wait(10)
            assert (ended.state, ended.error.code) == (
                "killed",
                "unavailable.timeout",
            ) or ended.error.code == "unavailable.timeout"


async def test_a_greedy_tree_delays_a_newcomer_by_one_use_of_each_slot() -> None:
    order: list[int] = []

    def note(made: ModelRequest) -> str:
        order.append(made.pid)
        return "x"

    profile = Profile(ScriptedModel(note, delay_s=0.005), slots=2)
    async with opened(models={"default": profile}) as kernel:
        greedy, newcomer = await host(kernel), await host(kernel)
        call = ("llm.complete", {"messages": [{"role": "user", "content": "x"}]})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(greedy.calls, [call] * 100)
            await settled(kernel, lambda: len(order) >= 2)
            seen = len(order)
            tasks.start_soon(newcomer.calls, [call])
            await settled(kernel, lambda: newcomer.pid in order)
        assert order.index(newcomer.pid) - seen <= 2 * profile.slots


async def test_a_reply_of_a_driver_has_the_name_that_its_profile_says() -> None:
    profile = Profile(ScriptedModel([ModelReply("x", model="mine")]))
    async with opened(models={"default": profile}) as kernel:
        process = await host(kernel)
        assert (await process.call("llm.complete", messages=[]))["model"] == "mine"
        assert rows(kernel, process.pid)[0].resource == "default"
