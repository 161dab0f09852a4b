"""A model server that means no good: whatever it sends is a clean reply or one clear error, in bounded memory, and never a panic."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest

import agentos
from agentos.abi.codec import encode
from agentos.abi.limits import MODEL_REPLY_BYTES_MAX
from agentos.abi.model import ModelReply, ModelRequest
from agentos.devices.llm.openai import OpenAI
from agentos.errors import Unavailable
from tests.builders import host, opened, refused, rows
from tests.model_server import Answer, ModelServer, serving

pytestmark = pytest.mark.anyio
HELLO = [{"role": "user", "content": "hello"}]
STREAMED = pytest.mark.parametrize("streamed", [False, True])


async def ask(server: ModelServer, *, streamed: bool = False, timeout_s: float = 20.0) -> ModelReply:
    driver = OpenAI("m", key=lambda: "the-key-of-this-host", base_url=server.url)
    try:
        return await driver.complete(
            ModelRequest(1, HELLO, delta=(lambda text: None) if streamed else None, timeout_s=timeout_s)
        )
    finally:
        await driver.close()


async def error_of(answer: Answer, *, streamed: bool = False) -> Unavailable:
    with serving([answer]) as server, pytest.raises(Unavailable) as caught:
        await ask(server, streamed=streamed)
    return caught.value


def whole(message: Any, **more: Any) -> str:
    """A completion with a message of our own."""
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], **more})


@STREAMED
async def test_an_answer_of_twenty_megabytes_is_refused(streamed: bool) -> None:
    error = await error_of(Answer("x" * 20_000_000, pieces=50), streamed=streamed)
    assert (error.fields["why"], error.fields["retry"]) == ("reply", False)


async def test_a_body_beyond_the_bound_is_not_even_read() -> None:
    tracemalloc.start()
    try:
        error = await error_of(Answer(body="{}", headers={"content-length": str(10 * MODEL_REPLY_BYTES_MAX)}))
        assert error.fields["why"] == "reply"
        assert tracemalloc.get_traced_memory()[1] < 64_000_000
    finally:
        tracemalloc.stop()


async def test_a_stream_without_end_ends_with_its_time() -> None:
    endless = Answer("x" * 100_000, pieces=100_000, piece_delay_s=0.001)
    with serving([endless]) as server, pytest.raises(Unavailable) as caught:
        await ask(server, streamed=True, timeout_s=0.3)
    assert caught.value.fields["why"] == "timeout"


async def test_a_compressed_answer_is_refused_unread() -> None:
    error = await error_of(Answer(body=whole({"role": "assistant", "content": "x"}), headers={"content-encoding": "gzip"}))
    assert (error.fields["why"], "gzip" in error.message) == ("reply", True)


@STREAMED
async def test_ten_thousand_calls_in_one_answer_are_as_many_calls(streamed: bool) -> None:
    with serving([Answer(calls=[("fs__read", {"path": "/a"})] * 10_000)]) as server:
        assert len((await ask(server, streamed=streamed, timeout_s=60)).calls) == 10_000


@STREAMED
@pytest.mark.parametrize(
    "raw",
    [
        "[" * 100_000,
        '{"a":' * 500 + "1" + "}" * 500,
        '{"a": 1e999}',
        '{"a": NaN}',
        '{"a": ' + "9" * 400 + "}",
        '{"a": ' + "9" * 5_000 + "}",
    ],
)
async def test_arguments_that_cannot_be_kept_are_told_as_text(streamed: bool, raw: str) -> None:
    with serving([Answer(calls=[("fs__read", raw)])]) as server:
        (call,) = (await ask(server, streamed=streamed)).calls
    assert (call.args, call.raw) == (None, raw[:2_000])


@STREAMED
async def test_halves_of_characters_and_nul_become_marks_and_can_be_kept(streamed: bool) -> None:
    with serving([Answer("a\ud800b\0c", calls=[("fs__read\ud800\0" + "n" * 1_000_000, "\udfff")])]) as server:
        reply = await ask(server, streamed=streamed)
    assert reply.text == "a\ufffdb\ufffdc"
    assert (reply.calls[0].name[:10], len(reply.calls[0].name)) == ("fs__read\ufffd\ufffd", 200)
    assert encode(reply)


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "content": {"a": 1}}, {"role": "assistant", "content": 7}, [], "text", None,
        {"role": "assistant", "content": None, "tool_calls": "all of them"}, {"role": "assistant", "tool_calls": [1]},
        {"role": "assistant", "tool_calls": [{"id": 1, "type": "function", "function": {"name": [], "arguments": ""}}]},
    ],
)  # fmt: skip
async def test_a_message_of_another_shape_is_no_answer(message: Any) -> None:
    error = await error_of(Answer(body=whole(message)))
    assert (error.code, error.fields["why"]) == ("unavailable.device", "reply")


@pytest.mark.parametrize("usage", ["many", [], {"prompt_tokens": "1", "completion_tokens": {}}, {"prompt_tokens": None}])
async def test_usage_of_another_shape_is_none(usage: Any) -> None:
    with serving([Answer(body=whole({"role": "assistant", "content": "x"}, usage=usage))]) as server:
        assert (await ask(server)).usage is None


@pytest.mark.parametrize("tokens", [-5, 10**400, 1e300])
async def test_impossible_usage_costs_what_was_estimated(tokens: float) -> None:
    lie = {"prompt_tokens": tokens, "completion_tokens": tokens, "total_tokens": tokens}
    with serving([Answer(body=whole({"role": "assistant", "content": "x"}, usage=lie))]) as server:
        driver = OpenAI("m", key=lambda: "k", base_url=server.url)
        async with opened(models={"default": driver}) as kernel:
            process = await host(kernel)
            said = await process.call("llm.complete", messages=HELLO)
            assert said["tokens"]["is_estimate"]
            assert 0 < process.usage["tokens"] < 100


@STREAMED
async def test_json_nested_without_end_is_no_answer(streamed: bool) -> None:
    body = "[" * 200_000 if not streamed else "data: " + "[" * 200_000 + "\n\n"
    assert (await error_of(Answer(body=body), streamed=streamed)).fields["why"] in ("reply", "connection")


@pytest.mark.parametrize("status", [200, 401, 500])
async def test_a_server_that_says_the_key_back_says_it_to_nobody(status: int) -> None:
    key = "sk-not-for-any-agent-0123456789"
    said = (
        whole({"role": "assistant", "content": f"your key is {key}"})
        if status == 200
        else json.dumps({"error": {"message": f"Bearer {key}"}})
    )
    with serving([Answer(status=status, body=said)]) as server:
        driver = OpenAI("m", key=lambda: key, base_url=server.url)
        async with opened(models={"default": driver}) as kernel:
            process = await host(kernel)
            try:
                shown = str(await process.call("llm.complete", messages=HELLO))
            except agentos.Unavailable as error:
                shown = f"{error!r} {error.fields} {error.__cause__!r} {error.__context__!r}"
            assert key not in shown
            assert "[secret model OpenAI]" in shown
            assert key.encode() not in b"".join(row.result for row in rows(kernel))
        assert server.requests[0].key == key


async def test_a_driver_that_fails_with_any_exception_is_not_asked_again() -> None:
    class Broken:
        async def complete(self, request: ModelRequest) -> ModelReply:
            raise KeyError("bug")

    async with opened(models={"default": Broken()}) as kernel:
        process = await host(kernel)
        with pytest.raises(agentos.Unavailable, match="KeyError") as caught:
            await process.call("llm.complete", messages=HELLO)
        assert caught.value.fields["retry"] is False
        assert await refused(process.call("llm.complete", messages=HELLO)) == "unavailable.device"


@STREAMED
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_takes_the_conversation_to_no_other_server(status: int, streamed: bool) -> None:
    with serving([]) as other, serving([Answer(status=status, headers={"location": f"{other.url}/x"}, body="")]) as server:
        with pytest.raises(Unavailable) as caught:
            await ask(server, streamed=streamed)
        assert (other.requests, len(server.requests)) == ([], 1)
    assert (caught.value.fields["retry"], caught.value.fields["status"]) == (False, status)
    assert "base URL" in caught.value.hint
