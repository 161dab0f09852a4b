"""Counters of limits and of history: what the charges of a call are taken from, before it runs, and settled in after it.

A counter has the name of its statement and of who shares it: ``KEY/p7`` of one process, ``KEY/t3`` of one tree, ``KEY/w60000000`` of all
who have the layer, for a window in microseconds; and behind a dot the hash of the value that splits the limit.

    reserve   every charge has room, or none is taken and the call is denied; in memory only
    changes   what was taken is written down in the append that admits the call: a crash after it gives nothing back
    settle    costs that are known now are added (they may overshoot, each call in flight by its own cost), successes are counted
    release   the call never started: everything goes back

Counters end with their process or tree, and windows once they are empty again; each call looks at a few of them, so the table follows
what is in use. It is bounded: values that split a limit are chosen by whoever makes the calls. What cannot be counted is denied.

INVARIANT limits-hold: no order of reservations, settlements, releases and crashes admits more than a limit's amount within its process,
tree or any span of its window. A limit of a cost admits no call once the amount is used.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from agentos.abi.limits import QUOTA_VALUES_MAX, QUOTAS_MAX
from agentos.abi.records import Change, QuotaRecord
from agentos.kernel.charge import Take, expect_room, key_of, parts_of, refusal, units_of
from agentos.kernel.counter import UNITS, Counter

if TYPE_CHECKING:
    from agentos.kernel.process import AgentProcess
    from agentos.policy.flow import Charge

__all__ = ["QuotaTable", "Reservation"]

_SWEPT: Final = 4  # windows that a call looks at
_SWEPT_WHEN_FULL: Final = 64


class Reservation:
    """What one call holds; made by `QuotaTable` only, and ended once, by `settle` or `release`."""

    __slots__ = ("open", "takes")

    def __init__(self, takes: tuple[Take, ...]) -> None:
        self.takes = takes
        self.open = True


class QuotaTable:
    """Key -> counter, for those that count something or are held."""

    def __init__(self) -> None:
        self._live: dict[str, Counter] = {}
        self._windows: OrderedDict[str, Counter] = OrderedDict()
        self._holders: dict[str, dict[str, Counter]] = {}
        self._values: Tally[str] = Tally()
        self._gone: dict[str, QuotaRecord] = {}
        self._now = 0.0

    def __len__(self) -> int:
        """Return how many counters there are."""
        return len(self._live)

    def load(self, record: QuotaRecord) -> None:
        """Enter a counter read from the store."""
        self._enter(record)

    # --- before the call ------------------------------------------------------------------------------------------------

    def room(self, charges: Sequence[Charge], process: AgentProcess, now: float) -> None:
        """Check that every charge has room; takes nothing.

        Args:
            charges: What the call is charged.
            process: Who makes it.
            now: Seconds since the epoch.

        Raises:
            Denied: `denied.policy`: a limit is reached (`rule`, `limit`, and `retry_after_s` where time makes room again), the amount
                cannot be counted, or too many counters are in use.
        """
        self._planned(charges, process, now)

    def reserve(self, charges: Sequence[Charge], process: AgentProcess, now: float) -> Reservation | None:
        """Take every charge, or none; None when there is nothing to charge. Cost: the number of charges.

        Raises:
            Denied: as `room`.
        """
        if not charges:
            return None
        takes = []
        for key, (charge, units) in self._planned(charges, process, now).items():
            counter = self._held(key)
            takes.append(Take(charge, counter, units, counter.add(0 if charge.succeeded else units, now)))
        return Reservation(tuple(takes))

    def resume(self, charges: Sequence[Charge], process: AgentProcess, at: float) -> Reservation | None:
        """Return the reservation of a call that an earlier kernel admitted at `at`: it is counted already, and still to be settled.

        For a process that has ended, no counter is made that would have ended with it.
        """
        takes = []
        for key, charge in {key_of(charge, process): charge for charge in charges}.items():
            if key in self._live or charge.per == "window" or not process.ended:
                counter = self._held(key)
                takes.append(Take(charge, counter, units_of(charge), counter.moment(at)))
        return Reservation(tuple(takes)) if takes else None

    def changes(self, reservation: Reservation | None, changes: list[Change]) -> None:
        """Write down what was taken, in the append that admits the call."""
        if reservation is not None:
            self._write([take.counter for take in reservation.takes if take.reserved], changes)
            self._forget_some(changes)

    # --- after the call -------------------------------------------------------------------------------------------------

    def settle(
        self,
        reservation: Reservation | None,
        cost: Mapping[str, float] | None,
        succeeded: bool,
        now: float,
        changes: list[Change],
    ) -> None:
        """Add what became known with the result: costs, and that the call succeeded.

        Args:
            reservation: What the call holds.
            cost: Name -> amount; None where nothing is known of it. A cost that is no amount uses the whole limit up.
            succeeded: False for a call that failed, or of which nobody knows.
            now: Seconds since the epoch.
            changes: The changes of the append that holds the result.
        """
        if reservation is None:
            return
        self._now = now
        touched = []
        for take in self._ended(reservation):
            units = take.settled(cost or {}, succeeded=succeeded)
            if units:
                take.counter.add(units, now)
                touched.append(take.counter)
        self._write(touched, changes)
        self._drop_idle(reservation, changes)

    def release(self, reservation: Reservation | None, changes: list[Change]) -> None:
        """Give everything back: the call provably never started."""
        if reservation is None:
            return
        touched = []
        for take in self._ended(reservation):
            if take.reserved:
                take.counter.take_back(take.units, take.moment)
                if take.counter.stored:
                    touched.append(take.counter)
        self._write(touched, changes)
        self._drop_idle(reservation, changes)

    def end_process(self, pid: int, changes: list[Change]) -> None:
        """A process has ended, and what was counted for it alone."""
        self._end(f"p{pid}", changes)

    def is_for_tree(self, tree: int) -> bool:
        """Say whether anything is counted for a tree."""
        return f"t{tree}" in self._holders

    def end_tree(self, tree: int, changes: list[Change]) -> None:
        """The last process of a tree has ended, and what was counted for the tree."""
        self._end(f"t{tree}", changes)

    # --- looking --------------------------------------------------------------------------------------------------------

    def used(self, charge: Charge, process: AgentProcess, now: float) -> float:
        """Return what is used of the counter that `charge` would be taken from."""
        counter = self._live.get(key_of(charge, process))
        return counter.at(now) / UNITS if counter is not None else 0.0

    def count(self, tree: int, op: str) -> int:
        """Return how many calls of `op` a tree was admitted to make, as far as a policy asks for it."""
        return int(self._history(f"count/{op}", tree))

    def total(self, tree: int, op: str, attr: str) -> float:
        """Return the sum of an argument over those calls."""
        return self._history(f"sum/{op}.{attr}", tree)

    def happened(self, tree: int, op: str) -> bool:
        """Say whether a call of `op` by a tree has succeeded."""
        return self._history(f"after/{op}", tree) > 0

    def _history(self, key: str, tree: int) -> float:
        counter = self._live.get(f"{key}/t{tree}")
        return counter.used / UNITS if counter is not None else 0.0

    # --- deciding -------------------------------------------------------------------------------------------------------

    def _planned(self, charges: Sequence[Charge], process: AgentProcess, now: float) -> dict[str, tuple[Charge, int]]:
        """Return what to take from which counter. The same statement in two layers is charged once."""
        self._now = now
        planned: dict[str, tuple[Charge, int]] = {}
        for charge in charges:
            assert not (charge.succeeded and charge.amount_max is not None), "what only counts successes cannot be a limit"
            key, units = key_of(charge, process), units_of(charge)
            known = planned.get(key)
            if known is not None:
                assert known[0].of == charge.of, "one statement has one key"
                units = max(units, known[1])
            if charge.amount_max is not None:
                expect_room(charge, units, self._live.get(key), now)
            planned[key] = (charge, units)
        new = {key: charge for key, (charge, _) in planned.items() if key not in self._live}
        if new:
            self._expect_space(new)
        return planned

    def _expect_space(self, new: Mapping[str, Charge]) -> None:
        """Raise unless so many more counters may be kept."""
        if len(self._live) + len(new) > QUOTAS_MAX:
            self._sweep(_SWEPT_WHEN_FULL)
        split = Tally(charge.key for charge in new.values() if charge.by)
        for charge in new.values():
            if len(self._live) + len(new) > QUOTAS_MAX:
                detail = f"{QUOTAS_MAX} counters are in use, the most that are kept"
                raise refusal(charge, "cannot be counted", detail, "wait until windows have passed or processes have ended")
            if self._values[charge.key] + split[charge.key] > QUOTA_VALUES_MAX:
                detail = f"{QUOTA_VALUES_MAX} values split it, the most that are kept"
                raise refusal(charge, "cannot be counted", detail, "use fewer values, or wait until its window has passed")

    # --- keeping --------------------------------------------------------------------------------------------------------

    def _held(self, key: str) -> Counter:
        """Return the counter of this key, made if there is none, held by one more call."""
        counter = self._live.get(key)
        if counter is None:
            gone = self._gone.pop(key, None)
            counter = self._enter(gone or QuotaRecord(key=key))
            counter.stored = gone is not None
        counter.holds += 1
        return counter

    def _enter(self, record: QuotaRecord) -> Counter:
        statement, holder, value = parts_of(record.key)
        window = int(holder[1:]) if holder[0] == "w" else 0
        counter = self._live[record.key] = Counter(record, window)
        if window:
            self._windows[record.key] = counter
        else:
            self._holders.setdefault(holder, {})[record.key] = counter
        if value:
            self._values[statement] += 1
        return counter

    def _remove(self, counter: Counter) -> None:
        """Take a counter out; what the store has of it goes with the next append."""
        record, counter.ended = counter.record, True
        statement, holder, value = parts_of(record.key)
        del self._live[record.key]
        if self._windows.pop(record.key, None) is None:
            of_holder = self._holders[holder]
            del of_holder[record.key]
            if not of_holder:
                del self._holders[holder]
        if value:
            self._values[statement] -= 1
            if not self._values[statement]:
                del self._values[statement]
        if counter.stored:
            record.live, record.data = 0, b""
            self._gone[record.key] = record

    def _end(self, holder: str, changes: list[Change]) -> None:
        for counter in list(self._holders.get(holder, {}).values()):
            self._remove(counter)
            if self._gone.pop(counter.record.key, None) is not None:
                changes.append(Change(counter.record, counter.record.seq))

    def _ended(self, reservation: Reservation) -> Iterator[Take]:
        """Yield what a reservation holds, and end it."""
        assert reservation.open, "a reservation is settled or released once"
        reservation.open = False
        for take in reservation.takes:
            take.counter.holds -= 1
            yield take

    def _write(self, counters: Sequence[Counter], changes: list[Change]) -> None:
        changes.extend(Change(counter.write(), counter.record.seq) for counter in counters if not counter.ended)

    def _drop_idle(self, reservation: Reservation, changes: list[Change]) -> None:
        """Forget what the reservation held alone and nothing is counted in."""
        for take in reservation.takes:
            self._remove_idle(take.counter)
        self._forget_some(changes)

    def _forget_some(self, changes: list[Change]) -> None:
        """Look at the next few windows, and tell the store of some that are gone."""
        self._sweep(_SWEPT)
        for key in list(islice(self._gone, _SWEPT_WHEN_FULL)):
            record = self._gone.pop(key)
            changes.append(Change(record, record.seq))

    def _sweep(self, most: int) -> None:
        """Forget the windows among the next `most` in which nothing counts any more."""
        for key in list(islice(self._windows, most)):
            counter = self._windows[key]
            self._windows.move_to_end(key)
            counter.at(self._now)
            self._remove_idle(counter)

    def _remove_idle(self, counter: Counter) -> None:
        if not (counter.used or counter.holds or counter.ended):
            self._remove(counter)
