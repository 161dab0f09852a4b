"""Amounts in a few characters."""

from __future__ import annotations

import pytest

from agentos.shell import words


@pytest.mark.parametrize(
    ("usd", "shown"),
    [(0, "$0.00"), (12.5, "$12.50"), (0.0021, "$0.0021"), (0.0000042, "$0.0000042"), (0.00001205, "$0.000012")],
)
def test_a_small_amount_of_money_is_not_shown_as_none(usd: float, shown: str) -> None:
    assert words.money(usd) == shown


def test_what_is_known_of_a_cost_is_shown() -> None:
    assert words.spent(1, 0) == "1 token"
    assert words.cost({"calls": 2, "tokens": 1200, "usd": 0.5, "wall_s": 3}) == "2 calls, 1,200 tokens, $0.5000, 3.0s"
