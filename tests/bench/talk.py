"""Talk: agents that a model without a server drives, one tool call a turn, and what their turns cost between spawn and exit.

The model answers from the request's turn alone and counts nothing, so what is measured is agentos: prompt, door, journal, save point. The
tool returns about 600 bytes, so a prompt of 24,000 tokens is full after some 70 turns and is paged out from there on.
``python -m tests.bench.talk CALL`` serves such a model over HTTP, until standard input ends.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import agentos
from agentos.abi.model import ModelReply, ModelRequest, ToolCall, Usage
from tests.bench.harness import Spent
from tests.bench.traffic import kernel, let_go, spawn_all
from tests.model_server import Answer, Served, serving

__all__ = [
    "CALLS", "GOAL", "LAST_WORDS", "PROMPT", "WORDS", "Talk", "Talked", "all_end", "args_of", "clerk", "note", "office", "talk",
]  # fmt: skip

CALLS = ("desk.look", "desk.act", "fs.read")
PROMPT = "You keep the notes of an office. Look up what you are asked for, one note after the other, and say what you found."
GOAL = "find what was asked for"
WORDS = "I look for the next one."
LAST_WORDS = "That is all there was."
_CONTEXT_TOKENS = 24_000
_POLICY = """\
policy "bench"
allow llm.complete any messages
allow desk.look, desk.act, llm.info, tool.list, proc.status, proc.save, proc.exit, obj.get
allow obj.put, obj.append any value
allow fs.read "/notes/**"
deny fs.read "**/.env"
"""
_PATIENCE_S = 600.0

desk = agentos.Device("desk")


def note(number: int) -> str:
    """Return the text that every tool returns, another one for every number."""
    return f"note {number}: " + f"the shelf {number % 97} holds what was asked for, beside the window. " * 9


@desk.op(effect="pure")  # type: ignore[untyped-decorator]
async def look(n: int) -> str:
    """Return note `n`."""
    return note(n)


@desk.op(effect="once")  # type: ignore[untyped-decorator]
async def act(n: int) -> str:
    """Do something outside, and return note `n`."""
    return note(n)


class Talk:
    """A model that makes the same call every turn, with another number, until it is left no tools: its last turn."""

    def __init__(self, call: str) -> None:
        self._call = call

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the reply of a turn."""
        if not request.tools:
            return ModelReply(LAST_WORDS, usage=Usage(request.tokens, 7))
        made = ToolCall(f"call_{request.turn}", self._call.replace(".", "__"), args_of(self._call, request.turn))
        return ModelReply(WORDS, (made,), "calls", Usage(request.tokens, 30))


def args_of(call: str, turn: int) -> dict[str, object]:
    """Return the arguments of a turn's call, other ones every turn."""
    return {"path": "/notes/today.md", "bytes_max": 4_096 + turn} if call == "fs.read" else {"n": turn}


@dataclass(frozen=True, slots=True)
class Talked:
    """What all turns of all agents took. `store_bytes` is what the file grew by."""

    turns: int
    wall_s: float
    cpu_s: float
    rows: int
    statements: int
    store_bytes: int

    @property
    def cpu_ms(self) -> float:
        """CPU milliseconds of a turn."""
        return self.cpu_s / self.turns * 1e3


@asynccontextmanager
async def office(folder: Path, model: object, **options: object) -> AsyncIterator[agentos.Kernel]:
    """Open a kernel with the desk, the notes and a model; one agent has worked there before."""
    (folder / "w" / "notes").mkdir(parents=True)
    (folder / "w" / "notes" / "today.md").write_text(note(1))
    async with kernel(folder, devices={"desk": desk}, policy=_POLICY, models={"default": model}, **options) as opened:
        await all_end(await spawn_all(opened, clerk(2), 1, goal=GOAL), opened)
        yield opened


async def talk(
    folder: Path, call: str, agents: int, turns: int, *, sampled: Callable[[bool], object] = bool, model: object = None
) -> Talked:
    """Have `agents` agents make `turns` turns each; the last words are one more, and count."""
    async with office(folder, model or Talk(call)) as opened:
        journal, file = opened.core.journal, opened.core.store._writer
        spawned = await spawn_all(opened, clerk(turns), agents, goal=GOAL)
        rows, statements, size = journal.head, journal.statements, file.size()
        sampled(True)
        with Spent() as spent:
            await all_end(spawned, opened)
        sampled(False)
        rows, statements, size = journal.head - rows, journal.statements - statements, file.size() - size
    return Talked(agents * (turns + 1), spent.wall_s, spent.cpu_s, rows, statements, size)


def clerk(turns: int) -> agentos.Image:
    """Return the image of an agent that makes so many turns, and one more for its last words."""
    return agentos.Image.from_dict({
        "name": "clerk", "prompt": {"text": PROMPT}, "capabilities": ["desk.*", "fs.read /notes/**"], "program": {"turns": turns + 1},
        "memory": {"context_tokens": _CONTEXT_TOKENS},
    })  # fmt: skip


async def all_end(spawned: list[agentos.Process], opened: agentos.Kernel) -> None:
    """Let them run to their end, and all of it become durable."""
    let_go(opened)
    for process in spawned:
        ended = await process.wait(_PATIENCE_S)
        assert ended.state == "exited", ended
    opened.core.journal.flush()


# --- as a server --------------------------------------------------------------------------------------------------------------


def main(words: list[str]) -> None:
    """Serve a model that makes the call named, with another number every time, until standard input ends."""
    call = words[0]

    def answered(served: Served) -> Answer:
        if not served.json.get("tools"):
            return Answer(LAST_WORDS)
        return Answer(WORDS, ((call.replace(".", "__"), args_of(call, len(served.json["messages"]))),))

    with serving(answered) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1:])
