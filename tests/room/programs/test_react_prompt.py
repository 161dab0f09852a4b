"""What a react process shows its model is bounded, whatever happens, and what left the prompt can be read again."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import agentos
from agentos.abi.codec import encode
from agentos.abi.counting import count_messages
from agentos.abi.model import ModelReply, ModelRequest, ToolCall
from agentos.abi.records import ProcessRecord
from agentos.devices.llm.profile import Profile
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process
from tests.agents import answering, image, model
from tests.builders import opened, rows, settled

pytestmark = pytest.mark.anyio
TURNS = int(os.environ.get("AGENTOS_TURNS", "400"))
QUOTES = '"\\\n\t'
texts = st.sampled_from(["x", "世", QUOTES, "word "]).flatmap(
    lambda part: st.sampled_from([0, 3, 200, 30_000]).map(lambda n: part * n)
)
made_calls = st.tuples(st.sampled_from(["big.say", "obj.get", "nope.x"]), texts, st.sampled_from(["", "a", "b" * 300]))
replies = st.tuples(texts, st.lists(made_calls, max_size=60), st.booleans())


def speaker() -> agentos.Device:
    """A device that returns whatever it is told to, many times over."""
    device = agentos.Device("big")

    @device.op(effect="pure")
    def say(text: str, times: int = 1) -> str:
        return text * times

    return device


def as_reply(made: Any, turn: int) -> ModelReply:
    text, wanted, cut = made
    tool_calls = []
    for op, words, name in wanted:
        args = {"name": f"turns/{turn}"} if op == "obj.get" else {"text": f"{turn}{words}", "times": 3}
        tool_calls.append(ToolCall(name, op.replace(".", "__"), None if cut and len(words) > 100 else args, words))
    return ModelReply(text or "more", tuple(tool_calls), "calls" if tool_calls else "length")


def bounded(requests: list[ModelRequest], tokens_max: int) -> None:
    for request in requests:
        assert count_messages(request.messages, request.tools) <= tokens_max
        ids = [call["id"] for message in request.messages for call in message.get("tool_calls", ())]
        assert ids == [message["tool_call_id"] for message in request.messages if message["role"] == "tool"]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    turns=st.lists(replies, min_size=1, max_size=12),
    tokens_max=st.sampled_from([1_500, 3_000, 20_000]),
    mail=st.lists(texts, max_size=8),
)
async def test_a_prompt_never_has_more_tokens_than_its_budget(turns: list[Any], tokens_max: int, mail: list[str]) -> None:
    """INVARIANT prompt-bounded: by the kernel's counter, at every request."""
    script = [as_reply(made, turn) for turn, made in enumerate(turns, 1)]
    talker = answering(lambda request: script[request.turn - 1] if request.turn <= len(script) else "done")
    async with opened(models={"default": talker}, devices={"big": speaker()}) as kernel:
        process = await kernel.spawn(image("big.*", memory={"context_tokens": tokens_max}), goal="go", args={"chat": True})
        for text in mail:
            await process.send(text or "hello")
        await settled(kernel)
        assert talker.requests
        bounded(talker.requests, tokens_max)
        assert process.info.state in ("waiting", "failed")
        assert not [row for row in rows(kernel, process.pid) if row.op in ("obj.put", "obj.append") and row.outcome != "done"]


async def pages_of(kernel: Kernel, process: Process, request: ModelRequest) -> list[str]:
    """The pages that a prompt tells of, each found with at most two calls of obj.get."""
    (told,) = [m["content"] for m in request.messages if m["role"] == "user" and m["content"].startswith("[Earlier turns")]
    lines = [line for line in told.split("\n") if line.startswith("- turns/")]
    if "older pages" in told:
        books = int(told.partition("to pages/")[2].partition("\n")[0])
        for book in range(1, books + 1):
            lines += await process.call("obj.get", name=f"pages/{book}")
    return [line.removeprefix("- ").partition(":")[0] for line in lines]


async def test_every_turn_that_left_the_prompt_is_on_one_page_that_two_calls_reach() -> None:
    talker = answering(lambda request: [("big.say", {"text": f"<{request.turn}>" * 30})] if request.turn <= 400 else "done")
    async with opened(models={"default": talker}, devices={"big": speaker()}) as kernel:
        process = await kernel.spawn(
            image("big.*", memory={"context_tokens": 3_000}, program={"kind": "react", "turns": 500}),
            args={"chat": True},
            goal="go",
        )
        await settled(kernel, lambda: len(talker.requests) > 400)
        await settled(kernel)
        last, found = talker.requests[-1], []
        for page in await pages_of(kernel, process, last):
            found += [json.loads(line) for line in (await process.call("obj.get", name=page)).split("\n")]
        shown = [message for message in last.messages if message["role"] in ("assistant", "tool")]
        results = [message["content"].partition("\n\n[turn")[0] for message in [*found, *shown] if message["role"] == "tool"]
        assert sorted(results) == sorted(f"<{turn}>" * 30 for turn in range(1, 401))


