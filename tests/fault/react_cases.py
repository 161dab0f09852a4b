"""The agent of the crash matrix: a model drives a process through seven turns, in a kernel that may die at any point.

    1  five calls at once, one of each effect class, and a message to another process
    2  an `once` call that a person is asked about, a `keyed` one, and one that the policy denies; a message comes meanwhile
    3  the server says 429 first; then a file is written
    4  the prompt is too long for the server, so more of it is paged out; then a file is read that is longer than its share, and kept
    5  that object is read on; the denied call is made again, and refused
    6  an answer that is no JSON     7  the final answer, which fits the image's schema

`live` does what a careful host does after a crash, so running it again on the same folder has to end as if nothing had happened. The model
is a `ScriptedModel` in the child, or the real client with a server in the parent; either way each request is written down by turn.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.codec import decode, to_json
from agentos.abi.model import ModelReply, ModelRequest, model_failed
from agentos.abi.records import MessageRecord
from agentos.devices.llm.openai import OpenAI
from agentos.devices.llm.scripted import ScriptedModel
from agentos.runtime.audit import entries
from agentos.testing import Ledger
from agentos.testing.crash import crash_point, install
from tests.builders import FastClock
from tests.fault.crash_programs import answer_of, store_of

LIFE_S = 20.0
TELLS = {"one": "you said one", "two": "you said two"}
POLICY = 'restrict "gate" version 1\nask ledger.once when value == "asked"\ndeny ledger.pure when value == "forbidden"\n'
RESULT = {"type": "object", "properties": {"done": {"type": "boolean"}}, "required": ["done"]}
BIG = "".join(f"line {number} of a long file\n" for number in range(400))
LIMITED = 3  # the turn whose first request is answered with 429
TOO_LONG = 4  # the turn whose prompt is declined until something has left it
TURNS: list[Any] = [
    [
        ("ledger.keyed", {"value": "a"}), ("ledger.probeable", {"value": "b"}), ("ledger.repeatable", {"value": "c"}),
        ("ledger.once", {"value": "d"}), ("ledger.pure", {"value": "e"}), ("obj.put", {"value": "kept", "name": "thing"}),
        ("msg.send", {"to": 1, "value": "from the agent", "channel": "box"}),
    ],
    [("ledger.once", {"value": "asked"}), ("ledger.keyed", {"value": "f"}), ("ledger.pure", {"value": "forbidden"})],
    [("fs.write", {"path": "/report.md", "text": "the report\n"})],
    [("fs.read", {"path": "/big.txt"})],
    [("obj.get", {"name": "results/4.1", "start": 4000, "count": 3000}), ("ledger.pure", {"value": "forbidden"})],
    "I am done.",
    '{"done": true}',
]  # fmt: skip
CAPABILITIES = ["ledger.*", "obj.*", "msg.send", "fs.read, fs.write /**"]
TOOLS = ["ledger.*", "obj.put", "obj.append", "msg.send", "fs.read", "fs.write"]


class Requests:
    """Every request that reached the model, in a file that survives whoever asked: `{turn, digest}` a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, turn: int, messages: list[dict[str, Any]]) -> int:
        """Write a request down and return how many there were of its turn before. What the ledger counts differs, and is left out."""
        text = re.sub(rb'\\"when\\":\d+', b"", to_json(messages))
        before = self.count()[turn]
        with self._path.open("a") as file:
            file.write(json.dumps({"turn": turn, "digest": hashlib.sha256(text).hexdigest(), "chars": len(text)}) + "\n")
        return before

    def lines(self) -> list[dict[str, Any]]:
        """Return the requests in the order they came."""
        return [json.loads(line) for line in self._path.read_text().splitlines()] if self._path.exists() else []

    def count(self) -> Counter[int]:
        """Return how many there were of each turn."""
        return Counter(line["turn"] for line in self.lines())

    def prompts(self) -> dict[str, list[str]]:
        """Return what was asked in each turn: one prompt, however often."""
        found: dict[str, set[str]] = {}
        for line in self.lines():
            found.setdefault(str(line["turn"]), set()).add(line["digest"])
        return {turn: sorted(digests) for turn, digests in found.items()}


def is_too_long(turn: int, messages: list[dict[str, Any]]) -> bool:
    """Say whether the model declines a prompt for its length."""
    return turn == TOO_LONG and b"turns/" not in to_json(messages)


