"""The import against Progent's own check on random policies and calls: import-never-widens, and compat answers alike."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.abi.op import OpTable
from agentos.errors import Invalid
from agentos.policy import Stack, load_layer
from agentos.policy.progent import import_progent
from agentos.policy.verdict import RANK
from tests.unit.policy.builders import op
from tests.unit.policy.progent_reference import decide


def _send(
    to: str,
    amount: float,
    count: int = 1,
    cc: str | None = None,
    urgent: bool = False,
    emails: list[str] = [],  # noqa: B006
) -> None: ...


TABLE = OpTable([op("bank.send", _send, "once", "id:bank", sinks=("to", "cc"))])
SEND = TABLE.find("bank.send")

TEXTS = ["", "alice", "evil alice", "alice\n", "bob@x.com", "a/b", "7", "Z z"]
PATTERNS = [
    "alice", "^alice$", "^a.*e$", "^(alice|bob@x\\.com)$", "alice$|^bob", "[a-z]+@[^.]+\\.com", "^(?!.*evil).*$", "x{0,2}", "",
    "\\Aalice\\Z", "^(?=.*i)a", "[^a-z]", "^[ab]?.", "a|b",
]  # fmt: skip
BROKEN: list[Any] = [{"type": "strin"}, {"pattern": "("}, {"enum": "a"}, {"minimum": "3"}, {"pattern": "("}]


def text_schema() -> st.SearchStrategy[Any]:
    leaf = st.one_of(
        st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from([*TEXTS, 7, True, None]), max_size=3)),
        st.builds(lambda value: {"const": value}, st.sampled_from(TEXTS)),
        st.builds(lambda pattern: {"type": "string", "pattern": pattern}, st.sampled_from(PATTERNS)),
        st.builds(lambda kind: {"type": kind}, st.sampled_from(["string", "number", ["string", "null"]])),
        st.just({}),
    )
    return st.one_of(leaf, joined(leaf), st.sampled_from(PATTERNS))


def number_schema() -> st.SearchStrategy[Any]:
    bound = st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])
    leaf = st.one_of(
        st.builds(lambda word, value: {word: value}, bound, st.sampled_from([-1, 0, 0.5, 3, 100])),
        st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from([0, 3, 0.5, "3", True]), max_size=3)),
        st.just({"type": "number"}),
    )
    return st.one_of(leaf, joined(leaf))


def joined(leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.builds(lambda inner: {"not": inner}, leaf),
        st.builds(
            lambda word, items: {word: items}, st.sampled_from(["anyOf", "allOf"]), st.lists(leaf, min_size=1, max_size=2)
        ),
    )


def list_schema() -> st.SearchStrategy[Any]:
    inner = st.one_of(
        st.builds(lambda values: {"enum": values}, st.lists(st.sampled_from(TEXTS), min_size=1, max_size=3)),
        st.builds(
            lambda pattern: {"pattern": pattern},
            st.sampled_from([each for each in PATTERNS if "?!" not in each and "?=" not in each]),
        ),
    )
    return st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, st.one_of(inner, st.builds(lambda each: {"not": each}, inner))),
        st.builds(lambda least: {"minItems": least}, st.sampled_from([0, 1])), st.just({"maxItems": 0}),
    )  # fmt: skip


def rules() -> st.SearchStrategy[list[list[Any]]]:
    conditions = st.fixed_dictionaries(
        {},
        optional={
            "to": text_schema(), "cc": st.one_of(text_schema(), st.sampled_from(BROKEN[:3])), "amount": number_schema(),
            "count": number_schema(), "emails": list_schema(), "urgent": st.sampled_from([{"const": True}, {"enum": [False, 0]}]),
            "mail": st.just({"const": "x"}),
        },
    )  # fmt: skip
    rule = st.tuples(st.sampled_from([1, 2, 100]), st.sampled_from([0, 1]), conditions, st.sampled_from([0, 1, 2])).map(list)
    return st.lists(rule, max_size=4)


CALLS = st.fixed_dictionaries(
    {"to": st.sampled_from(TEXTS), "amount": st.sampled_from([-2.0, 0.0, 0.25, 0.5, 3.0, 250.0])},
    optional={
        "cc": st.sampled_from(TEXTS), "count": st.sampled_from([0, 1, 3, 101]), "urgent": st.booleans(),
        "emails": st.lists(st.sampled_from(TEXTS), max_size=2),
    },
)  # fmt: skip


def answers(policy: list[list[Any]], call: dict[str, Any], *, is_compat: bool) -> tuple[str, str] | None:
    """Return what Progent and the import say; None where the import refuses the policy."""
    text = json.dumps({"send": policy})
    try:
        made = import_progent(text, source="p.json", table=TABLE, device="bank", name="p", is_compat=is_compat)
    except Invalid:
        return None
    values = SEND.validate(call)
    given = {name: value for name, value in values.items() if value is not None}
    verdict = Stack([load_layer(made.text, source="p.policy", table=TABLE)]).decide(
        SEND, SEND.render(values, "/", 1), values, {}
    )
    return decide(policy, given), verdict.outcome


@settings(max_examples=400, deadline=None)
@given(rules(), st.lists(CALLS, min_size=1, max_size=6))
def test_import_never_widens(policy: list[list[Any]], calls: list[dict[str, Any]]) -> None:
    for call in calls:
        found = answers(policy, call, is_compat=False)
        if found is not None:
            theirs, ours = found
            assert RANK[ours] <= RANK[theirs], f"Progent says {theirs}, the import {ours}"


@settings(max_examples=400, deadline=None)
@given(rules(), st.lists(CALLS, min_size=1, max_size=6))
def test_a_compat_import_answers_as_progent_does(policy: list[list[Any]], calls: list[dict[str, Any]]) -> None:
    for call in calls:
        found = answers(policy, call, is_compat=True)
        if found is not None:
            assert found[0] == found[1]


def test_most_random_policies_can_be_said() -> None:
    """The two tests above compare something: a strategy whose policies are all refused would prove nothing."""
    said: list[bool] = []

    @settings(max_examples=150, deadline=None, database=None)
    @given(rules())
    def count(policy: list[list[Any]]) -> None:
        said.append(answers(policy, {"to": "bob", "amount": 1}, is_compat=True) is not None)

    count()
    assert sum(said) > len(said) / 2
