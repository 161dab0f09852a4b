"""Models without a server: scripted turns, and recordings of real ones.

`ScriptedModel` says what it is told to; it is what tests, demos and the README use. `Recorder` keeps what another driver answered in a
file of JSON lines, `Recording` answers from such a file, by the conversation's content, so that a run can be repeated offline.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import anyio

from agentos.abi.codec import to_json
from agentos.abi.counting import count_messages, count_text
from agentos.abi.model import ModelDriver, ModelReply, ModelRequest, ToolCall, Usage, model_failed
from agentos.abi.yamlstrict import parse_yaml
from agentos.errors import Invalid

__all__ = ["Recorder", "Recording", "ScriptedModel", "Turn", "read_turns"]

Turn = str | Sequence[tuple[str, dict[str, Any]]] | ModelReply
"""What a scripted model says: its last words, tools to call together, or a whole reply."""
_REQUESTS_KEPT: Final = 10_000


class ScriptedModel:
    """Answers turn by turn, each process from the first turn on.

    Args:
        turns: A list of turns, or a function (sync or async) from the request to a turn. Past the end it answers ``done``.
        delay_s: Seconds that each answer takes.

    Attributes:
        requests: Every `ModelRequest` so far, the newest REQUESTS_KEPT.
    """

    def __init__(self, turns: Sequence[Turn] | Callable[[ModelRequest], Any], *, delay_s: float = 0) -> None:
        self._turns = turns
        self._delay_s = delay_s
        self.requests: list[ModelRequest] = []

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the reply of this turn: the request says which it is, or the conversation shows how many there were."""
        self.requests.append(request)
        del self.requests[:-_REQUESTS_KEPT]
        if self._delay_s:
            await anyio.sleep(self._delay_s)
        reply = _as_reply(await self._turn(request), request)
        if request.delta is not None and reply.text:
            request.delta(reply.text)
        return reply

    async def _turn(self, request: ModelRequest) -> Turn:
        if callable(self._turns):
            turn: Turn = self._turns(request)
            return await turn if inspect.isawaitable(turn) else turn
        at = request.turn - 1 if request.turn else sum(message.get("role") == "assistant" for message in request.messages)
        return self._turns[at] if at < len(self._turns) else "done"


def _as_reply(turn: Any, request: ModelRequest) -> ModelReply:
    if isinstance(turn, ModelReply):
        return turn
    text, calls = (turn, ()) if isinstance(turn, str) else ("", tuple(_calls(turn)))
    said = count_text(text) + sum(count_text(to_json(call.args).decode()) for call in calls)
    usage = Usage(count_messages(request.messages, request.tools), said)
    return ModelReply(text, calls, "calls" if calls else "stop", usage, "scripted")


def _calls(turn: Any) -> Iterator[ToolCall]:
    if not isinstance(turn, list | tuple):
        raise Invalid(
            "argument", f"a turn is a `{type(turn).__name__}`", hint="give a text or a list of (op, args)", field="turns"
        )
    for at, call in enumerate(turn, 1):
        if not (isinstance(call, list | tuple) and len(call) == 2 and isinstance(call[0], str) and isinstance(call[1], dict)):
            raise Invalid("argument", f"call {at} of a turn is `{call!r}`", hint="give (op, args)", field="turns")
        yield ToolCall(f"call_{at}", call[0].replace(".", "__"), call[1])


def read_turns(path: Path) -> list[Turn]:
    """Return the turns of a ``scripted:FILE``: a YAML list whose items are a text, or a list of ``[op, {args}]`` or ``{op, args}``.

    Raises:
        Invalid: `invalid.argument`, the file cannot be read or is none.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Invalid("argument", f"`{path}`: {error.strerror}", hint="name a YAML file of turns", field="model") from error
    turns = parse_yaml(data, str(path)).plain()
    if not isinstance(turns, list):
        raise Invalid("argument", f"`{path}` is no list of turns", hint="each turn is a text or a list of calls", field="model")
    return [turn if isinstance(turn, str) else [_pair(call) for call in turn] for turn in turns]


def _pair(call: Any) -> tuple[str, dict[str, Any]]:
    if isinstance(call, dict) and isinstance(call.get("op"), str):
        return call["op"], call.get("args") or {}
    if isinstance(call, list) and call and isinstance(call[0], str):
        return call[0], call[1] if len(call) > 1 else {}
    raise Invalid("argument", f"`{call!r}` is no call", hint="write [op, {arguments}]", field="model")


# --- recordings -------------------------------------------------------------------------------------------------------------


def _name(request: ModelRequest) -> str:
    """Return the name of a conversation: what was said and which tools there were, whoever asks."""
    content = {"messages": request.messages, "tools": request.tools, "result": request.result}
    return hashlib.sha256(to_json(content)).hexdigest()[:32]


class Recorder:
    """Passes requests on to a driver and appends its answers to a file."""

    def __init__(self, driver: ModelDriver, path: Path) -> None:
        self._driver = driver
        self._path = path

    async def complete(self, request: ModelRequest) -> ModelReply:
        """As the driver's."""
        reply = await self._driver.complete(request)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": _name(request), "reply": asdict(reply)}) + "\n")
        return reply


class Recording:
    """Answers from a file that a `Recorder` wrote; the same conversation gets its answers in the order they were given."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._replies: dict[str, list[ModelReply]] = {}
        try:
            lines = path.read_text("utf-8").splitlines()
        except OSError as error:
            raise Invalid("argument", f"`{path}`: {error.strerror}", hint="name a recording", field="model") from error
        for at, line in enumerate(lines, 1):
            self._enter(at, line)

    def _enter(self, at: int, line: str) -> None:
        try:
            entry = json.loads(line)
            said = entry["reply"]
            said["calls"] = tuple(ToolCall(**call) for call in said["calls"])
            said["usage"] = Usage(**said["usage"]) if said["usage"] else None
            self._replies.setdefault(entry["name"], []).append(ModelReply(**said))
        except (ValueError, KeyError, TypeError) as error:
            raise Invalid("argument", f"`{self._path}`:{at}: {error}", hint="record it again", field="model") from error

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return what was answered to this conversation.

        Raises:
            Unavailable: the recording has no such conversation.
        """
        replies = self._replies.get(_name(request))
        if not replies:
            text = f"`{self._path}` has no answer to this conversation of {len(request.messages)} messages"
            raise model_failed("request", text, hint="record it again: something that the model is told has changed")
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if request.delta is not None and reply.text:
            request.delta(reply.text)
        return reply
