"""Laws of the whole language, on random files: order means nothing, a fallback only fills gaps, what is added only narrows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentos.abi.labels import SECRET, UNTRUSTED
from agentos.policy import Layer, Stack, Verdict
from agentos.policy.verdict import RANK
from tests.unit.policy.builders import call, known, layer

PATTERNS = ["", ' "/a/**"', ' "/a/x"', ' "**/x"']
CONDITIONS = [
    "bytes_max > 5", "encoding == x", "path from { prompt }", "flow.level == secret", "not path.integrity == untrusted",
    "count(fs.read) > 1",
]  # fmt: skip
SCOPES = ["", " remember once", " remember 1h", " remember tree"]
RULES = st.builds(
    lambda word, pattern, when, scope: f"{word} fs.read{pattern}{when}{scope if word == 'ask' else ''}",
    st.sampled_from(["allow", "ask", "deny"]),
    st.sampled_from(PATTERNS),
    st.sampled_from(["", *(f" when {condition}" for condition in CONDITIONS)]),
    st.sampled_from(SCOPES),
)
FALLBACKS = st.builds(
    lambda pattern, condition: (f"allow fs.read{pattern} when {condition}", pattern),
    st.sampled_from(PATTERNS),
    st.sampled_from(CONDITIONS),
)
NARROWING = st.one_of(
    st.builds(lambda pattern, when: f"limit fs.read{pattern} when {when} 3 per 1d", st.sampled_from(PATTERNS), st.sampled_from(CONDITIONS)),
    st.builds(lambda pattern, when: f"require log for fs.*{pattern} when {when}", st.sampled_from(PATTERNS), st.just('path like "/a/*"')),
    st.sampled_from(["label result(fs.read) secret", "label prompt untrusted", "require redact for fs.read", "limit fs.read 9 per tree"]),
    st.builds(lambda when: f"deny fs.read when {when}", st.sampled_from(CONDITIONS)),
)  # fmt: skip
FLOWS = st.sampled_from([
    {}, known(), known({"/a/x": "prompt"}, label=UNTRUSTED), known(label=SECRET), known({"/a/x": ("result(fs.read)", UNTRUSTED)}),
    known(counters={"count/fs.read": 2}),
])  # fmt: skip
CALLS = st.builds(
    lambda path, size, encoding, facts: call("fs.read", path=path, bytes_max=size, encoding=encoding, facts=facts),
    st.sampled_from(["/a/x", "/a/y", "/x", "/b"]),
    st.sampled_from([1, 9]),
    st.sampled_from([None, "x", "y"]),
    FLOWS,
)


def made(lines: list[str], kind: str = "policy") -> Layer:
    return layer("\n".join(lines), kind)


def answers(lines: list[str], asked: Any) -> tuple[Any, ...]:
    stack = Stack([made(lines)])
    found = stack.decide(*asked)
    charged = sorted((charge.key, charge.amount) for charge in stack.charges(*asked))
    labels = (stack.labels.result("fs.read", ""), stack.labels.prompt)
    return found.outcome, found.remember, charged, stack.obligations(*asked), labels, stack.uses_provenance


def matches(pattern: str, asked: Any) -> bool:
    return Stack([made([f"allow fs.read{pattern}"])]).decide(*asked).outcome == "allow"


@given(st.lists(st.one_of(RULES, NARROWING), max_size=6), CALLS, st.randoms(use_true_random=False))
def test_the_order_of_statements_changes_nothing(lines: list[str], asked: Any, random: Any) -> None:
    shuffled = list(lines)
    random.shuffle(shuffled)
    assert answers(shuffled, asked) == answers(lines, asked)


@given(st.lists(RULES, max_size=5), FALLBACKS, CALLS)
def test_an_else_ask_turns_a_default_denial_into_a_question_and_changes_nothing_else(
    lines: list[str], fallback: tuple[str, str], asked: Any
) -> None:
    rule, pattern = fallback
    plain = Stack([made([*lines, rule])]).decide(*asked)
    asking = Stack([made([*lines, f'{rule} else ask "{{path}}?"'])]).decide(*asked)
    if plain.rule.endswith(":default") and matches(pattern, asked):
        assert (asking.outcome, bool(asking.question)) == ("ask", True)
    else:
        assert (asking.outcome, asking.rule, asking.question) == (plain.outcome, plain.rule, "")


@given(st.lists(RULES, max_size=4), st.lists(NARROWING, max_size=3), CALLS)
def test_adding_a_deny_limit_require_or_label_never_grants_and_never_frees(
    lines: list[str], more: list[str], asked: Any
) -> None:
    before, after = Stack([made(lines)]), Stack([made([*lines, *more])])
    pushed = before.push(made(more, "restrict"))
    for stack in (after, pushed):
        assert RANK[stack.decide(*asked).outcome] <= RANK[before.decide(*asked).outcome]
        assert stack.obligations(*asked) >= before.obligations(*asked)
        assert {charge.key for charge in stack.charges(*asked)} >= {charge.key for charge in before.charges(*asked)}
        assert stack.labels.prompt & before.labels.prompt == before.labels.prompt
        assert stack.labels.result("fs.read", "")[1] <= before.labels.result("fs.read", "")[1]


@given(st.lists(RULES, max_size=5), CALLS)
def test_an_explanation_says_what_the_decision_says(lines: list[str], asked: Any) -> None:
    stack = Stack([made([*lines, 'allow fs.read "/a/**" when bytes_max > 5 else ask "?"'])])
    verdict: Verdict = stack.decide(*asked)
    found = stack.explain(*asked)
    assert found.verdict == verdict
    assert [block.outcome for block in found.layers] == [verdict.outcome]
    deciding = [line.where for line in found.layers[0].lines if line.state == "decides"]
    assert deciding == ([] if verdict.rule.endswith(":default") else [verdict.rule])


@given(st.lists(st.sampled_from(["once", "process", "10m", "1h", "tree", "image"]), min_size=1, max_size=4), CALLS)
def test_no_layer_can_widen_what_another_lets_a_person_answer(scopes: list[str], asked: Any) -> None:
    stacks = [Stack([made([f"ask fs.read remember {scope}"]) for scope in scopes[: count + 1]]) for count in range(len(scopes))]
    order = ["once", "process", "10m", "1h", "tree", "image"]
    found = [order.index(stack.decide(*asked).remember) for stack in stacks]
    assert all(later <= earlier for earlier, later in pairwise(found))
    assert found[-1] == min(map(order.index, scopes))
