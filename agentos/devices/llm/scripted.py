"""Models without a server: scripted turns, and recordings of real ones.

`ScriptedModel` says what it is told to; it is what tests, demos and the README use. `Recorder` keeps what another driver answered in a
file of JSON lines, `Recording` answers from such a file, by what the conversation says, so that a run can be repeated offline.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import anyio

from agentos.abi.codec import to_json
from agentos.abi.counting import count_messages, count_text
from agentos.abi.limits import SCRIPTED_SLOTS
from agentos.abi.model import ModelDriver, ModelReply, ModelRequest, ToolCall, Usage, model_failed
from agentos.abi.yamlstrict import parse_yaml
from agentos.errors import Invalid

__all__ = ["Recorder", "Recording", "ScriptedModel", "Turn", "read_turns"]

log = logging.getLogger("agentos.devices")

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
        slots: Attempts under way at once, where the host does not say: there is no server to spare.
    """

    slots = SCRIPTED_SLOTS

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
        at = _turn(request) - 1
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


def _turn(request: ModelRequest) -> int:
    """Return which turn of its conversation a request is for: the request says so, or the answers in it show how many there were."""
    return request.turn or 1 + sum(message.get("role") == "assistant" for message in request.messages)


def _marks(request: ModelRequest) -> list[str]:
    """Return a short digest of everything that a model is told: the tools and the schema first, then each message."""
    told = [{"tools": request.tools, "result": request.result}, *request.messages]
    return [hashlib.sha256(to_json(item)).hexdigest()[:16] for item in told]


def _head(request: ModelRequest) -> str:
    """Return a digest of how a conversation began: up to the first thing that a user said."""
    texts = []
    for message in request.messages:
        texts.append(message)
        if message.get("role") == "user":
            break
    return hashlib.sha256(to_json(texts)).hexdigest()[:16]


class Recorder:
    """Passes requests on to a driver and appends its answers to a file, which holds what the model said and no prompt.

    What else the driver has (vectors, keys, a way to be closed) is the recorder's, too.

    Attributes:
        path: The file. It lies outside of every mount: it tells what models said, whoever may know that.
    """

    def __init__(self, driver: ModelDriver, path: Path) -> None:
        self._driver = driver
        self.path = path

    def __getattr__(self, name: str) -> Any:
        """Return what the driver has beside `complete`."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._driver, name)

    async def complete(self, request: ModelRequest) -> ModelReply:
        """As the driver's."""
        reply = await self._driver.complete(request)
        self._keep({"head": _head(request), "turn": _turn(request), "marks": _marks(request), "reply": asdict(reply)})
        return reply

    def _keep(self, entry: dict[str, Any]) -> None:
        with open(self.path, "a", encoding="utf-8", opener=_for_owner) as file:
            file.write(json.dumps(entry) + "\n")


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


class Recording:
    """Answers from a file that a `Recorder` wrote.

    The very conversation of then gets its answer. Where a run differs from the recorded one in something that it was told, such as a file's
    time, the same turn of a conversation with the same beginning is answered; a log line says what differs. The same turn of several
    conversations is answered in the order of then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._exact: dict[tuple[str, ...], list[ModelReply]] = {}
        self._turns: dict[tuple[str, int], list[tuple[list[str], ModelReply]]] = {}
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            text = error.strerror if isinstance(error, OSError) else "it is no text"
            raise Invalid("argument", f"`{path}`: {text}", hint="name a recording", field="model") from error
        for at, line in enumerate(lines, 1):
            self._enter(at, line)

    def _enter(self, at: int, line: str) -> None:
        try:
            entry = json.loads(line)
            said, marks = entry["reply"], [str(mark) for mark in entry["marks"]]
            said["calls"] = tuple(ToolCall(**call) for call in said["calls"])
            said["usage"] = Usage(**said["usage"]) if said["usage"] else None
            reply = ModelReply(**said)
            self._exact.setdefault(tuple(marks), []).append(reply)
            self._turns.setdefault((str(entry["head"]), int(entry["turn"])), []).append((marks, reply))
        except (ValueError, KeyError, TypeError) as error:
            text = f"`{self._path}`:{at}: {type(error).__name__}: {error}"
            raise Invalid("argument", text, hint="record it again", field="model") from error

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return what was answered to this conversation.

        Raises:
            Unavailable: the recording has no such turn; the message says which, and what differs from the nearest there is.
        """
        reply = self._answer(request)
        if request.delta is not None and reply.text:
            request.delta(reply.text)
        return reply

    def _answer(self, request: ModelRequest) -> ModelReply:
        marks, turn = _marks(request), _turn(request)
        same = self._exact.get(tuple(marks))
        if same:
            return same.pop(0) if len(same) > 1 else same[0]
        alike = self._turns.get((_head(request), turn))
        if not alike:
            text = f"`{self._path}` has no answer to turn {turn}: {self._what_differs(request, marks, turn)}"
            raise model_failed("request", text, hint="record it again")
        then, reply = alike.pop(0) if len(alike) > 1 else alike[0]
        log.warning("replay_differs pid=%d turn=%d what=%s", request.pid, turn, _difference(then, marks, request))
        return reply

    def _what_differs(self, request: ModelRequest, marks: list[str], turn: int) -> str:
        others = [then for (_, at), entries in self._turns.items() if at == turn for then, _ in entries]
        if not others:
            last = max((at for _, at in self._turns), default=0)
            return f"it ends with turn {last}"
        nearest = max(others, key=lambda then: sum(a == b for a, b in zip(then, marks, strict=False)))
        return _difference(nearest, marks, request)


def _difference(then: list[str], marks: list[str], request: ModelRequest) -> str:
    """Return the first thing in which what a model is told is not what it was told then."""
    at = next((at for at, (a, b) in enumerate(zip(then, marks, strict=False)) if a != b), min(len(then), len(marks)))
    if at == 0:
        return "the tools, or the schema of the result, are others"
    if at >= len(marks):
        return f"there were {len(then) - 1} messages, and now {len(marks) - 1}"
    return f"message {at} of {len(marks) - 1} ({request.messages[at - 1].get('role')}) is another"
