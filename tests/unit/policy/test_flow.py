"""Labels, sources, history and measures in conditions: what is true, what is false, and what nobody knows."""

from __future__ import annotations

from typing import Any, TypedDict

import pytest

from agentos.abi.labels import INTERNAL, SECRET, UNTRUSTED
from agentos.abi.op import OpTable
from agentos.abi.ops import builtin
from agentos.policy import Stack
from agentos.policy.attributes import attribute_of
from agentos.policy.problems import At
from tests.unit.policy.builders import TABLE, call, decide, known, layer, op, table

PAY = {"account": "7", "amount": 50}


def pay(condition: str, facts: dict[str, Any] | None = None, **args: Any) -> str:
    """Say what a condition is for a payment: seen from an allow and a deny."""
    given = {**PAY, **args}
    allowed = decide(f"allow bank.transfer when {condition}", "bank.transfer", facts=facts, **given) == "allow"
    denied = (
        decide(f"allow bank.transfer\ndeny bank.transfer when {condition}", "bank.transfer", facts=facts, **given) == "deny"
    )
    return {(True, True): "true", (False, False): "false", (False, True): "unknown"}[allowed, denied]


@pytest.mark.parametrize(
    ("condition", "label", "value"),
    [
        ("flow.level >= secret", SECRET, "true"),
        ("flow.level >= secret", INTERNAL, "false"),
        ("flow.level > public", INTERNAL, "true"),
        ("flow.level < internal", 0, "true"),
        ("flow.level <= internal", SECRET, "false"),
        ("flow.level == public", UNTRUSTED, "true"),
        ("flow.level != public", SECRET, "true"),
        ("flow.level in [internal, secret]", SECRET, "true"),
        ("flow.integrity == untrusted", UNTRUSTED | SECRET, "true"),
        ("flow.integrity == trusted", SECRET, "true"),
        ('every flow.readers == "x"', SECRET, "true"),
    ],
)
def test_the_label_of_the_call_can_be_tested_and_levels_have_an_order(condition: str, label: int, value: str) -> None:
    assert pay(condition, known(label=label)) == value


FLOW_TESTS = [
    "flow.level >= secret", "flow.level < secret", "flow.integrity == trusted", "account.integrity == untrusted", "account.level == public",
    "account from { prompt }", "not account from { prompt }", "count(fs.read) < 3", "sum(bank.transfer.amount) > 3", "after(fs.read)",
    "not after(fs.read)", 'every flow.readers == "x"', "meta.level == public",
]  # fmt: skip


@pytest.mark.parametrize("condition", FLOW_TESTS)
def test_without_a_flow_every_test_on_it_is_unknown(condition: str) -> None:
    assert pay(condition) == "unknown"


@pytest.mark.parametrize("condition", ["meta.integrity == trusted", "meta from { prompt }", "meta.user.level == public"])
def test_a_missing_argument_has_neither_label_nor_origin(condition: str) -> None:
    assert pay(condition, known()) == "unknown"


def test_the_label_of_an_argument_is_that_of_where_its_value_comes_from() -> None:
    facts = known({"7": ("result(bank.history).payee", UNTRUSTED), 50.0: ("prompt", SECRET)})
    assert pay("account.integrity == untrusted and amount.integrity == trusted and amount.level == secret", facts) == "true"


def test_a_value_that_is_not_grounded_has_the_label_of_the_process() -> None:
    assert pay("account.integrity == untrusted and account.level == internal", known(label=UNTRUSTED | INTERNAL)) == "true"
    assert pay("account.integrity == trusted", known()) == "true"


def test_the_label_of_a_list_is_the_join_over_its_elements_without_every_or_some() -> None:
    facts = known({"a": "prompt", "b": ("result(fs.read)", UNTRUSTED)})
    body = "allow mail.send any *\ndeny mail.send when to.integrity == untrusted"
    assert decide(body, "mail.send", facts=facts, to=["a", "b"]) == "deny"
    assert decide(body, "mail.send", facts=facts, to=["a"]) == "allow"


def test_the_label_of_a_field_is_asked_for_the_field() -> None:
    facts = known({"bo": ("result(fs.read)", UNTRUSTED)})
    assert pay("meta.user.integrity == untrusted", facts, meta={"user": "bo"}) == "true"
    assert pay("meta.user.integrity == untrusted", facts, meta={"user": "al"}) == "false"


class Form(TypedDict):
    """An object that declares a field with the name of a label."""

    level: int


