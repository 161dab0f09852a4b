"""Explanations and warnings: which lines decide, which nearly did, what would change the answer, which lines are dead."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from agentos.abi.labels import UNTRUSTED
from agentos.policy import Stack, check_text, load_layer
from agentos.policy.explain import Explanation
from tests.unit.policy.builders import TABLE, call, known, layer, op, table


def explain(body: str, name: str, *, late: bool = False, facts: dict[str, Any] | None = None, **args: Any) -> Explanation:
    return Stack([layer(body)]).explain(*call(name, facts=facts, **args), late=late)


def test_an_explanation_agrees_with_the_decision_and_names_the_lines() -> None:
    found = explain('allow fs.*\ndeny fs.* "**/.env" because "secret"\nask fs.read "/x/**"', "fs.read", path="/a/.env")
    assert found.verdict.rule == "t.policy:3"
    lines = found.layers[0].lines
    assert [(line.where, line.state) for line in lines] == [
        ("t.policy:3", "decides"), ("t.policy:2", "applies"), ("t.policy:4", "pattern"),
    ]  # fmt: skip
    assert 'only a change of t.policy:3 can: deny fs.* "**/.env"' in found.change
    assert str(found).splitlines()[0] == "fs.read /a/.env: deny by t.policy:3 (secret)"


def test_a_failing_condition_is_shown_with_the_value_it_saw() -> None:
    found = explain("allow fs.write when size <= 3 and mode == create", "fs.write", path="/a", text="abcd", mode="create")
    assert found.layers[0].lines[0].why == "`size <= 3` is false: size is 4"
    assert "arguments that t.policy:2 allows" in found.change


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (Decimal("70.5"), "70.5"), (Decimal("1E+2"), "100"), (0.00001, "0.00001"), (True, "true"),
        ('a\n"b', '"a\\n\\"b"'), ([1, "x", False], '[1, "x", false]'),
        ({"a": None}, '{"a": nothing}'), (1e300, "1e+300"), (10**100, "a number of many digits"),
    ],
)  # fmt: skip
def test_a_value_is_shown_as_the_language_writes_it(value: object, seen: str) -> None:
    found = explain("allow bank.transfer when value == never any *", "bank.transfer", account="a", amount=1, value=value)
    assert found.layers[0].lines[0].why.endswith(f"value is {seen}")


def test_an_unknown_condition_of_a_deny_is_shown_as_such() -> None:
    found = explain("allow fs.read\ndeny fs.read when encoding == x", "fs.read", path="/a", encoding=None)
    assert "unknown, which counts as true in a deny: encoding is absent" in str(found)
    assert "arguments to which t.policy:3 does not apply" in found.change


def test_a_default_deny_suggests_the_line_that_would_allow_it() -> None:
    found = explain("allow fs.write", "net.fetch", url="https://a.example/x")
    assert found.change == 'add to t.policy: allow net.fetch "https://a.example/x" any url'
    fixed = layer(f"allow fs.write\n{found.change.partition(': ')[2]}")
    assert Stack([fixed]).decide(*call("net.fetch", url="https://a.example/x")).outcome == "allow"


def test_of_two_resources_the_one_that_is_missing_is_suggested() -> None:
    assert explain('allow fs.move "/a/**"', "fs.move", path="/a/x", to="/b/y").change == 'add to t.policy: allow fs.move "/b/y"'


def test_an_allowed_call_and_an_ask_need_no_new_line() -> None:
    assert explain("allow fs.read", "fs.read", path="/a").change == ""
    assert explain("ask fs.read", "fs.read", path="/a").change == "a person approves the ask of t.policy:2"


def test_a_late_value_is_said_to_be_unknown_yet() -> None:
    body = 'allow net.fetch any *\ndeny net.fetch when dest_ip in_cidr "10.0.0.0/8"'
    assert "dest_ip is not known yet" in str(explain(body, "net.fetch", url="https://a.example"))
    late = explain(body, "net.fetch", url="https://a.example", late=True, facts={"dest_ip": "10.0.0.1"})
    assert late.verdict.outcome == "deny"


def test_of_two_layers_of_one_name_the_deciding_one_is_explained() -> None:
    stack = Stack([layer("allow fs.read"), layer('deny fs.read "/a"', "restrict")])
    assert stack.explain(*call("fs.read", path="/a")).change == 'only a change of t.policy:2 can: deny fs.read "/a"'
    other = load_layer('policy "t"\nallow fs.write', source="other.policy", table=TABLE)
    assert "add to other.policy" in Stack([layer("allow fs.read"), other]).explain(*call("fs.read", path="/a")).change


def test_an_else_ask_is_shown_with_its_question() -> None:
    body = 'allow fs.write when size < 3 else ask "Write {path}?"'
    found = explain(body, "fs.write", path="/a", text="abcd")
    lines = [(line.text, line.state) for line in found.layers[0].lines]
    assert lines == [
        ('else ask "Write {path}?"', "decides"),
        ('allow fs.write when size < 3 else ask "Write {path}?"', "condition"),
    ]
    assert 'question: Write "/a"?' in str(found)
    assert found.change == "a person approves the ask of t.policy:2"
    assert "=> t.policy:2  allow" in str(explain(body, "fs.write", path="/a", text="a"))


ORIGINS = known({"a": "prompt", "b": ("result(net.fetch).body", UNTRUSTED)}, counters={"count/fs.read": 4})


@pytest.mark.parametrize(
    ("condition", "account", "seen"),
    [
        ("account from { prompt }", "b", "`account` is from result(net.fetch).body: untrusted"),
        ("account from { human }", "a", "`account` is from prompt: trusted"),
        ("account from { prompt }", "c", "`account` is not grounded: trusted"),
        ("account.integrity == trusted", "b", "`account` is from result(net.fetch).body: untrusted"),
        ("count(fs.read) < 3", "a", "count(fs.read) is 4"),
        ("flow.level == secret", "a", 'flow.level is "public"'),
        ("meta from { prompt }", "a", "meta is absent"),
        ("amount > 70", "a", "amount is 1"),
        ("after(fs.read)", "a", "after(fs.read) is false"),
    ],
)
def test_an_explanation_says_where_a_value_comes_from(condition: str, account: str, seen: str) -> None:
    found = explain(f"allow bank.transfer when {condition}", "bank.transfer", facts=ORIGINS, account=account, amount=1)
    assert seen in found.layers[0].lines[0].why


def test_the_origin_of_each_element_of_a_list_is_shown() -> None:
    found = explain("allow mail.send when every to from { prompt } any cc", "mail.send", facts=ORIGINS, to=["a", "b\n"])
    assert '"a" of `to` is from prompt: trusted, "b\\n" of `to` is not grounded: trusted' in str(found)
    assert "the origin of `to` is not known" in str(
        explain("allow mail.send when every to from { prompt } any cc", "mail.send", to=["a"])
    )


def test_limits_obligations_and_labels_that_concern_the_call_are_shown() -> None:
    body = (
        'let hr = "/hr/**"\nallow fs.read\nlimit fs.read 3 per 1d\nlimit fs.read 5MB of bytes per tree\nlimit fs.write 3 per 1d\n'
        'require log for fs.*\nrequire redact for fs.read "/x/**"\nlabel result(fs.read) untrusted\nlabel $hr secret\nlabel prompt secret'
    )
    assert explain(body, "fs.read", path="/hr/a").duties == (
        "t.policy:4  limit fs.read 3 per 1d   (takes 1 of it)",
        "t.policy:5  limit fs.read 5MB of bytes per tree   (its bytes are counted when it is done)",
        "t.policy:7  require log for fs.*",
        "t.policy:9  label result(fs.read) untrusted",
        "t.policy:10  label $hr secret",
    )


def test_an_empty_stack_explains_itself() -> None:
    assert "capabilities alone decide" in str(Stack([]).explain(*call("fs.read", path="/a")))


def _put(key: str) -> None: ...


OWN = table(
    op("me.exit", lambda: None, "local", "id:self", self_right=True),
    op("me.put", _put, "local", "id:self", self_right=lambda args, pid: args["key"] == str(pid)),
)

WARNINGS = [
    ('allow fs.read "/a/b"\ndeny fs.read "/a/**"', [("W101", 2)]),
    ('ask fs.read, fs.write "/a/b"\ndeny fs.* "/a/**"', [("W101", 2)]),
    ('allow fs.read, fs.write "/a/b"\ndeny fs.read "/a/**"', []),
    ('allow fs.read "/a/b", "/c"\ndeny fs.read "/a/**"', []),
    ('allow fs.read "/a/b"\ndeny fs.read "/a/**" when bytes_max > 3', []),
    ('allow fs.read "/x/.env"\ndeny fs.read "**/.env"', [("W101", 2)]),
    ("allow fs.read\ndeny fs.read", [("W101", 2)]),
    ('allow fs.read "/a/**"\nallow fs.read "/a/b"', [("W102", 3)]),
    ('allow fs.read "/a/**"\nallow fs.read "/a/**"', [("W102", 3)]),
    ('allow fs.read "/a/**"\nallow fs.read "/a/b" when bytes_max > 3', [("W102", 3)]),
    ('allow fs.read "/a/**" when bytes_max > 3\nallow fs.read "/a/b"', []),
    ('deny fs.read "/a/**" because "x"\ndeny fs.read "/a/b" because "y"', []),
    ('allow net.fetch "https://**"', [("W131", 2)]),
    ('deny net.fetch "https://**"', []),
    ('allow fs.read "/a" when bytes_max > 3 else ask "?"\ndeny fs.read "/a"', [("W101", 2)]),
    ('allow fs.read\nallow fs.read "/a" when bytes_max > 3 else ask "?"', [("W102", 3)]),
    ('allow fs.read when bytes_max > 3\nallow fs.read "/a" when bytes_max > 3 else ask "?"', []),
    ('allow fs.read when bytes_max > 3 else ask "?"\nallow fs.read "/a" when bytes_max > 3 else ask "?"', [("W102", 3)]),
    ('allow fs.read when bytes_max > 3 else ask "?"\nallow fs.read "/a" when bytes_max > 3 else ask "!"', []),
    ('allow fs.read when bytes_max > 3 else ask "?"\nallow fs.read "/a" when bytes_max > 3', [("W102", 3)]),
    ("ask fs.read remember tree\nask fs.read remember once", []),
    ("allow fs.read\nlimit fs.write 3 per 1d\nrequire log for exec.run\nlimit fs.* 3 per 1d", [("W140", 3), ("W140", 4)]),
    ("ask fs.write\nlimit fs.write 3 per 1d", []),
    ("limit me.exit 3 per 1d\nrequire log for me.put\nlimit me.* 9 per 1d", []),
    ("deny me.exit\nlimit me.exit 3 per 1d", [("W140", 3)]),
    ('deny me.exit "self"\ndeny me.put when key == a\nlimit me.exit, me.put 3 per 1d', []),
    ('allow net.fetch "https://*.example/**"', []),
]  # fmt: skip


@pytest.mark.parametrize(("body", "warned"), WARNINGS, ids=[line[0][:60] for line in WARNINGS])
def test_dead_and_redundant_lines_are_warned_about(body: str, warned: list[tuple[str, int]]) -> None:
    report = check_text(f'policy "t"\n{body}', source="t.policy", table=OWN)
    assert report.errors == ()
    assert [(found.code, found.at.line) for found in report.warnings] == warned


def test_what_a_call_takes_of_a_limit_is_shown_in_plain_digits() -> None:
    found = explain(
        "allow bank.transfer any *\nlimit bank.transfer 500 of amount per tree", "bank.transfer", account="a", amount=0.00001
    )
    assert found.duties == ("t.policy:3  limit bank.transfer 500 of amount per tree   (takes 0.00001 of it)",)
