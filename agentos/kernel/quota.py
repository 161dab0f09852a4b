"""Limits and history: what the charges of a call are taken from, before it runs, and settled in after it.

    reserve   every charge has room, or none is taken and the call is denied; in memory only
    changes   what was taken is written down in the append that admits the call: a crash after it gives nothing back
    settle    costs that are known now are added (they may overshoot, each call in flight by its own cost), successes are counted
    release   the call never started: everything goes back

Counters end with their process or tree, and windows once they are empty again (`kernel.counters`). Their number is bounded: values that
split a limit are chosen by whoever makes the calls. What cannot be counted is denied.

INVARIANT limits-hold: no order of reservations, settlements, releases and crashes admits more than a limit's amount within its process,
tree or any span of its window. A limit of a cost admits no call once the amount is used.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from agentos.abi.limits import QUOTA_VALUES_MAX, QUOTAS_MAX
from agentos.abi.records import Change, QuotaRecord
from agentos.abi.syscall import Estimate
from agentos.kernel.charge import Take, expect_room, key_of, left_of, refusal, too_little, units_of
from agentos.kernel.counter import UNITS, Counter
from agentos.kernel.counters import CounterTable

if TYPE_CHECKING:
    from agentos.kernel.process import AgentProcess
    from agentos.policy.flow import Charge

__all__ = ["QuotaTable", "Reservation"]

_SWEPT_WHEN_FULL: Final = 64


class Reservation:
    """What one call holds; made by `QuotaTable` only, and ended once, by `settle` or `release`."""

    __slots__ = ("open", "takes")

    def __init__(self, takes: tuple[Take, ...]) -> None:
        self.takes = takes
        self.open = True


class QuotaTable:
    """What every limit has left, and what every task did."""

    def __init__(self) -> None:
        self._counters = CounterTable()

    def __len__(self) -> int:
        """Return how many counters there are."""
        return len(self._counters.live)

    def load(self, record: QuotaRecord) -> None:
        """Enter a counter read from the store."""
        self._counters.enter(record)

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
            counter = self._counters.hold(key)
            takes.append(Take(charge, counter, units, counter.add(0 if charge.succeeded else units, now)))
        return Reservation(tuple(takes))

    def resume(self, charges: Sequence[Charge], process: AgentProcess, at: float) -> Reservation | None:
        """Return the reservation of a call that an earlier kernel admitted at `at`: it is counted already, and still to be settled.

        For a process that has ended, no counter is made that would have ended with it.
        """
        takes = []
        for key, charge in {key_of(charge, process): charge for charge in charges}.items():
            if key in self._counters.live or charge.per == "window" or not process.ended:
                counter = self._counters.hold(key)
                takes.append(Take(charge, counter, units_of(charge), None))
        return Reservation(tuple(takes)) if takes else None

    def bounded(self, reservation: Reservation | None, estimate: Estimate, now: float) -> Estimate:
        """Cut what a call wants beyond its least down to what the limits of its cost have left.

        Raises:
            Denied: `denied.policy`, one has less left than the least.
        """
        for take in reservation.takes if reservation is not None else ():
            name = take.charge.of
            if name not in estimate.least or take.charge.amount_max is None:
                continue
            least, each = estimate.least[name], estimate.each.get(name, 0.0)
            left = left_of(take.charge, take.counter, now)
            if left < least + (each if estimate.units else 0):
                raise too_little(take.charge, take.counter, least, now)
            if each:
                estimate = replace(estimate, units=min(estimate.units, int((left - least) / each)))
        return estimate

    def changes(self, reservation: Reservation | None, changes: list[Change]) -> None:
        """Write down what was taken, in the append that admits the call."""
        if reservation is not None:
            _write([take.counter for take in reservation.takes if take.reserved], changes)
            self._counters.forget_some(changes)

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
        self._counters.now = now
        touched = []
        for take in _ended(reservation):
            units = take.settled(cost or {}, succeeded=succeeded)
            if units:
                take.counter.add(units, now)
                touched.append(take.counter)
        _write(touched, changes)
        self._drop_idle(reservation, changes)

    def release(self, reservation: Reservation | None, changes: list[Change]) -> None:
        """Give everything back: the call provably never started."""
        if reservation is None:
            return
        touched = []
        for take in _ended(reservation):
            if take.reserved:
                take.counter.take_back(take.units, take.moment)
                if take.counter.stored:
                    touched.append(take.counter)
        _write(touched, changes)
        self._drop_idle(reservation, changes)

    def end_process(self, pid: int, changes: list[Change]) -> None:
        """A process has ended, and what was counted for it alone."""
        self._counters.end(f"p{pid}", changes)

    def is_for_tree(self, tree: int) -> bool:
        """Say whether anything is counted for a tree."""
        return self._counters.has_holder(f"t{tree}")

    def end_tree(self, tree: int, changes: list[Change]) -> None:
        """The last process of a tree has ended, and what was counted for the tree."""
        self._counters.end(f"t{tree}", changes)

    # --- looking --------------------------------------------------------------------------------------------------------

    def used(self, charge: Charge, process: AgentProcess, now: float) -> float:
        """Return what is used of the counter that `charge` would be taken from."""
        counter = self._counters.live.get(key_of(charge, process))
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
        counter = self._counters.live.get(f"{key}/t{tree}")
        return counter.used / UNITS if counter is not None else 0.0

    # --- deciding -------------------------------------------------------------------------------------------------------

    def _planned(self, charges: Sequence[Charge], process: AgentProcess, now: float) -> dict[str, tuple[Charge, int]]:
        """Return what to take from which counter. The same statement in two layers is charged once."""
        self._counters.now = now
        planned: dict[str, tuple[Charge, int]] = {}
        for charge in charges:
            assert not (charge.succeeded and charge.amount_max is not None), "what only counts successes cannot be a limit"
            key, units = key_of(charge, process), units_of(charge)
            known = planned.get(key)
            if known is not None:
                assert known[0].of == charge.of, "one statement has one key"
                units = max(units, known[1])
            if charge.amount_max is not None:
                expect_room(charge, units, self._counters.live.get(key), now)
            planned[key] = (charge, units)
        new = {key: charge for key, (charge, _) in planned.items() if key not in self._counters.live}
        if new:
            self._expect_space(new)
        return planned

    def _expect_space(self, new: Mapping[str, Charge]) -> None:
        """Raise unless so many more counters may be kept."""
        counters = self._counters
        if len(counters.live) + len(new) > QUOTAS_MAX:
            counters.sweep(_SWEPT_WHEN_FULL)
        split = Tally(charge.key for charge in new.values() if charge.by)
        for charge in new.values():
            if len(counters.live) + len(new) > QUOTAS_MAX:
                detail = f"{QUOTAS_MAX} counters are in use, the most that are kept"
                raise refusal(charge, "cannot be counted", detail, "wait until windows have passed or processes have ended")
            if counters.values[charge.key] + split[charge.key] > QUOTA_VALUES_MAX:
                detail = f"{QUOTA_VALUES_MAX} values split it, the most that are kept"
                raise refusal(charge, "cannot be counted", detail, "use fewer values, or wait until its window has passed")

    def _drop_idle(self, reservation: Reservation, changes: list[Change]) -> None:
        """Forget what the reservation held alone and nothing is counted in."""
        for take in reservation.takes:
            self._counters.remove_idle(take.counter)
        self._counters.forget_some(changes)


def _ended(reservation: Reservation) -> Iterator[Take]:
    """Yield what a reservation holds, and end it."""
    assert reservation.open, "a reservation is settled or released once"
    reservation.open = False
    for take in reservation.takes:
        take.counter.holds -= 1
        yield take


def _write(counters: Sequence[Counter], changes: list[Change]) -> None:
    changes.extend(Change(counter.write(), counter.record.seq) for counter in counters if not counter.ended)
