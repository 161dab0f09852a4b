"""The tree -> text again: one spelling per meaning, as `explain`, capabilities and messages show it."""

from __future__ import annotations

import re

from agentos.policy.syntax import (
    Aggregate,
    And,
    Expr,
    From,
    Label,
    Limit,
    Literal,
    Not,
    OpRef,
    Or,
    PatternRef,
    Require,
    Rule,
    Test,
)

__all__ = ["expr_text", "label_text", "limit_text", "quoted", "require_text", "rule_text"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


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
    return _source_text(value) if isinstance(value, From) else value.text


def _source_text(source: From) -> str:
    if source.kind != "object" or _NAME.fullmatch(source.name):
        return source.text
    return f"object({quoted(source.name)})"


def _scope(ops: tuple[OpRef, ...], patterns: tuple[PatternRef, ...], when: Expr | None) -> list[str]:
    words = [", ".join(ref.text for ref in ops)]
    words += [", ".join(_value_text(pattern) for pattern in patterns)] if patterns else []
    return words if when is None else [*words, "when", expr_text(when)]


def limit_text(limit: Limit) -> str:
    """Return the text of a limit on one line."""
    words = ["limit", *_scope(limit.ops, limit.patterns, limit.when), limit.amount.text]
    words += ["of", limit.of] if limit.of else []
    words += ["per", limit.per]
    return " ".join([*words, "by", limit.by] if limit.by else words)


def require_text(require: Require) -> str:
    """Return the text of a require on one line."""
    return " ".join(["require", ", ".join(require.obligations), "for", *_scope(require.ops, require.patterns, require.when)])


def label_text(label: Label) -> str:
    """Return the text of a label statement on one line."""
    return f"label {_source_text(label.source)} {', '.join(label.labels)}"


def rule_text(rule: Rule) -> str:
    """Return the text of a rule on one line, without its reason."""
    words = [rule.outcome, *_scope(rule.ops, rule.patterns, rule.when)]
    words += ["unless", expr_text(rule.unless)] if rule.unless is not None else []
    clauses = rule.clauses
    if clauses.any_of:
        words += ["any", ", ".join(name for name, _ in clauses.any_of)]
    words += ["else ask", quoted(clauses.else_ask)] if clauses.else_ask else []
    words += ["timeout", f"{clauses.timeout_s:g}s"] if clauses.timeout_s is not None else []
    words += ["remember", clauses.remember] if clauses.remember else []
    return " ".join(words)
