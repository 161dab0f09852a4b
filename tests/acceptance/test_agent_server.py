"""A model server misbehaves, and an agent goes on or says what is wrong: the real client, over real sockets, whole and streamed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import agentos
from agentos.abi.codec import decode
from agentos.abi.limits import MODEL_RETRIES
from agentos.devices.llm.openai import OpenAI
from agentos.devices.llm.profile import Profile
from agentos.testing import FakeClock
from tests.agents import image
from tests.builders import advance, opened, rows
from tests.model_server import Answer, Served, serving

pytest.importorskip("openai")  # loaded before a test's time runs
pytestmark = pytest.mark.anyio
STREAMED = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
READ = ("fs__read", {"path": "/a.txt"})
TOO_LONG = json.dumps({"error": {"message": "maximum context length is 8192 tokens", "code": "context_length_exceeded"}})


@dataclass
class Seen:
    """What came of a run: how the process ended, its journal, and what followers and the server saw."""

    exit: agentos.Exit
    models: list[tuple[str, str, str]]  # (outcome, code, why) of each attempt
    tools: list[tuple[str, str, str]]  # (op, outcome, code)
    requests: list[Served]
    events: list[Any]
    waited_s: float
    replayed: bool

    @property
    def deltas(self) -> str:
        """The pieces that followers saw."""
        return "".join(event.data["text"] for event in self.events if event.kind == "delta")

    @property
    def results(self) -> list[str]:
        """What the tool results of the second request say."""
        messages = self.requests[1].json["messages"]
        return [message["content"].partition("\n\n[turn ")[0] for message in messages if message["role"] == "tool"]


async def run(answers: Any, place: Path, *, streamed: bool, timeout_s: float = 5, **manifest: Any) -> Seen:
    """Run an agent against a server that gives these answers, then ``done``."""
    (place / "a.txt").write_text("this is a")
    clock = FakeClock()
    with serving(answers) as server:
        profile = Profile(OpenAI("m", key=lambda: "sk-hidden", base_url=server.url), timeout_s=timeout_s, window_tokens=20_000)
        async with (
            opened(workspace=place, models={"default": profile}, clock=clock) as kernel,
            anyio.create_task_group() as tasks,
        ):
            events: list[Any] = []
            process = await kernel.spawn(image(**manifest), goal="do it")
            if streamed:
                tasks.start_soon(_follow, process, events)
                await anyio.lowlevel.checkpoint()
            before = clock.now()
            with anyio.fail_after(30):
                while process.info.state not in ("exited", "failed"):
                    await anyio.sleep(0.002)
                    if process.info.state == "waiting":
                        advance(kernel, 1)
            ended = await process.wait(1)
            assert "sk-hidden" not in str([row.args + row.result for row in rows(kernel, process.pid)])
            own = rows(kernel, process.pid)
            models = [
                (row.outcome, row.code, (decode(row.result).get("fields") or {}).get("why", "") if row.code else "")
                for row in own
                if row.op == "llm.complete" and row.kind != "intent"
            ]
            tools = [
                (row.op, row.outcome, row.code) for row in own if row.op.startswith(("fs.", "nope")) and row.kind != "intent"
            ]
            seen = Seen(
                ended, models, tools, server.requests, events, clock.now() - before, (await kernel.replay(process.pid)).ok
            )
    return seen


async def _follow(process: Any, events: list[Any]) -> None:
    async for event in process.stream():
        events.append(event)


DONE = ("done", "", "")


def failed(why: str, code: str = "device") -> tuple[str, str, str]:
    return ("failed", f"unavailable.{code}", why)


RECOVERED = {
    "server errors": ([Answer(status=500), Answer(status=502), Answer(status=529)], [failed("server")] * 3),
    "a rate limit": ([Answer(status=429, headers={"retry-after": "20"})], [failed("rate", "overloaded")]),
    "a page of HTML": ([Answer(body="<html>hello</html>", headers={"content-type": "text/html"})], None),
    "half of a JSON": ([Answer(body='{"choices": [{"mess')], None),
    "no choices": ([Answer(body='{"choices": []}')], None),
    "a dropped connection": ([Answer("one two three four", cut_after=2)], [failed("connection")]),
    "nothing at all": ([Answer("x", delay_s=0.6)], [failed("timeout", "timeout")]),
    "slow pieces": ([Answer("x" * 40, piece_delay_s=0.2, pieces=20)], [failed("timeout", "timeout")]),
}


@STREAMED
@pytest.mark.parametrize("trouble", RECOVERED)
async def test_trouble_that_passes_is_waited_out_and_each_attempt_is_in_the_journal(
    trouble: str, streamed: bool, tmp_path: Path
) -> None:
    answers, expected = RECOVERED[trouble]
    only_streamed = trouble in ("a dropped connection", "slow pieces")
    if only_streamed and not streamed:
        pytest.skip("a whole answer has no pieces")
    timeout_s = 0.5 if expected and expected[0][-1] == "timeout" else 10
    seen = await run(answers, tmp_path, streamed=streamed, timeout_s=timeout_s)
    assert seen.exit.value == "done"
    if expected is None:
        expected = [failed("reply")]
    assert seen.models == [*expected, DONE]
    assert seen.replayed
    if streamed:
        assert any(
            event.data.get("code", "").startswith("unavailable") for event in seen.events if isinstance(event.data, dict)
        )


@STREAMED
async def test_a_rate_limit_is_waited_out_as_long_as_the_server_asks(streamed: bool, tmp_path: Path) -> None:
    seen = await run([Answer(status=429, headers={"retry-after": "42"})], tmp_path, streamed=streamed)
    assert seen.waited_s >= 42
    assert len(seen.requests) == 2


@STREAMED
async def test_a_server_that_never_recovers_ends_the_process_after_all_tries(streamed: bool, tmp_path: Path) -> None:
    seen = await run(lambda served: Answer(status=500, text="on fire"), tmp_path, streamed=streamed)
    assert seen.models == [failed("server")] * (MODEL_RETRIES + 1)
    assert (seen.exit.state, seen.exit.error.code) == ("failed", "unavailable.device")
    assert "on fire" in seen.exit.error.message
    assert seen.replayed


FATAL = {
    "a wrong key": (Answer(status=401, text="bad key"), "key", "check the key"),
    "no right to the model": (Answer(status=403, text="not yours"), "key", "check the key"),
    "no such model": (Answer(status=404, text="no model m"), "request", "OPENAI_MODEL"),
    "a refused request": (Answer(status=400, text="tools are wrong"), "request", ""),
}


@STREAMED
@pytest.mark.parametrize("trouble", FATAL)
async def test_trouble_that_stays_ends_the_process_at_once_with_a_hint(trouble: str, streamed: bool, tmp_path: Path) -> None:
    answer, why, hint = FATAL[trouble]
    seen = await run([answer], tmp_path, streamed=streamed)
    assert seen.models == [failed(why)]
    assert seen.exit.state == "failed"
    assert answer.text in seen.exit.error.message
    assert hint in seen.exit.error.hint
    assert seen.replayed


@STREAMED
async def test_parallel_calls_are_made_and_answered_in_order(streamed: bool, tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("this is b")
    seen = await run([Answer(calls=[READ, ("fs__read", {"path": "/b.txt"}), READ])], tmp_path, streamed=streamed)
    assert seen.results == ["this is a", "this is b", "this is a"]
    assert seen.exit.value == "done"


@STREAMED
@pytest.mark.parametrize("raw", ["null", "[]", '""', '{"path": "/a', "{'path': 1}", '{"path": 1}{"path": 2}', "[" * 50_000])
async def test_arguments_that_are_no_object_are_told_and_nothing_is_called(raw: str, streamed: bool, tmp_path: Path) -> None:
    seen = await run([Answer(calls=[("fs__read", raw), READ])], tmp_path, streamed=streamed)
    assert seen.tools == [("fs.read", "failed", "invalid.argument"), ("fs.read", "done", "")]
    assert "no JSON object" in seen.results[0]
    assert seen.exit.value == "done"
    assert seen.replayed


HOSTILE = ['{"path": "\\ud800"}', '{"path": 1' + "0" * 40 + "}", '{"path": ' + "[" * 5_000 + "]" * 5_000 + "}", '{"path": NaN}']


@STREAMED
@pytest.mark.parametrize("raw", HOSTILE, ids=["surrogate", "huge number", "deep", "NaN"])
async def test_arguments_that_cannot_be_kept_do_not_end_the_process(raw: str, streamed: bool, tmp_path: Path) -> None:
    seen = await run([Answer(calls=[("fs__read", raw)])], tmp_path, streamed=streamed)
    assert seen.exit.value == "done"
    assert [outcome for _, outcome, _ in seen.tools] == ["failed"]
    assert seen.models == [DONE, DONE]
    assert seen.replayed


@STREAMED
async def test_an_unknown_tool_is_told(streamed: bool, tmp_path: Path) -> None:
    seen = await run([Answer(calls=[("nope__x", {}), ("fs__raed", {})])], tmp_path, streamed=streamed)
    assert [code for _, _, code in seen.tools] == ["invalid.op"] * 2
    assert "did you mean" in seen.results[1]


@STREAMED
async def test_a_refusal_ends_the_process_with_its_words(streamed: bool, tmp_path: Path) -> None:
    seen = await run([Answer(refusal="I will not")], tmp_path, streamed=streamed)
    assert seen.exit.error.message == "the model declined: I will not"
    assert seen.models == [DONE]


@STREAMED
@pytest.mark.parametrize("answer", [Answer(""), Answer("half an", finish="length")], ids=["empty", "length"])
async def test_an_empty_or_cut_answer_is_asked_for_again(answer: Answer, streamed: bool, tmp_path: Path) -> None:
    seen = await run([answer], tmp_path, streamed=streamed)
    assert seen.exit.value == "done"
    assert seen.requests[1].json["messages"][-1]["content"].startswith("[Your answer was")


@STREAMED
async def test_a_call_that_was_cut_off_is_told_as_cut_off(streamed: bool, tmp_path: Path) -> None:
    seen = await run(
        [Answer(calls=[("fs__write", '{"path": "/b.txt", "text": "abc')], finish="length")], tmp_path, streamed=streamed
    )
    assert "cut off at its token limit" in seen.results[0]
    assert not (tmp_path / "b.txt").exists()


@STREAMED
async def test_an_answer_of_two_megabytes_is_the_result(streamed: bool, tmp_path: Path) -> None:
    seen = await run([Answer("word " * 400_000, pieces=400)], tmp_path, streamed=streamed)
    assert len(seen.exit.value) == 2_000_000
    assert seen.replayed


@STREAMED
async def test_a_conversation_that_is_too_long_is_made_shorter_and_goes_on(streamed: bool, tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("word " * 5_000)

    def answer(served: Served) -> Answer:
        count = sum(message["role"] == "tool" for message in served.json["messages"])
        if len(json.dumps(served.json["messages"])) > 12_000:
            return Answer(body=TOO_LONG, status=400)
        pages = "Earlier turns" in json.dumps(served.json["messages"])
        return Answer("done") if pages else Answer(calls=[("fs__read", {"path": "/long.txt", "bytes_max": 20_000 + count})])

    seen = await run(answer, tmp_path, streamed=streamed)
    assert seen.exit.value == "done"
    assert ("failed", "unavailable.device", "context") in seen.models
    assert seen.replayed


@STREAMED
async def test_an_answer_without_usage_counts_by_estimate(streamed: bool, tmp_path: Path) -> None:
    seen = await run([Answer(calls=[READ], usage=False), Answer("done", usage=False)], tmp_path, streamed=streamed)
    assert seen.exit.value == "done"


@STREAMED
async def test_followers_see_the_words_as_they_come_and_others_do_not_cost_a_stream(streamed: bool, tmp_path: Path) -> None:
    seen = await run([Answer("one two three four")], tmp_path, streamed=streamed)
    assert [bool(served.json.get("stream")) for served in seen.requests] == [streamed]
    assert seen.deltas == ("one two three four" if streamed else "")
    assert seen.exit.value == "one two three four"


async def test_every_request_is_a_conversation_that_servers_take(tmp_path: Path) -> None:
    wrong = [Answer(calls=[READ, ("nope__x", "["), ("fs__list", {"path": "/"})]), Answer(""), Answer(calls=[READ])]
    seen = await run(wrong, tmp_path, streamed=False)
    for served in seen.requests:
        open_ids: list[str] = []
        for message in served.json["messages"]:
            if message["role"] == "tool":
                assert message["tool_call_id"] == open_ids.pop(0)
                continue
            assert not open_ids  # every call is answered before anybody says anything else
            open_ids = [call["id"] for call in message.get("tool_calls", ())]
            assert all(isinstance(json.loads(call["function"]["arguments"]), dict) for call in message.get("tool_calls", ()))
