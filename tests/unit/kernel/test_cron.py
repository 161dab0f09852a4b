"""Calendars: fields, names and macros, the rule of the two day fields, and the two nights on which clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.errors import Invalid
from agentos.kernel.cron import parse_cron, parse_zone

BERLIN, NEW_YORK = parse_zone("Europe/Berlin"), parse_zone("America/New_York")


def times(text: str, start: str, count: int, zone: str = "UTC") -> list[str]:
    """The next `count` instants after a UTC time, in UTC."""
    at, found = datetime.fromisoformat(start).replace(tzinfo=UTC).timestamp(), []
    for _ in range(count):
        at = parse_cron(text).next_after(at, parse_zone(zone))
        found.append(datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M"))
    return found


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("* * * * *", "2026-01-01 00:00:30", ["2026-01-01 00:01", "2026-01-01 00:02"]),
        ("*/20 8-9 * * *", "2026-01-01 09:30", ["2026-01-01 09:40", "2026-01-02 08:00"]),
        ("0,30 6 * * mon-fri", "2026-01-02 06:30", ["2026-01-05 06:00", "2026-01-05 06:30"]),
        ("0 0 29 2 *", "2026-01-01", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("15 10 1-7/3 JAN,jun *", "2026-01-04 11:00", ["2026-01-07 10:15", "2026-06-01 10:15"]),
        ("0 12 * * sat-sun", "2026-01-01", ["2026-01-03 12:00", "2026-01-04 12:00"]),
        ("0 12 * * 7", "2026-01-01", ["2026-01-04 12:00", "2026-01-11 12:00"]),
        ("@hourly", "2026-01-01 22:59", ["2026-01-01 23:00", "2026-01-02 00:00"]),
        ("@Daily", "2026-01-01", ["2026-01-02 00:00", "2026-01-03 00:00"]),
        ("@weekly", "2026-01-01", ["2026-01-04 00:00", "2026-01-11 00:00"]),
        ("@monthly", "2026-01-01", ["2026-02-01 00:00", "2026-03-01 00:00"]),
        ("@yearly", "2026-01-01", ["2027-01-01 00:00", "2028-01-01 00:00"]),
    ],
)
def test_the_fields_mean_what_they_say(text: str, start: str, expected: list[str]) -> None:
    assert times(text, start, len(expected)) == expected


def test_two_restricted_day_fields_match_either_and_a_star_makes_them_match_both() -> None:
    assert times("0 0 13 * fri", "2026-01-01", 3) == ["2026-01-02 00:00", "2026-01-09 00:00", "2026-01-13 00:00"]
    assert times("0 0 */2 * fri", "2026-01-01", 2) == ["2026-01-09 00:00", "2026-01-23 00:00"]


def test_a_time_in_the_gap_is_the_first_minute_after_it_and_comes_once() -> None:
    """an-hour-runs-once"""
    assert times("30 2 * * *", "2026-03-28 12:00", 2, "Europe/Berlin") == ["2026-03-29 01:00", "2026-03-30 00:30"]
    assert times("*/20 2 * * *", "2026-03-28 12:00", 2, "Europe/Berlin") == ["2026-03-29 01:00", "2026-03-30 00:00"]
    assert times("30 * * * *", "2026-03-29 00:00", 3, "Europe/Berlin")[0] == "2026-03-29 00:30"


def test_a_repeated_hour_comes_once() -> None:
    """an-hour-runs-once"""
    assert times("30 2 * * *", "2026-10-24 12:00", 2, "Europe/Berlin") == ["2026-10-25 00:30", "2026-10-26 01:30"]
    assert times("30 1 * * *", "2026-10-31 12:00", 2, "America/New_York") == ["2026-11-01 05:30", "2026-11-02 06:30"]
    assert times("0 * * * *", "2026-10-24 23:30", 3, "Europe/Berlin") == [
        "2026-10-25 00:00",
        "2026-10-25 02:00",
        "2026-10-25 03:00",
    ]


def test_a_day_that_a_zone_left_out_is_made_up_for_by_the_next() -> None:
    assert times("0 12 30 12 *", "2011-12-29 12:00", 1, "Pacific/Apia") == ["2011-12-30 10:00"]


@pytest.mark.parametrize(
    "text",
    [
        "", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * 32 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *",
        "*/0 * * * *", "5/10 * * * *", "a * * * *", "1,,2 * * * *", "-1 * * * *", "* * 30 2 *", "* * 31 4,6 *", "@reboot", "1-2-3 * * * *",
        "\u0661 * * * *", "*" * 300,
    ],
)  # fmt: skip
def test_what_is_no_calendar_is_refused(text: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_cron(text)
    assert refused.value.fields["field"] == "cron"


@pytest.mark.parametrize("name", ["Nowhere/City", "", "../etc/passwd", "/etc/localtime", "Europe\0", "x" * 5000])
def test_what_is_no_zone_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        parse_zone(name)


FIELD = st.sampled_from(["*", "*/7", "0", "30", "5-50/15"])


@given(
    FIELD,
    st.sampled_from(["*", "1,2,3", "2", "*/5"]),
    st.integers(1_600_000_000, 1_900_000_000),
    st.sampled_from([BERLIN, NEW_YORK]),
)
def test_instants_rise_and_show_what_the_fields_say_outside_of_gaps(minute: str, hour: str, at: int, zone: object) -> None:
    cron = parse_cron(f"{minute} {hour} * * *")
    first = cron.next_after(at, zone)  # type: ignore[arg-type]
    assert first > at
    shown = datetime.fromtimestamp(first, zone)  # type: ignore[arg-type]
    earlier = datetime.fromtimestamp(first - 1, zone)  # type: ignore[arg-type]
    jumped = shown.utcoffset() != earlier.utcoffset() and shown.utcoffset() > earlier.utcoffset()  # type: ignore[operator]
    assert jumped or (shown.minute in cron.minutes and shown.hour in cron.hours)
    assert cron.next_after(first - 1, zone) == first  # type: ignore[arg-type]
    assert first - at <= timedelta(days=2).total_seconds()
