"""What a prompt costs as a conversation grows: built, counted, taken in by the door, and saved.

The states are those of a real agent, looked at in the middle of its run; each step is then called in a loop. A save point differs from the
one before in its newest entry, as a real one does. With ``--full`` also after 10,000 turns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count as count_from
from pathlib import Path
from typing import Any

import anyio

import agentos
from agentos.abi.codec import encode
from agentos.abi.counting import count_messages
from agentos.abi.model import ModelReply, ModelRequest
from agentos.abi.ops import builtin
from agentos.broker.request import call_digest
from agentos.programs.react.prompt import Prompt
from agentos.programs.react.state import State
from tests.bench.harness import Size, Table, each_us
from tests.bench.talk import CALLS, GOAL, Talk, all_end, clerk, office
from tests.bench.traffic import spawn_all

__all__ = ["run"]

_ROUNDS = 200
_COMPLETE = next(op for op in builtin() if op.name == "llm.complete")


class Looked(Talk):
    """A model that keeps what its process had saved last before some turns, with what it was told in them."""

    def __init__(self, call: str, turns: list[int]) -> None:
        super().__init__(call)
        self._turns = turns
        self.kernel: agentos.Kernel
        self.states: dict[int, State] = {}
        self.requests: dict[int, ModelRequest] = {}

    async def complete(self, request: ModelRequest) -> ModelReply:
        """Return the reply of a turn."""
        if request.turn in self._turns:
            core = self.kernel.core
            saved = core.store.objects.unpack(core.processes.find(request.pid).record.save_state)
            self.states[request.turn], self.requests[request.turn] = State(**saved), request
        return await super().complete(request)


def run(size: Size, folder: Path) -> Iterator[Table]:
    """Yield what each part costs after so many turns."""
    yield anyio.run(_measured, size, folder)


async def _measured(size: Size, folder: Path) -> Table:
    turns = sorted({10, 100, size.of(1_000), *([10_000] if size.full else [])})
    model = Looked(CALLS[0], turns)
    table = Table(
        "CPU us of a prompt and of its save point",
        ("turns", "messages", "tokens", "bytes", "build", "count", "validate", "encode", "digest", "save"),
        note="tokens and bytes of the arguments of llm.complete, which are validated, encoded and digested; count: as the device does",
    )
    async with office(folder, model) as opened:
        model.kernel = opened
        await all_end(await spawn_all(opened, clerk(turns[-1] + 1), 1, goal=GOAL), opened)
        for turn in turns:
            request = model.requests[turn]
            found = _parts(opened, model.states[turn], request, size.of(_ROUNDS))
            encoded = encode({"messages": request.messages})
            cells = (len(request.messages), count_messages(request.messages, request.tools), len(encoded))
            table.add(f"{turn}", *(f"{cell}" for cell in cells), *(f"{us:.0f}" for us in found))
    return table


def _parts(opened: agentos.Kernel, state: State, request: ModelRequest, count: int) -> list[float]:
    """Return what each part takes, in the order of the table."""
    prompt = Prompt(clerk(1), GOAL, {}, chat=False)
    args: dict[str, Any] = {"messages": request.messages, "tools": state.tools, "turn": state.turn}
    encoded, objects = encode(args), opened.core.store.objects
    newest, made = state.window[-1]["messages"][-1], count_from(10_000)
    text = newest["content"]

    def save() -> None:
        newest["content"] = f"{next(made)} {text}"
        objects.pack(state.data())

    work: list[Callable[[], object]] = [
        lambda: prompt.messages(state),
        lambda: count_messages(request.messages, request.tools),
        lambda: _COMPLETE.validate(args),
        lambda: encode(args),
        lambda: call_digest(_COMPLETE.key_bytes, encoded),
        save,
    ]
    return [each_us(each, count, 3) for each in work]
