"""The Chat Completions driver: the real client, against a server that answers, and misbehaves, as it is told."""

from __future__ import annotations

import cProfile
import json
import pstats
from typing import Any

import anyio
import pytest

from agentos.abi.model import ModelReply, ModelRequest, ToolCall, Usage
from agentos.devices.llm.openai import OpenAI
from agentos.errors import Unavailable
from tests.model_server import Answer, ModelServer, serving

pytestmark = pytest.mark.anyio
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {
    "type": "function",
    "function": {"name": "fs__read", "description": "read", "parameters": {"type": "object", "properties": {}}},
}
STREAMED = pytest.mark.parametrize("streamed", [False, True])


async def ask(server: ModelServer, *, streamed: bool = False, pieces: list[str] | None = None, **request: Any) -> ModelReply:
    """One attempt at the server; `pieces` gets what was streamed."""
    driver = OpenAI("m", key=lambda: "the-key", base_url=server.url)
    heard = pieces if pieces is not None else []
    request.setdefault("timeout_s", 5.0)
    try:
        return await driver.complete(ModelRequest(1, HELLO, delta=heard.append if streamed else None, **request))
    finally:
        await driver.close()


async def refused(answer: Answer, *, streamed: bool = False, **request: Any) -> Unavailable:
    with serving([answer]) as server:
        with pytest.raises(Unavailable) as caught:
            await ask(server, streamed=streamed, **request)
        assert len(server.requests) == 1  # the client tries nothing again by itself
    return caught.value


@STREAMED
async def test_an_answer_comes_with_its_text_and_usage(streamed: bool) -> None:
    with serving([Answer("Grüße, 世界")]) as server:
        reply = await ask(server, streamed=streamed)
    assert reply == ModelReply("Grüße, 世界", (), "stop", Usage(10, 5, 2), "m")


async def test_a_streamed_answer_is_told_piece_by_piece() -> None:
    heard: list[str] = []
    with serving([Answer("one two three four")]) as server:
        reply = await ask(server, streamed=True, pieces=heard)
    assert len(heard) == 4
    assert "".join(heard) == reply.text


@STREAMED
async def test_parallel_calls_keep_their_order_ids_and_arguments(streamed: bool) -> None:
    wanted = [("fs__read", {"path": f"/{at}"}) for at in range(3)]
    with serving([Answer(calls=wanted)]) as server:
        reply = await ask(server, streamed=streamed, tools=[TOOL])
    assert reply.calls == tuple(ToolCall(f"call_{at}", name, args) for at, (name, args) in enumerate(wanted, 1))
    assert (reply.finish, reply.text) == ("calls", "")


@STREAMED
@pytest.mark.parametrize("raw", ['{"path": ', "[1]", "null", "yes"])
async def test_arguments_that_are_no_object_are_kept_as_they_were_written(streamed: bool, raw: str) -> None:
    with serving([Answer(calls=[("fs__read", raw)])]) as server:
        reply = await ask(server, streamed=streamed)
    assert reply.calls == (ToolCall("call_1", "fs__read", None, raw),)


@STREAMED
async def test_what_was_asked_reaches_the_server(streamed: bool) -> None:
    with serving([Answer("x")]) as server:
        await ask(server, streamed=streamed, tools=[TOOL], tokens_max=7, temperature=0.5, result={"type": "object"})
    (served,) = server.requests
    assert served.key == "the-key"
    assert served.json["messages"] == HELLO
    assert served.json["tools"] == [TOOL]
    assert (served.json["max_completion_tokens"], served.json["temperature"]) == (7, 0.5)
    assert served.json["response_format"]["json_schema"]["schema"] == {"type": "object"}


async def test_further_parameters_of_a_profile_reach_the_server() -> None:
    with serving([Answer("x")]) as server:
        options = {"reasoning_effort": "low", "extra_body": {"of_this_server": 1, "messages": "never these"}}
        driver = OpenAI("m", key=lambda: "k", base_url=server.url, options=options)
        await driver.complete(ModelRequest(1, HELLO, tools=[TOOL]))
        await driver.close()
    (served,) = server.requests
    assert (served.json["reasoning_effort"], served.json["of_this_server"]) == ("low", 1)
    assert (served.json["messages"], served.json["tools"]) == (HELLO, [TOOL])


async def test_the_work_of_the_client_does_not_grow_with_the_messages() -> None:
    """It would walk through each of them on the kernel's loop; the encoder does it once, in C."""
    driver_calls = []
    with serving([Answer("x")] * 3) as server:
        driver = OpenAI("m", key=lambda: "k", base_url=server.url)
        for count in (1, 1, 1_000):  # the first call imports
            with cProfile.Profile() as profile:
                await driver.complete(ModelRequest(1, HELLO * count, tools=[TOOL]))
            driver_calls.append(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]
        await driver.close()
    assert driver_calls[2] < driver_calls[1] + 500


