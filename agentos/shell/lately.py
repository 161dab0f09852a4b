"""`lately`: what a process did last, put together from its newest journal rows: its turn, its calls, its words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from agentos.abi.codec import decode
from agentos.abi.image import AgentImage
from agentos.abi.records import ImageRecord
from agentos.kernel.event import event_of
from agentos.runtime.clock import SystemClock
from agentos.shell import words
from agentos.shell.context import Shell
from agentos.shell.turns import Turns

__all__ = ["Lately", "lately"]

_ROWS_MAX: Final = 60
_CALLS_MAX: Final = 5
_SKIPPED: Final = ("proc.save", "proc.status")


@dataclass(frozen=True, slots=True)
class Lately:
    """The newest of a process: `calls` are lines, `said` what it told a person or its model said last; 0 and "" where it is no agent."""

    turn: int
    model: str
    calls: tuple[str, ...]
    said: str


def lately(shell: Shell, pid: int, digest: str) -> Lately:
    """Look at the newest rows of a process, so many at most, whoever runs it."""
    from agentos.store import open_store  # noqa: PLC0415 - the read-only store is enough, beside whoever has it

    with open_store(shell.store, clock=SystemClock(), writer=False) as store:
        events = [event_of(row) for row in store.newest(pid, _ROWS_MAX)]
        image = store.get(ImageRecord, digest)
    turns, said = Turns(), ""
    calls: dict[int, str] = {}
    for event in events:
        turns.hear(event)
        data = event.data
        if data.get("op") in ("human.tell", "llm.complete") and data.get("text"):
            said = str(data["text"])
        if event.kind in ("started", "call", "denied") and data.get("op") not in _SKIPPED:
            number = data.get("parent") or event.seq  # `log` and `audit` number a call by its intent
            shown = calls.pop(number, "") or f"{data.get('op', '')} {words.quoted(data.get('resource', ''), 80)}".rstrip()
            calls[number] = shown if event.kind == "started" else f"{shown}  {data.get('code') or data.get('outcome', '')}"
    newest = [f"{text}  journal {seq}" for seq, text in list(calls.items())[-_CALLS_MAX:]]
    return Lately(turns.newest.get(pid, 0), _model(image), tuple(newest), said)


def _model(record: ImageRecord | None) -> str:
    """Return the profile of an image, "" where no model drives it or, as for a process of the host, there is no image."""
    image = AgentImage.from_data(decode(record.manifest)) if record is not None else None
    return image.profile if image is not None and image.body.kind == "react" else ""
