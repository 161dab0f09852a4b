"""Limits, counters and obligations: what a call charges, in every doubt more than there is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from agentos.policy import Stack, load_layer
from agentos.policy.flow import Charge
from agentos.policy.limit import canonical_text
from tests.unit.policy.builders import TABLE, call, known, layer, op


def charges(body: str, name: str, *, facts: dict[str, Any] | None = None, **args: Any) -> tuple[Charge, ...]:
    return Stack([layer(body)]).charges(*call(name, facts=facts, **args))


def pay(body: str, amount: Any = 50, **args: Any) -> tuple[Charge, ...]:
    """Charge a payment whose amount is taken as it is, also where validation would refuse it."""
    found, resources, values, facts = call("bank.transfer", account="7", amount=1, **args)
    return Stack([layer(body)]).charges(found, resources, {**values, "amount": amount}, facts)


def test_a_limit_without_of_counts_calls() -> None:
    (found,) = charges("limit fs.read 60 per 1m", "fs.read", path="/a")
    assert (found.amount, found.amount_max, found.per, found.window_s, found.by, found.of) == (1, 60, "window", 60.0, "", "")
    assert (found.where, found.text, found.succeeded) == ("t.policy:2", "limit fs.read 60 per 1m", False)


@pytest.mark.parametrize(
    ("per", "kind", "window_s"), [("process", "process", 0), ("tree", "tree", 0), ("1h30m", "window", 5400)]
)
def test_a_limit_is_per_process_tree_or_sliding_window(per: str, kind: str, window_s: float) -> None:
    (found,) = charges(f"limit fs.read 1MB of bytes_max per {per}", "fs.read", path="/a")
    assert (found.per, found.window_s, found.amount, found.amount_max) == (kind, window_s, 10, 1 << 20)


def test_the_amount_is_the_argument_exactly_as_it_is() -> None:
    for amount in (7, 0.1, Decimal("0.10"), Decimal("0.1000000000000000000001"), 0):
        (found,) = pay("limit bank.transfer 100 of amount per 1d", amount)
        assert found.amount == amount
        assert type(found.amount) is type(amount)


@pytest.mark.parametrize(
    "amount", [-5, -0.01, Decimal(-1), float("nan"), float("inf"), Decimal("NaN"), Decimal("Infinity"), None, "50", True, [50]]
)
@pytest.mark.parametrize("maximum", ["100", "0", "0.5", "9" * 30, "9" * 25 + ".5"])
def test_what_is_no_amount_charges_more_than_there_is(amount: Any, maximum: str) -> None:
    """charges-never-give-back"""
    (found,) = pay(f"limit bank.transfer {maximum} of amount per 1d", amount)
    assert found.amount_max is not None
    assert found.amount > found.amount_max


def test_a_cost_is_settled_after_the_call() -> None:
    (found,) = charges("limit fs.read 5MB of bytes per tree", "fs.read", path="/a")
    assert (found.amount, found.of, found.amount_max) == (0, "bytes", 5 << 20)
    (timed,) = charges("limit fs.read 5m of wall_s per tree", "fs.read", path="/a")
    assert (timed.of, timed.amount_max) == ("wall_s", 300)


def test_an_argument_wins_over_a_cost_of_its_name() -> None:
    spend = op("shop.spend", lambda usd: None, "once", "id:shop")
    spend.hints = {"usd": float, "return": None}
    made = load_layer('policy "t"\nlimit shop.spend 10 of usd per 1d', source="t", table=type(TABLE)([spend]))
    (found,) = Stack([made]).charges(spend, spend.render({"usd": 4}, "/", 1), {"usd": 4}, {})
    assert (found.amount, found.of) == (4, "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"), (1.0, "1"), (Decimal("1.00"), "1"), (Decimal("1E+2"), "100"), (0.5, "0.5"), (Decimal("0.50"), "0.5"), (True, "true"),
        ("Bo", "Bo"), (None, ""), (["a"], ""), ({"a": 1}, ""), (-0.0, "0"), (float("nan"), "nan"), (Decimal("1E+999999"), "1E+999999"),
    ],
)  # fmt: skip
def test_a_split_limit_has_one_text_per_value(value: Any, text: str) -> None:
    assert canonical_text(value) == text
    (found,) = charges("limit bank.transfer 3 per 1d by value", "bank.transfer", account="7", amount=1, value=value)
    assert found.by == text


def test_a_number_of_thousands_of_digits_splits_a_limit_too() -> None:
    assert canonical_text(10**5000) == hex(10**5000)
    assert canonical_text(10**5000) != canonical_text(10**5000 + 1)


def test_a_limit_holds_where_op_pattern_and_condition_do() -> None:
    body = 'limit fs.* "/a/**" when path like "/a/*" 3 per 1d'
    assert len(charges(body, "fs.read", path="/a/x")) == 1
    assert charges(body, "fs.read", path="/b/x") == ()
    assert charges(body, "fs.read", path="/a/x/y") == ()
    assert charges(body, "net.fetch", url="https://a.example/") == ()
    assert len(charges(body.replace("path like", "not path like"), "fs.move", path="/b", to="/a/x")) == 1


def test_a_limit_or_obligation_in_doubt_holds() -> None:
    """limits-fail-closed"""
    for condition in (
        "encoding == x",
        "flow.level == secret",
        'resolved like "/x"',
        'not resolved like "/x"',
        "path from { prompt }",
    ):
        body = f"limit fs.read when {condition} 3 per 1d\nrequire log for fs.read when {condition}"
        found = call("fs.read", path="/a", encoding=None)
        assert len(Stack([layer(body)]).charges(*found)) == 1, condition
        assert Stack([layer(body)]).obligations(*found) == {"log"}, condition
    known_not = call("fs.read", path="/a", facts=known())
    assert Stack([layer("limit fs.read when flow.level == secret 3 per 1d")]).charges(*known_not) == ()


def test_an_op_that_a_limit_was_not_made_for_is_limited_without_condition_and_cannot_pass_without_the_amount() -> None:
    def fetch(target: str) -> None: ...

    later = op("fs.fetch", fetch, "once", "path:{target}")
    resources = call("fs.read", path="/a")[1]
    stack = Stack([layer("limit fs.read, fs.* when path == x 3 per 1d by path\nrequire sandbox for fs.* when path == x")])
    (counted,) = stack.charges(later, resources, {"target": "/a"}, {})
    assert (counted.amount, counted.by) == (1, "")
    assert stack.obligations(later, resources, {"target": "/a"}, {}) == {"sandbox"}
    (summed,) = Stack([layer('limit effect once "/**" 3 of amount per 1d', table=_only("bank.transfer"))]).charges(
        later, resources, {"target": "/a"}, {}
    )
    assert summed.amount > 3


def _only(name: str) -> Any:
    def act(path: str, amount: float) -> None: ...

    return type(TABLE)([op(name, act, "once", "path:{path}")])


def test_the_key_follows_layer_name_and_statement_and_nothing_else() -> None:
    def key(name: str, body: str) -> str:
        made = load_layer(f'policy "{name}"\n{body}', source="x.policy", table=TABLE)
        return Stack([made]).charges(*call("fs.read", path="/a"))[0].key

    first = key("a", "limit fs.read 3 per 1d")
    assert first == key("a", "# moved\nallow fs.write\n\nlimit   fs.read   3   per 1d")
    assert (
        len({first, key("b", "limit fs.read 3 per 1d"), key("a", "limit fs.read 4 per 1d"), key("a", "limit fs.read 3 per 2d")})
        == 4
    )
    assert len(first) == 32


def test_one_statement_of_two_layers_of_one_name_is_charged_once_and_all_others_each() -> None:
    one, two = (
        layer("limit fs.read 3 per 1d"),
        layer("limit fs.read 3 per 1d\nlimit fs.read 3 per tree\nlimit fs.read 3 per tree"),
    )
    assert len(Stack([one, two]).charges(*call("fs.read", path="/a"))) == 2


def test_tests_on_history_are_fed_by_the_calls_that_they_are_about() -> None:
    body = "deny fs.write when count(fs.read) > 3\nask fs.write when sum(bank.transfer.amount) > 9 and after(bank.transfer)"
    (read,) = charges(body, "fs.read", path="/a")
    assert (read.key, read.amount, read.amount_max, read.per, read.where, read.succeeded) == (
        "count/fs.read",
        1,
        None,
        "tree",
        "",
        False,
    )
    found = {charge.key: charge for charge in pay(body, Decimal("2.5"))}
    assert found["sum/bank.transfer.amount"].amount == Decimal("2.5")
    assert found["after/bank.transfer"].succeeded
    assert charges(body, "fs.write", path="/a") == ()


@pytest.mark.parametrize(
    ("amount", "added"),
    [(-5, 0), (float("-inf"), 0), (None, 0), (float("nan"), 10**18), (float("inf"), 10**18), ("x", 10**18), (10**40, 10**18)],
)
def test_history_never_sinks_and_what_is_no_amount_weighs_most(amount: Any, added: float) -> None:
    (found,) = pay("deny fs.read when sum(bank.transfer.amount) > 9", amount)
    assert found.amount == added


def test_limits_and_obligations_of_used_files_count() -> None:
    used = 'restrict "u"\nlimit fs.read 3 per 1d\nrequire log for fs.read\nlabel result(fs.read) secret'
    stack = Stack([layer('use "u"\nallow fs.read', use={"u": used}.get)])
    assert [charge.where for charge in stack.charges(*call("fs.read", path="/a"))] == ["u:2"]
    assert stack.obligations(*call("fs.read", path="/a")) == {"log"}
    assert stack.labels.result("fs.read", "") == (3, False)


def test_obligations_are_the_union_over_statements_and_layers() -> None:
    stack = Stack(
        [layer("require log, preview for fs.*"), layer('require redact for fs.read "/a/**"\nrequire log for *', "restrict")]
    )
    assert stack.obligations(*call("fs.read", path="/a/x")) == {"log", "preview", "redact"}
    assert stack.obligations(*call("fs.read", path="/b")) == {"log", "preview"}
    assert stack.obligations(*call("exec.run", argv=["ls"])) == {"log"}


def test_a_stack_without_limits_asks_for_nothing() -> None:
    stack = Stack([layer("allow fs.read")])
    assert stack.charges(*call("fs.read", path="/a")) == ()
    assert stack.obligations(*call("fs.read", path="/a")) == frozenset()
    assert Stack().charges(*call("fs.read", path="/a")) == ()