class Counted:
    """A scripted model whose requests are written down, and that declines two of them at first."""

    def __init__(self, requests: Requests, turns: list[Any]) -> None:
        self._requests = requests
        self._model = ScriptedModel(turns)
        self._is_scripted = turns is TURNS

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Answer as the script says."""
        before = self._requests.add(request.turn, request.messages)
        crash_point("model.asked")
        if self._is_scripted and request.turn == LIMITED and not before:
            raise model_failed("rate", "too many requests", retry=True, retry_after_s=1)
        if self._is_scripted and is_too_long(request.turn, request.messages):
            raise model_failed("context", "this is too long for me")
        reply = await self._model.complete(request)
        crash_point("model.answered")
        return reply


def agent(*, typed: bool = True) -> agentos.Image:
    """Return the image of the agent, whose result has a type or is text."""
    manifest = {
        "name": "agent", "prompt": {"text": "You do what you are told."}, "tools": TOOLS, "capabilities": CAPABILITIES,
        "memory": {"context_tokens": 6000},
    }  # fmt: skip
    return agentos.Image.from_dict({**manifest, **({"result": {"schema": RESULT}} if typed else {})})


@asynccontextmanager
async def opened(folder: Path, turns: list[Any], resident: int, url: str) -> AsyncIterator[agentos.Kernel]:
    """Open the store of a story with its ledger and its model."""
    (folder / "w").mkdir(parents=True, exist_ok=True)
    (folder / "w" / "big.txt").write_text(BIG)
    driver = OpenAI("m", key=lambda: "k", base_url=url) if url else Counted(Requests(folder / "requests"), turns)
    ledger = Ledger(folder / "ledger")
    install()
    async with agentos.open(
        store_of(folder), workspace=folder / "w", devices={"ledger": ledger.device}, models={"default": driver}, clock=FastClock(),
        control=False, durability="fast", grace_s=0,
    ) as kernel:  # fmt: skip
        kernel.core.scheduler.resident_max = resident
        yield kernel


def answered(kernel: agentos.Kernel) -> dict[int, int]:
    """Return the turns whose answer is journaled, and how many tokens each took."""
    trail = entries(kernel.core.store, since=0, pid=None, op="llm.complete", outcome="done")
    return {entry.args["turn"]: entry.result["tokens"]["input"] + entry.result["tokens"]["output"] for entry in trail}


def happened(kernel: agentos.Kernel) -> list[str]:
    """Return the values whose effect the journal knows to be done."""
    trail = entries(kernel.core.store, since=0, pid=None, op=None, outcome="done")
    return [str(entry.args["value"]) for entry in trail if entry.op.startswith("ledger.")]


def kept(kernel: agentos.Kernel) -> list[str]:
    """Return the names of the objects that were put, those of cut results and pages among them."""
    trail = entries(kernel.core.store, since=0, pid=None, op="obj.put", outcome="done")
    return sorted(str(entry.args["name"]) for entry in trail)


def messages(kernel: agentos.Kernel) -> dict[str, int]:
    """Return how often each message was sent."""
    return dict(Counter(str(decode(record.value)) for record in kernel.core.store.current(MessageRecord, live=None)))


async def people(kernel: agentos.Kernel, process: agentos.Process, ledger: Path, kinds: Counter[str]) -> None:
    """Answer every question, having told the agent something first that it has to find in its next turn."""
    while True:
        for ask in await kernel.asks():
            if ask.kind == "approval" and "hurry" not in messages(kernel):
                await process.send("hurry")
            kinds[ask.kind] += 1
            await kernel.answer(ask.id, "approve", by="pat", **answer_of(ask, ledger))
        await anyio.sleep(0.001)


async def follow(kernel: agentos.Kernel) -> None:
    """Look at everything that happens."""
    async for _ in kernel.events():
        pass


async def the_agent(kernel: agentos.Kernel, folder: Path, image: agentos.Image, **options: Any) -> agentos.Process:
    """Start the agent, or find the one that the host was told about, or may not have been told about."""
    known = [process for process in await kernel.ps(all=True) if process.name == "agent"]
    if known:
        return kernel.process(known[0].pid)
    assert not (folder / "told").exists(), "a process was acknowledged and is gone"
    if not await kernel.ps():
        await kernel.spawn(agentos.Image.host("mailbox"), name="mailbox")
    process = await kernel.spawn(image, name="agent", policy=POLICY, **options)
    os.close(os.open(folder / "told", os.O_CREAT | os.O_WRONLY, 0o600))
    return process


async def live(where: str, resident: int, url: str, replay: bool) -> dict[str, Any]:
    """Run the agent to its end, from wherever the last kernel left it, and tell what came of it."""
    folder = Path(where)
    requests, book, kinds = Requests(folder / "requests"), folder / "ledger", Counter[str]()
    async with opened(folder, TURNS, resident, url) as kernel:
        done_before, asked_before = answered(kernel), requests.count()
        effects_before, lines_before = happened(kernel), Counter(line["value"] for line in Ledger.read(book))
        process = await the_agent(kernel, folder, agent(), goal="do it")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(people, kernel, process, book, kinds)
            if url:
                tasks.start_soon(follow, kernel)  # then answers are streamed
            ended = await process.wait(LIFE_S)
            tasks.cancel_scope.cancel()
        kernel.core.journal.flush()
        lines, asked = Counter(line["value"] for line in Ledger.read(book)), requests.count()
        done = answered(kernel)
        return {
            "state": ended.state, "value": ended.value, "error": str(ended.error or ""), "asked": dict(kinds),
            "ledger": dict(lines), "messages": messages(kernel), "requests": {str(turn): count for turn, count in asked.items()},
            "prompts": requests.prompts(), "asked_again": [turn for turn in done_before if asked[turn] != asked_before[turn]],
            "done_again": [value for value in effects_before if lines[value] != lines_before[value]],
            "answered": sorted(done), "tokens": process.usage.get("tokens", 0), "tokens_answered": sum(done.values()),
            "chain": (await kernel.verify_audit()).ok,
            "kept": kept(kernel),
            "is_replayed": (await kernel.replay(process.pid)).ok if replay else True,
        }  # fmt: skip


# --- a conversation -----------------------------------------------------------------------------------------------------------


def told(kernel: agentos.Kernel, pid: int) -> list[list[Any]]:
    """Return what the agent has told, each with the message that it answers."""
    trail = entries(kernel.core.store, since=0, pid=pid, op="human.tell", outcome="done")
    return [[entry.args["text"], entry.args["reply_to"]] for entry in trail]


CHAT_TURNS: list[Any] = ["you said one", [("ledger.keyed", {"value": "g"})], "you said two"]


async def chat(where: str, resident: int) -> dict[str, Any]:
    """Say two things to an agent, the second once the first is answered, and wait until both are."""
    folder = Path(where)
    requests = Requests(folder / "requests")
    async with opened(folder, CHAT_TURNS, resident, "") as kernel:
        done_before, asked_before = answered(kernel), requests.count()
        process = await the_agent(kernel, folder, agent(typed=False))
        for count, text in enumerate(TELLS, 1):
            if text not in messages(kernel):
                await kernel.run_until_idle(LIFE_S)
                await process.send(text)
            with anyio.fail_after(LIFE_S):
                while len(told(kernel, process.pid)) < count:  # noqa: ASYNC110 - what is waited for has no event of its own
                    await anyio.sleep(0.001)
        await kernel.run_until_idle(LIFE_S)
        return {
            "told": told(kernel, process.pid), "messages": messages(kernel), "prompts": requests.prompts(),
            "state": process.info.state, "ledger": [line["value"] for line in Ledger.read(folder / "ledger")],
            "asked_again": [turn for turn in done_before if requests.count()[turn] != asked_before[turn]],
            "chain": (await kernel.verify_audit()).ok, "is_replayed": (await kernel.replay(process.pid)).ok,
        }  # fmt: skip


# --- many agents --------------------------------------------------------------------------------------------------------------

FLEET_TURNS = ("ledger.keyed", "ledger.probeable", "obj.append", "ledger.keyed")


async def fleet(where: str, count: int, url: str) -> dict[str, Any]:
    """Run so many agents at once to their ends, those that are not there yet being started; each makes FLEET_TURNS, then answers."""
    folder = Path(where)
    async with opened(folder, [], 512, url) as kernel:
        there = {process.name for process in await kernel.ps(all=True)}
        for name in (f"agent {number}" for number in range(count)):
            if name not in there:
                await kernel.spawn(agent(typed=False), name=name, goal=name)
        for process in await kernel.ps():
            if process.state == "paused":  # it was there whenever a kernel died, so it was set aside
                await kernel.process(process.pid).signal("resume")
        ended = [await kernel.process(process.pid).wait(LIFE_S) for process in await kernel.ps(all=True)]
        kernel.core.journal.flush()
        appended = entries(kernel.core.store, since=0, pid=None, op="obj.append", outcome="done")
        return {
            "states": dict(Counter(each.state for each in ended)), "errors": [str(each.error) for each in ended if each.error],
            "ledger": dict(Counter(line["value"] for line in Ledger.read(folder / "ledger"))),
            "appended": dict(Counter(entry.pid for entry in appended)), "chain": (await kernel.verify_audit()).ok,
        }  # fmt: skip


def warm() -> None:
    """Run both once in this interpreter, and import the client, so that its forks start at once."""
    import_module("openai.resources.chat")
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(live, f"{folder}/1", 512, "", True)
        anyio.run(chat, f"{folder}/2", 512)
