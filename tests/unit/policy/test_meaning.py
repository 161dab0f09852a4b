"""What rules mean: precedence, three-valued conditions, closed calls, sinks, late attributes, several resources."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from agentos.policy import Stack
from tests.unit.policy.builders import TABLE, call, decide, layer, op, path, verdict


def test_what_a_policy_does_not_mention_is_denied_by_its_default() -> None:
    found = verdict("allow fs.write", "fs.read", path="/a")
    assert (found.outcome, found.rule, found.constant) == ("deny", "t.policy:default", True)
    assert found.because == "no rule of policy `t` allows it"


def test_what_a_restrict_does_not_mention_passes() -> None:
    assert decide('deny fs.read "/a"', "fs.read", kind="restrict", path="/b") == "allow"
    assert decide('deny fs.read "/a"', "fs.read", kind="restrict", path="/a") == "deny"
    assert decide("ask fs.read", "fs.read", kind="restrict", path="/a") == "ask"


def test_an_empty_stack_leaves_the_decision_to_capabilities() -> None:
    found = Stack([]).decide(*call("fs.read", path="/a"))
    assert (found.outcome, found.rule, found.layer, found.constant) == ("allow", "", "", True)


def test_order_is_irrelevant_deny_wins_over_ask_over_allow() -> None:
    lines = ["allow fs.read", 'ask fs.read "/a/**"', 'deny fs.read "/a/b"']
    for body in map("\n".join, permutations(lines)):
        outcomes = [decide(body, "fs.read", path=where) for where in ("/x", "/a/x", "/a/b")]
        assert outcomes == ["allow", "ask", "deny"]


def test_the_deciding_rule_is_named_with_its_reason_and_time() -> None:
    found = verdict('allow fs.read\nask fs.read "/a" timeout 10m because "look first"', "fs.read", path="/a")
    assert (found.rule, found.because, found.timeout_s, found.layer) == ("t.policy:3", "look first", 600.0, "t")


CONDITIONS = [
    ("bytes_max == 3", {"bytes_max": 3}, True),
    ("bytes_max != 3", {"bytes_max": 3}, False),
    ("bytes_max < 3", {"bytes_max": 3}, False),
    ("bytes_max <= 3", {"bytes_max": 3}, True),
    ("bytes_max > 1KB", {"bytes_max": 1025}, True),
    ("bytes_max >= 3", {"bytes_max": 2}, False),
    ("bytes_max in [1, 2]", {"bytes_max": 2}, True),
    ('encoding == "utf-8"', {}, True),
    ('encoding in ["a", latin1]', {"encoding": "latin1"}, True),
    ("encoding is absent", {"encoding": None}, True),
    ("encoding is absent", {}, False),
    ("encoding == x", {"encoding": None}, None),
    ("not encoding == x", {"encoding": None}, None),
    ("encoding == x and bytes_max == 3", {"encoding": None, "bytes_max": 4}, False),
    ("encoding == x or bytes_max == 3", {"encoding": None, "bytes_max": 3}, True),
    ("encoding == x or bytes_max == 3", {"encoding": None, "bytes_max": 4}, None),
    ('path like "/src/*"', {"path": "/src/a"}, True),
    ('path like "/src/*"', {"path": "/src/a/b"}, False),
    ('encoding like "utf*"', {}, True),
    (r"encoding matches /utf-\d+/", {}, True),
    ("encoding matches /utf/", {}, False),
    ("path in $homes", {"path": "/home/x"}, True),
    ("proc.depth > 1", {}, None),
    ("bytes_max == 1 and not (bytes_max == 2 or bytes_max == 3)", {"bytes_max": 1}, True),
]  # fmt: skip


@pytest.mark.parametrize(("condition", "args", "value"), CONDITIONS, ids=[str(line[:2]) for line in CONDITIONS])
def test_unknown_fails_closed_true_in_a_deny_false_in_allow_and_ask(
    condition: str, args: dict[str, Any], value: bool | None
) -> None:
    args = {"path": "/p", **args}
    sets = 'let homes = "/home/*"\n'
    assert decide(f"{sets}allow fs.read when {condition}", "fs.read", **args) == ("allow" if value is True else "deny")
    assert decide(f"{sets}ask fs.read when {condition}", "fs.read", **args) == ("ask" if value is True else "deny")
    denied = decide(f"{sets}allow fs.read\ndeny fs.read when {condition}", "fs.read", **args)
    assert denied == ("allow" if value is False else "deny")
    unless = decide(f"{sets}allow fs.read unless {condition}", "fs.read", **args)
    assert unless == ("allow" if value is False else "deny")
    deny_unless = decide(f"{sets}allow fs.read\ndeny fs.read unless {condition}", "fs.read", **args)
    assert deny_unless == ("allow" if value is True else "deny")


def test_when_and_unless_must_both_agree() -> None:
    body = "allow fs.read when bytes_max > 1 unless bytes_max > 5"
    assert [decide(body, "fs.read", path="/a", bytes_max=size) for size in (1, 3, 6)] == ["deny", "allow", "deny"]


def test_lists_are_asked_for_every_or_some_element() -> None:
    def mail(rule: str, **args: Any) -> str:
        return decide(
            f'let staff = "*@example.com"\n{rule}', "mail.send", **{"to": ["a@example.com", "b@evil.example"], **args}
        )

    assert mail("allow mail.send when every to in $staff any cc") == "deny"
    assert mail("allow mail.send when some to in $staff any cc") == "allow"
    assert mail("allow mail.send when every to in $staff any cc", to=["a@example.com"]) == "allow"
    parts = [{"file_id": "x", "size": 1}, {"file_id": "y", "size": 9}]
    assert mail("allow mail.send when every parts.size < 10 any *", parts=parts) == "allow"
    assert mail("allow mail.send when every parts.size < 9 any *", parts=parts) == "deny"


def test_an_omitted_argument_is_its_default_and_never_counts_as_satisfied() -> None:
    assert decide("allow mail.send when cc == boss any to", "mail.send", to=["a"]) == "deny"
    assert decide('allow mail.send any *\ndeny mail.send when cc like "*@evil"', "mail.send", to=["a"]) == "deny"


def test_numbers_are_numbers_neither_flags_nor_not_a_number() -> None:
    body = "allow bank.transfer\ndeny bank.transfer when amount > 500"
    assert decide(body, "bank.transfer", account="7", amount=float("nan")) == "deny"
    assert decide(body, "bank.transfer", account="7", amount=400) == "allow"
    assert decide("allow bank.transfer when value == 1", "bank.transfer", account="7", amount=1, value=True) == "deny"
    assert decide("allow bank.transfer when value == 1", "bank.transfer", account="7", amount=1, value="1") == "deny"
    assert (
        decide("allow bank.transfer when meta.user == bo", "bank.transfer", account="7", amount=1, meta={"user": "bo"})
        == "allow"
    )
    assert decide("allow bank.transfer when meta.user == bo", "bank.transfer", account="7", amount=1) == "deny"


def test_a_text_too_long_to_search_is_unknown() -> None:
    long = "a" * 70_000
    assert decide('allow fs.read\ndeny fs.read when encoding like "x"', "fs.read", path="/a", encoding=long) == "deny"


def test_derived_attributes_follow_from_the_arguments() -> None:
    body = "allow fs.write when size <= 4"
    assert decide(body, "fs.write", path="/a", text="four") == "allow"
    assert decide(body, "fs.write", path="/a", text="fives") == "deny"


def test_facts_of_the_process_can_be_tested() -> None:
    body = 'allow fs.read when proc.depth <= 1 and proc.image like "triage:*"'
    assert decide(body, "fs.read", path="/a", facts={"proc.depth": 1, "proc.image": "triage:1"}) == "allow"
    assert decide(body, "fs.read", path="/a", facts={"proc.depth": 2, "proc.image": "triage:1"}) == "deny"


def test_ops_can_be_named_by_family_effect_and_star() -> None:
    assert decide("allow fs.*", "fs.move", path="/a", to="/b") == "allow"
    assert decide("allow *  any *", "exec.run", argv=["ls"]) == "allow"
    assert decide("allow effect probeable", "fs.write", path="/a") == "allow"
    assert decide("allow effect probeable", "fs.read", path="/a") == "deny"


def test_every_resource_of_a_call_is_decided_and_the_strictest_counts() -> None:
    body = 'allow fs.move "/a/**"\nask fs.move "/b/**"'
    assert decide(body, "fs.move", path="/a/x", to="/a/y") == "allow"
    assert decide(body, "fs.move", path="/a/x", to="/b/y") == "ask"
    assert decide(body, "fs.move", path="/a/x", to="/c/y") == "deny"


def test_deny_wins_over_the_whole_stack() -> None:
    wide, narrow = layer("allow fs.*"), layer('deny fs.* "/secret/**"', "restrict")
    for stack in (Stack([wide, narrow]), Stack([narrow, wide]), Stack([wide]).push(narrow)):
        assert stack.decide(*call("fs.read", path="/secret/a")).outcome == "deny"
        assert stack.decide(*call("fs.read", path="/a")).rule == "t.policy:2"
    assert Stack([wide]).decide(*call("fs.read", path="/secret/a")).outcome == "allow"


def test_of_several_asks_the_shortest_time_counts() -> None:
    stack = Stack([layer("ask fs.read timeout 1h"), layer("ask fs.read timeout 10m")])
    assert stack.decide(*call("fs.read", path="/a")).timeout_s == 600.0


def test_tests_on_late_attributes_are_ignored_until_the_second_pass() -> None:
    body = 'allow net.fetch "https://**"\ndeny net.fetch when dest_ip in_cidr "10.0.0.0/8" or not redirect is absent'
    stack = Stack([layer(body)])
    first = call("net.fetch", url="https://a.example/")
    assert stack.decide(*first).outcome == "allow"
    for address, outcome in (
        ("10.1.2.3", "deny"),
        ("::ffff:10.1.2.3", "deny"),
        ("93.1.2.3", "allow"),
        ("junk", "deny"),
        (None, "deny"),
    ):
        assert (
            stack.decide(*call("net.fetch", url="https://a.example/", facts={"dest_ip": address}), late=True).outcome == outcome
        )
    assert (
        stack.decide(*call("net.fetch", url="https://a.example/", facts={"redirect": "x"}), late=("redirect",)).outcome
        == "deny"
    )


def test_late_attributes_may_come_among_the_arguments() -> None:
    found, resources, args, facts = call("fs.read", path="/a")
    stack = Stack([layer('allow fs.read when not resolved like "**/.env"')])
    assert stack.decide(found, resources, args, facts).outcome == "allow"
    assert stack.decide(found, resources, {**args, "resolved": "/x/.env"}, facts, late=True).outcome == "deny"


def test_an_ignored_late_test_asks_ahead_because_nobody_can_be_asked_later() -> None:
    assert (
        decide('allow net.fetch any *\nask net.fetch when redirect like "http:*"', "net.fetch", url="https://a.example/")
        == "ask"
    )


@pytest.mark.parametrize(
    ("body", "constant"),
    [
        ("allow fs.read", True),
        ('allow fs.read\ndeny fs.read "/other" when bytes_max > 3', True),
        ("allow fs.read\ndeny fs.read when bytes_max > 30", False),
        ('deny fs.read "/a"\nallow fs.read when bytes_max > 3', True),
        ("ask fs.read\nallow fs.read when bytes_max > 3", True),
        ("allow fs.read when bytes_max > 30", False),
    ],
)
def test_a_verdict_is_constant_exactly_when_no_argument_can_change_it(body: str, constant: bool) -> None:
    assert verdict(body, "fs.read", path="/a").constant is constant


def test_a_call_is_closed_to_the_unknown_ops_mounted_later_get_no_grant() -> None:
    def fetch(target: str) -> None: ...

    later = op("fs.fetch", fetch, "once", "path:{target}", sinks=("target",))
    made_before = layer('allow fs.* when path like "/a/**"\ndeny fs.* when path like "/b/**"')
    resources = (path("/a/x"),)
    denied = Stack([made_before]).decide(later, resources, {"target": "/a/x"}, {})
    assert (denied.outcome, denied.rule) == ("deny", "t.policy:3")
    assert Stack([layer("allow fs.*")]).decide(later, resources, {"target": "/a/x"}, {}).rule == "t.policy:default"


def test_memory_of_decisions_changes_no_answer() -> None:
    stack = Stack([layer('allow fs.read "/a/**" when bytes_max < 5')])
    for size in (3, 7, 3):
        for where in ("/a/x", "/b"):
            expected = "allow" if size < 5 and where == "/a/x" else "deny"
            assert stack.decide(*call("fs.read", path=where, bytes_max=size)).outcome == expected


def test_two_ops_of_one_name_are_not_confused() -> None:
    again = op("fs.read", lambda path: None, "repeatable", "path:{path}")
    stack = Stack([layer("allow fs.read when bytes_max < 50")])
    assert stack.decide(TABLE.find("fs.read"), (path("/a"),), {"path": "/a", "bytes_max": 1}, {}).outcome == "allow"
    assert stack.decide(again, (path("/a"),), {"path": "/a", "bytes_max": 1}, {}).outcome == "deny"