@pytest.mark.timeout(120)
async def test_many_turns_leave_prompt_save_rows_and_store_per_turn_flat(tmp_path: Path) -> None:
    size = random.Random(7)
    marks: list[tuple[int, int, int]] = []  # (bytes of the store, of the saved state, rows) at each quarter

    def talk(request: ModelRequest) -> Any:
        if request.turn % (TURNS // 4) == 0:
            record = kernel.core.store.get(ProcessRecord, request.pid)
            files = sum(path.stat().st_size for path in tmp_path.glob("s.db*"))
            state = encode(kernel.core.store.objects.unpack(record.save_state))
            marks.append((files, len(state), kernel.core.journal.head))
        return [("big.say", {"text": f"{request.turn} " + "x" * size.randrange(600)})] if request.turn < TURNS else "done"

    async with opened(tmp_path / "s.db", models={"default": answering(talk)}, devices={"big": speaker()}) as kernel:
        asked = image("big.*", memory={"context_tokens": 4_000}, program={"kind": "react", "turns": TURNS})
        process = await kernel.spawn(asked, goal="go")
        assert (await process.wait(100)).value == "done"
    (size_1, state_1, rows_1), (size_2, _, rows_2), (size_3, state_3, rows_3), (size_4, state_4, rows_4) = marks
    assert size_4 - size_3 <= (size_2 - size_1) * 1.5
    assert max(state_3, state_4) <= state_1 * 1.5
    assert rows_4 - rows_3 <= (rows_2 - rows_1) * 1.1


async def test_a_goal_that_fills_the_prompt_is_refused_before_the_model_is_asked() -> None:
    talker = model("done")
    async with opened(models={"default": talker}) as kernel:
        process = await kernel.spawn(image(memory={"context_tokens": 2_000}), goal="x" * 10_000)
        ended = await process.wait(5)
    assert ended.error.code == "invalid.manifest"
    assert "leaves no room" in ended.error.message
    assert talker.requests == []


async def test_a_prompt_that_the_server_finds_too_long_is_made_shorter() -> None:
    said = ModelReply("", (ToolCall("a", "big__say", {"text": "word " * 2_000}),), "calls")  # without usage: nothing is learnt
    talker = answering(lambda request: said if request.turn < 6 else ModelReply("done"))
    small = Profile(talker, window_tokens=6_000, output_tokens=500)
    small.meter.factor = 3.0  # the server counts three times as many
    async with opened(models={"default": small}, devices={"big": speaker()}) as kernel:
        process = await kernel.spawn(image("big.*"), goal="go")
        ended = await process.wait(10)
        codes = [row.code for row in rows(kernel, process.pid) if row.op == "llm.complete" and row.code]
    assert ended.value == "done"
    assert codes
    bounded(talker.requests, 2_000)


async def test_a_long_result_can_be_read_to_its_end_in_the_parts_that_are_offered(tmp_path: Path) -> None:
    whole = "".join(f"line {at} of it\n" for at in range(3_000))
    (tmp_path / "long.txt").write_text(whole)
    heard: list[str] = []

    def read(request: ModelRequest) -> Any:
        if request.turn == 1:
            return [("fs.read", {"path": "/long.txt"})]
        last = request.messages[-1]["content"].partition("\n\n[turn ")[0]
        heard.append(last.partition("\n[cut: ")[0])
        have = sum(map(len, heard))
        return [("obj.get", {"name": "results/1.1", "start": have, "count": 1_500})] if have < len(whole) else "done"

    async with opened(workspace=tmp_path, models={"default": answering(read)}) as kernel:
        process = await kernel.spawn(image(program={"kind": "react", "turns": 100}), goal="read")
        assert (await process.wait(10)).value == "done"
    assert "".join(heard) == whole


async def test_what_a_policy_does_not_let_be_kept_is_told_in_part(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("x" * 50_000)
    talker = model([("fs.read", {"path": "/long.txt"})], "done")
    policy = 'policy "p" version 1\nallow fs.read "/**"\ndeny obj.put\n'
    async with opened(workspace=tmp_path, models={"default": talker}, policy=policy) as kernel:
        assert (await (await kernel.spawn(image(), goal="read")).wait(5)).value == "done"
    assert "the rest could not be kept: denied.policy" in talker.requests[1].messages[-1]["content"]
