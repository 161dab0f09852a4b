"""Names of rules, and the default of a layer for a process's rights over itself."""

from __future__ import annotations

import pytest

from agentos.abi.ops import builtin
from agentos.policy import Stack, Verdict, load_layer

TABLE = builtin()


def decide(policy: str, op: str, /, *, own: bool = False, **args: object) -> Verdict:
    found = TABLE.find(op)
    values = found.validate(args)
    return Stack([load_layer(policy, source="t.policy", table=TABLE)]).decide(
        found, found.render(values, "/", 7), values, {}, own=own
    )


def test_a_rule_can_have_a_name_with_hyphens() -> None:
    verdict = decide(
        'policy "p"\nask fs.write "/r.md" as write-report because "a person reads it"', "fs.write", path="/r.md", text="x"
    )
    assert (verdict.outcome, verdict.name, verdict.because) == ("ask", "write-report", "a person reads it")


def test_the_default_takes_no_right_over_oneself() -> None:
    assert decide('policy "p"', "proc.exit", own=True).outcome == "allow"
    assert decide('policy "p"', "proc.exit").outcome == "deny"


@pytest.mark.parametrize("outcome", ["deny", "ask"])
def test_a_rule_still_decides_a_right_over_oneself(outcome: str) -> None:
    text = f'policy "p"\n{outcome} human.ask any question' if outcome == "ask" else 'policy "p"\ndeny human.ask'
    assert decide(text, "human.ask", own=True, question="?").outcome == outcome
