"""`Turns`: the turns of the agents of a tree, put together from events, and how one is told in a line.

    started llm.complete       a turn begins, or is tried once more
    delta                      what the model is saying, of the newest attempt only
    call llm.complete          it has said what it wants, and what that cost
    other calls                belong to the turn whose model made them
    proc.save, the next start, the end of the process      the turn is over

A turn that makes no call is over as soon as it was said. All of it was chosen by a model: it is shown quoted.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field, replace
from typing import Any, Final

from agentos.abi.values import Event
from agentos.shell import words

__all__ = ["Hitch", "Made", "Turn", "Turns"]

_TURNS_KEPT_MAX: Final = 500
_SPOKEN_KEPT: Final = 400  # characters of a streamed text: more than a line of a terminal
_CALLS_TOLD_MAX: Final = 6
_OF_THE_LOOP: Final = frozenset({
    "llm.info", "tool.list", "proc.status", "proc.save", "msg.recv", "obj.put", "clock.sleep", "human.tell", "mem.recall",
})  # fmt: skip
_HITCHES: Final = {
    "rate": "the model's server is busy", "server": "the model's server failed", "connection": "the model's server cannot be reached",
    "timeout": "the model took too long", "reply": "the model's server sent no usable answer", "context": "the prompt is too long",
}  # fmt: skip


@dataclass(slots=True)
class Made:
    """One call that a model made: `outcome` is done, denied, failed or unknown, "" while it is under way; `seq` its journal number."""

    op: str
    resource: str
    outcome: str
    code: str
    seq: int

    def __str__(self) -> str:
        """Return it in a few words."""
        shown = f"{words.quoted(self.op, 60)} {words.quoted(self.resource, 60)}".rstrip()
        if self.outcome == "done":
            return f"{shown} ok"
        return f"{shown} {self.code or self.outcome or 'open'} (journal {self.seq})"


@dataclass(slots=True)
class Turn:
    """One turn of an agent: what its model said (`text`, cut), the calls it made, and what that cost."""

    pid: int
    turn: int
    calls: list[Made] = field(default_factory=list)
    text: str = ""
    tokens: float = 0.0
    usd: float = 0.0
    model: str = ""
    seq: int = 0

    def __str__(self) -> str:
        """Return it as the follower prints it."""
        told = [str(call) for call in self.calls[:_CALLS_TOLD_MAX]]
        if len(self.calls) > _CALLS_TOLD_MAX:
            more = len(self.calls) - _CALLS_TOLD_MAX
            told.append(f"{more} more call{'' if more == 1 else 's'}")
        said = "; ".join(told) or "answers"
        remark = f"  {words.quoted(' '.join(self.text.split()), 100)!r}" if self.calls and self.text.strip() else ""
        return f"{f'turn {self.turn}':<9} pid {self.pid}  {said}{remark}  {words.spent(self.tokens, self.usd)}"


@dataclass(frozen=True, slots=True)
class Hitch:
    """An attempt to reach the model that failed and is made once more, after `pause_s` seconds; None: at once. `hint` is told once."""

    pid: int
    why: str
    message: str
    status: int | None
    pause_s: float | None
    hint: str = ""

    def __str__(self) -> str:
        """Return it as the follower prints it."""
        said = _HITCHES.get(self.why) or words.quoted(self.message, 200)
        status = f" ({self.status})" if self.status else ""
        when = "now" if self.pause_s is None else f"in {words.span(self.pause_s)}"
        hint = f"  ({words.quoted(self.hint, 200)})" if self.hint else ""
        return f"again     pid {self.pid}  {said}{status}, next attempt {when}{hint}"


class Turns:
    """The turns of one tree as heard so far.

    Attributes:
        newest: Pid -> number of its newest turn.
        spoken: Pid -> the end of what its model is saying now.
        over: The newest turns that are over, oldest first.
    """

    def __init__(self) -> None:
        self.newest: dict[int, int] = {}
        self.spoken: dict[int, str] = {}
        self.over: deque[Turn] = deque(maxlen=_TURNS_KEPT_MAX)
        self._open: dict[int, Turn] = {}
        self._wanted: dict[int, Counter[str]] = {}
        self._made: dict[int, Made] = {}
        self._hitch: dict[int, Hitch] = {}
        self._hinted: set[tuple[int, str]] = set()

    def hear(self, event: Event) -> list[Turn | Hitch]:
        """Take an event of the tree and return what it makes worth telling."""
        pid, op = event.pid, event.data.get("op", "")
        if event.kind == "delta":
            self._speak(event)
            return []
        if op == "llm.complete":
            return self._model(event)
        if event.kind == "waits" and pid in self._hitch:
            due = event.data.get("due")
            return [replace(self._hitch.pop(pid), pause_s=None if due is None else max(due - event.at, 0.0))]
        if op == "proc.save" or event.kind == "exited" or op == "proc.exit":
            self.spoken.pop(pid, None)
            self._hitch.pop(pid, None)  # it was not tried again: how the process ends says so
            return [*self._close(pid)]
        if event.kind in ("started", "call", "denied"):
            self._call(event, op)
        return []

    def doing(self, pid: int) -> str:
        """Return what a process does, as far as turns tell: ``turn 3``, or "" for one that has none."""
        return f"turn {self.newest[pid]}" if pid in self.newest else ""

    # --- the model ----------------------------------------------------------------------------------------------------------

    def _speak(self, event: Event) -> None:
        text = self.spoken.get(event.pid, "") + str(event.data.get("text") or "")
        self.spoken[event.pid] = text[-_SPOKEN_KEPT:]

    def _model(self, event: Event) -> list[Turn | Hitch]:
        pid, data = event.pid, event.data
        if event.kind == "started":
            self.spoken.pop(pid, None)
            hitch = self._hitch.pop(pid, None)
            return [*([hitch] if hitch is not None else []), *self._close(pid)]
        self.spoken.pop(pid, None)
        if data.get("outcome") != "done":
            self._fail(event)
            return []
        self.newest[pid] = int(data.get("turn") or self.newest.get(pid, 0) + 1)
        turn = Turn(
            pid, self.newest[pid], text=str(data.get("text") or ""), tokens=_total(data.get("tokens")),
            usd=float(data.get("usd") or 0.0), model=str(data.get("model") or ""), seq=event.seq,
        )  # fmt: skip
        wanted = Counter(str(name).replace("__", ".") for name in data.get("calls") or ())
        self._open[pid], self._wanted[pid] = turn, wanted
        return [] if wanted else [*self._close(pid)]

    def _fail(self, event: Event) -> None:
        """Keep a failure until the pause that follows says that it is tried again; the last one is told by the process's end."""
        error = event.data.get("error") or {}
        fields = error.get("fields") or {}
        if event.kind != "denied":
            why, message = str(error.get("why") or fields.get("why", "")), str(error.get("message", ""))
            hint = "" if (event.pid, why) in self._hinted else str(error.get("hint") or "")
            self._hinted.add((event.pid, why))
            self._hitch[event.pid] = Hitch(event.pid, why, message, fields.get("status"), None, hint)

    # --- its calls ----------------------------------------------------------------------------------------------------------

    def _call(self, event: Event, op: str) -> None:
        data = event.data
        made = self._made.pop(data.get("parent") or 0, None)
        if made is None:
            turn, wanted = self._open.get(event.pid), self._wanted.get(event.pid)
            if turn is None or wanted is None or (op in _OF_THE_LOOP and not wanted[op]):
                return
            wanted[op] -= 1
            made = Made(op, str(data.get("resource", "")), "", "", event.seq)
            turn.calls.append(made)
        if event.kind == "started":
            self._made[event.seq] = made
            return
        made.outcome, made.code = data.get("outcome", ""), data.get("code", "")

    def _close(self, pid: int) -> list[Turn]:
        turn = self._open.pop(pid, None)
        self._wanted.pop(pid, None)
        if turn is None:
            return []
        self.over.append(turn)
        return [turn]


def _total(tokens: Any) -> float:
    """Return the tokens of a turn, which are told as a sum or by kind."""
    if isinstance(tokens, dict):
        return float((tokens.get("input") or 0) + (tokens.get("output") or 0))
    return float(tokens or 0)
