"""`policy learn`: the narrowest readable policy that admits a recorded run.

Per op and outcome one rule names the resources that were used and bounds the arguments that were given:

    numbers, and sizes      ``<= largest``; a number that is a sink also ``>= smallest``
    choices and flags       the values that were used, where not all were
    text that is a sink     pinned to the values that were used, up to PINS_MAX; else ``any`` with a remark
    other text and objects  not looked at

A rule that would let a denied call through is split, by resource and then by call. What a call was denied for and also admitted for
cannot be told apart becomes an ask. Calls by a process's right over itself need no rule: the default of a layer lets them pass.

INVARIANT learned-admits-and-denies: every admitted call of the run is allowed or asked, every denied one is denied or (where the same
call was also admitted) asked, and no rule can be left out. `learn` checks the first two on the loaded result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from agentos.abi.op import OpTable
from agentos.policy.decide import Stack
from agentos.policy.expect import check_expect
from agentos.policy.format import format_text
from agentos.policy.layer import Layer
from agentos.policy.learn_rule import Draft, call_key, draft_of, expectation, folder_of, resource_patterns
from agentos.policy.load import load_layer
from agentos.policy.parse import parse_file
from agentos.policy.problems import Refusal
from agentos.policy.syntax import Expect
from agentos.policy.trace import Recorded
from agentos.policy.unparse import quoted
from agentos.policy.verdict import RANK

__all__ = ["Learned", "learn"]

EXPECTS_MAX: Final = 40
LEVELS: Final = ("together", "by resource", "by call")
"""How finely the calls of one op and outcome are told apart; each step only where the one before let a denied call through."""


@dataclass(frozen=True, slots=True)
class Learned:
    """A learned policy. `remarks` say what could not be learned, or only as an ask; `calls` counts the different calls."""

    text: str
    layer: Layer
    calls: int
    remarks: tuple[str, ...]


def learn(calls: Sequence[Recorded], *, name: str, table: OpTable, generalise: bool = False) -> Learned:
    """Return the policy that a run needs.

    Args:
        calls: The run.
        name: Name of the policy.
        table: The ops that exist.
        generalise: Write ``/src/*`` for three or more names used in one folder, where no denied call is in it.

    Raises:
        Invalid: the result would be too large for one file.
    """
    merged, remarks = _merged(calls)
    lost = {call_key(call) for call in merged if call.outcome != "deny" and resource_patterns(call) is None}
    usable = [call for call in merged if call_key(call) not in lost]
    remarks += [
        f"journal {call.seq}: {call.op.name} {call.resource[:80]!r} cannot be written as a pattern and stays denied"
        for call in merged
        if call_key(call) in lost
    ]
    drafts: list[Draft] = []
    for op in dict.fromkeys(call.op for call in usable):
        mine = [call for call in usable if call.op is op]
        found, said = _drafts(mine, name, table, generalise=generalise)
        drafts += found
        remarks += said
    text = _text(name, drafts, merged, table)
    layer = load_layer(text, source=f"{name}.policy", table=table)
    _check(merged, layer, lost)
    return Learned(text, layer, len(merged), tuple(remarks))


def _check(calls: Iterable[Recorded], layer: Layer, lost: set[str]) -> None:
    """Assert that no denied call is allowed, and no admitted one denied but those that cannot be written."""
    stack = Stack([layer])
    for call in calls:
        found = call.decide(stack).outcome
        is_right = found != "allow" if call.outcome == "deny" else found != "deny" or call_key(call) in lost
        assert is_right, f"journal {call.seq}: {found}"


def _merged(calls: Iterable[Recorded]) -> tuple[list[Recorded], list[str]]:
    """Return each different call once. One that was both admitted and denied, or both asked and not, is asked."""
    found: dict[str, Recorded] = {}
    remarks: list[str] = []
    for call in calls:
        key = call_key(call)
        before = found.setdefault(key, call)
        if before.outcome != call.outcome:
            found[key] = replace(before, outcome="ask")
            if "deny" in (before.outcome, call.outcome):
                remarks.append(f"journal {call.seq}: {call.op.name} was both admitted and denied: it is asked")
    return list(found.values()), remarks


def _drafts(calls: list[Recorded], name: str, table: OpTable, *, generalise: bool) -> tuple[list[Draft], list[str]]:
    """Return the rules about one op: the coarsest that tell its calls apart."""
    barred = frozenset(folder_of(call.resource) for call in calls if call.outcome == "deny")
    tries: list[tuple[int, frozenset[str] | None]] = [(level, None) for level in range(len(LEVELS))]
    wrong: list[Recorded] = []
    for level, closed in [(0, barred), *tries] if generalise else tries:
        drafts = list(_level(calls, level, barred=closed))
        wrong = _wrong(drafts, calls, name, table)
        if not wrong:
            return _needed(drafts, calls, name, table), []
    told = [
        f"journal {call.seq}: {call.op.name} cannot be told apart from a call that was decided otherwise: asked"
        for call in wrong
    ]
    likely = _blurred(calls, wrong)
    drafts = list(_level(likely, len(LEVELS) - 1, barred=None))
    return _needed(drafts, likely, name, table), told


def _blurred(calls: list[Recorded], wrong: list[Recorded]) -> list[Recorded]:
    """Return the calls, with those that came out wrong, and what was denied on the same resources, to be asked."""
    keys = {call_key(call) for call in wrong}
    places = {call.resource for call in wrong if call.outcome != "deny"}
    return [
        replace(call, outcome="ask")
        if call_key(call) in keys or (call.outcome == "deny" and call.own and call.resource in places)
        else call
        for call in calls
    ]


def _level(calls: list[Recorded], level: int, *, barred: frozenset[str] | None) -> Iterator[Draft]:
    """Yield the rules for the calls of one op at one level of detail."""
    groups: dict[tuple[str, ...], list[Recorded]] = {}
    for call in calls:
        if call.outcome == "deny" and not call.own:
            continue
        if call.outcome == "allow" and call.own:
            continue
        resources = tuple(resource.text for resource in call.resources) if level or len(call.resources) > 1 else ()
        exact = (call_key(call),) if level == len(LEVELS) - 1 or call.outcome == "deny" else ()
        groups.setdefault((call.outcome, *resources, *exact), []).append(call)
    for group in groups.values():
        pinned = level == len(LEVELS) - 1 or group[0].outcome == "deny"
        yield draft_of(group, barred=barred, pinned=pinned)


def _wrong(drafts: Sequence[Draft], calls: Iterable[Recorded], name: str, table: OpTable) -> list[Recorded]:
    stack = Stack([_layer(drafts, name, table)])
    return [call for call in calls if call.decide(stack).outcome != call.outcome]


def _needed(drafts: list[Draft], calls: Sequence[Recorded], name: str, table: OpTable) -> list[Draft]:
    """Leave out every rule without which all calls are decided no other way. Only rules that may overlap are tried."""
    uses = Counter(pattern for draft in drafts for pattern in draft.patterns)
    kept = list(drafts)
    for draft in drafts:
        alone = any(uses[pattern] == 1 and "*" not in pattern for pattern in draft.patterns)
        if alone and not any("*" in pattern for pattern in uses):
            continue
        rest = [each for each in kept if each is not draft]
        if not _worse(rest, kept, calls, name, table):
            kept = rest
    return kept


def _worse(rest: list[Draft], kept: list[Draft], calls: Sequence[Recorded], name: str, table: OpTable) -> bool:
    less, more = Stack([_layer(rest, name, table)]), Stack([_layer(kept, name, table)])
    return any(RANK[call.decide(less).outcome] != RANK[call.decide(more).outcome] for call in calls)


def _layer(drafts: Sequence[Draft], name: str, table: OpTable) -> Layer:
    return load_layer("\n".join([f"policy {quoted(name)}", *(draft.text for draft in drafts)]), source="learned", table=table)


# --- the file ----------------------------------------------------------------------------------------------------------------


def _text(name: str, drafts: list[Draft], calls: Sequence[Recorded], table: OpTable) -> str:
    lines = [
        f"policy {quoted(name)} version 1",
        f"# learned from a run of {len(calls)} different calls: it allows those, asks about what was asked, and denies the rest",
        "",
    ]
    for draft in drafts:
        lines += [f"# {remark}" for remark in draft.remarks]
        lines.append(draft.text)
    layer = _layer(drafts, name, table)
    expects = [line for draft in drafts if (line := _expect(draft.calls[0], draft, layer, table))]
    denied = [call for call in calls if call.outcome == "deny"]
    expects += [line for call in denied if (line := _expect(call, None, layer, table))]
    lines += ["", *dict.fromkeys(expects[:EXPECTS_MAX])] if expects else []
    return format_text("\n".join(lines) + "\n", source=name)


def _expect(call: Recorded, draft: Draft | None, layer: Layer, table: OpTable) -> str:
    """Return the expectation for a call where the language can write it and the layer meets it, else an empty text."""
    line = expectation(call, draft)
    if not line:
        return ""
    tree, refusals = parse_file(f'policy "x"\n{line}\n')
    if tree is None or refusals:
        return ""
    (statement,) = tree.statements
    assert isinstance(statement, Expect)
    try:
        check_expect(statement, layer, table)
    except Refusal:
        return ""
    return line
