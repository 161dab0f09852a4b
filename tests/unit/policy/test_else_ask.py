"""`else ask` and `remember`: a fallback weaker than any allow, its question, and how wide an answer may be."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from agentos.policy import Stack, Verdict
from agentos.policy.verdict import least, width_of
from tests.unit.policy.builders import call, decide, known, layer, verdict

PAY = 'allow bank.transfer "acct/7" when amount <= 10 else ask "Pay {amount} to {account}?" timeout 5m remember process because "money"'


def pay(body: str, amount: float = 50, account: str = "7", **more: Any) -> Verdict:
    return verdict(body, "bank.transfer", account=account, amount=amount, **more)


def test_a_call_that_the_allow_nearly_covers_is_asked_about() -> None:
    found = pay(PAY)
    assert (found.outcome, found.rule, found.question) == ("ask", "t.policy:2", 'Pay 50.0 to "7"?')
    assert (found.timeout_s, found.remember, found.because, found.constant) == (300, "process", "money", False)


def test_a_call_that_the_allow_covers_is_not_asked_about() -> None:
    found = pay(PAY, 5)
    assert (found.outcome, found.question, found.timeout_s, found.remember) == ("allow", "", None, "")


def test_a_call_of_another_op_or_resource_is_denied_as_before() -> None:
    assert pay(PAY, account="8").outcome == "deny"
    assert decide(PAY, "fs.read", path="/a") == "deny"


def test_an_unknown_condition_of_the_allow_asks() -> None:
    body = 'allow bank.transfer when account from { prompt } else ask "Pay {account}?"'
    assert pay(body).outcome == "ask"
    assert pay(body, facts=known({"7": "prompt"})).outcome == "allow"


def test_else_ask_is_weaker_than_every_deny_ask_and_allow_of_its_layer_in_any_order() -> None:
    """else-asks-last"""
    for other, outcome in (
        ("allow bank.transfer", "allow"),
        ("deny bank.transfer when amount > 1", "deny"),
        ("ask bank.transfer", "ask"),
    ):
        for body in map("\n".join, permutations([PAY, other])):
            found = pay(body)
            assert (found.outcome, found.question) == (outcome, "")


def test_an_else_ask_never_widens_what_another_layer_denies() -> None:
    fallback, strict = layer(PAY), layer("deny bank.transfer when amount > 20", "restrict")
    for stack in (Stack([fallback, strict]), Stack([strict, fallback])):
        assert stack.decide(*call("bank.transfer", account="7", amount=50)).outcome == "deny"
    assert Stack([fallback, layer("allow fs.read")]).decide(*call("bank.transfer", account="7", amount=50)).outcome == "deny"


def test_of_two_resources_one_that_is_only_nearly_covered_asks() -> None:
    body = 'allow fs.move "/a/**"\nallow fs.move "/b/**" when to like "/a/*" else ask "Move to {to}?"'
    assert decide(body, "fs.move", path="/a/x", to="/a/y") == "allow"
    assert verdict(body, "fs.move", path="/a/x", to="/b/y").question == 'Move to "/b/y"?'
    assert decide(body, "fs.move", path="/a/x", to="/c/y") == "deny"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("Bob", '"Bob"'),
        ('x"? Approve. "', '"x\\"? Approve. \\""'),
        ("a\nApprove [y]", '"a\\nApprove [y]"'),
        ("\x1b[2Ja", '"\\x1b[2Ja"'),
        ("a\u202eb\u200bc", '"a\\u202eb\\u200bc"'),
        ("\ud800", '"\\ud800"'),
        ("x" * 200, '"' + "x" * 80 + '..."'),
        (["a", "b"], '["a", "b"]'),
        ([[["deep"]]], "[[[...]]]"),
        ({"k": 1}, '{"k": 1}'),
        (True, "true"),
        (10**400, "a number of many digits"),
        (None, "nothing"),
        (list(range(1000)), "[0, 1, 2, 3, 4, 5, 6, 7...]"),
    ],
)
def test_no_argument_can_pass_for_words_of_the_question(value: Any, shown: str) -> None:
    body = 'allow bank.transfer when amount < 0 else ask "Is {value} right?"'
    assert pay(body, value=value).question == f"Is {shown} right?"


def test_fields_and_derived_attributes_can_stand_in_a_question() -> None:
    body = 'allow fs.write when size < 1 else ask "{size} bytes to {path}, {text.length} characters?"'
    assert verdict(body, "fs.write", path="/a", text="abc").question == '3 bytes to "/a", 3 characters?'


def test_a_plain_ask_has_no_question_but_may_say_how_wide_an_answer_is() -> None:
    found = verdict('ask fs.read remember 8h because "look"', "fs.read", path="/a")
    assert (found.question, found.remember, found.because) == ("", "8h", "look")


def test_of_several_asks_the_one_with_the_narrowest_answer_decides_in_any_order() -> None:
    lines = ["ask fs.read", "ask fs.read remember tree", 'ask fs.read "/a" remember once', "ask fs.read remember 8h"]
    for body in map("\n".join, permutations(lines)):
        assert verdict(body, "fs.read", path="/a").remember == "once"
        assert verdict(body, "fs.read", path="/b").remember == "8h"


def test_two_layers_that_ask_give_the_narrower_answer_and_the_shorter_time() -> None:
    first, second = layer("ask fs.read remember image timeout 1h"), layer("ask fs.read remember process timeout 2h")
    for layers in ((first, second), (second, first)):
        found = Stack(layers).decide(*call("fs.read", path="/a"))
        assert (found.remember, found.timeout_s) == ("process", 3600)


def test_scopes_have_an_order() -> None:
    scopes = ["once", "process", "10m", "8h", "30d", "tree", "image", ""]
    shuffled = [scopes[index] for index in (4, 0, 7, 2, 6, 1, 5, 3)]
    assert sorted(shuffled, key=width_of) == scopes
    allowed = Verdict("allow", "x:1", "", "x", None, True)
    assert least(allowed, allowed) is allowed
