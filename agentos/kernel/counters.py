"""Which counters there are: made when they are first taken from, gone once nothing is counted in them and nobody holds them.

A counter has the name of its statement and of who shares it: ``KEY/p7`` of one process, ``KEY/t3`` of one tree, ``KEY/w60000000`` of all
who have the layer, for a window in microseconds; and behind a dot the hash of the value that splits the limit.

Windows become empty by themselves, so each call looks at the next few of them, in turn: the table follows what is in use, and no call
pays for what others left. The store hears of a counter that is gone with one of the next appends; if the counter comes again before
that, it goes on from the same record.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import OrderedDict
from itertools import islice
from typing import Final

from agentos.abi.records import Change, QuotaRecord
from agentos.kernel.charge import parts_of
from agentos.kernel.counter import Counter

__all__ = ["CounterTable"]

_SWEPT: Final = 4  # windows that a call looks at
_TOLD: Final = 64  # counters that one append tells the store to forget


class CounterTable:
    """Key -> counter.

    Attributes:
        live: The counters, by key.
        values: Statement -> how many values split it.
        now: The time that was seen last, in seconds since the epoch.
    """

    def __init__(self) -> None:
        self.live: dict[str, Counter] = {}
        self.values: Tally[str] = Tally()
        self.now = 0.0
        self._windows: OrderedDict[str, Counter] = OrderedDict()
        self._holders: dict[str, dict[str, Counter]] = {}
        self._gone: dict[str, QuotaRecord] = {}

    def enter(self, record: QuotaRecord) -> Counter:
        """Enter a counter that stands where `record` does."""
        statement, holder, value = parts_of(record.key)
        window = int(holder[1:]) if holder[0] == "w" else 0
        counter = self.live[record.key] = Counter(record, window)
        if window:
            self._windows[record.key] = counter
        else:
            self._holders.setdefault(holder, {})[record.key] = counter
        if value:
            self.values[statement] += 1
        return counter

    def hold(self, key: str) -> Counter:
        """Return the counter of this key, made if there is none, held by one more call."""
        counter = self.live.get(key)
        if counter is None:
            gone = self._gone.pop(key, None)
            counter = self.enter(gone or QuotaRecord(key=key))
            counter.stored = gone is not None
        counter.holds += 1
        return counter

    def has_holder(self, holder: str) -> bool:
        """Say whether anything is counted for a process (``p7``) or tree (``t3``)."""
        return holder in self._holders

    def end(self, holder: str, changes: list[Change]) -> None:
        """Take out what is counted for a process or tree, in the append that ends it."""
        for counter in list(self._holders.get(holder, {}).values()):
            self._remove(counter)
            if self._gone.pop(counter.record.key, None) is not None:
                changes.append(Change(counter.record, counter.record.seq))

    def remove_idle(self, counter: Counter) -> None:
        """Take a counter out if nothing is counted in it and nobody holds it."""
        if not (counter.used or counter.holds or counter.ended):
            self._remove(counter)

    def sweep(self, most: int) -> None:
        """Take out those of the next `most` windows that are empty."""
        for key in list(islice(self._windows, most)):
            counter = self._windows[key]
            self._windows.move_to_end(key)
            counter.at(self.now)
            self.remove_idle(counter)

    def forget_some(self, changes: list[Change]) -> None:
        """Look at the next few windows, and tell the store of some counters that are gone."""
        self.sweep(_SWEPT)
        for key in list(islice(self._gone, _TOLD)):
            record = self._gone.pop(key)
            changes.append(Change(record, record.seq))

    def _remove(self, counter: Counter) -> None:
        record, counter.ended = counter.record, True
        statement, holder, value = parts_of(record.key)
        del self.live[record.key]
        if self._windows.pop(record.key, None) is None:
            of_holder = self._holders[holder]
            del of_holder[record.key]
            if not of_holder:
                del self._holders[holder]
        if value:
            self.values[statement] -= 1
            if not self.values[statement]:
                del self.values[statement]
        if counter.stored:
            record.live, record.data = 0, b""
            self._gone[record.key] = record
