"""One exact count: a total, or what was used within a sliding window.

Amounts are whole numbers of 1e-12 (`UNITS`), so ten times 0.1 is 1 and nothing is lost or won by adding in another order. What is finer
is rounded against the caller: an amount up, a limit down.

A window is cut into 60 buckets, and a bucket is forgotten as a whole, once all of it is older than the window. So at most 61 numbers are
kept, an amount counts for at least the window and at most 1/60 longer, and no span of the window's length ever holds more than was
counted here. Time is compared as exact fractions; a clock that goes back does not give room back.
"""

from __future__ import annotations

import math
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Final

from agentos.abi.codec import decode, encode
from agentos.abi.records import QuotaRecord

__all__ = ["UNITS", "Counter", "amount_text", "to_units", "window_us"]

UNITS: Final = 10**12
"""Units in 1."""
_PLACES: Final = 12
_BUCKETS: Final = 60
_US: Final = 1_000_000
_EXPONENT_MAX: Final = 300  # of ten: what is larger is no amount of anything, and would be a number of as many digits
_EXACT: Final = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)  # moving the point must not round


def to_units(amount: float | Decimal, *, up: bool) -> int | None:
    """Return an amount in units, what is finer rounded up or down; None when it is no number, infinite, or beyond counting."""
    exact = amount if isinstance(amount, Decimal) else Decimal(amount if isinstance(amount, int) else repr(amount))
    if not exact.is_finite() or (exact and exact.adjusted() > _EXPONENT_MAX):
        return None
    return int(exact.scaleb(_PLACES, _EXACT).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR, _EXACT))


def amount_text(units: int) -> str:
    """Return units as people write the amount: exactly, without superfluous zeros."""
    sign, (whole, rest) = "-" if units < 0 else "", divmod(abs(units), UNITS)
    return f"{sign}{whole}.{rest:0{_PLACES}d}".rstrip("0").rstrip(".")


def window_us(window_s: float) -> int:
    """Return a window's length in whole microseconds, rounded up; at least one."""
    numerator, denominator = window_s.as_integer_ratio()
    return max(1, -(-numerator * _US // denominator))


class Counter:
    """One count.

    Attributes:
        record: What the store has of it, or will have.
        used: Units counted now; call `at` first where time may have passed.
        holds: Reservations that may still change it; it is not forgotten meanwhile.
        stored: True once it was written down, or is about to be.
        ended: True once nobody may be counted here any more.
    """

    __slots__ = ("_buckets", "_newest", "_window_us", "ended", "holds", "record", "stored", "used")

    def __init__(self, record: QuotaRecord, window: int) -> None:
        """Take up where `record` stands. `window` is the length in microseconds, 0 for a total."""
        self.record = record
        self._window_us = window
        self._buckets: dict[int, int] = {}  # oldest first
        found = decode(record.data) if record.data else []
        index = 0
        for step, amount in zip(found[::2], found[1::2], strict=True):
            index += step
            self._buckets[index] = int(amount)
        self._newest = index
        self.used = sum(self._buckets.values())
        self.holds = 0
        self.stored = bool(record.seq)
        self.ended = False

    def at(self, now: float) -> int:
        """Let time pass up to `now`, in seconds since the epoch, and return the units that still count."""
        if self._window_us:
            self._newest = max(self._newest, self._index(now))
            while self._buckets and (oldest := next(iter(self._buckets))) < self._newest - _BUCKETS:
                self.used -= self._buckets.pop(oldest)
        return self.used

    def add(self, units: int, now: float) -> int:
        """Count units at `now`, and return what `take_back` wants to know."""
        assert units >= 0, "nothing gives room back but taking back"
        self.at(now)
        if units:
            self._buckets[self._newest] = self._buckets.get(self._newest, 0) + units
            self.used += units
        return self._newest

    def take_back(self, units: int, moment: int | None) -> None:
        """Forget units that were added at `moment`, as far as they still count; the oldest ones where nobody knows the moment any more."""
        for index in (moment,) if moment is not None else tuple(self._buckets):
            taken = min(self._buckets.get(index, 0), units)
            if taken:
                self._buckets[index] -= taken
                self.used -= taken
                units -= taken
                if not self._buckets[index]:
                    del self._buckets[index]

    def free_at(self, units: int) -> float | None:
        """Return when at most `units` of what counts now will still count, in seconds since the epoch; None when never."""
        left = self.used
        for index, amount in self._buckets.items() if self._window_us else ():
            left -= amount
            if left <= units:
                return math.ceil((index + _BUCKETS + 1) * self._window_us / _BUCKETS) / _US
        return None

    def write(self) -> QuotaRecord:
        """Bring the record to what counts now, and return it."""
        flat: list[int | str] = []
        before = 0
        for index, amount in self._buckets.items():
            flat += [index - before, amount if amount < 2**63 else str(amount)]
            before = index
        self.record.data = encode(flat)
        self.record.live = 1
        self.stored = True
        return self.record

    def _index(self, now: float) -> int:
        numerator, denominator = now.as_integer_ratio()
        return numerator * (_BUCKETS * _US) // (denominator * self._window_us)
