"""Is a rule meaningful against the op table? Unknown ops, attributes, values and types refuse to load: calls are closed.

A line of a policy is either obeyed or the file does not load: a clause that could mean nothing where it stands is refused as well.
Conditions are checked by `agentos.policy.check_test`, the other statements by the modules that carry them out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from agentos.abi.op import Op, OpTable
from agentos.errors import Invalid
from agentos.policy.check_test import Sets, check_expression, check_names, tests_of
from agentos.policy.pattern import compile_pattern
from agentos.policy.problems import At, Refusal, did_you_mean
from agentos.policy.question import check_question
from agentos.policy.syntax import OpRef, PatternRef, Rule

__all__ = [
    "CheckedRule", "Sets", "check_expression", "check_for_op", "check_patterns", "check_rule", "names_op", "ops_of", "tests_of",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class CheckedRule:
    """One rule with its sets resolved. `patterns` None = every resource; `number` counts the rules of a layer."""

    rule: Rule
    source: str
    number: int
    kind: str
    patterns: tuple[str, ...] | None
    sets: Sets = field(repr=False)

    @property
    def where(self) -> str:
        """The place as ``file:line``."""
        return f"{self.source}:{self.rule.at.line}"

    def names(self, op: Op) -> bool:
        """Say whether the rule speaks about `op`, also when that was mounted after the rule was loaded."""
        return names_op(self.rule.ops, op)


def names_op(refs: tuple[OpRef, ...], op: Op) -> bool:
    """Say whether one of the names is of `op`."""
    return any(_names(ref.text, op) for ref in refs)


def _names(text: str, op: Op) -> bool:
    if text in ("*", op.name):
        return True
    if text.startswith("effect "):
        return text[7:] == op.effect.value
    return text.endswith(".*") and op.name.startswith(text[:-1])


def ops_of(text: str, table: OpTable, at: At) -> list[Op]:
    """Return the ops that ``fs.read``, ``fs.*``, ``*`` or ``effect once`` names in `table`.

    Raises:
        Refusal: it names none.
    """
    if text.startswith("effect "):
        return [op for op in table if _names(text, op)]
    found = table.matching(text)
    if not found:
        names = {op.name for op in table}
        families = {f"{name.rpartition('.')[0]}.*" for name in names}
        known = families if text.endswith(".*") else names | {family[:-2] for family in families}
        hint = did_you_mean(text, sorted(known), f"families: {', '.join(sorted(family[:-2] for family in families))}")
        near = [name for name in sorted(names) if name.startswith(f"{text}.")]
        raise Refusal("E010", f"there is no op `{text}`", at, hint=f"write `{text}.*` or name its ops" if near else hint)
    return found


def check_rule(checked: CheckedRule, table: OpTable) -> None:
    """Check one rule against every op that it names.

    Raises:
        Refusal: the first thing that is wrong.
    """
    rule = checked.rule
    _check_clauses(checked)
    ops = [op for ref in rule.ops for op in ops_of(ref.text, table, ref.at)]
    _check_any(rule, ops)
    for expr in (rule.when, rule.unless):
        if expr is not None:
            check_names(expr, table)
    for op in ops:
        check_for_op(checked, op)


def check_for_op(checked: CheckedRule, op: Op) -> None:
    """Check patterns, conditions and sinks of a rule for one op.

    Raises:
        Refusal: the rule means nothing for `op`, or allows it with a sink unmentioned.
    """
    rule = checked.rule
    check_patterns(checked.patterns, rule.patterns, op)
    for expr in (rule.when, rule.unless):
        if expr is not None:
            check_expression(expr, op, checked.sets)
    if rule.outcome == "allow":
        _check_sinks(checked, op)
    if rule.clauses.else_ask:
        check_question(rule.clauses.else_ask, op, dict(rule.clauses.places)["else"])


def _check_clauses(checked: CheckedRule) -> None:
    rule = checked.rule
    if checked.kind == "restrict" and rule.outcome == "allow":
        hint = "what a restrict file does not mention passes; use ask or deny"
        raise Refusal("E016", "`allow` cannot stand in a `restrict` file", rule.at, hint=hint)
    is_asking = rule.outcome == "ask" or bool(rule.clauses.else_ask)
    for word, at in rule.clauses.places:
        if word == "else":
            _check_else(rule, at)
        if word == "timeout" and not is_asking:
            raise Refusal("E016", f"`timeout` has no meaning on {rule.outcome}", at, hint="it says how long an ask waits")
        if word == "remember" and not is_asking:
            hint = "it says for how long a person may answer an ask"
            raise Refusal("E016", f"`remember` has no meaning on {rule.outcome}", at, hint=hint)
        if word == "any" and rule.outcome == "deny":
            raise Refusal("E016", "`any` has no meaning on deny", at, hint="a deny applies whatever the arguments are")


def _check_else(rule: Rule, at: At) -> None:
    if rule.outcome != "allow":
        hint = "an ask asks already; a deny is not asked about"
        raise Refusal("E016", f"`else ask` has no meaning on {rule.outcome}", at, hint=hint)
    if rule.when is None and rule.unless is None:
        hint = "it asks where `when` or `unless` keeps the rule from allowing"
        raise Refusal("E016", "`else ask` has no meaning without a condition", at, hint=hint)
    if not rule.clauses.else_ask.strip():
        raise Refusal("E016", "the question is empty", at, hint="write what a person has to decide")


def _check_any(rule: Rule, ops: list[Op]) -> None:
    known = {"*"} | {name for op in ops for name in op.arg_names}
    for name, at in rule.clauses.any_of:
        if name not in known:
            hint = did_you_mean(name, known, f"arguments: {', '.join(sorted(known - {'*'}))}")
            raise Refusal("E011", f"`any {name}` names no argument of the rule's ops", at, hint=hint)


def check_patterns(patterns: tuple[str, ...] | None, refs: tuple[PatternRef, ...], op: Op) -> None:
    """Check that each pattern can match a resource of `op`.

    Raises:
        Refusal: one is malformed for every kind of resource that the op has.
    """
    for text in patterns or ():
        errors = [error for kind in {template.kind for template in op.resources} if (error := _pattern_error(kind, text))]
        if len(errors) == len({template.kind for template in op.resources}):
            at = next((ref.at for ref in refs if ref.text == text), refs[0].at)
            raise Refusal("E014", f"{errors[0].message} (for {op.name})", at, hint=errors[0].hint)


def _pattern_error(kind: str, text: str) -> Invalid | None:
    try:
        compile_pattern(kind, text)
    except Invalid as error:
        return error
    return None


def _check_sinks(checked: CheckedRule, op: Op) -> None:
    rule = checked.rule
    mentioned = {name for name, _ in rule.clauses.any_of}
    if "*" in mentioned or not op.sinks:
        return
    mentioned |= {test.attr.partition(".")[0] for expr in (rule.when, rule.unless) if expr for test in tests_of(expr)}
    if checked.patterns is not None:
        mentioned |= {name for template in op.resources for name in template.fields}
    for sink in sorted(op.sinks - mentioned):
        hint = f"constrain it with `when`, or say `any {sink}`"
        raise Refusal("E013", f"sink `{sink}` of {op.name} is unconstrained", rule.at, hint=hint)
