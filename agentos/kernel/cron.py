"""Calendars: the five fields of cron, and the instants that they mean in a time zone.

    minute hour day-of-month month day-of-week      numbers, names, lists, ranges, steps: ``*/15 8-18 * * mon-fri``
    @hourly @daily @weekly @monthly @yearly         the same, spelled out

As in Vixie cron, a date matches when both day fields match, or, where neither begins with ``*``, when either does.

INVARIANT an-hour-runs-once: where clocks are set forward, a time that does not exist means the first minute after the gap; where they are
set back, a time that comes twice means the first of the two. So what is due every night is due once in every night.

Pure: no clock is read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from agentos.abi.limits import IDENTIFIER_CHARS_MAX
from agentos.errors import Invalid

__all__ = ["Cron", "parse_cron", "parse_zone"]

_MACROS: Final = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_MONTHS: Final = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8, "sep": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
_WEEKDAYS: Final = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
_DAYS_IN_MONTH: Final = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FIELDS: Final[tuple[tuple[str, int, int, Mapping[str, int]], ...]] = (
    ("minute", 0, 59, {}), ("hour", 0, 23, {}), ("day of month", 1, 31, {}), ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _WEEKDAYS),
)  # fmt: skip
_YEARS_MAX: Final = 40  # the 29th of February on one weekday comes every 28 years, or 40 over a year that is no leap year


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed calendar. `is_either` is true when a date needs to match one of the two day fields only."""

    text: str
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    is_either: bool

    def next_after(self, at: float, zone: tzinfo) -> float:
        """Return the first instant after `at` that the calendar means.

        Args:
            at: Seconds since the epoch.
            zone: Whose wall clocks the fields are read on.

        Raises:
            Invalid: it means none within _YEARS_MAX years.
        """
        local = datetime.fromtimestamp(at, zone).replace(tzinfo=None)
        for day in self._days_from(local.date()):
            for hour in self.hours:
                if day == local.date() and hour < local.hour:
                    continue
                for minute in self.minutes:
                    wanted = datetime.combine(day, time(hour, minute))
                    if wanted > local and (instant := _instant(wanted, zone)) > at:
                        return instant
        raise Invalid("argument", f"`{self.text}` means no time at all", hint="look at its day and month", field="cron")

    def _days_from(self, day: date) -> Iterator[date]:
        last = day.replace(day=1, year=day.year + _YEARS_MAX)
        while day < last:
            if day.month not in self.months:
                day = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
                continue
            if self._has(day):
                yield day
            day += timedelta(days=1)

    def _has(self, day: date) -> bool:
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return in_month or in_week if self.is_either else in_month and in_week


def parse_cron(text: str) -> Cron:
    """Parse a calendar.

    Raises:
        Invalid: `invalid.argument` with the field that is wrong, or no date ever matches.
    """
    if len(text) > IDENTIFIER_CHARS_MAX:
        raise _refusal(f"a calendar has {IDENTIFIER_CHARS_MAX} characters at most")
    fields = _MACROS.get(text.strip().lower(), text).split()
    if len(fields) != len(_FIELDS):
        raise _refusal(f"`{text}` has {len(fields)} fields", hint="minute hour day-of-month month day-of-week, or @daily")
    minutes, hours, days, months, weekdays = (
        _field(field, *bounds) for field, bounds in zip(fields, _FIELDS, strict=True)
    )  # fmt: skip
    is_either = not fields[2].startswith("*") and not fields[4].startswith("*")
    if not is_either and min(days) > max(_DAYS_IN_MONTH[month - 1] for month in months):
        raise _refusal(f"`{text}` means no date: no such month has {min(days)} days")
    on = frozenset(day % 7 for day in weekdays)
    return Cron(text, tuple(sorted(minutes)), tuple(sorted(hours)), frozenset(days), frozenset(months), on, is_either)


def parse_zone(name: str) -> tzinfo:
    """Return a time zone of the system's database, such as ``Europe/Berlin``.

    Raises:
        Invalid: there is none of that name.
    """
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, LookupError) as error:
        hint = "write for example UTC or Europe/Berlin"
        raise Invalid("argument", f"there is no time zone `{name[:100]}`", hint=hint, field="zone") from error


def _field(text: str, name: str, low: int, high: int, names: Mapping[str, int]) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        step = _number(step_text, name, {}) if slash else 1
        if not 1 <= step <= high:
            raise _refusal(f"{name}: a step is 1 to {high}, not `{step_text}`")
        first, dash, last = span.partition("-")
        if span == "*":
            start, end = low, high
        else:
            start = _number(first, name, names)
            end = _number(last, name, names) if dash else start
            if dash and end == 0 and name == "day of week":
                end = 7  # a week may end with its Sunday
        if not low <= start <= end <= high:
            raise _refusal(f"{name}: `{span}` is not within {low} to {high}, or runs backwards")
        if slash and span != "*" and not dash:
            raise _refusal(f"{name}: `{part}` steps through a single value", hint="write a range, such as 0-30/5 or */5")
        found.update(range(start, end + 1, step))
    return found


def _number(text: str, name: str, names: Mapping[str, int]) -> int:
    if text.lower() in names:
        return names[text.lower()]
    if not (text.isascii() and text.isdigit() and len(text) <= 2):
        raise _refusal(
            f"{name}: `{text[:40]}` is not understood", hint="use numbers" + (f" or {', '.join(names)}" if names else "")
        )
    return int(text)


def _refusal(message: str, hint: str = "see the fields of crontab(5)") -> Invalid:
    return Invalid("argument", message, hint=hint, field="cron")


def _instant(local: datetime, zone: tzinfo) -> float:
    """Return when the wall clocks of a zone show `local`: at first, or, when they never do, the end of the gap that it lies in."""
    before, after = local.replace(tzinfo=zone, fold=0), local.replace(tzinfo=zone, fold=1)
    if before.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == local:
        return before.timestamp()
    low, high = int(after.timestamp()), int(before.timestamp())  # in a gap, the other way round: the change lies between
    offset = datetime.fromtimestamp(low, zone).utcoffset()
    while high - low > 1:
        middle = (low + high) // 2
        if datetime.fromtimestamp(middle, zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return float(high)
