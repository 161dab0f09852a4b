"""How far an approval may reach: scopes, durations, batches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentos.abi.records import AskRecord
from agentos.kernel.ask import SCOPES, admits, as_ask, batch_of, duration_of, scopes_of

REMEMBER = ("once", "process", "30m", "8h", "tree", "image", "project", "")


def record(**changed: object) -> AskRecord:
    return AskRecord(**{"ask": 1, "pid": 4, "offer": "allow x.y", "effect": "once", **changed})  # type: ignore[arg-type]


@given(st.sampled_from(REMEMBER), st.sampled_from([*SCOPES, "1m", "30m", "1h", "8h", "9h"]))
def test_a_wider_rule_admits_whatever_a_narrower_one_does(remember: str, scope: str) -> None:
    if admits(remember, scope):
        assert all(admits(wider, scope) for wider in REMEMBER[REMEMBER.index(remember) :])


@given(st.text(max_size=12), st.sampled_from(REMEMBER))
def test_what_is_no_scope_is_never_admitted(scope: str, remember: str) -> None:
    assert admits(remember, scope) is (admits("", scope) and admits(remember, scope))
    if scope not in SCOPES and duration_of(scope) is None:
        assert not admits(remember, scope)


@pytest.mark.parametrize("remember", ["forever", "TREE", "tree ", "0s", "-1h", "999999d"])
def test_a_rule_that_says_nothing_known_admits_one_call(remember: str) -> None:
    assert [scope for scope in (*SCOPES, "1m") if admits(remember, scope)] == ["once"]


@pytest.mark.parametrize(
    ("remember", "scopes"),
    [
        ("", SCOPES),
        ("once", ("once",)),
        ("process", ("once", "process")),
        ("8h", ("once", "process", "8h")),
        ("image", SCOPES[:4]),
    ],
)
def test_the_scopes_that_are_shown_are_those_that_are_admitted(remember: str, scopes: tuple[str, ...]) -> None:
    assert scopes_of(record(remember=remember)) == scopes
    assert all(admits(remember, scope) for scope in scopes)


def test_without_an_offer_there_is_one_scope() -> None:
    assert as_ask(record(offer="", remember="tree")).scopes == ("once",)


@pytest.mark.parametrize("effect", ["once", "keyed"])
def test_what_nothing_takes_back_is_irreversible(effect: str) -> None:
    assert as_ask(record(effect=effect)).irreversible
    assert not as_ask(record(effect="probeable")).irreversible


@pytest.mark.parametrize(
    ("number", "batch"),
    [
        ("5", ""),
        ("12.3.1", "4/12"),
        ("12.1.7", "4/12"),
        ("2.3.1.2.1", "4/2.3.1"),
        ("h1-7", ""),
        ("h1-7.2.1", "4/h1-7"),
        ("=a.b", ""),
    ],
)
def test_branches_of_one_gather_share_a_batch(number: str, batch: str) -> None:
    assert batch_of(4, number) == batch
