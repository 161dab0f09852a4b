"""One exact count: no unit lost, no unit won, and no span of a window with more than was counted in it."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.abi.records import QuotaRecord
from agentos.kernel.counter import UNITS, Counter, amount_text, to_units, window_us

MINUTE_US = 60_000_000


def counter(window: int = MINUTE_US) -> Counter:
    return Counter(QuotaRecord(key="k"), window)


def reopened(given: Counter, window: int = MINUTE_US) -> Counter:
    record = given.write()
    return Counter(QuotaRecord(key=record.key, data=record.data, seq=1), window)


@given(
    st.one_of(
        st.integers(-(10**30), 10**30), st.floats(allow_nan=False, allow_infinity=False).filter(lambda x: abs(x) < 1e290),
        st.decimals(allow_nan=False, allow_infinity=False, places=20), st.decimals(-5, 5, allow_nan=False),
    ),
    st.booleans(),
)  # fmt: skip
def test_units_are_the_exact_amount_rounded_one_way(amount: float | Decimal, up: bool) -> None:
    exact = Fraction(repr(amount) if isinstance(amount, float) else amount) * UNITS
    assert to_units(amount, up=up) == (math.ceil(exact) if up else math.floor(exact))


@pytest.mark.parametrize(
    "amount", [math.nan, math.inf, -math.inf, Decimal("nan"), Decimal("1e400"), Decimal("1e999999"), 10**400]
)
def test_what_is_beyond_counting_has_no_units(amount: float) -> None:
    assert to_units(amount, up=True) is None


@pytest.mark.parametrize(("amount", "up", "units"), [("1e-999999", True, 1), ("1e-999999", False, 0), ("-1e-999999", True, 0)])
def test_the_smallest_amount_still_counts_as_one_unit(amount: str, up: bool, units: int) -> None:
    assert to_units(Decimal(amount), up=up) == units


@pytest.mark.parametrize(
    ("amount", "text"), [(0, "0"), (5, "5"), (0.1, "0.1"), (1200, "1200"), (Decimal("10.250"), "10.25"), (-2, "-2")]
)
def test_amounts_are_shown_exactly_without_superfluous_zeros(amount: float, text: str) -> None:
    units = to_units(amount, up=True)
    assert units is not None
    assert amount_text(units) == text


@pytest.mark.parametrize(("window_s", "us"), [(60.0, MINUTE_US), (0.5, 500_000), (0.001, 1_001), (1e-9, 1), (1 / 3, 333_334)])
def test_a_window_is_never_shorter_than_it_says(window_s: float, us: int) -> None:
    assert window_us(window_s) == us


@given(
    st.lists(st.tuples(st.floats(0, 200), st.integers(1, 5)), max_size=60), st.sampled_from([1_000_000, MINUTE_US, 7_777_777])
)
def test_what_is_within_the_window_counts_and_what_is_a_bucket_older_does_not(
    steps: list[tuple[float, int]], window: int
) -> None:
    subject, seen = counter(window), []
    for now, units in sorted(steps):
        subject.add(units, now)
        seen.append((Fraction(now), units))
        length = Fraction(window, 1_000_000)
        within = sum(units for at, units in seen if at >= Fraction(now) - length)
        nearly = sum(units for at, units in seen if at > Fraction(now) - length * Fraction(61, 60))
        assert within <= subject.at(now) <= nearly


@given(st.lists(st.tuples(st.floats(0, 500), st.integers(0, 10**25)), max_size=60))
def test_a_count_is_the_same_after_it_was_written_and_read(steps: list[tuple[float, int]]) -> None:
    subject = counter()
    for now, units in steps:
        subject.add(units, now)
    again = reopened(subject)
    assert [again.at(now) for now in (0.0, 500.0, 530.0, 600.0)] == [subject.at(now) for now in (0.0, 500.0, 530.0, 600.0)]
    assert len(again._buckets) <= 61


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 3)), max_size=30), st.booleans())
def test_a_clock_that_goes_back_gives_no_room_back(steps: list[tuple[float, int]], reopen: bool) -> None:
    subject, newest = counter(), 0.0
    for now, units in steps:
        before, newest = subject.at(newest), max(newest, now)
        if now < newest:
            assert subject.at(now) == before
        subject.add(units, now)
        subject = reopened(subject) if reopen and units else subject
        newest = newest if units or not reopen else 0.0


def test_the_time_when_room_is_free_again_is_the_first_at_which_it_is() -> None:
    subject = counter()
    for now in (0.0, 10.0, 20.0):
        subject.add(1, now)
    free_at = subject.free_at(1)
    assert free_at == 71.0
    assert (subject.at(math.nextafter(71.0, 0)), subject.at(71.0)) == (2, 1)


def test_a_total_never_becomes_free_by_itself() -> None:
    subject = counter(0)
    subject.add(3, 1.0)
    assert (subject.at(1e12), subject.free_at(1)) == (3, None)


def test_taking_back_forgets_no_more_than_still_counts() -> None:
    subject = counter()
    moment = subject.add(5, 0.0)
    subject.add(2, 30.0)
    subject.at(70.0)
    subject.take_back(5, moment)
    assert (subject.used, subject.at(200.0)) == (2, 0)


def test_taking_back_leaves_what_others_added_at_the_same_moment() -> None:
    subject = counter()
    moment = subject.add(5, 0.0)
    assert subject.add(2, 0.0) == moment
    subject.add(1, 5.0)
    subject.take_back(5, moment)
    assert subject.used == 3
    assert reopened(subject).at(61.0) == 1
    assert subject.at(61.0) == 1


def test_nothing_is_given_back_by_adding() -> None:
    with pytest.raises(AssertionError, match="nothing gives room back"):
        counter().add(-1, 0.0)
