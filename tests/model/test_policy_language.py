"""The whole privilege language against its naive meaning (`policy_oracle`), and its laws, on random files and calls.

About 120,000 decisions per run; AGENTOS_POLICY_SCALE=20 makes them 20 times as many.
"""

from __future__ import annotations

import os
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentos.policy import Stack
from agentos.policy import decide as deciding
from tests.model import policy_oracle as oracle
from tests.model.policy_files import RANKS, SCOPES, Call, File, Label, Rule
from tests.model.policy_world import (
    LATE,
    calls_of,
    charged,
    decided,
    duty_of,
    file_of,
    files_of,
    layer_of,
    obliged,
    rule_of,
    shown,
    stack_of,
)

SCALE = int(os.environ.get("AGENTOS_POLICY_SCALE", "1"))
RANDOM = st.one_of(st.randoms(use_true_random=False), st.integers(0, 2**64).map(Random))


pytestmark = pytest.mark.timeout(60 * SCALE)


def much(examples: int) -> settings:
    return settings(max_examples=examples * SCALE)


def check_same(files: list[File], call: Call, found: Any, wanted: Any) -> None:
    assert found == wanted, shown(files, call)


@much(600)
@given(RANDOM)
def test_every_decision_is_the_naive_one_asked_for_the_first_time_or_again_in_any_order(rng: Random) -> None:
    files, calls = files_of(rng), calls_of(rng, 50)
    stack = stack_of(files)
    wanted = [oracle.decide(files, call) for call in calls]
    for call, answer in zip(calls, wanted, strict=True):
        check_same(files, call, decided(stack, call), answer)
    for call, answer in reversed(list(zip(calls, wanted, strict=True))):
        check_same(files, call, decided(stack, call), answer)


@much(250)
@given(RANDOM)
def test_every_charge_and_obligation_is_the_naive_one(rng: Random) -> None:
    files = files_of(rng)
    stack = stack_of(files)
    for call in calls_of(rng, 50):
        check_same(files, call, charged(stack, call), oracle.charges(files, call))
        check_same(files, call, obliged(stack, call), oracle.obligations(files, call))


@much(150)
@given(RANDOM)
def test_every_label_is_the_naive_one_and_a_pushed_layer_never_endorses(rng: Random) -> None:
    files = files_of(rng)
    pushed = [
        *files,
        replace(file_of(rng, "policy"), statements=(Label("f.read", "a", "trusted"), Label("f.read", "", "secret"))),
    ]
    for given_, stack in ((files, stack_of(files)), (pushed, stack_of(files).push(layer_of(pushed[-1])))):
        for path in ("", "a", "a.b", "ab"):
            bits, endorsed = stack.labels.result("f.read", path)
            words, wanted = oracle.label_of(given_, len(files), "f.read", path)
            assert endorsed is wanted
            assert bits == ("untrusted" in words) * 4 | ("secret" in words) * 3 | ("internal" in words)


