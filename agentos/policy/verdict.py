"""The answer of the policy to one call, and how answers combine: deny < ask < allow, the least wins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from agentos.abi.units import parse_duration_s
from agentos.policy.syntax import Outcome

__all__ = ["RANK", "UNRESTRICTED", "Verdict", "least", "width_of"]

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
        remember: The widest scope a person may give an approval: ``once``, ``process``, a duration as written (the tree, that long),
            ``tree``, ``image``; empty when the rule does not say.
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


_WIDTHS: Final = {"once": 0.0, "process": 1.0, "tree": 3.0, "image": 4.0, "": 5.0}


def width_of(remember: str) -> float:
    """Return how wide a scope of `remember` is: once < process < a duration (the shorter the less) < tree < image < not said."""
    width = _WIDTHS.get(remember)
    if width is not None:
        return width
    seconds = parse_duration_s(remember)
    return 2.0 + seconds / (seconds + 1.0)


def least(first: Verdict, second: Verdict) -> Verdict:
    """Return the stricter verdict; of two equal ones the first, but a rule before a default.

    Two asks wait for the shorter time, and a person may answer for the narrower scope.
    """
    difference = RANK[first.outcome] - RANK[second.outcome]
    if difference:
        return first if difference < 0 else second
    chosen = second if first.rule.endswith(":default") and not second.rule.endswith(":default") else first
    times = [verdict.timeout_s for verdict in (first, second) if verdict.timeout_s is not None]
    if times and min(times) != chosen.timeout_s:
        chosen = replace(chosen, timeout_s=min(times))
    if first.remember == second.remember:
        return chosen
    return replace(chosen, remember=min(first.remember, second.remember, key=width_of))
