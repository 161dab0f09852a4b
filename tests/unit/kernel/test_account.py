"""Accounts alone: a reservation holds along the whole chain or nowhere."""

from __future__ import annotations

import pytest

from agentos.abi.records import AccountRecord
from agentos.errors import Denied, Invalid
from agentos.kernel.budget import Account, parse_limits


def line(*limits: dict[str, float]) -> list[Account]:
    accounts: list[Account] = []
    for pid, bound in enumerate(limits, 1):
        accounts.append(Account(AccountRecord(pid=pid), bound, accounts[-1] if accounts else None))
    return accounts


def test_a_reservation_holds_everywhere_or_nowhere() -> None:
    top, middle, leaf = line({"tokens": 10}, {}, {"tokens": 100})
    leaf.reserve({"tokens": 8, "usd": 0.5}, 3)
    with pytest.raises(Denied, match="8 of 10"):
        leaf.reserve({"tokens": 3}, 3)
    assert [account.used["tokens"] for account in (top, middle, leaf)] == [8, 8, 8]
    assert leaf.limit("tokens") == 10


def test_what_was_used_is_charged_over_the_limit_too() -> None:
    top, leaf = line({"tokens": 10}, {})
    leaf.charge({"tokens": 50})
    assert (top.used["tokens"], leaf.own["tokens"]) == (50, 50)
    assert "tokens" not in top.own


def test_a_dead_childs_usage_is_folded_into_every_account_it_counted_in() -> None:
    top, middle, leaf = line({}, {}, {})
    leaf.charge({"calls": 3})
    middle.record.live = 0
    assert list(leaf.counted_in()) == [middle, top]
    for above in leaf.counted_in():
        above.fold(leaf)
    again = Account(top.snapshot(), {}, None)
    assert again.used["calls"] == 3


def test_a_snapshot_restores_what_an_account_had() -> None:
    (account,) = line({"calls": 5})
    account.charge({"calls": 2, "usd": 0.25})
    restored = Account(account.snapshot(), {"calls": 5}, None)
    assert (restored.own, restored.used) == ({"calls": 2, "usd": 0.25}, {"calls": 2, "usd": 0.25})


@pytest.mark.parametrize("budget", [{"call": 1}, {"calls": True}, {"calls": "5"}, {"calls": -0.1}, {"usd": float("nan")}])
def test_a_budget_is_numbers_of_known_resources(budget: dict[str, object]) -> None:
    with pytest.raises(Invalid) as caught:
        parse_limits(budget)
    assert caught.value.field == "budget"