@much(80)
@given(RANDOM)
def test_layers_shared_by_stacks_and_a_memory_that_overflows_change_no_answer(rng: Random) -> None:
    files = files_of(rng)
    layers = [layer_of(file) for file in files]
    stacks = [Stack(layers[:count]) for count in range(len(layers) + 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deciding, "DECISION_CACHE_MAX", 2)
        for call in calls_of(rng, 40):
            for count, stack in enumerate(stacks):
                check_same(files[:count], call, decided(stack, call), oracle.decide(files[:count], call))
                assert len(stack._residuals) <= 2


@much(120)
@given(RANDOM)
def test_a_verdict_that_is_called_constant_is_the_same_whatever_the_arguments_are(rng: Random) -> None:
    files = files_of(rng)
    stack = stack_of(files)
    calls = calls_of(rng, 60)
    for call in calls:
        if stack.decide(call.op, call.resources, call.args, call.facts, late=call.late, own=call.own).constant:
            alike = {
                decided(stack, replace(call, args=other.args, facts=other.facts)) for other in calls if other.op is call.op
            }
            assert alike == {decided(stack, call)}, shown(files, call)


# --- laws --------------------------------------------------------------------------------------------------------------------


def check_narrower(before: Stack, after: Stack, calls: list[Call], files: list[File]) -> None:
    for call in calls:
        old, new = decided(before, call), decided(after, call)
        assert RANKS[new[0]] <= RANKS[old[0]], shown(files, call)
        if old[0] == new[0] == "ask":
            assert SCOPES.index(new[1]) <= SCOPES.index(old[1]), shown(files, call)
        assert obliged(after, call) >= obliged(before, call)
        assert set(charged(after, call)) >= set(charged(before, call))


@much(150)
@given(RANDOM)
def test_adding_a_deny_limit_require_or_label_to_any_file_never_grants(rng: Random) -> None:
    files = [file_of(rng, "policy"), *files_of(rng)]
    at = rng.randrange(len(files))
    more = (rule_of(rng, ("deny",)), duty_of(rng, "restrict"), duty_of(rng, "restrict"))
    wider = [*files[:at], replace(files[at], statements=(*files[at].statements, *more)), *files[at + 1 :]]
    check_narrower(stack_of(files), stack_of(wider), calls_of(rng, 30), wider)


@much(100)
@given(RANDOM)
def test_adding_an_ask_to_a_restrict_never_grants(rng: Random) -> None:
    files = [file_of(rng, "restrict"), *files_of(rng)]
    asking = replace(files[0], statements=(*files[0].statements, rule_of(rng, ("ask",))))
    check_narrower(stack_of(files), stack_of([asking, *files[1:]]), calls_of(rng, 30), [asking, *files[1:]])


@much(150)
@given(RANDOM, st.sampled_from(["policy", "restrict"]))
def test_pushing_a_layer_never_grants_and_adds_up_charges_and_obligations(rng: Random, kind: str) -> None:
    files, more = files_of(rng), file_of(rng, kind)
    before = stack_of(files)
    after = before.push(layer_of(more))
    calls = calls_of(rng, 30)
    check_narrower(before, after, calls, [*files, more])
    alone = Stack([layer_of(more)])
    for call in calls:
        assert obliged(after, call) == obliged(before, call) | obliged(alone, call)
        assert set(charged(after, call)) == set(charged(before, call)) | set(charged(alone, call))


@much(100)
@given(RANDOM)
def test_the_order_of_statements_and_of_layers_changes_nothing(rng: Random) -> None:
    files = files_of(rng)
    mixed = [replace(file, statements=tuple(rng.sample(file.statements, len(file.statements)))) for file in files]
    first, second = stack_of(files), stack_of(rng.sample(mixed, len(mixed)))
    for call in calls_of(rng, 30):
        assert decided(first, call) == decided(second, call), shown(files, call)
        assert charged(first, call) == charged(second, call)
        assert obliged(first, call) == obliged(second, call)


FIXED = ("path", "into", "to", "url", "argv", "out")


def masked(rng: Random, call: Call) -> Call:
    """Return the call with some of what conditions can test taken away."""
    args = {name: None if name not in FIXED and rng.random() < 0.4 else value for name, value in call.args.items()}
    late = set(LATE) & set(call.op.late)
    facts = {name: None if name in late else value for name, value in call.facts.items() if name in late or rng.random() < 0.6}
    args |= {name: None for name in late if name in args}
    return replace(call, args=args, facts=facts)


@much(200)
@given(RANDOM)
def test_what_is_not_known_never_allows_what_was_denied_and_without_an_ask_never_widens(rng: Random) -> None:
    """unknown-fails-closed"""
    files = files_of(rng, absent=False)
    asks = any(rule.outcome == "ask" for file in files for rule in file.rules)
    stack = stack_of(files)
    for call in calls_of(rng, 40):
        less = masked(rng, call)
        before, after = decided(stack, call)[0], decided(stack, less)[0]
        assert before != "deny" or after == "deny", shown(files, less)
        assert asks or RANKS[after] <= RANKS[before], shown(files, less)


@much(150)
@given(RANDOM)
def test_what_is_not_known_takes_no_limit_and_no_obligation_away(rng: Random) -> None:
    """limits-fail-closed"""
    files = [replace(file, statements=tuple(duty_of(rng, file.kind, absent=False) for _ in range(4))) for file in files_of(rng)]
    stack = stack_of(files)
    for call in calls_of(rng, 30):
        less = masked(rng, call)
        assert obliged(stack, less) >= obliged(stack, call), shown(files, less)
        assert {one[:2] for one in charged(stack, less)} >= {one[:2] for one in charged(stack, call)}, shown(files, less)


@much(150)
@given(RANDOM)
def test_an_allow_more_never_denies_and_a_deny_is_never_outvoted(rng: Random) -> None:
    files = [file_of(rng, "policy")]
    more = replace(files[0], statements=(*files[0].statements, *[rule_of(rng, ("allow",)) for _ in range(3)]))
    denies = replace(
        files[0], statements=tuple(one for one in more.statements if isinstance(one, Rule) and one.outcome == "deny")
    )
    before, after, bare = stack_of(files), stack_of([more]), stack_of([replace(denies, kind="restrict")])
    for call in calls_of(rng, 30):
        assert RANKS[decided(after, call)[0]] >= RANKS[decided(before, call)[0]], shown([more], call)
        if decided(bare, call)[0] == "deny":
            assert decided(after, call)[0] == "deny", shown([more], call)
