"""The model of the agents' state machine: it says what it was told to, and looks at everything that it is shown.

`Model` gives each process the words that were laid out for it, one a turn; without any it asks a person, so that nothing runs on by
itself. `conversation_flaw` says what a strict server would refuse about a request.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from agentos.abi.codec import decode
from agentos.abi.counting import count_messages
from agentos.abi.model import ModelReply, ModelRequest, ToolCall, model_failed
from agentos.abi.records import Row

CONTEXT_TOKENS = 6_000
NAP_S = 30.0
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")

Made = Callable[[], str]
"""Makes a value that there was never before."""


def calls_of(word: str, fresh: Made, kin: list[int]) -> list[tuple[str, Any]]:
    """Return the calls that a word stands for; arguments that are a text are no JSON."""
    other = kin[0] if kin else 1
    table: dict[str, list[tuple[str, Any]]] = {
        "note": [("obj__append", {"name": "log", "value": fresh()})],
        "read": [("fs__read", {"path": "/a.txt"})],
        "write": [("fs__write", {"path": "/w.txt", "text": fresh()})],
        "keyed": [("ledger__keyed", {"value": fresh()})],
        "once": [("ledger__once", {"value": fresh()})],
        "probeable": [("ledger__probeable", {"value": fresh()})],
        "gated": [("ledger__once", {"value": f"gated {fresh()}"})],
        "denied": [("ledger__pure", {"value": "forbidden"}), ("fs__read", {"path": "/secret"})],
        "failing": [("ledger__keyed", {"value": fresh(), "fail": True})],
        "big": [("fs__read", {"path": "/big.txt"})],
        "part": [("obj__get", {"name": "results/1.1", "start": 100, "count": 400})],
        "ask": [("human__ask", {"question": fresh()})],
        "nap": [("clock__sleep", {"seconds": NAP_S})],
        "child": [("proc__spawn", {"image": "kid:1", "goal": fresh(), "grant": ["ledger.keyed"]})],
        "wait": [("proc__wait", {"pid": other})],
        "post": [("msg__send", {"to": other, "value": fresh()})],
        "no json": [("fs__write", '{"path": "/w.txt", "te'), ("ledger__keyed", {"value": fresh()})],
        "unknown": [("no.such tool", {}), ("fs.read", {"path": "/a.txt"}), ("", {}), ("x" * 90, {"a": 1})],
        "own flow": [("msg__recv", {}), ("proc__exit", {"value": 1}), ("proc__save", {"state": 1}), ("proc__status", {})],
        "fork": [("proc__fork", {}), ("ledger__keyed", {"value": fresh()})],
        "narrow": [("policy__update", {"text": 'restrict "own" version 1\ndeny fs.write'})],
        "widen": [("policy__update", {"text": 'restrict "own" version 1\ndeny fs.write when path == "/none"'})],
        "embed": [("llm__embed", {"texts": [fresh()]})],
        "same": [("ledger__pure", {"value": "same"})],
        "wrong": [("fs__write", {"path": 7}), ("obj__put", {"value": 1, "nome": 2}), ("fs__read", {})],
    }
    if word == "mix":
        return [call for each in ("keyed", "read", "once", "no json", "note", "big", "ask") for call in table[each]]
    if word == "two waits":
        return [*table["nap"], *table["gated"], *table["ask"], *table["probeable"]]
    return table[word]


FAILURES: dict[str, dict[str, Any]] = {
    "rate": {"retry": True, "retry_after_s": 5},
    "server": {"retry": True},
    "connection": {"retry": True},
    "timeout": {"retry": True},
    "reply": {"retry": True},
    "context": {},
    "key": {},
    "request": {},
}
REPLIES = {
    "finish": ModelReply("finished"),
    "typed": ModelReply('{"done": true}'),
    "untyped": ModelReply('{"done": 1}'),
    "empty": ModelReply("  "),
    "cut": ModelReply("this is too lo", finish="length"),
    "refusal": ModelReply("", finish="refusal", refusal="I would rather not."),
    "long": ModelReply("word " * 3_000),
}
ACTS = [
    "note", "read", "write", "keyed", "once", "probeable", "gated", "denied", "failing", "big", "part", "ask", "nap", "child", "wait",
    "post", "no json", "unknown", "own flow", "fork", "narrow", "widen", "embed", "same", "wrong", "mix", "two waits",
]  # fmt: skip
WORDS = [*ACTS, *REPLIES, *FAILURES, "bug"]


class Model:
    """A driver that says the words laid out for a process.

    Attributes:
        words: Of each process, those that it has still to say.
        kin: Of each process, whom it may wait for or write to.
        asked: Every request, as (pid, turn).
        flaws: What was wrong with a request.
        is_closing: Whoever has no words left answers, so that everybody comes to an end.
        answered: Of each process, the turns whose answers the machine has found in the journal.
    """

    def __init__(self) -> None:
        self.words: dict[int, deque[str]] = {}
        self.kin: dict[int, list[int]] = {}
        self.asked: list[tuple[int, int]] = []
        self.flaws: list[str] = []
        self.is_closing = False
        self.count = 0
        self.answered: dict[int, Counter[int]] = {}

    def fresh(self) -> str:
        self.count += 1
        return f"v{self.count}"

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Look at what is shown, and say the next word."""
        self.asked.append((request.pid, request.turn))
        self._look(request)
        words = self.words.get(request.pid)
        is_kid = request.messages[0]["content"].startswith("You are a kid")
        word = words.popleft() if words else "typed" if is_kid or self.is_closing else "ask"
        if word in FAILURES:
            raise model_failed(word, f"the server says {word}", **FAILURES[word])
        if word == "bug":
            raise KeyError("a bug of the driver")
        if word in REPLIES:
            return REPLIES[word]
        made = []
        for at, (name, args) in enumerate(calls_of(word, self.fresh, self.kin.get(request.pid, []))):
            identity = f"id_{request.turn}" if at < 2 else ""  # two that are equal, and some that are none
            made.append(ToolCall(identity, name, None, args) if isinstance(args, str) else ToolCall(identity, name, args))
        return ModelReply("" if len(made) > 1 else "I do this.", tuple(made), "calls")

    def _look(self, request: ModelRequest) -> None:
        flaw = conversation_flaw(request.messages)
        if flaw:
            self.flaws.append(f"process {request.pid} turn {request.turn}: {flaw}")
        tokens = count_messages(request.messages, request.tools)
        if tokens > CONTEXT_TOKENS:
            self.flaws.append(f"process {request.pid} turn {request.turn}: a prompt of {tokens} tokens")
        if request.turn in self.answered.get(request.pid, ()):
            self.flaws.append(f"process {request.pid} turn {request.turn}: it was answered, and asked for again")


