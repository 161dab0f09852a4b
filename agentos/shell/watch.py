"""`Watch`: what a follower knows of one process tree, and how an event is told in one line.

Events say what happens; a look at the process table (`see`) says who belongs to the tree, because a process started by another one has no
event that names its parent. Events of processes that are not known yet are kept until the next look.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from agentos.abi.values import Event, ProcessInfo
from agentos.shell import words
from agentos.shell.turns import Hitch, Turn, Turns

__all__ = ["Denial", "Notable", "Watch", "told"]

Notable = Event | Turn | Hitch
"""What is worth telling."""

_NOTED: Final = frozenset({"spawned", "denied", "ask", "answered", "withdrawn", "exited", "poisoned", "restored", "slow"})
_UNKNOWN_MAX: Final = 20_000


@dataclass(frozen=True, slots=True)
class Denial:
    """One denied call."""

    seq: int
    pid: int
    op: str
    resource: str
    code: str
    rule: str

    def __str__(self) -> str:
        """Return it as the follower prints it."""
        rule = f"  {self.rule}" if self.rule else ""
        return f"denied    pid {self.pid} {self.op} {self.resource}  {self.code}{rule}  journal {self.seq}"


class Watch:
    """One tree as seen so far.

    Attributes:
        root: Pid of its root, 0 until that is known.
        infos: Pid -> the newest `ProcessInfo`; ended ones stay.
        denials: Every denied call that was seen, by journal number.
        ended: Pid -> when it ended, for those seen ending.
        last_seq: Journal number of the newest event.
        turns: The turns of its agents.
    """

    def __init__(self, *, every_call: bool = False) -> None:
        self.root = 0
        self.infos: dict[int, ProcessInfo] = {}
        self.denials: dict[int, Denial] = {}
        self.ended: dict[int, float] = {}
        self.last_seq = 0
        self.turns = Turns()
        self._every_call = every_call
        self._unknown: list[Event] = []
        self._foreign: set[int] = set()

    @property
    def is_blind(self) -> bool:
        """True when events came of processes that nobody has told us about."""
        return bool(self._unknown)

    def see(self, infos: Iterable[ProcessInfo]) -> list[ProcessInfo]:
        """Take a look at the process table and return the processes of the tree that are new."""
        fresh: list[ProcessInfo] = []
        for info in infos:
            if self.root not in (info.tree, info.pid):
                self._foreign.add(info.pid)
                continue
            if info.pid not in self.infos:
                fresh.append(info)
            self.infos[info.pid] = info
        return fresh

    def hear(self, event: Event) -> list[Notable]:
        """Take an event and return those that are worth telling: of the tree, and not of every call."""
        self.last_seq = max(self.last_seq, event.seq)
        if not event.pid or event.pid in self._foreign:
            return []
        if self._unknown or event.pid not in self.infos:
            if event.kind != "delta" and len(self._unknown) < _UNKNOWN_MAX:
                self._unknown.append(event)  # known or not: the order stays
            return []
        return self._take(event)

    def recall(self) -> list[Notable]:
        """Return the kept events that turn out to be the tree's, after `see`, in their order."""
        kept = [event for event in self._unknown if event.pid not in self._foreign]
        known = next((at for at, event in enumerate(kept) if event.pid not in self.infos), len(kept))
        self._unknown = kept[known:]
        return [each for event in kept[:known] for each in self._take(event)]

    def usage(self, info: ProcessInfo) -> dict[str, float]:
        """Return what a process used; the time of one that was seen ending ends there."""
        if info.pid in self.ended:
            return {**info.usage, "wall_s": round(self.ended[info.pid] - info.created, 3)}
        return info.usage

    def _take(self, event: Event) -> list[Notable]:
        turns = self.turns.hear(event)
        if event.kind == "denied":
            self.denials[event.seq] = denial_of(event)
        if event.kind == "exited" or event.data.get("op") == "proc.exit":
            self.ended[event.pid] = event.at
        if event.kind == "restored":
            self.ended.pop(event.pid, None)
        if event.kind == "delta":
            return []
        is_noted = event.kind in _NOTED or event.data.get("op") == "human.tell" or self._every_call
        return [*turns, event] if is_noted else [*turns]


def denial_of(event: Event) -> Denial:
    """Return the denial that an event tells."""
    data = event.data
    return Denial(
        event.seq,
        event.pid,
        data.get("op", ""),
        words.quoted(data.get("resource", ""), 200),
        data.get("code", ""),
        data.get("rule", ""),
    )


def told(event: Notable) -> str:
    """Return it as one line."""
    if not isinstance(event, Event):
        return str(event)
    data: dict[str, Any] = event.data
    if event.kind == "denied":
        return str(denial_of(event))
    if event.kind == "call" and data.get("op") == "human.tell":
        return f"says      pid {event.pid}: {words.quoted(data.get('text', ''), 400)}"
    if event.kind in ("call", "started"):
        result = data.get("code") or data.get("outcome") or event.kind
        resource = words.quoted(data.get("resource", ""), 200)
        return f"{event.kind:<9} pid {event.pid} {data.get('op', '')} {resource}  {result}  journal {event.seq}"
    return _TOLD.get(event.kind, _told_plainly)(event)


def _told_plainly(event: Event) -> str:
    return f"{event.kind:<9} pid {event.pid}  journal {event.seq}"


def _told_spawned(event: Event) -> str:
    name, parent = event.data.get("name"), event.data.get("parent")
    more = (f"  {name}" if name else "") + (f"  by pid {parent}" if parent else "")
    return f"spawned   pid {event.pid} {event.data.get('image', '')}{more}"


def _told_ask(event: Event) -> str:
    rule = event.data.get("rule")
    return f"ask       {event.data.get('ask')} of pid {event.pid} {event.data.get('resource', '')}" + (
        f"  {rule}" if rule else ""
    )


def _told_answered(event: Event) -> str:
    return f"answered  ask {event.data.get('ask')}: {event.data.get('verdict')} by {event.data.get('by')}"


def _told_exited(event: Event) -> str:
    state, error = event.data.get("state", "exited"), event.data.get("error")
    return f"{state:<9} pid {event.pid}" + (f"  {words.quoted(str(error), 300)}" if error else "")


def _told_slow(event: Event) -> str:
    return f"slow      pid {event.pid} held the loop for {words.span(float(event.data.get('held_s', 0)))}"


def _told_poisoned(event: Event) -> str:
    return f"set aside pid {event.pid}: it ended its kernel {event.data.get('resumes')} times; `agentos resume {event.pid}` tries again"


def _told_before(event: Event) -> str:
    return f"before    pid {event.pid} what is to be changed was kept for undoing it  journal {event.seq}"


def _told_skipped(event: Event) -> str:
    return f"skipped   a run of schedule {event.data.get('schedule')}: pid {event.data.get('lives')} still lives"


def _told_failed_run(event: Event) -> str:
    return f"failed    a run of schedule {event.data.get('schedule')}: {words.quoted(str(event.data.get('error')), 300)}"


_TOLD: Final = {
    "spawned": _told_spawned, "ask": _told_ask, "answered": _told_answered, "exited": _told_exited, "slow": _told_slow,
    "before": _told_before, "poisoned": _told_poisoned, "skipped": _told_skipped, "schedule.failed": _told_failed_run,
}  # fmt: skip