def _file(form: Form, integrity: str) -> None: ...


def test_a_declared_field_wins_over_the_label_of_that_name() -> None:
    filed = op("form.file", _file, "once", "id:form")
    assert str(attribute_of(filed, "form.level", At(1, 1)).type) == "a number"
    assert attribute_of(filed, "form.integrity", At(1, 1)).of == "flow"
    assert attribute_of(filed, "integrity", At(1, 1)).of == "argument"


SOURCES = [
    ("prompt", "prompt", True),
    ("prompt", "human", False),
    ("human", "human", True),
    ("prompt, human", "human", True),
    ("result(fs.read)", "result(fs.read)", True),
    ("result(fs.read)", "result(fs.read).x", False),
    ("result(bank.history).payee", "result(bank.history).payee", True),
    ("result(bank.history).payee", "result(bank.history).payee.iban", False),
    ("result(bank.history).payee", "result(bank.history).payees", False),
    ("result(bank.history).payee", "result(bank.history).body.payee", False),
    ("result(bank.history).a.b", "result(bank.history).a.b", True),
    ("result(bank.history).*", "result(bank.history).payee", True),
    ("result(bank.history).*", "result(bank.history)", True),
    ("result(bank.history).*", "result(bank.history2).payee", False),
    ("object(notes)", "object(notes)", True),
    ("object(notes)", "object(notes/x)", False),
    ('object("my notes")', "object(my notes)", True),
    ("prompt", "result(prompt)", False),
    ("prompt", "", False),
]


def _history() -> list[dict[str, Any]]: ...  # type: ignore[empty-body]


BANK = table(op("bank.history", _history, "repeatable", "id:acct"))


@pytest.mark.parametrize(("named", "source", "value"), SOURCES)
def test_a_value_is_from_exactly_the_sources_that_are_named(named: str, source: str, value: bool) -> None:
    stack = Stack([layer(f"allow bank.transfer when account from {{ {named} }}", table=BANK)])
    found = stack.decide(*call("bank.transfer", facts=known({"7": source}), **PAY))
    assert found.outcome == ("allow" if value else "deny")


def test_what_is_not_grounded_is_known_to_come_from_nowhere() -> None:
    assert pay("account from { prompt, human }", known()) == "false"
    assert pay("not account from { prompt }", known()) == "true"


def test_a_set_as_a_source_is_a_test_on_the_value_itself() -> None:
    def send(facts: dict[str, Any] | None, *to: str) -> str:
        body = 'let staff = "*@ours.example"\nallow mail.send when every to from { prompt, $staff } any cc'
        return decide(body, "mail.send", facts=facts, to=list(to))

    assert send(known(), "a@ours.example") == "allow"
    assert send(known(), "a@evil.example") == "deny"
    assert send(known({"b@else.example": "prompt"}), "a@ours.example", "b@else.example") == "allow"
    assert send(None, "a@ours.example") == "allow"
    assert send(None, "b@else.example") == "deny"


def test_each_element_of_a_list_is_asked_by_itself() -> None:
    facts = known({"a": "prompt", "b": "human"})

    def send(test: str, *to: str) -> str:
        return decide(f"allow mail.send when {test} any cc", "mail.send", facts=facts, to=list(to))

    assert send("every to from { prompt, human }", "a", "b") == "allow"
    assert send("every to from { prompt }", "a", "b") == "deny"
    assert send("some to from { prompt }", "a", "b") == "allow"
    assert send("every to from { prompt }") == "allow"
    assert send("some to from { prompt }") == "deny"


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("count(bank.transfer) >= 3", "true"),
        ("count(bank.transfer) > 3", "false"),
        ("count(fs.read) == 0", "true"),
        ("sum(bank.transfer.amount) <= 99.5", "true"),
        ("sum(bank.transfer.amount) < 99.5", "false"),
        ("after(fs.write)", "true"),
        ("after(fs.read)", "false"),
    ],
)
def test_the_history_of_the_task_can_be_tested(condition: str, value: str) -> None:
    counters = {"count/bank.transfer": 3, "sum/bank.transfer.amount": 99.5, "after/fs.write": 1}
    assert pay(condition, known(counters=counters)) == value