def answered(rows: list[Row]) -> Counter[int]:
    """Return which turns of a process were answered since it was last taken back, and how often."""
    found: Counter[int] = Counter()
    for row in rows:
        if row.op == "note.restored":
            found.clear()
        elif row.op == "llm.complete" and row.outcome == "done" and row.result:  # not erased
            found[decode(row.result)["turn"]] += 1
    return found


def conversation_flaw(messages: list[dict[str, Any]]) -> str:
    """Return what is wrong with a conversation, by the rules of Chat Completions, or ""."""
    open_ids: list[str] = []
    for at, message in enumerate(messages):
        role = message.get("role")
        if (role == "system") != (at == 0):
            return f"message {at} is of {role}"
        if not isinstance(message.get("content"), str):
            return f"message {at} has no text"
        if role == "tool":
            if not open_ids or message.get("tool_call_id") != open_ids.pop(0):
                return f"message {at} answers `{message.get('tool_call_id')}`, which is not the next open call"
            continue
        if open_ids:
            return f"message {at} comes before the calls {open_ids} were answered"
        if role == "assistant":
            calls = message.get("tool_calls", [])
            if not calls and ("tool_calls" in message or not message["content"].strip()):
                return f"message {at} says nothing"
            open_ids = [call["id"] for call in calls]
            if len(set(open_ids)) != len(open_ids) or not all(0 < len(each) <= 40 for each in open_ids):
                return f"message {at} has calls {open_ids}"
            for call in calls:
                if not NAME.fullmatch(call["function"]["name"]):
                    return f"message {at} calls `{call['function']['name']}`, which is no name"
                if not _is_object(call["function"]["arguments"]):
                    return f"message {at} has arguments that are no object"
        elif role not in ("user", "system"):
            return f"message {at} is of {role}"
    return f"the calls {open_ids} are not answered" if open_ids else "" if messages[-1]["role"] != "assistant" else "it ends so"


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False
