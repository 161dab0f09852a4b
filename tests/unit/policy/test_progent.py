"""`policy import progent`: what each restriction becomes, what is doubted, and what is refused by name. Each unsafe reading has a test."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentos.abi.op import OpTable
from agentos.errors import Invalid
from agentos.policy import Stack, load_layer
from agentos.policy.progent import Imported, import_progent
from agentos.policy.progent.regex import Untranslatable, pattern_alternatives
from tests.unit.policy.builders import op
from tests.unit.policy.test_progent_differential import SEND, TABLE


def made(rules: Any, *, is_compat: bool = False, table: OpTable = TABLE) -> Imported:
    text = rules if isinstance(rules, str) else json.dumps({"send": rules})
    return import_progent(text, source="p.json", table=table, device="bank", name="p", is_compat=is_compat)


def outcome(rules: Any, *, is_compat: bool = False, **args: Any) -> str:
    values = SEND.validate({"to": "alice", "amount": 1, **args})
    stack = Stack([load_layer(made(rules, is_compat=is_compat).text, source="p", table=TABLE)])
    return stack.decide(SEND, SEND.render(values, "/", 1), values, {}).outcome


def codes(rules: Any, *, is_compat: bool = False) -> set[str]:
    return {doubt.code for doubt in made(rules, is_compat=is_compat).doubts}


def refusal(rules: Any, *, is_compat: bool = False) -> Invalid:
    with pytest.raises(Invalid) as caught:
        made(rules, is_compat=is_compat)
    return caught.value


def lines(rules: Any, **more: Any) -> list[str]:
    return [
        " ".join(line.split()) for line in made(rules, **more).text.splitlines() if line.startswith(("allow", "ask", "deny"))
    ]


# --- Progent's unsafe readings ------------------------------------------------------------------------------------------------


def test_an_argument_that_is_left_out_satisfies_no_allow() -> None:
    rules = [[1, 0, {"cc": {"enum": ["me"]}}, 0]]
    assert outcome(rules, is_compat=True) == "allow"
    assert outcome(rules) == "deny"
    assert outcome(rules, cc="me") == "allow"
    assert "omitted" in codes(rules)


def test_a_restriction_on_an_argument_that_the_tool_does_not_have_admits_nothing() -> None:
    rules = [[1, 0, {"email": {"enum": ["me"]}}, 0]]
    assert outcome(rules, is_compat=True) == "allow"
    assert outcome(rules) == "deny"
    assert "no-such-argument" in codes(rules)


def test_an_unanchored_pattern_of_an_allow_matches_the_whole_text_and_of_a_forbid_any_part() -> None:
    allow, forbid = [[1, 0, {"to": {"pattern": "alice"}}, 0]], [[1, 1, {"to": {"pattern": "evil"}}, 0], [2, 0, {}, 0]]
    assert outcome(allow, is_compat=True, to="not alice at all") == "allow"
    assert outcome(allow, to="not alice at all") == "deny"
    assert outcome(forbid, to="an evil one") == outcome(forbid, is_compat=True, to="an evil one") == "deny"
    assert "unanchored" in codes(allow)


def test_a_malformed_forbid_is_an_error_and_not_skipped() -> None:
    rules = [[1, 1, {"to": {"type": "strin"}}, 0], [2, 0, {}, 0]]
    assert outcome(rules, is_compat=True) == "allow"
    assert "skips a forbid" in refusal(rules).message
    assert "malformed" in codes(rules, is_compat=True)


def test_a_forbid_behind_an_allow_still_forbids() -> None:
    rules = [[1, 0, {}, 0], [2, 1, {"to": {"const": "alice"}}, 0]]
    assert outcome(rules, is_compat=True) == "allow"
    assert outcome(rules) == "deny"
    assert "never-fires" in codes(rules)


def test_a_sink_that_no_rule_restricts_is_named() -> None:
    found = made([[1, 0, {"to": {"const": "alice"}}, 0]])
    assert [doubt.message for doubt in found.doubts if doubt.code == "free-sink"] == [
        "`cc` carries data out and is not restricted"
    ]
    assert "any cc" in found.text


def test_the_hundred_and_first_rule_is_compared_like_the_first() -> None:
    many = [[1, 1, {"to": {"const": f"n{number}"}}, 0] for number in range(100)]
    assert outcome([*many, [1, 1, {"to": {"const": "alice"}}, 0], [2, 0, {}, 0]]) == "deny"


def test_an_ask_of_a_fallback_is_an_ask() -> None:
    assert outcome([[1, 1, {"amount": {"minimum": 100}}, 2], [2, 0, {}, 0]], amount=500) == "ask"
    assert outcome([[1, 0, {"amount": {"maximum": 10}}, 2]], amount=500) == "ask"
    assert "fallback" in codes([[1, 1, {}, 1]])


def test_an_allow_of_priority_100_refuses_what_it_does_not_meet() -> None:
    rules = [[100, 0, {"to": {"const": "bob"}}, 0], [100, 0, {"to": {"const": "alice"}}, 0]]
    assert outcome(rules, is_compat=True) == "deny"
    assert outcome(rules) == "deny"
    assert "never-fires" in codes(rules)


# --- forms --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"send": [[1, 0, {"to": {"enum": ["a"]}}, 0]]}',
        '{"send": [{"priority": 1, "effect": 0, "conditions": {"to": {"enum": ["a"]}}, "fallback": 0}]}',
        "{'send': [(1, 0, {'to': {'enum': ['a']}}, 0)]}",
        "import x\nx.update_security_policy({'send': [(1, 0, {'to': {'enum': ['a']}}, 0)]})",
        "POLICY = {'send': [(1, 0, {'to': {'enum': ['a'],}}, 0)]}",
    ],
)
def test_every_form_of_a_file_means_the_same(text: str) -> None:
    assert lines(text) == ['allow bank.send when to == "a" any cc']


def test_what_progents_own_model_writes_is_read() -> None:
    assert lines('[{"name": "send", "args": {"to": {"const": "a"}}}]') == ['allow bank.send when to == "a" any cc']


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ('{"send": [[1, 0, {}, 0]], "send": []}', "a key occurs twice"),
        ("{'send': [(1, 0, {'to': lambda to: True}, 0)]}", "is code"),
        ("{'send': [(1, 0, {'to': open('/etc/passwd').read()}, 0)]}", "is code"),
        ("{'send': [(1, 0, {}, 0)], 'send': []}", "a key occurs twice"),
        ("{", "neither JSON"), ("nothing at all", "neither JSON"), ("", "not JSON"), ("[1]", "is no tool"), ("7", "maps tools to rules"),
        ('{"send": [[1, 0, {"amount": {"maximum": NaN}}, 0]]}', "not JSON"),
        ([[1, 2, {}, 0]], "neither 0 (allow) nor 1"), ([[1, 1, {}, 3]], "lets the call pass"), ([[1, True, {}, 0]], "effect `True`"),
        ([[1, 0, {}, 0, {"send": []}]], "replaces the policy"), ([[1, 0]], "a rule is"), ([["x", 0, {}, 0]], "is no number"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_policy_is_refused(rules: Any, said: str) -> None:
    assert said in refusal(rules).message


def test_a_tool_that_is_no_op_is_refused_with_the_nearest() -> None:
    error = refusal('{"sennd": [[1, 0, {}, 0]]}')
    assert error.message == "there is no op `bank.sennd`"
    assert error.hint == "did you mean `bank.send`?"


def test_every_error_of_a_file_is_told_at_once() -> None:
    error = refusal([[1, 0, {"to": {"$ref": "#/x"}, "amount": {"multipleOf": 3}}, 0]])
    assert [each["message"] for each in error.fields["errors"]] == [
        "`$ref` has no form in the language",
        "`multipleOf` has no form in the language",
    ]


# --- restrictions -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "schema", "condition"),
    [
        ("to", {"type": "string", "enum": ["a", "b"]}, 'to in ["a", "b"]'),
        ("to", {"const": 'say "x"\\'}, r'to == "say \"x\"\\"'),
        ("to", {"const": "two\nlines"}, r"to matches /two\nlines/"),
        ("to", {"pattern": r"^[a-z.]+@x\.com$"}, r"to matches /[.a-z]+@x\.com/"),
        ("to", {"pattern": "^(?!.*evil).*$"}, r"not to matches /[^\n]*evil.*/ and to matches /[^\n]*/"),
        ("to", {"maxLength": 9}, "to.length <= 9"),
        ("to", {"anyOf": [{"const": "a"}, {"pattern": "^b+$"}]}, 'to == "a" or to matches /b+/'),
        ("amount", {"minimum": 1, "exclusiveMaximum": 2.5}, "amount >= 1 and amount < 2.5"),
        ("amount", {"not": {"minimum": 100}}, "not amount >= 100"),
        ("urgent", {"type": "boolean", "const": False}, "urgent == false"),
        ("emails", {"type": "array", "items": {"enum": ["a"]}}, 'every emails == "a"'),
        ("emails", {"items": {"not": {"const": "a"}}}, 'not some emails == "a"'),
        ("emails", {"minItems": 1}, 'some emails like "**"'),
    ],
)
def test_a_restriction_becomes_a_condition(name: str, schema: Any, condition: str) -> None:
    free = "any cc" if name == "to" else "any cc, to"
    assert lines([[1, 0, {name: schema}, 0]]) == [f"allow bank.send when {condition} {free}"]


@pytest.mark.parametrize(
    ("name", "schema", "said"),
    [
        ("to", {"format": "email"}, "never checked"), ("to", {"maxLenght": 3}, "did you mean `maxLength`?"),
        ("to", {"minimum": 3}, "says nothing about"), ("emails", {"uniqueItems": True}, "uniqueItems"),
        ("emails", {"items": {"anyOf": [{"const": "a"}, {"pattern": "^b$"}]}}, "one `enum` or `pattern`"),
        ("amount", {"type": "integer"}, "may be a fraction"), ("to", {"pattern": r"(a)\1"}, r"`\1`"),
        ("to", {"pattern": "a(?=b)"}, "`(?=`"),
        ("to", {"pattern": r"\bx"}, r"`\b`"), ("to", {"pattern": "(?i)x"}, "`(?i`"), ("to", {"if": {}, "then": {}}, "`if`"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_an_error_that_names_it(name: str, schema: Any, said: str) -> None:
    assert said in refusal([[1, 0, {name: schema}, 0]]).message


def test_an_ask_is_translated_exactly_or_not_at_all() -> None:
    rules = [[1, 1, {"to": {"pattern": r"^\d+$"}}, 2], [2, 0, {}, 0]]
    assert "Unicode" in refusal(rules).message
    assert lines([[1, 1, {"to": {"pattern": "^[0-9]+$"}}, 2]])[0].startswith(r"ask bank.send when to matches /[0-9]+\n?/")


def test_digits_of_all_of_unicode_are_forbidden_and_those_of_ascii_allowed() -> None:
    digits = {"to": {"pattern": r"^\d+$"}}
    assert outcome([[1, 0, digits, 0]], to="42") == "allow"
    assert outcome([[1, 0, digits, 0]], to="٤٢") == "deny"
    assert outcome([[1, 1, digits, 0], [2, 0, {}, 0]], to="٤٢") == "deny"
    assert outcome([[1, 1, digits, 0], [2, 0, {}, 0]], to="x") == "allow"


def test_an_untyped_argument_is_refused_and_not_guessed() -> None:
    def anything(to: Any) -> None: ...

    table = OpTable([op("bank.send", anything, "once", "id:bank")])
    with pytest.raises(Invalid, match="declares no type"):
        made([[1, 0, {"to": {"const": "a"}}, 0]], table=table)


def test_a_lookahead_that_floats_is_refused() -> None:
    with pytest.raises(Untranslatable, match="not at the start"):
        pattern_alternatives("(?!x)y", "narrow", anchored=False)
