"""The tape: what a process's journal says its program did since its last save point, by call number.

A resumed program runs again from its save point, and each call it makes is looked up here before anything else:

    recorded with a result      the journaled result is returned, nothing runs          (INVARIANT resume-never-reruns)
    recorded as an intent only  the crash came between intent and result: recovery decides by effect class
    recorded as something else  the program is not the one that made the tape: it stops with a readable difference
    not recorded                the program has caught up: the call is new
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from agentos.abi.codec import decode, plain
from agentos.abi.limits import REPLAY_CACHE_ROWS
from agentos.abi.records import Row
from agentos.errors import Invalid
from agentos.kernel.difference import CODE_CHANGED, DIVERGED, cause, difference

__all__ = ["Recorded", "Tape"]


class _Reader(Protocol):
    def tape(self, pid: int, after_seq: int, limit: int, upto: int | None = None) -> list[Row]: ...


def _is_erased(row: Row) -> bool:
    """Say whether nothing is left of what a row has when it is written."""
    if row.kind == "result":
        return row.outcome == "done" and not row.result
    return not row.args and (row.kind == "intent" or row.op == "note.timer" or (row.kind == "call" and not row.result))


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
    """Recorded calls by number. Rows are taken out as the program comes to them, so what is left was not repeated.

    Attributes:
        dues: Number of a call -> when its time is over, as its program's first run decided.
        place: Tells where the program makes the call that is looked up next, for the message; "" when nobody knows.
        code_changed: The program's code is not the one that made the tape.
        saved: Returns the arguments of a recorded save, whose row does not keep them.
    """

    def __init__(self) -> None:
        self._calls: dict[str, Recorded] = {}
        self._tops: dict[int, int] = {}  # top number -> recorded calls below it that are left, in order
        self._last_top = 0
        self._open: dict[int, Recorded] = {}  # intents whose result was not read yet
        self.dues: dict[str, float] = {}
        self.place: Callable[[], str] = str
        self.code_changed = False
        self.saved: Callable[[Row], dict[str, Any]] | None = None
        self.size = 0
        self.ids: Mapping[str, Mapping[str, int]] = {}  # as `AgentProcess.ids`
        self._pid = 0

    def read(self, reader: _Reader, pid: int, after_seq: int, upto: int | None = None) -> Tape:
        """Read the rows of `pid` after `after_seq` (and not after `upto`)."""
        self._pid = pid
        while True:
            rows = reader.tape(pid, after_seq, REPLAY_CACHE_ROWS, upto)
            for row in rows:
                self.add(row)
                after_seq = row.seq
            if len(rows) < REPLAY_CACHE_ROWS:
                self.size = len(self._calls)
                return self

    def add(self, row: Row) -> None:
        """Enter one row of the journal: a call, an intent, its result, or when the time of a call is over.

        Raises:
            Invalid: `invalid.state`, what it said was erased.
        """
        if _is_erased(row):
            said = f"what process {row.pid} did at journal {row.seq} was erased"
            raise Invalid("state", said, hint="what is erased cannot be repeated or compared", at=row.seq)
        if row.kind == "result":
            recorded = self._open.pop(row.parent, None)
            if recorded is not None:
                recorded.result = row
        elif row.kind in ("call", "intent") and row.number[:1].isdigit():  # the host's own calls are nothing the program made
            known = self._calls.get(row.number)
            recorded = Recorded(row, None)
            if row.kind == "intent":
                self._open[row.seq] = recorded
            if known is None or known.outcome_row is None or known.outcome_row.outcome == "unknown":
                self._calls[row.number] = recorded
            if known is None:
                self._count(row.number)
        elif row.op == "note.timer":
            timed = decode(row.args)
            self.dues[timed["call"]] = timed["due"]

    def _count(self, number: str) -> None:
        top = _top(number)
        self._tops[top] = self._tops.get(top, 0) + 1
        self._last_top = max(self._last_top, top)

    def _remove(self, number: str) -> None:
        del self._calls[number]
        top = _top(number)
        self._tops[top] -= 1
        if not self._tops[top]:
            del self._tops[top]

    def discard(self, number: str) -> bool:
        """Take the recorded call of that number out unseen; False when there is none."""
        if number not in self._calls:
            return False
        self._remove(number)
        return True

    def of(self, number: str) -> Recorded | None:
        """Return the recorded call of that number and leave it where it is."""
        return self._calls.get(number)

    def author(self, number: str, top: int) -> int:
        """Return whose call comes next, `number` or what is after call `top`: a fork repeats its parent's; 0 when none is left."""
        found = self._calls.get(number)
        if found is None and any(later > top for later in self._tops):
            found = next(call for left, call in self._calls.items() if _top(left) > top)
        return found.head.pid if found is not None else 0

    def take(
        self, number: str, op: str, digest: bytes, args: dict[str, Any], *, ids: Mapping[str, str] | None = None
    ) -> Recorded | None:
        """Return and remove the recorded call of that number, None when the program has come past its tape.

        Args:
            number: Number of the call.
            op: Its op.
            digest: Digest of op and arguments.
            args: Its arguments, ids translated.
            ids: Which of them are ids, as `Op.ids`.

        Raises:
            Invalid: `invalid.state`, the program made another call here than last time.
        """
        recorded = self._calls.get(number)
        if number[:1].isdigit():
            self._check_order(number, op, is_new=recorded is None)
        if recorded is None:
            return None
        head = recorded.head
        was_refused = not head.digest  # it was no call of this op then: nothing served it, or its arguments were wrong
        if head.op != op or not (was_refused or head.digest == digest or self._is_inherited(head, args, ids or {})):
            raise self._differs(number, head, op, plain(args))
        self._remove(number)
        return recorded

    def _differs(self, number: str, head: Row, op: str, args: dict[str, Any]) -> Invalid:
        kept = decode(head.args) if head.args else self.saved(head) if self.saved is not None and head.op == "proc.save" else {}
        text = difference(number, head, op, args, kept, self.place())
        hint = CODE_CHANGED if self.code_changed else cause(head, op, args, kept)
        following = self._calls.get(str(_top(number) + 1)) if number.isdigit() else None
        if head.op != op and following is not None and following.head.op == op:
            text += f"\n  call {following.head.number} of then is {op} too: was call {number} left out?"
        return Invalid("state", text, hint=hint, where=f"call {number}", seq=head.seq)

    def _check_order(self, number: str, op: str, *, is_new: bool) -> None:
        """Refuse a call where the program has passed recorded ones by, or makes one that it did not make before it went on.

        Calls at the top are made one after the other, so what was recorded below an earlier number will not come any more, and what was
        not recorded before a later number was not made.
        """
        top, inner = _top(number), "." in number
        first = next(iter(self._tops), top)
        is_other_shape = is_new and top in self._tops and inner == (str(top) in self._calls)
        if first < top or is_other_shape:
            left = next(call.head for call in self._calls.values() if _top(call.head.number) == first)
            text = f"the program made call {number}, {op}, instead of call {left.number} (journal {left.seq}): {left.op} {left.resource}"
            raise self._out_of_order(number, text, left.seq)
        if is_new and self._last_top > top:
            later = next((call.head for call in self._calls.values() if _top(call.head.number) > top), None)
            text = f"the program made call {number}, {op}, which it did not make before"
            if later is not None:
                text += f": call {later.number} (journal {later.seq}) came next: {later.op} {later.resource}"
            raise self._out_of_order(number, text, later.seq if later is not None else None)

    def _out_of_order(self, number: str, text: str, seq: int | None) -> Invalid:
        place = self.place()
        where = f"\n  {place}" if place else ""
        hint = CODE_CHANGED if self.code_changed else DIVERGED
        return Invalid("state", f"{text}{where}", hint=hint, where=f"call {number}", seq=seq)

    def _is_inherited(self, head: Row, args: dict[str, Any], ids: Mapping[str, str]) -> bool:
        """Say whether a call of another process is repeated: its own namespace stands for that one's, and ids are today's."""
        if head.pid == self._pid and not self.ids:
            return False
        recorded, made = decode(head.args), plain(args)
        for name, kind in ids.items() if self.ids else ():
            recorded[name] = self.ids.get(kind, {}).get(str(recorded.get(name)), recorded.get(name))
        return recorded.keys() == made.keys() and all(
            recorded[name] == value or _in_own(recorded[name], head.pid) == _in_own(value, self._pid) != ""
            for name, value in made.items()
        )

    def drop_open(self) -> None:
        """Forget calls in flight: who goes on from here makes them again. A `once` effect that may have happened is asked about."""
        for number in [number for number, call in self._calls.items() if _is_in_flight(call)]:
            self._remove(number)

    def unmade(self) -> str:
        """Describe the first recorded call that the program did not make, "" when it made all."""
        if not self._calls:
            return ""
        number, call = min(self._calls.items(), key=lambda item: item[1].head.seq)
        return f"the program ended without making call {number} (journal {call.head.seq}): {call.head.op} {call.head.resource}"

    def __len__(self) -> int:
        """Return how many recorded calls the program has not come to yet."""
        return len(self._calls)


def _top(number: str) -> int:
    """Return the number of the call at the top that a call is, or is below."""
    return int(number.partition(".")[0])


def _is_in_flight(call: Recorded) -> bool:
    row = call.outcome_row
    if row is None:
        return True
    return row.outcome == "unknown" and row.code == "unavailable.cancelled" and call.head.effect != "once"


def _in_own(value: Any, pid: int) -> str:
    """Return the part of a name that lies in the namespace of a process, "" when it does not lie there."""
    own = f"proc/{pid}/"
    return f"{value}/".removeprefix(own[:-1]) if isinstance(value, str) and f"{value}/".startswith(own) else ""
