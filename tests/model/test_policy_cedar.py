"""Against another engine: what the language shares with Cedar is decided as Cedar decides it.

Shared are allow and deny over ops, exact resources and whole folders, with conditions on integers, text, flags and sets of text. By design
the two differ in one thing, what cannot be evaluated: Cedar skips the policy, also a `forbid`; here it counts as true in a deny.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.abi.op import Effect, Op, OpTable
from agentos.abi.resource import Template
from agentos.policy import Stack, load_layer

cedarpy = pytest.importorskip("cedarpy", reason="the comparison with Cedar needs `cedarpy`, which is in the extra `dev`")


def _act(path: str, n: int | None, word: str | None, flag: bool | None, tags: list[str] | None) -> None: ...


OPS = [Op(name, _act, Effect.ONCE, (Template("path", "{path}"),)) for name in ("a.one", "a.two", "b.one")]
TABLE = OpTable(OPS)
PATHS = ["/", "/a", "/a/x", "/a/b", "/a/b/x", "/b", "/b/x", "/ab"]
VALUES: dict[str, list[Any]] = {
    "n": [-1, 0, 1, 2, 3, 2**40], "word": ["", "x", "xy", "yx", "X"], "flag": [True, False],
    "tags": [[], ["x"], ["x", "y"], ["z", "x"], ["z"]],
}  # fmt: skip
LEAVES = [
    *[
        (f"n {verb} {number}", f"context.n {verb} {number}")
        for verb in ("==", "!=", "<", "<=", ">", ">=")
        for number in (-1, 1, 2)
    ],
    *[(f'word {verb} "{text}"', f'context.word {verb} "{text}"') for verb in ("==", "!=", "like") for text in ("x", "xy")],
    *[(f'word like "{glob}"', f'context.word like "{glob}"') for glob in ("x*", "*y", "*x*", "x*y")],
    *[(f"flag {verb} {flag}", f"context.flag {verb} {flag}") for verb in ("==", "!=") for flag in ("true", "false")],
    ('word in ["x", "yx"]', '["x", "yx"].contains(context.word)'),
    ("n in [1, 3]", "[1, 3].contains(context.n)"),
    ('some tags == "x"', 'context.tags.contains("x")'),
    ('some tags in ["y", "z"]', 'context.tags.containsAny(["y", "z"])'),
    ('every tags in ["x", "y"]', '["x", "y"].containsAll(context.tags)'),
    *[(f"{name} is absent", f"!(context has {name})") for name in VALUES],
]
ENTITIES = [
    {"uid": {"type": "Path", "id": path}, "attrs": {}, "parents": [{"type": "Path", "id": folder}] if path != "/" else []}
    for path in PATHS
    for folder in [path.rpartition("/")[0] or "/"]
]


@dataclass(frozen=True)
class Rule:
    """One rule in both languages."""

    ours: str
    cedar: str


def condition(rng: Random, depth: int) -> tuple[str, str]:
    if not depth or rng.random() < 0.4:
        return rng.choice(LEAVES)
    first, second = condition(rng, depth - 1), condition(rng, depth - 1)
    word, sign = rng.choice([("and", "&&"), ("or", "||")])
    if rng.random() < 0.3:
        return f"not ({first[0]})", f"!({first[1]})"
    return f"({first[0]} {word} {second[0]})", f"({first[1]} {sign} {second[1]})"


def conjunction(rng: Random) -> tuple[str, str]:
    leaves = [rng.choice(LEAVES) for _ in range(rng.choice([1, 1, 2, 3]))]
    return " and ".join(ours for ours, _ in leaves), " && ".join(theirs for _, theirs in leaves)


def scope(rng: Random) -> tuple[str, str]:
    """Return patterns and the same as a condition on the resource."""
    found = []
    for path in rng.sample(PATHS, rng.choice([0, 1, 1, 2])):
        exact = rng.random() < 0.4
        text = path if exact else f"{path.rstrip('/')}/**"
        found.append((f'"{text}"', f'resource {"==" if exact else "in"} Path::"{path}"'))
    return ", ".join(ours for ours, _ in found), " || ".join(theirs for _, theirs in found) or "true"


def rule(rng: Random, *, plain: bool) -> Rule:
    outcome, effect = rng.choice([("allow", "permit"), ("allow", "permit"), ("deny", "forbid")])
    ops, actions = rng.choice(
        [("a.one", ["a.one"]), ("a.*", ["a.one", "a.two"]), ("a.two, b.one", ["a.two", "b.one"]), ("*", [])]
    )
    patterns, where = scope(rng)
    named = ", ".join(f'Action::"{name}"' for name in actions)
    action = f" in [{named}]" if actions else ""
    ours, cedar = f"{outcome} {ops} {patterns}", f"{effect}(principal, action{action}, resource) when {{ {where} }}"
    for word, chance in (("when", 0.7), ("unless", 0.3)):
        if rng.random() < chance:
            made = condition(rng, 3) if not plain else conjunction(rng) if word == "when" else rng.choice(LEAVES)
            ours, cedar = f"{ours} {word} {made[0]}", f"{cedar} {word} {{ {made[1]} }}"
    return Rule(ours, f"{cedar};")


def calls(rng: Random, *, missing: float) -> list[tuple[Op, dict[str, Any]]]:
    return [
        (
            rng.choice(OPS),
            {"path": rng.choice(PATHS)}
            | {name: None if rng.random() < missing else rng.choice(values) for name, values in VALUES.items()},
        )
        for _ in range(25)
    ]


def our_answers(rules: list[Rule], asked: list[tuple[Op, dict[str, Any]]]) -> list[bool]:
    text = "\n".join(['policy "p"', *(one.ours for one in rules)])
    stack = Stack([load_layer(text, source="p", table=TABLE)])
    return [stack.decide(op, op.render(dict(args), "/", 1), args, {}).outcome == "allow" for op, args in asked]


def cedar_answers(rules: list[Rule], asked: list[tuple[Op, dict[str, Any]]]) -> list[tuple[bool, list[str]]]:
    """Return what Cedar says, and the errors for which it skipped policies."""
    requests = [
        {
            "principal": 'Process::"1"',
            "action": f'Action::"{op.name}"',
            "resource": f'Path::"{args["path"]}"',
            "context": {name: value for name, value in args.items() if name != "path" and value is not None},
        }
        for op, args in asked
    ]
    found = cedarpy.is_authorized_batch(requests, "\n".join(one.cedar for one in rules), ENTITIES)
    return [(one.allowed, list(one.diagnostics.errors)) for one in found]


RANDOM = st.one_of(st.randoms(use_true_random=False), st.integers(0, 2**64).map(Random))


@settings(max_examples=250)
@given(RANDOM)
def test_where_nothing_is_missing_every_decision_is_cedars(rng: Random) -> None:
    rules, asked = [rule(rng, plain=False) for _ in range(rng.choice([1, 2, 4, 8]))], calls(rng, missing=0)
    cedar = cedar_answers(rules, asked)
    assert [errors for _, errors in cedar if errors] == []
    assert our_answers(rules, asked) == [allowed for allowed, _ in cedar]


@settings(max_examples=250)
@given(RANDOM)
def test_where_something_is_missing_cedar_denies_what_is_denied_here_unless_it_skipped_a_policy(rng: Random) -> None:
    rules, asked = [rule(rng, plain=True) for _ in range(rng.choice([1, 2, 4, 8]))], calls(rng, missing=0.4)
    for call, ours, (cedar, errors) in zip(asked, our_answers(rules, asked), cedar_answers(rules, asked), strict=True):
        assert cedar or not ours, call
        assert ours or not cedar or errors, call


def test_a_deny_whose_condition_cannot_be_evaluated_denies_and_cedar_skips_it() -> None:
    rules = [
        Rule("allow *", "permit(principal, action, resource);"),
        Rule(
            'deny a.one when word == "x"',
            'forbid(principal, action == Action::"a.one", resource) when { context.word == "x" };',
        ),
    ]
    asked = [(OPS[0], {"path": "/a", "n": None, "word": None, "flag": None, "tags": None})]
    ((cedar, errors),) = cedar_answers(rules, asked)
    assert cedar
    assert "does not have the attribute `word`" in errors[0]
    assert our_answers(rules, asked) == [False]


def test_an_allow_is_not_lost_to_a_part_that_cannot_be_evaluated_as_it_is_in_cedar() -> None:
    rules = [
        Rule(
            'allow * when word == "x" or n == 1',
            'permit(principal, action, resource) when { context.word == "x" || context.n == 1 };',
        )
    ]
    asked = [(OPS[0], {"path": "/a", "n": 1, "word": None, "flag": None, "tags": None})]
    assert not cedar_answers(rules, asked)[0][0]
    assert our_answers(rules, asked) == [True]