def test_a_text_has_a_length_and_links() -> None:
    def read(condition: str, text: str) -> str:
        return decide(f"allow fs.write when {condition}", "fs.write", path="/a", text=text)

    assert read("text.length == 3", "abc") == "allow"
    for text, links in [
        ("see HTTPS://x.example and http://y", 2),
        ("https:/x http:\\y", 2),
        ("ftp://x www.y.example", 0),
        ("", 0),
    ]:
        assert read(f"text.links == {links}", text) == "allow", text
    assert read("text.links == 0", "x" * 70_000) == "deny"
    body = "allow mail.send any *\ndeny mail.send when some to.length > 3"
    assert [decide(body, "mail.send", to=to) for to in (["abc"], ["abc", "abcd"], [])] == ["allow", "deny", "allow"]


def test_the_kernel_says_whether_files_are_written_to_an_overlay_and_the_mode() -> None:
    body = 'deny fs.write unless overlay == true\ndeny fs.read when proc.mode == "plan"'
    for overlay, outcome in ((True, "allow"), (False, "deny"), (None, "deny")):
        facts = {} if overlay is None else {"overlay": overlay}
        assert decide(body, "fs.write", kind="restrict", path="/a", facts=facts) == outcome
    assert decide(body, "fs.read", kind="restrict", path="/a", facts={"proc.mode": "plan"}) == "deny"


def test_what_a_command_says_of_itself_wins_over_what_the_kernel_says_of_the_process() -> None:
    real = builtin()
    run = real.find("exec.run")
    stack = Stack([layer("deny exec.run unless overlay == true", "restrict", table=OpTable([run]))])
    for snapshot, outcome in (("overlay", "allow"), ("off", "deny")):
        args = run.validate({"argv": ["ls"], "snapshot": snapshot})
        assert stack.decide(run, run.render(args, "/", 1), args, {"overlay": snapshot == "off"}).outcome == outcome


def test_an_attribute_that_has_the_name_of_a_kernels_fact_is_the_ops_own() -> None:
    def open_(valve: int) -> None: ...

    opened = op(
        "water.open", open_, "once", "id:water", derived={"flow": (int, lambda args: args["valve"])}, late={"overlay": bool}
    )
    stack = Stack([layer("allow water.open when flow < 3 and overlay == true", table=OpTable([opened]))])
    resources = opened.render({"valve": 2}, "/", 1)
    facts = {**known(), "overlay": True}
    for valve, overlay, outcome in ((2, True, "allow"), (4, True, "deny"), (2, False, "deny")):
        assert stack.decide(opened, resources, {"valve": valve, "overlay": overlay}, facts, late=True).outcome == outcome


@pytest.mark.parametrize(
    ("body", "uses"),
    [
        ("allow bank.transfer when account from { prompt }", True),
        ("allow bank.transfer when account.integrity == trusted", True),
        ("deny bank.transfer when not (amount > 3 or meta.user.level == secret)", True),
        ("limit bank.transfer when account from { human } 3 per 1d", True),
        ("limit bank.transfer 3 per 1d by account.integrity", True),
        ("require log for bank.transfer when account.level == secret", True),
        ('let a = "x*"\nallow bank.transfer when account from { $a }', False),
        ("deny bank.transfer when flow.level == secret and count(fs.read) > 1", False),
        ("label result(fs.read) untrusted", False),
    ],
)
def test_a_stack_says_whether_it_has_to_be_told_where_values_come_from(body: str, uses: bool) -> None:
    assert Stack([layer("allow fs.read"), layer(body)]).uses_provenance is uses


def test_a_condition_on_the_flow_is_never_constant() -> None:
    stack = Stack([layer("allow fs.read\ndeny fs.read when flow.level == secret")])
    for label, outcome in ((0, "allow"), (SECRET, "deny"), (0, "allow")):
        found = stack.decide(*call("fs.read", path="/a", facts=known(label=label)))
        assert (found.outcome, found.constant) == (outcome, False)


def test_the_table_of_these_tests_holds_what_they_name() -> None:
    assert {"bank.transfer", "mail.send", "fs.read"} <= {found.name for found in TABLE}


def test_a_source_that_cannot_be_told_is_unknown_and_not_false() -> None:
    def denied(condition: str, **args: Any) -> bool:
        body = f'let ours = "x*"\nallow bank.transfer\ndeny bank.transfer when {condition}'
        return decide(body, "bank.transfer", facts=known(), **{**PAY, **args}) == "deny"

    assert not denied("account from { $ours, prompt }", account="y")
    assert denied("account from { $ours, prompt }", account="y" * 70_000)
    assert not denied("some value from { prompt }", value=["y"])
    assert denied("some value from { prompt }", value=["y", None])
    assert denied("some value from { prompt }", value="y")