@STREAMED
@pytest.mark.parametrize(("finish", "said"), [("length", "length"), ("content_filter", "refusal"), ("stop", "stop")])
async def test_the_reason_to_finish_is_told(streamed: bool, finish: str, said: str) -> None:
    with serving([Answer("cut", finish=finish)]) as server:
        assert (await ask(server, streamed=streamed)).finish == said


@STREAMED
async def test_a_refusal_is_one(streamed: bool) -> None:
    with serving([Answer(refusal="I will not")]) as server:
        reply = await ask(server, streamed=streamed)
    assert (reply.finish, reply.refusal) == ("refusal", "I will not")


@STREAMED
async def test_missing_usage_is_none(streamed: bool) -> None:
    with serving([Answer("x", usage=False)]) as server:
        assert (await ask(server, streamed=streamed)).usage is None


@STREAMED
@pytest.mark.parametrize(
    ("status", "headers", "why", "retry", "after"),
    [
        (429, {"retry-after": "3"}, "rate", True, 3.0),
        (429, {"retry-after-ms": "250"}, "rate", True, 0.25),
        (429, {"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, "rate", True, None),
        (500, {}, "server", True, None),
        (503, {"retry-after": "1"}, "rate", True, 1.0),
        (401, {}, "key", False, None),
        (404, {}, "request", False, None),
    ],
)
async def test_a_status_says_whether_another_attempt_may_help(
    streamed: bool, status: int, headers: dict[str, str], why: str, retry: bool, after: float | None
) -> None:
    error = await refused(Answer("so says the server", status=status, headers=headers), streamed=streamed)
    assert (error.fields["why"], error.fields["retry"], error.fields.get("retry_after_s")) == (why, retry, after)
    assert "so says the server" in error.message


@STREAMED
async def test_a_conversation_that_is_too_long_is_named_as_that(streamed: bool) -> None:
    body = json.dumps({"error": {"message": "This model's maximum context length is 8", "code": "context_length_exceeded"}})
    error = await refused(Answer(status=400, body=body), streamed=streamed)
    assert (error.fields["why"], error.fields["retry"]) == ("context", False)


@STREAMED
async def test_a_page_with_status_200_is_no_answer(streamed: bool) -> None:
    error = await refused(Answer(body="<html>log in</html>"), streamed=streamed)
    assert (error.code, error.fields["why"]) == ("unavailable.device", "reply")
    assert "base URL" in error.hint


@STREAMED
async def test_json_of_another_kind_is_no_answer(streamed: bool) -> None:
    assert (await refused(Answer(body='{"ok": true}'), streamed=streamed)).fields["why"] in ("reply", "connection")


async def test_a_stream_that_is_cut_off_is_no_answer() -> None:
    error = await refused(Answer("one two three four", cut_after=2), streamed=True)
    assert (error.fields["why"], error.fields["retry"]) == ("connection", True)


async def test_slow_tokens_beyond_the_deadline_are_cut() -> None:
    slow = Answer("x" * 40, pieces=40, piece_delay_s=0.05)
    with serving([slow]) as server, pytest.raises(Unavailable) as caught, anyio.fail_after(3):
        await ask(server, streamed=True, timeout_s=0.3)
    assert (caught.value.code, caught.value.fields["why"]) == ("unavailable.timeout", "timeout")


@pytest.mark.parametrize(
    ("body", "hint"), [('{"error": {"message": "no", "code": "model_not_found"}}', "OPENAI_MODEL"), ("<html>", "/v1")]
)
async def test_a_missing_model_is_told_from_a_wrong_place(body: str, hint: str) -> None:
    assert hint in (await refused(Answer(status=404, body=body))).hint


async def test_an_empty_account_is_not_asked_again() -> None:
    body = json.dumps({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})
    error = await refused(Answer(status=429, body=body))
    assert (error.fields["why"], error.fields["retry"]) == ("rate", False)


async def test_a_base_url_without_a_scheme_is_not_asked_again() -> None:
    driver = OpenAI("m", key=lambda: "k", base_url="localhost:11434/v1")
    with pytest.raises(Unavailable) as caught:
        await driver.complete(ModelRequest(1, HELLO, timeout_s=5.0))
    await driver.close()
    assert (caught.value.fields["why"], caught.value.fields["retry"]) == ("request", False)
    assert "http://" in caught.value.hint


async def test_a_server_that_is_not_there_is_named() -> None:
    with serving() as server:
        pass
    with pytest.raises(Unavailable) as caught:
        await ask(server)
    assert caught.value.fields["why"] == "connection"


@STREAMED
async def test_a_long_answer_comes_whole(streamed: bool) -> None:
    with serving([Answer("x" * 2_000_000)]) as server:
        assert len((await ask(server, streamed=streamed)).text) == 2_000_000


@STREAMED
async def test_no_error_and_no_repr_shows_the_key(streamed: bool) -> None:
    error = await refused(Answer("no", status=500), streamed=streamed)
    shown = f"{error!r} {error.fields} {error.__cause__!r} {error.__context__!r} {OpenAI('m', key=lambda: 'the-key')!r}"
    assert "the-key" not in shown
