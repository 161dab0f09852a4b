"""Counters of limits: who shares them, what is refused, what a refusal says, and that the table follows what is in use."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

import agentos
from agentos.abi.records import AccountRecord, Change, ProcessRecord, QuotaRecord
from agentos.errors import Denied
from agentos.kernel import quota
from agentos.kernel.budget import Account
from agentos.kernel.process import AgentProcess
from agentos.kernel.quota import QuotaTable, Reservation
from agentos.policy.flow import Charge

NOW = 1_000_000_000.0


def process(pid: int = 1, tree: int = 1) -> AgentProcess:
    account = Account(AccountRecord(pid=pid), {}, None)
    return AgentProcess(ProcessRecord(pid=pid, tree=tree), None, agentos.Image.host(), account)


def limit(amount_max: float | None = 5, per: str = "process", amount: Any = 1, **fields: Any) -> Charge:
    usual = {"key": "k", "where": "banking.policy:10", "text": "limit bank.pay 5 per 1d", "window_s": 86_400.0}
    return Charge(**{**usual, "amount": amount, "amount_max": amount_max, "per": per, **fields})


def counted(key: str, amount: float = 1, **fields: Any) -> Charge:
    return limit(None, "tree", amount, key=key, where="", text="", **fields)


def admitted(table: QuotaTable, *charges: Charge, by: AgentProcess | None = None, now: float = NOW) -> list[Change]:
    """The changes of a call that is admitted and succeeds."""
    changes: list[Change] = []
    reservation = table.reserve(charges, by or process(), now)
    table.changes(reservation, changes)
    table.settle(reservation, {}, True, now, changes)
    return changes


def refusal(table: QuotaTable, *charges: Charge, by: AgentProcess | None = None, now: float = NOW) -> Denied:
    with pytest.raises(Denied) as caught:
        table.reserve(charges, by or process(), now)
    return caught.value


def held(table: QuotaTable, *charges: Charge, by: AgentProcess | None = None, now: float = NOW) -> Reservation:
    reservation = table.reserve(charges, by or process(), now)
    assert reservation is not None
    return reservation


# --- who shares a counter ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per", "shared"), [("process", [1]), ("tree", [1, 2]), ("window", [1, 2, 3])])
def test_a_limit_is_shared_by_its_process_its_tree_or_all(per: str, shared: list[int]) -> None:
    table, everybody = QuotaTable(), {1: process(1, 1), 2: process(2, 1), 3: process(3, 3)}
    charge = limit(1, per)
    admitted(table, charge, by=everybody[1])
    for pid, member in everybody.items():
        assert table.used(charge, member, NOW) == (1 if pid in shared else 0)
    assert [pid for pid, member in everybody.items() if not fits(table, charge, member)] == shared


def fits(table: QuotaTable, charge: Charge, by: AgentProcess) -> bool:
    try:
        table.room([charge], by, NOW)
    except Denied:
        return False
    return True


def test_a_value_that_splits_a_limit_has_room_of_its_own() -> None:
    table = QuotaTable()
    admitted(table, limit(1, by="ann"))
    admitted(table, limit(1, by="bob"))
    assert refusal(table, limit(1, by="ann")).code == "denied.policy"
    admitted(table, limit(1, by=""))


@pytest.mark.parametrize("value", ["p1", "/p2", "a.b", "ann/w60", "\ud800", "x" * 100_000, "\0"])
def test_a_value_cannot_name_the_counter_of_somebody_else(value: str) -> None:
    table = QuotaTable()
    (change, *_) = admitted(table, limit(1, by=value))
    assert isinstance(change.record, QuotaRecord)
    assert change.record.key.rpartition(".")[0] == "k/p1"
    assert len(change.record.key) == len("k/p1.") + 32


def test_a_statement_whose_name_ends_like_a_holder_does_not_end_with_that_holder() -> None:
    table, changes = QuotaTable(), []
    admitted(table, limit(1, "window", key="k/p1"))
    table.end_process(1, changes)
    assert changes == []
    assert refusal(table, limit(1, "window", key="k/p1"))


def test_the_same_statement_in_two_layers_is_charged_once() -> None:
    table = QuotaTable()
    admitted(table, limit(), limit(), counted("count/x"), counted("count/x"))
    assert (table.used(limit(), process(), NOW), table.count(1, "x")) == (1, 1)


def test_windows_of_different_length_are_counted_apart() -> None:
    table = QuotaTable()
    admitted(table, limit(1, "window"))
    assert table.used(limit(1, "window", window_s=60.0), process(), NOW) == 0


# --- room -------------------------------------------------------------------------------------------------------------


def test_ten_times_a_tenth_fills_one_exactly() -> None:
    table, tenth = QuotaTable(), limit(1.0, amount=0.1)
    for _ in range(10):
        admitted(table, tenth)
    for more in (0.1, 1e-7, Decimal("1e-30")):
        assert refusal(table, limit(1.0, amount=more))
    assert table.used(tenth, process(), NOW) == 1.0


def test_an_overshoot_of_a_ten_millionth_is_refused() -> None:
    assert refusal(QuotaTable(), limit(1.0, amount=1.0000001))
    assert refusal(QuotaTable(), limit(2**60, amount=2**60 + 1))
    assert refusal(QuotaTable(), limit(1, amount=Decimal("1.00000000000000000001")))


@pytest.mark.parametrize("amount", [-1, -0.5, Decimal(-3), math.nan, math.inf, -math.inf, Decimal("nan"), Decimal("1e400")])
def test_an_amount_that_is_none_is_refused_by_a_limit(amount: float) -> None:
    table = QuotaTable()
    assert refusal(table, limit(amount=amount)).code == "denied.policy"
    assert len(table) == 0


@pytest.mark.parametrize("amount_max", [math.nan, math.inf, -1])
def test_a_limit_that_is_no_amount_lets_nothing_pass(amount_max: float) -> None:
    assert refusal(QuotaTable(), limit(amount_max))


def test_a_limit_of_nothing_lets_nothing_pass() -> None:
    assert refusal(QuotaTable(), limit(0))


def test_one_full_limit_leaves_the_others_as_they_were() -> None:
    table, changes = QuotaTable(), []
    admitted(table, limit(1, key="full"))
    assert refusal(table, limit(key="roomy"), counted("count/x"), limit(1, key="full"))
    assert (table.used(limit(key="roomy"), process(), NOW), table.count(1, "x"), len(table)) == (0, 0, 1)
    table.changes(None, changes)
    assert changes == []


def test_room_takes_nothing() -> None:
    table = QuotaTable()
    for _ in range(3):
        table.room([limit(1)], process(), NOW)
    assert len(table) == 0


def test_a_call_without_charges_reserves_nothing() -> None:
    table, changes = QuotaTable(), []
    assert table.reserve((), process(), NOW) is None
    table.changes(None, changes)
    table.settle(None, None, True, NOW, changes)
    table.release(None, changes)
    assert changes == []


# --- what a refusal says ----------------------------------------------------------------------------------------------


def test_a_refusal_names_the_limit_its_line_and_when_to_come_back() -> None:
    table = QuotaTable()
    for hour in range(5):
        admitted(table, limit(per="window"), now=NOW + hour * 3600)
    error = refusal(table, limit(per="window"), now=NOW + 21 * 3600)
    assert error.message == 'limit "bank.pay 5 per 1d" is reached (banking.policy:10): 5 of 5 used, room again in 4h'
    assert (error.rule, error.limit) == ("banking.policy:10", "limit bank.pay 5 per 1d")
    assert 3 * 3600 < error.fields["retry_after_s"] <= 3 * 3600 + 86_400 / 60
    free_at = NOW + 21 * 3600 + error.fields["retry_after_s"]
    assert refusal(table, limit(per="window"), now=free_at - 0.001).fields["retry_after_s"] <= 0.002
    table.room([limit(per="window")], process(), free_at)


def test_a_limit_that_time_does_not_free_says_so() -> None:
    table = QuotaTable()
    admitted(table, limit(2, "tree", Decimal("1.5")))
    error = refusal(table, limit(2, "tree", 1))
    assert error.message.endswith("1.5 of 2 used, this call takes 1")
    assert "retry_after_s" not in error.fields
    assert "only a person" in error.hint


def test_a_call_larger_than_its_limit_is_never_told_to_come_back() -> None:
    table = QuotaTable()
    admitted(table, limit(5, "window"))
    assert "retry_after_s" not in refusal(table, limit(5, "window", 6)).fields


# --- settling ---------------------------------------------------------------------------------------------------------


def cost(amount_max: float = 100, **fields: Any) -> Charge:
    return limit(amount_max, amount=0, of="tokens", **fields)


def test_a_cost_is_counted_once_it_is_known_and_one_call_may_overshoot() -> None:
    table, changes = QuotaTable(), []
    for tokens in (60, 70):
        reservation = held(table, cost())
        table.settle(reservation, {"tokens": tokens, "usd": 1}, True, NOW, changes)
    assert table.used(cost(), process(), NOW) == 130
    assert refusal(table, cost()).message.endswith("130 of 100 used")


def test_a_cost_that_reaches_its_limit_exactly_admits_no_further_call() -> None:
    table = QuotaTable()
    table.settle(held(table, cost()), {"tokens": 100}, True, NOW, [])
    assert refusal(table, cost())


@pytest.mark.parametrize("tokens", [math.nan, math.inf])
def test_a_cost_that_is_no_number_uses_the_limit_up(tokens: float) -> None:
    table = QuotaTable()
    table.settle(held(table, cost()), {"tokens": tokens}, True, NOW, [])
    assert refusal(table, cost())


def test_a_negative_cost_gives_nothing_back() -> None:
    table = QuotaTable()
    for tokens in (50, -40):
        table.settle(held(table, cost()), {"tokens": tokens}, True, NOW, [])
    assert table.used(cost(), process(), NOW) == 50


def test_a_failed_call_is_counted_but_did_not_happen() -> None:
    table, charges = QuotaTable(), (limit(), counted("count/x"), counted("after/x", succeeded=True))
    for succeeded in (False, True):
        assert not table.happened(1, "x")
        table.settle(held(table, *charges), None, succeeded, NOW, [])
    assert (table.used(limit(), process(), NOW), table.count(1, "x"), table.happened(1, "x")) == (2, 2, True)


def test_history_sums_amounts_exactly_and_never_goes_down() -> None:
    table = QuotaTable()
    for amount in (0.1, Decimal("0.2"), -5, 3):
        admitted(table, counted("sum/bank.pay.amount", amount))
    assert table.total(1, "bank.pay", "amount") == 3.3
    assert table.total(2, "bank.pay", "amount") == 0


def test_a_released_call_gives_everything_back() -> None:
    table, changes = QuotaTable(), []
    reservation = held(table, limit(1), limit(1, "window", key="w"), counted("count/x"))
    assert refusal(table, limit(1))
    table.release(reservation, changes)
    assert (changes, len(table), table.count(1, "x")) == ([], 0, 0)


@pytest.mark.parametrize("end", ["settle", "release"])
def test_a_reservation_ends_once(end: str) -> None:
    table = QuotaTable()
    reservation = held(table, limit())
    table.release(reservation, [])
    with pytest.raises(AssertionError, match="once"):
        getattr(table, end)(reservation, *([None, True, NOW] if end == "settle" else []), [])


# --- what is written down ---------------------------------------------------------------------------------------------


def test_only_what_changed_is_written_with_admission_and_result() -> None:
    table, first, second = QuotaTable(), [], []
    reservation = held(table, limit(), cost(key="c"), counted("after/x", succeeded=True))
    table.changes(reservation, first)
    table.settle(reservation, {"tokens": 3}, True, NOW, second)
    assert [change.record.key for change in first] == ["k/p1"]
    assert [change.record.key for change in second] == ["c/p1", "after/x/t1"]


def test_a_written_call_that_is_released_is_written_back() -> None:
    table, changes = QuotaTable(), []
    admitted(table, limit(2))
    reservation = held(table, limit(2))
    table.changes(reservation, changes)
    table.release(reservation, changes)
    again = QuotaTable()
    again.load(changes[-1].record)
    assert again.used(limit(), process(), NOW) == 1


def test_a_call_that_an_earlier_kernel_admitted_can_be_settled_and_released() -> None:
    table = QuotaTable()
    changes = admitted(table, limit(3, "window"))
    held(table, limit(3, "window"))
    again = QuotaTable()
    again.load(table._counters.live["k/w86400000000"].write())
    earlier = again.resume([limit(3, "window"), cost(key="c")], process(), NOW)
    assert again.used(limit(per="window"), process(), NOW) == 2
    again.release(earlier, changes)
    assert again.used(limit(per="window"), process(), NOW) == 1
    later = again.resume([cost(key="c")], process(), NOW)
    again.settle(later, {"tokens": 7}, True, NOW, changes)
    assert again.used(cost(key="c"), process(), NOW) == 7


def test_taking_back_what_an_earlier_kernel_took_leaves_what_came_later() -> None:
    table, minute = QuotaTable(), 60.0
    for now in (NOW, NOW + 30):
        admitted(table, limit(2, "window", window_s=minute), now=now)
    again = QuotaTable()
    again.load(table._counters.live["k/w60000000"].write())
    again.release(again.resume([limit(2, "window", window_s=minute)], process(), NOW), [])
    assert again.used(limit(per="window", window_s=minute), process(), NOW + 62) == 1


# --- ends -------------------------------------------------------------------------------------------------------------


def test_counters_end_with_their_process_and_with_their_tree() -> None:
    table, changes = QuotaTable(), []
    admitted(table, limit(by="a"), limit(by="b", key="j"), counted("count/x"), limit(per="window"))
    table.end_process(1, changes)
    assert sorted(change.record.key.partition(".")[0] for change in changes) == ["j/p1", "k/p1"]
    table.end_tree(1, changes)
    assert [change.record.key for change in changes[2:]] == ["count/x/t1"]
    assert not any(change.record.live for change in changes)
    assert list(table._counters.live) == ["k/w86400000000"]


def test_a_call_that_ends_after_its_process_counts_nowhere() -> None:
    table, changes = QuotaTable(), []
    calls = [held(table, cost(), limit(key="l")) for _ in range(2)]
    table.end_process(1, [])
    table.settle(calls[0], {"tokens": 3}, True, NOW, changes)
    table.release(calls[1], changes)
    assert (changes, len(table)) == ([], 0)


def test_a_window_that_is_empty_again_leaves_the_store_while_others_are_used() -> None:
    table, changes = QuotaTable(), []
    for value in "abcdef":
        admitted(table, limit(1, "window", by=value, window_s=60.0))
    for minute in range(3):
        changes += admitted(table, limit(per="window", key="other"), now=NOW + 70 + minute)
    assert sorted({change.record.key for change in changes if not change.record.live}) == sorted(
        key for key in {change.record.key for change in changes} if key.startswith("k/")
    )
    assert list(table._counters.live) == ["other/w86400000000"]


def test_a_window_that_a_call_holds_is_not_forgotten() -> None:
    table = QuotaTable()
    reservation = held(table, cost(per="window", window_s=60.0))
    for later in range(5):
        admitted(table, limit(key="other"), now=NOW + 1000 + later)
    table.settle(reservation, {"tokens": 100}, True, NOW + 1010, [])
    assert refusal(table, cost(per="window", window_s=60.0), now=NOW + 1011)


def test_a_window_that_comes_again_replaces_what_the_store_has_of_it() -> None:
    table, charge = QuotaTable(), limit(1, "window", window_s=1.0)
    record = admitted(table, charge)[0].record
    record.seq = 7
    table.room([charge], process(), NOW + 10)
    table._counters.sweep(1)
    assert len(table) == 0
    changes = admitted(table, charge, now=NOW + 11)
    assert [(change.record is record, change.replaces, change.record.live) for change in changes] == [(True, 7, 1)]


def test_a_window_that_comes_again_for_a_call_that_never_started_leaves_the_store() -> None:
    table, charge, changes = QuotaTable(), limit(1, "window", window_s=1.0), []
    admitted(table, charge)[0].record.seq = 7
    table.room([charge], process(), NOW + 10)
    table._counters.sweep(1)
    table.release(held(table, charge, now=NOW + 11), changes)
    assert {(change.replaces, change.record.live) for change in changes} == {(7, 0)}


# --- bounds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "QUOTAS_MAX", 10)
    monkeypatch.setattr(quota, "QUOTA_VALUES_MAX", 4)


@pytest.mark.usefixtures("few")
def test_values_that_split_one_limit_are_bounded_and_leave_room_for_other_limits() -> None:
    table = QuotaTable()
    for value in "abcd":
        admitted(table, limit(per="window", by=value))
    error = refusal(table, limit(per="window", by="e"))
    assert (
        error.message
        == 'limit "bank.pay 5 per 1d" cannot be counted (banking.policy:10): 4 values split it, the most that are kept'
    )
    admitted(table, limit(per="window", by="a"))
    admitted(table, limit(per="window", key="other", by="e"))


@pytest.mark.usefixtures("few")
def test_a_full_table_refuses_what_it_cannot_count_until_windows_have_passed() -> None:
    table = QuotaTable()
    for name in "abcdefghij":
        admitted(table, limit(per="window", key=name, window_s=60.0))
    assert "10 counters are in use" in refusal(table, limit(key="new")).message
    admitted(table, limit(per="window", key="a", window_s=60.0))
    admitted(table, limit(key="new"), now=NOW + 62)
    assert len(table) <= 10


@pytest.mark.usefixtures("few")
def test_calls_that_never_start_fill_no_table() -> None:
    table = QuotaTable()
    for number in range(100):
        table.release(held(table, limit(per="window", by=str(number)), cost(key="c", per="window", by=str(number))), [])
    counters = table._counters
    assert (len(table), len(counters.values), len(counters._windows), len(counters._holders)) == (0, 0, 0, 0)


def test_what_is_kept_follows_what_is_in_use_and_not_history() -> None:
    table, stored = QuotaTable(), set()
    for number in range(3_000):
        for change in admitted(table, limit(1, "window", by=str(number), window_s=60.0), now=NOW + number):
            (stored.add if change.record.live else stored.discard)(change.record.key)
    assert len(table) <= 100
    assert len(stored) <= 100


@pytest.mark.usefixtures("few")
def test_a_table_read_from_the_store_is_bounded_by_the_same_values() -> None:
    table, again = QuotaTable(), QuotaTable()
    for value in "abcd":
        for change in admitted(table, limit(per="window", by=value)):
            again.load(change.record)
    assert refusal(again, limit(per="window", by="e"))
