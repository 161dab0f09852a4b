"""Why a call was decided as it was: per layer the rules that applied or nearly did, and the closest change that would allow it.

The same compiled rules answer here as in `decide`; nothing is decided a second way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from agentos.abi.op import Op
from agentos.abi.resource import Resource
from agentos.policy.conditions import compile_condition
from agentos.policy.explain_values import values_text
from agentos.policy.layer import BoundRule, Layer
from agentos.policy.question import shown
from agentos.policy.syntax import And
from agentos.policy.unparse import expr_text, quoted, rule_text
from agentos.policy.verdict import Verdict

__all__ = ["Explanation", "LayerLines", "RuleLine", "explain_call"]

_NEAR_MAX: Final = 3

Call = tuple[Mapping[str, Any], Mapping[str, Any], frozenset[str]]
"""Arguments, facts, and the late attributes that are known."""


@dataclass(frozen=True, slots=True)
class RuleLine:
    """One rule: `decides`, `applies` (but a stronger one decides), or why it does not: `condition`, `pattern`."""

    where: str
    text: str
    state: Literal["decides", "applies", "condition", "pattern"]
    why: str

    def __str__(self) -> str:
        """Return the line as `explain` prints it."""
        mark = {"decides": "=>", "applies": " +", "condition": " -", "pattern": " -"}[self.state]
        return f"  {mark} {self.where}  {self.text}" + (f"   ({self.why})" if self.why else "")


@dataclass(frozen=True, slots=True)
class LayerLines:
    """What one layer says about one resource."""

    layer: str
    kind: str
    resource: str
    outcome: str
    lines: tuple[RuleLine, ...]

    def __str__(self) -> str:
        """Return the block as `explain` prints it."""
        decided = any(line.state == "decides" for line in self.lines)
        default = "" if decided else " by default" if self.kind == "policy" else ", nothing here restricts it"
        return "\n".join([f"{self.kind} {self.layer}: {self.outcome}{default}", *map(str, self.lines)])


@dataclass(frozen=True, slots=True)
class Explanation:
    """The verdict with its reasons.

    Attributes:
        op: The op.
        resources: What the call is on.
        verdict: What was decided.
        layers: Per resource and layer the rules.
        change: The closest change that would allow the call; empty when it is allowed.
        duties: Limits, obligations and label statements that concern the call, as ``file:line  text``.
    """

    op: str
    resources: tuple[str, ...]
    verdict: Verdict
    layers: tuple[LayerLines, ...]
    change: str
    duties: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the whole explanation as a person reads it."""
        verdict = self.verdict
        head = f"{self.op} {' '.join(self.resources)}: {verdict.outcome}"
        if verdict.rule:
            head += f" by {verdict.rule}" + (f" ({verdict.because})" if verdict.because else "")
        else:
            head += ", no policy layer: capabilities alone decide"
        if verdict.question:
            head += f"\n  question: {verdict.question}"
        blocks = [head, *map(str, self.layers), *(f"also {line}" for line in self.duties)]
        return "\n".join([*blocks, f"closest change: {self.change}"] if self.change else blocks)


def explain_call(
    layers: Sequence[Layer], verdict: Verdict, op: Op, resources: tuple[Resource, ...], call: Call, *, own: bool = False
) -> Explanation:
    """Explain `verdict`, which `layers` gave for the call."""
    blocks = tuple(_layer_lines(layer, op, resource, call, own=own) for resource in resources for layer in layers)
    change = "" if verdict.outcome == "allow" else _change(layers, verdict, op, resources, call)
    duties = tuple(dict.fromkeys(line for layer in layers for line in _duties(layer, op, resources, call)))
    return Explanation(op.name, tuple(resource.text for resource in resources), verdict, blocks, change, duties)


def _duties(layer: Layer, op: Op, resources: tuple[Resource, ...], call: Call) -> Iterator[str]:
    """Iterate over what a layer asks of the call besides deciding it, and says about what it reads or returns."""
    args, facts, _ = call
    for limit in layer.limits:
        bound = limit.bind(op, layer.counted_as) if limit.scope.names(op) else None
        charge = None if bound is None else bound.of(resources, args, facts)
        if charge is not None:
            taken = f"takes {shown(charge.amount)} of it" if not charge.of else f"its {charge.of} are counted when it is done"
            yield f"{limit.where}  {limit.text}   ({taken})"
    for require in layer.requires:
        duty = require.bind(op) if require.scope.names(op) else None
        if duty is not None and duty.scope.holds(resources, args, facts):
            yield f"{require.where}  {require.text}"
    for label in layer.labels:
        source = label.label.source
        if source.name == op.name if source.kind == "result" else any(map(label.matches, resources)):
            yield f"{label.where}  {label.text}"


