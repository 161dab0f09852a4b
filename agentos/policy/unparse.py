"""The tree -> text again: one spelling per meaning, as `explain`, capabilities and messages show it."""

from __future__ import annotations

from agentos.policy.syntax import Aggregate, And, Expr, From, Literal, Not, Or, PatternRef, Rule, Test

__all__ = ["expr_text", "quoted", "rule_text"]


def quoted(text: str) -> str:
    """Return `text` as a string of the language."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def expr_text(expr: Expr) -> str:
    """Return the text of an expression, with just the parentheses it needs."""
    if isinstance(expr, Not):
        return f"not {_grouped(expr.item, And, Or)}"
    if isinstance(expr, And):
        return " and ".join(_grouped(item, Or, And) for item in expr.items)
    if isinstance(expr, Or):
        return " or ".join(_grouped(item, Or) for item in expr.items)
    if isinstance(expr, Aggregate):
        tail = "" if expr.value is None else f" {expr.compare} {expr.value.text}"
        return f"{expr.verb}({expr.subject}){tail}"
    return _test_text(expr)


def _grouped(expr: Expr, *kinds: type) -> str:
    return f"({expr_text(expr)})" if isinstance(expr, kinds) else expr_text(expr)


def _test_text(test: Test) -> str:
    asked = f"{test.asked} " if test.asked else ""
    head = f"{asked}{test.attr}"
    if test.verb == "absent":
        return f"{head} is absent"
    values = [_value_text(value) for value in test.values]
    if test.verb == "in":
        return f"{head} in {values[0]}" if isinstance(test.values[0], PatternRef) else f"{head} in [{', '.join(values)}]"
    if test.verb == "from":
        return f"{head} from {{ {', '.join(values)} }}"
    return f"{head} {test.verb} {values[0]}"


def _value_text(value: Literal | PatternRef | From) -> str:
    if isinstance(value, PatternRef):
        return f"${value.text}" if value.is_set else quoted(value.text)
    return value.text


def rule_text(rule: Rule) -> str:
    """Return the text of a rule on one line, without its reason."""
    words = [rule.outcome, ", ".join(ref.text for ref in rule.ops)]
    if rule.patterns:
        words.append(", ".join(_value_text(pattern) for pattern in rule.patterns))
    for word, expr in (("when", rule.when), ("unless", rule.unless)):
        if expr is not None:
            words += [word, expr_text(expr)]
    clauses = rule.clauses
    if clauses.any_of:
        words += ["any", ", ".join(name for name, _ in clauses.any_of)]
    if clauses.timeout_s is not None:
        words += ["timeout", f"{clauses.timeout_s:g}s"]
    return " ".join(words)
