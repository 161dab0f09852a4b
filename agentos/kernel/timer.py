"""Durable due times of waiting calls: the same before and after a crash, whatever `timeout_s` would mean by then."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agentos.abi.records import Change, TimerRecord

__all__ = ["TimerTable"]


class TimerTable:
    """(pid, call number) -> when the call has to be asked again at the latest.

    Args:
        ended: Finds the timer that a call of this number had before its process was restored.

    Attributes:
        repeating: Pids of restored processes, which use call numbers once more.
    """

    def __init__(self, ended: Callable[[int, str], TimerRecord | None]) -> None:
        self._ended = ended
        self._timers: dict[tuple[int, str], TimerRecord] = {}
        self.repeating: set[int] = set()

    def load(self, record: TimerRecord) -> None:
        """Enter a timer read from the store."""
        self._timers[record.pid, record.number] = record

    def due(self, pid: int, number: str) -> float | None:
        """Return the due time of a call, None when it has none."""
        record = self._timers.get((pid, number))
        return record.due if record else None

    def start(self, pid: int, number: str, due: float, changes: list[Change]) -> None:
        """Write the due time of a call down. A call has one."""
        assert (pid, number) not in self._timers, "a timer is set once"
        ended = self._ended(pid, number) if pid in self.repeating else None
        record = self._timers[pid, number] = TimerRecord(pid=pid, number=number, due=due)
        changes.append(Change(record, ended.seq if ended is not None else 0))

    def __iter__(self) -> Iterator[TimerRecord]:
        """Iterate over the timers of all processes."""
        return iter(list(self._timers.values()))

    def of(self, pid: int) -> list[TimerRecord]:
        """Return the timers of a process."""
        return [record for (owner, _), record in self._timers.items() if owner == pid]

    def end(self, pid: int, number: str, changes: list[Change]) -> None:
        """The call has ended: its timer, if it had one, ends in the same append."""
        record = self._timers.pop((pid, number), None)
        if record is not None:
            replaced = record.seq
            record.live = 0
            changes.append(Change(record, replaced))

    def end_all(self, pid: int, changes: list[Change]) -> None:
        """The process has ended: so do its timers."""
        for _, number in [key for key in self._timers if key[0] == pid]:
            self.end(pid, number, changes)
