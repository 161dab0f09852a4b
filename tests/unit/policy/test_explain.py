"""Explanations and warnings: which lines decide, which nearly did, what would change the answer, which lines are dead."""

from __future__ import annotations

from typing import Any

import pytest

from agentos.policy import Stack, check_text, load_layer
from agentos.policy.explain import Explanation
from tests.unit.policy.builders import TABLE, call, layer


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


def test_an_empty_stack_explains_itself() -> None:
    assert "capabilities alone decide" in str(Stack([]).explain(*call("fs.read", path="/a")))


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
    ('allow net.fetch "https://*.example/**"', []),
]  # fmt: skip


@pytest.mark.parametrize(("body", "warned"), WARNINGS, ids=[line[0][:60] for line in WARNINGS])
def test_dead_and_redundant_lines_are_warned_about(body: str, warned: list[tuple[str, int]]) -> None:
    report = check_text(f'policy "t"\n{body}', source="t.policy", table=TABLE)
    assert report.errors == ()
    assert [(found.code, found.at.line) for found in report.warnings] == warned