def _layer_lines(layer: Layer, op: Op, resource: Resource, call: Call, *, own: bool) -> LayerLines:
    applying: list[BoundRule] = []
    failing: list[tuple[BoundRule, str]] = []
    elsewhere: list[BoundRule] = []
    for rule in layer.rules_for(op):
        if not _matches(rule, resource):
            elsewhere += [] if rule.is_fallback else [rule]
        elif rule.applies(*call):
            applying.append(rule)
        else:
            failing.append((rule, "; ".join(_failing(rule, op, call))))
    applying.sort(key=lambda rule: rule.rank)
    kept = [rule for number, rule in enumerate(applying) if not (number and rule.is_fallback)]
    lines = [_line(rule, "applies" if number else "decides", _unknowns(rule, op, call)) for number, rule in enumerate(kept)]
    lines += [_line(rule, "condition", why) for rule, why in failing]
    elsewhere.sort(key=lambda rule: -_nearness(rule, resource))
    lines += [_line(rule, "pattern", f"does not match {resource.text}") for rule in elsewhere[:_NEAR_MAX]]
    outcome = applying[0].outcome if applying else layer.default(op, own=own).outcome
    return LayerLines(layer.name, layer.kind, resource.text, outcome, tuple(lines))


def _line(rule: BoundRule, state: Literal["decides", "applies", "condition", "pattern"], why: str) -> RuleLine:
    text = f"else ask {quoted(rule.verdict.question)}" if rule.is_fallback else rule_text(rule.checked.rule)
    return RuleLine(rule.checked.where, text, state, why)


def _matches(rule: BoundRule, resource: Resource) -> bool:
    if rule.patterns is None:
        return True
    return any(pattern.covers(resource) if rule.granting else pattern.matches(resource) for pattern in rule.patterns)


def _nearness(rule: BoundRule, resource: Resource) -> int:
    """Return the length of the longest text that a pattern of the rule and the resource start with."""
    longest = 0
    for pattern in rule.patterns or ():
        pairs = zip(pattern.text, resource.text, strict=False)
        longest = max(longest, next((at for at, (mine, its) in enumerate(pairs) if mine != its), len(pattern.text)))
    return longest


def _failing(rule: BoundRule, op: Op, call: Call) -> Iterator[str]:
    """Iterate over the parts of the rule's condition that keep it from applying, each with the values it saw."""
    statement = rule.checked.rule
    for word, expr, wanted in (("", statement.when, True), ("unless ", statement.unless, False)):
        for part in expr.items if isinstance(expr, And) and wanted else (expr,) if expr is not None else ():
            ignored = wanted is (statement.outcome != "deny")
            value = compile_condition(part, op, rule.checked.sets, ignored=ignored)(*call)
            if value is not wanted:
                state = {True: "true", False: "false", None: "unknown"}[value]
                yield f"`{word}{expr_text(part)}` is {state}: {values_text(part, op, call)}"


def _unknowns(rule: BoundRule, op: Op, call: Call) -> str:
    if not rule.has_condition or rule.test(*call) is not None:
        return ""
    expr = rule.checked.rule.when or rule.checked.rule.unless
    return f"its condition is unknown, which counts as true in a deny: {values_text(expr, op, call)}" if expr else ""


def _change(layers: Sequence[Layer], verdict: Verdict, op: Op, resources: tuple[Resource, ...], call: Call) -> str:
    layer = next(layer for layer in layers if _decided(layer, verdict, op))
    if verdict.outcome == "ask":
        return f"a person approves the ask of {verdict.rule}"
    if not verdict.rule.endswith(":default"):
        return _lift(layer, verdict, op, call)
    for resource in resources:
        for rule in layer.rules_for(op):
            if rule.checked.rule.outcome != "deny" and _matches(rule, resource) and not rule.applies(*call):
                return f"arguments that {rule.checked.where} allows: {'; '.join(_failing(rule, op, call))}"
    open_resource = next((item for item in resources if not _granted(layer, op, item, call)), resources[0])
    sinks = f" any {', '.join(sorted(op.sinks))}" if op.sinks else ""
    return f"add to {layer.source}: allow {op.name} {quoted(open_resource.text)}{sinks}"


def _decided(layer: Layer, verdict: Verdict, op: Op) -> bool:
    if layer.name != verdict.layer:
        return False
    if verdict.rule.endswith(":default"):
        return verdict.rule == f"{layer.source}:default" and layer.default(op).outcome == verdict.outcome
    return any(_is_of(rule, verdict) for rule in layer.rules_for(op))


def _is_of(rule: BoundRule, verdict: Verdict) -> bool:
    return rule.checked.where == verdict.rule and rule.outcome == verdict.outcome


def _granted(layer: Layer, op: Op, resource: Resource, call: Call) -> bool:
    return any(_matches(rule, resource) and rule.applies(*call) for rule in layer.rules_for(op))


def _lift(layer: Layer, verdict: Verdict, op: Op, call: Call) -> str:
    rule = next(rule for rule in layer.rules_for(op) if _is_of(rule, verdict))
    text = rule_text(rule.checked.rule)
    if not rule.has_condition:
        return f"only a change of {verdict.rule} can: {text}"
    statement = rule.checked.rule
    parts = [expr_text(expr) for expr in (statement.when, statement.unless) if expr is not None]
    seen = "; ".join(values_text(expr, op, call) for expr in (statement.when, statement.unless) if expr is not None)
    return f"arguments to which {verdict.rule} does not apply (`{'`, `'.join(parts)}`; {seen})"
