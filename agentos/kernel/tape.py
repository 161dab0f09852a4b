"""The tape: what a process's journal says its program did since its last save point, by call number.

A resumed program runs again from its save point, and each call it makes is looked up here before anything else:

    recorded with a result      the journaled result is returned, nothing runs          (INVARIANT resume-never-reruns)
    recorded as an intent only  the crash came between intent and result: recovery decides by effect class
    recorded as something else  the program is not the one that made the tape: it stops with a readable difference
    not recorded                the program has caught up: the call is new
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from agentos.abi.codec import decode, plain
from agentos.abi.limits import REPLAY_CACHE_ROWS
from agentos.abi.records import Row
from agentos.errors import Invalid

__all__ = ["Recorded", "Tape"]


class _Reader(Protocol):
    def tape(self, pid: int, after_seq: int, limit: int, upto: int | None = None) -> list[Row]: ...


@dataclass(slots=True)
class Recorded:
    """One recorded call: its head (the call or intent row) and, for an intent, its result row if there is one."""

    head: Row
    result: Row | None

    @property
    def outcome_row(self) -> Row | None:
        """The row that holds the outcome, None while it is unknown."""
        return self.head if self.head.kind == "call" else self.result


class Tape:
    """Recorded calls by number. Rows are taken out as the program comes to them, so what is left was not repeated."""

    def __init__(self) -> None:
        self._calls: dict[str, Recorded] = {}
        self.size = 0
        self._pid = 0

    def read(self, reader: _Reader, pid: int, after_seq: int, upto: int | None = None) -> Tape:
        """Read the rows of `pid` after `after_seq` (and not after `upto`)."""
        heads: dict[int, Recorded] = {}
        self._pid = pid
        while True:
            rows = reader.tape(pid, after_seq, REPLAY_CACHE_ROWS, upto)
            for row in rows:
                self._enter(row, heads)
                after_seq = row.seq
            if len(rows) < REPLAY_CACHE_ROWS:
                self.size = len(self._calls)
                return self

    def _enter(self, row: Row, heads: dict[int, Recorded]) -> None:
        if row.kind == "result":
            recorded = heads.get(row.parent)
            if recorded is not None:
                recorded.result = row
        elif row.kind in ("call", "intent") and row.number[:1].isdigit():  # the host's own calls are nothing the program made
            known = self._calls.get(row.number)
            recorded = Recorded(row, None)
            heads[row.seq] = recorded
            if known is None or known.outcome_row is None or known.outcome_row.outcome == "unknown":
                self._calls[row.number] = recorded

    def discard(self, number: str) -> bool:
        """Take the recorded call of that number out unseen; False when there is none."""
        return self._calls.pop(number, None) is not None

    def take(self, number: str, op: str, digest: bytes, args: dict[str, Any]) -> Recorded | None:
        """Return and remove the recorded call of that number, None when the program has come past its tape.

        Raises:
            Invalid: `invalid.state`, the program made another call here than last time.
        """
        recorded = self._calls.get(number)
        if recorded is None:
            self._check_caught_up(number, op)
            return None
        head = recorded.head
        if head.op != op or (head.digest != digest and not _is_inherited(head, args, self._pid)):
            raise Invalid("state", _difference(number, head, op, args), hint=_DIVERGED, where=f"call {number}", seq=head.seq)
        del self._calls[number]
        return recorded

    def _check_caught_up(self, number: str, op: str) -> None:
        """Refuse a new call where the program has passed recorded ones by, or made a gather of a call."""
        top, _, inner = number.partition(".")
        for left, call in self._calls.items() if top.isdigit() else ():
            left_top, _, left_inner = left.partition(".")
            if int(left_top) < int(top) or (left_top == top and bool(left_inner) != bool(inner)):
                head = call.head
                text = f"the program made call {number}, {op}, instead of call {left} (journal {head.seq}): {head.op} {head.resource}"
                raise Invalid("state", text, hint=_DIVERGED, where=f"call {number}", seq=head.seq)

    def add(self, row: Row) -> None:
        """Enter one more recorded call, as if it had been read."""
        self._enter(row, {})

    def drop_open(self) -> None:
        """Forget calls without outcome: a fork does not copy calls in flight."""
        self._calls = {number: call for number, call in self._calls.items() if call.outcome_row is not None}

    def unmade(self) -> str:
        """Describe the first recorded call that the program did not make, "" when it made all."""
        if not self._calls:
            return ""
        number, call = min(self._calls.items(), key=lambda item: item[1].head.seq)
        return f"the program ended without making call {number} (journal {call.head.seq}): {call.head.op} {call.head.resource}"

    def __len__(self) -> int:
        """Return how many recorded calls the program has not come to yet."""
        return len(self._calls)


_DIVERGED = "a durable program must make the same calls when it runs again: take time, randomness and input from syscalls, not from outside"


def _is_inherited(head: Row, args: dict[str, Any], pid: int) -> bool:
    """Say whether fork `pid` repeats a call of its parent: where the parent named its own namespace, the child names its own."""
    if head.pid == pid:
        return False
    recorded, made = decode(head.args), plain(args)
    return recorded.keys() == made.keys() and all(
        recorded[name] == value or _in_own(recorded[name], head.pid) == _in_own(value, pid) != ""
        for name, value in made.items()
    )


def _in_own(value: Any, pid: int) -> str:
    """Return the part of a name that lies in the namespace of a process, "" when it does not lie there."""
    own = f"proc/{pid}/"
    return f"{value}/".removeprefix(own[:-1]) if isinstance(value, str) and f"{value}/".startswith(own) else ""


def _difference(number: str, head: Row, op: str, args: dict[str, Any]) -> str:
    """Say how the call differs from the recorded one, argument by argument."""
    lines = [f"the program does not repeat itself at call {number} (journal {head.seq})"]
    lines.append(f"  recorded: {head.op} {head.resource}")
    lines.append(f"  now:      {op}")
    recorded = decode(head.args) if head.args else {}
    if head.op == op:
        for name in sorted({*recorded, *args}):
            if recorded.get(name) != args.get(name):
                lines.append(f"  - {name}: {_short(recorded.get(name))}")
                lines.append(f"  + {name}: {_short(args.get(name))}")
    return "\n".join(lines)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
