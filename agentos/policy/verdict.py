"""The answer of the policy to one call, and how answers combine: deny < ask < allow, the least wins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from agentos.policy.syntax import Outcome

__all__ = ["RANK", "UNRESTRICTED", "Verdict", "least"]

RANK: Final[dict[str, int]] = {"deny": 0, "ask": 1, "allow": 2}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the layers say about one call.

    Attributes:
        outcome: allow, ask or deny.
        rule: The deciding rule as ``file:line``; ``file:default`` when no rule of the layer applied.
        because: The rule's reason, or what the default says.
        layer: Name of the deciding layer; empty when there is none.
        timeout_s: Seconds that an ask waits, where a rule says so.
        name: What the deciding rule is called (`as NAME`).
        constant: True when it depends on op and resources alone, so that it may be remembered for them.
        remember: The widest scope a person may give an approval (`remember SCOPE`); empty when the rule does not say.
        question: What a person is asked (`else ask "..."`), with the arguments filled in; empty when the rule does not say.
    """

    outcome: Outcome
    rule: str
    because: str
    layer: str
    timeout_s: float | None
    constant: bool
    name: str = ""
    remember: str = ""
    question: str = ""


UNRESTRICTED: Final = Verdict("allow", "", "", "", None, True)
"""The verdict of an empty stack: capabilities alone decide."""


def least(first: Verdict, second: Verdict) -> Verdict:
    """Return the stricter verdict; of two equal ones the first, but a rule before a default. Asks wait for the shorter time."""
    difference = RANK[first.outcome] - RANK[second.outcome]
    if difference:
        return first if difference < 0 else second
    chosen = second if first.rule.endswith(":default") and not second.rule.endswith(":default") else first
    times = [verdict.timeout_s for verdict in (first, second) if verdict.timeout_s is not None]
    return chosen if not times or min(times) == chosen.timeout_s else replace(chosen, timeout_s=min(times))
