"""Is a statement meaningful against the op table? Unknown ops, attributes, values and types refuse to load: calls are closed.

What is parsed but not enforced by this version (limits, obligations, labels, provenance) is refused as well: a line of a policy is
either obeyed or the file does not load.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_network

from agentos.abi.op import Op, OpTable
from agentos.errors import Invalid
from agentos.policy.attributes import Attribute, Type, attribute_of
from agentos.policy.pattern import compile_pattern, text_matcher
from agentos.policy.problems import At, Refusal, did_you_mean
from agentos.policy.regex import Regex
from agentos.policy.syntax import Aggregate, And, Expr, Literal, Not, Or, PatternRef, Rule, Test

__all__ = ["CheckedRule", "Sets", "check_expression", "check_for_op", "check_rule", "not_enforced", "ops_of", "tests_of"]

Sets = Mapping[str, tuple[str, ...]]


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
        return any(_names(ref.text, op) for ref in self.rule.ops)


def _names(text: str, op: Op) -> bool:
    if text in ("*", op.name):
        return True
    if text.startswith("effect "):
        return text[7:] == op.effect.value
    return text.endswith(".*") and op.name.startswith(text[:-1])


def not_enforced(what: str, at: At) -> Refusal:
    """Return the refusal of a statement, clause or test that is part of the language but not obeyed yet."""
    return Refusal(
        "E002", f"`{what}` is not enforced by this version", at, hint="leave it out: a line that is not obeyed does not load"
    )


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
    for op in ops:
        check_for_op(checked, op)


def check_for_op(checked: CheckedRule, op: Op) -> None:
    """Check patterns, conditions and sinks of a rule for one op.

    Raises:
        Refusal: the rule means nothing for `op`, or allows it with a sink unmentioned.
    """
    rule = checked.rule
    _check_patterns(checked, op)
    for expr in (rule.when, rule.unless):
        if expr is not None:
            check_expression(expr, op, checked.sets)
    if rule.outcome == "allow":
        _check_sinks(checked, op)


def _check_clauses(checked: CheckedRule) -> None:
    rule = checked.rule
    if checked.kind == "restrict" and rule.outcome == "allow":
        hint = "what a restrict file does not mention passes; use ask or deny"
        raise Refusal("E016", "`allow` cannot stand in a `restrict` file", rule.at, hint=hint)
    for word, at in rule.clauses.places:
        if word in ("remember", "else"):
            raise not_enforced("else ask" if word == "else" else word, at)
        if word == "timeout" and rule.outcome != "ask":
            raise Refusal("E016", f"`timeout` has no meaning on {rule.outcome}", at, hint="it says how long an ask waits")
        if word == "any" and rule.outcome == "deny":
            raise Refusal("E016", "`any` has no meaning on deny", at, hint="a deny applies whatever the arguments are")


def _check_any(rule: Rule, ops: list[Op]) -> None:
    known = {"*"} | {name for op in ops for name in op.arg_names}
    for name, at in rule.clauses.any_of:
        if name not in known:
            hint = did_you_mean(name, known, f"arguments: {', '.join(sorted(known - {'*'}))}")
            raise Refusal("E011", f"`any {name}` names no argument of the rule's ops", at, hint=hint)


def _check_patterns(checked: CheckedRule, op: Op) -> None:
    for text in checked.patterns or ():
        errors = [error for kind in {template.kind for template in op.resources} if (error := _pattern_error(kind, text))]
        if len(errors) == len({template.kind for template in op.resources}):
            at = next((ref.at for ref in checked.rule.patterns if ref.text == text), checked.rule.patterns[0].at)
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


def tests_of(expr: Expr) -> Iterator[Test]:
    """Iterate over the tests of an expression, left to right."""
    if isinstance(expr, Not):
        yield from tests_of(expr.item)
    elif isinstance(expr, And | Or):
        for item in expr.items:
            yield from tests_of(item)
    elif isinstance(expr, Test):
        yield expr


def check_expression(expr: Expr, op: Op, sets: Sets) -> None:
    """Check every test of an expression against `op`.

    Raises:
        Refusal: an unknown attribute or set, a wrong type, a malformed operand, or a test that is not enforced yet.
    """
    if isinstance(expr, Not):
        check_expression(expr.item, op, sets)
    elif isinstance(expr, And | Or):
        for item in expr.items:
            check_expression(item, op, sets)
    elif isinstance(expr, Aggregate):
        raise not_enforced(f"{expr.verb}()", expr.at)
    elif expr.verb == "from":
        raise not_enforced("from", expr.at)
    else:
        _check_test(expr, attribute_of(op, expr.attr, expr.at), op, sets)


def _check_test(test: Test, attribute: Attribute, op: Op, sets: Sets) -> None:
    kind = attribute.type
    if test.verb == "absent":
        if test.asked:
            raise Refusal("E012", f"`is absent` asks for the whole of `{test.attr}`", test.at, hint=f"drop `{test.asked}`")
        return
    if kind.kind == "list" and not test.asked:
        hint = f"write `every {test.attr} ...` or `some {test.attr} ...`"
        raise Refusal("E012", f"`{test.attr}` of {op.name} is a list", test.at, hint=hint)
    if test.asked and kind.kind not in ("list", "any"):
        raise Refusal("E012", f"`{test.attr}` of {op.name} is {kind}, not a list", test.at, hint=f"drop `{test.asked}`")
    if kind.kind == "list":
        kind = kind.item or Type("any")
    for value in test.values:
        if isinstance(value, Literal):
            _check_value(test, value, kind, attribute, op)
        elif isinstance(value, PatternRef):
            _check_set(test, value, kind, attribute, op, sets=sets)


def _wrong(test: Test, kind: Type, op: Op, value: str, at: At, hint: str) -> Refusal:
    return Refusal("E012", f"`{test.attr}` of {op.name} is {kind}; `{test.verb} {value}` does not fit", at, hint=hint)


def _check_value(test: Test, value: Literal, kind: Type, attribute: Attribute, op: Op) -> None:
    if test.verb in ("like", "matches", "in_cidr"):
        if kind.kind not in ("text", "any"):
            raise _wrong(test, kind, op, value.text, value.at, "only text can be compared with a pattern")
        _check_operand(test.verb, value, attribute)
        return
    if test.verb in ("<", "<=", ">", ">=") and (value.kind in ("text", "word", "bool") or kind.kind not in ("number", "any")):
        raise _wrong(test, kind, op, value.text, value.at, "only numbers have an order")
    wanted = {"word": "text", "size": "number", "time": "number"}.get(value.kind, value.kind)
    if kind.kind not in (wanted, "any"):
        raise _wrong(test, kind, op, value.text, value.at, f"write a value that is {kind}")
    if kind.choices and value.value not in kind.choices:
        hint = did_you_mean(str(value.value), kind.choices, f"it is one of {', '.join(kind.choices)}")
        raise Refusal("E012", f"`{test.attr}` of {op.name} is never `{value.value}`", value.at, hint=hint)
    _check_unit(test, value, op)


def _check_unit(test: Test, value: Literal, op: Op) -> None:
    is_time = test.attr.endswith("_s") or test.attr.rpartition(".")[2] == "seconds"
    if value.kind == "time" and not is_time:
        hint = "durations are for attributes that end in `_s`; megabytes are written `MB`"
        raise Refusal("E012", f"`{test.attr}` of {op.name} is no duration, `{value.text}` is", value.at, hint=hint)
    if value.kind == "size" and is_time:
        raise Refusal(
            "E012", f"`{test.attr}` of {op.name} is a duration, `{value.text}` is a size", value.at, hint="write `10s`, `5m`"
        )


def _check_operand(verb: str, value: Literal, attribute: Attribute) -> None:
    text = str(value.value)
    try:
        if verb == "like":
            _check_like(text, attribute)
        elif verb == "matches":
            Regex(text)
        else:
            ip_network(text)
    except Invalid as error:
        raise Refusal("E014", error.message, value.at, hint=error.hint) from error
    except ValueError as error:
        what = "regular expression" if verb == "matches" else "address range"
        hint = "see docs/reference/policy-language.md" if verb == "matches" else 'write `"10.0.0.0/8"` or `"fc00::/7"`'
        raise Refusal("E014", f"{what} `{text}`: {error}", value.at, hint=hint) from error


def _check_like(text: str, attribute: Attribute) -> None:
    if attribute.resource_kind in ("path", "url"):
        compile_pattern(attribute.resource_kind, text)
    else:
        text_matcher(text)


def _check_set(test: Test, value: PatternRef, kind: Type, attribute: Attribute, op: Op, *, sets: Sets) -> None:
    if value.text not in sets:
        hint = did_you_mean(value.text, sets, f'define it: let {value.text} = "..."')
        raise Refusal("E015", f"there is no set `${value.text}`", value.at, hint=hint)
    if kind.kind not in ("text", "any"):
        raise _wrong(test, kind, op, f"${value.text}", value.at, "only text can be in a set of patterns")
    for text in sets[value.text]:
        try:
            _check_like(text, attribute)
        except Invalid as error:
            raise Refusal("E014", error.message, value.at, hint=error.hint) from error
