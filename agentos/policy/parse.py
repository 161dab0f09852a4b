"""A policy file: text -> tree, by recursive descent, with every mistake reported at its place.

Protocol: `parse_file(text)` returns the tree of all statements that could be read and the refusals of those that could not;
after a mistake it goes on at the next statement that starts a line. It checks nothing but form.
Written by hand rather than with a parser generator, for its messages: see docs/decisions/0002-policy-parser.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

from agentos.abi.limits import POLICY_BYTES_MAX, POLICY_RULES_MAX
from agentos.policy.cursor import Cursor
from agentos.policy.lexer import Token, tokenize
from agentos.policy.parse_expr import COMPARISONS, dotted_name, expression, items, literal, source
from agentos.policy.problems import At, Refusal, did_you_mean
from agentos.policy.syntax import (
    Clauses,
    Expect,
    Expr,
    File,
    Label,
    Let,
    Limit,
    Literal,
    OpRef,
    Outcome,
    PatternRef,
    Require,
    Rule,
    Statement,
    Use,
)

__all__ = ["EFFECTS", "op_refs", "parse_file"]

EFFECTS: Final = ("pure", "local", "repeatable", "keyed", "probeable", "once")
_LABELS: Final = ("public", "internal", "secret", "trusted", "untrusted")
_OBLIGATIONS: Final = ("log", "redact", "label", "sandbox", "preview")
_REMEMBER: Final = ("once", "process", "tree", "image")
_UNIT: Final = re.compile(r"[KMG]?B|ms|[smhdw]", re.IGNORECASE)
_ORDER_HINT: Final = "a rule is: OUTCOME OPS PATTERNS when ... unless ... CLAUSES"


def parse_file(text: str) -> tuple[File | None, list[Refusal]]:
    """Parse a whole file: its tree (None when not even the header can be read) and what is wrong with its form."""
    if len(text.encode(errors="surrogatepass")) > POLICY_BYTES_MAX:
        return None, [
            Refusal("E019", f"the file is longer than {POLICY_BYTES_MAX} bytes", At(1, 1), hint="split it with `use`")
        ]
    try:
        cursor = Cursor(tokenize(text))
        kind, name, version = _header(cursor)
    except Refusal as refusal:
        return None, [refusal]
    statements: list[Statement] = []
    refusals: list[Refusal] = []
    while cursor.token.kind != "end":
        try:
            statements.append(_statement(cursor))
        except Refusal as refusal:
            refusals.append(refusal)
            cursor.skip_to_line_of(_STARTS)
    if len(statements) > POLICY_RULES_MAX:
        refusals.append(Refusal("E019", f"the file has more than {POLICY_RULES_MAX} statements", At(1, 1), hint="split it"))
    return File("policy" if kind == "policy" else "restrict", name, version, tuple(statements)), refusals


def _header(cursor: Cursor) -> tuple[str, str, int]:
    hint = 'start the file with `policy "NAME" version 1` or `restrict "NAME" version 1`'
    if not cursor.at_word("policy", "restrict"):
        cursor.fail("`policy` or `restrict`", hint=did_you_mean(cursor.token.text, ("policy", "restrict"), hint))
    kind = cursor.take().text
    name = cursor.need_kind("string", f'a name in `"` after `{kind}`')
    if not name.value:
        raise Refusal("E001", f"the {kind} has an empty name", name.at, hint=hint)
    version = cursor.need_kind("number", "a whole number").value if cursor.accept_word("version") else 1
    return kind, name.value, _whole(version, cursor)


def _whole(value: int | float, cursor: Cursor) -> int:
    if not isinstance(value, int) or value < 0:
        cursor.fail("a whole number before it")
    return value


def _statement(cursor: Cursor) -> Statement:
    token = cursor.token
    make = _STATEMENTS.get(token.text) if token.kind == "name" else None
    if make is None:
        cursor.fail("a statement", known=_STATEMENTS if token.kind == "name" else (), hint=_statement_hint(cursor))
    cursor.take()
    return make(cursor, token)


def _statement_hint(cursor: Cursor) -> str:
    """Say what was probably meant by something that starts no statement."""
    token, before, after = cursor.token, cursor.ahead(-1), cursor.ahead()
    if token.text in ("when", "unless", *_CLAUSES):
        return _ORDER_HINT
    if before.kind == "number" and _UNIT.fullmatch(token.text):
        return f"write `{before.text}{token.text}`, without a blank"
    if token.kind == "name" and after.text == "=":
        return f"write `let {token.text} = ...`"
    if token.kind == "name" and not token.first and after.text in (*COMPARISONS, ".", "in", "like", "matches", "from", "is"):
        return "a condition starts with `when`"
    return f"a statement starts with one of {', '.join(_STATEMENTS)}"


def op_refs(cursor: Cursor) -> tuple[OpRef, ...]:
    """Parse ``fs.read, fs.*, *, effect once``."""
    refs = [_op_ref(cursor)]
    while cursor.accept(","):
        refs.append(_op_ref(cursor))
    return tuple(refs)


def _op_ref(cursor: Cursor) -> OpRef:
    token = cursor.token
    if cursor.accept("*"):
        return OpRef("*", token.at)
    if token.kind == "name" and token.text == "effect" and cursor.ahead().kind == "name":
        cursor.take()
        return OpRef(f"effect {cursor.need_word(EFFECTS, 'an effect class').text}", token.at)
    if token.kind != "name":
        cursor.fail("an op such as `fs.read`", hint="ops come before patterns; `*` names every op")
    name = dotted_name(cursor, "an op")
    if cursor.token.text == "." and cursor.ahead().text == "*":
        cursor.take()
        cursor.take()
        name += ".*"
    return OpRef(name, token.at)


def _patterns(cursor: Cursor) -> tuple[PatternRef, ...]:
    return _pattern_list(cursor) if cursor.token.kind in ("string", "set") else ()


def _pattern_list(cursor: Cursor) -> tuple[PatternRef, ...]:
    refs = [_pattern(cursor)]
    while cursor.accept(","):
        refs.append(_pattern(cursor))
    return tuple(refs)


def _pattern(cursor: Cursor) -> PatternRef:
    token = cursor.token
    if token.kind not in ("string", "set"):
        cursor.fail('a pattern in `"` or a `$SET`', hint='patterns are written in `"`; ops come before them')
    return PatternRef(cursor.take().value, token.at, is_set=token.kind == "set")


def _when(cursor: Cursor, word: str) -> Expr | None:
    return expression(cursor) if cursor.accept_word(word) else None


def _rule(cursor: Cursor, first: Token) -> Rule:
    outcome: Outcome = "allow" if first.text == "allow" else "ask" if first.text == "ask" else "deny"
    ops, patterns = op_refs(cursor), _patterns(cursor)
    when, unless = _when(cursor, "when"), _when(cursor, "unless")
    return Rule(outcome, ops, patterns, when, unless, _clauses(cursor), first.at)


def _clauses(cursor: Cursor) -> Clauses:
    found: dict[str, Any] = {}
    places: list[tuple[str, At]] = []
    while word := cursor.accept_word(*_CLAUSES):
        field, read = _CLAUSES[word.text]
        if field in found:
            raise Refusal("E001", f"`{word.text}` is given twice", word.at, hint="one of each in a rule")
        found[field] = read(cursor)
        places.append((word.text, word.at))
    return Clauses(**found, places=tuple(places))


def _because(cursor: Cursor) -> str:
    return str(cursor.need_kind("string", 'a reason in `"`', hint='text for people stands in `"`').value)


def _duration(cursor: Cursor) -> float:
    number = cursor.token.text if cursor.token.kind == "number" else "10"
    token = cursor.need_kind(
        "time", "a duration such as `10m`", hint=f"a duration has a unit: `{number}s`, `{number}m`, `{number}h`"
    )
    if token.value <= 0:
        raise Refusal("E001", f"`{token.text}` is not a positive duration", token.at)
    return float(token.value)


def _remember(cursor: Cursor) -> str:
    if cursor.token.kind == "time":
        text = cursor.token.text
        _duration(cursor)
        return text
    return cursor.need_word(_REMEMBER, "once, process, tree, image or a duration").text


def _else_ask(cursor: Cursor) -> str:
    cursor.need_word(("ask",), "`ask` after `else`")
    return _because(cursor)


def _any_of(cursor: Cursor) -> tuple[tuple[str, At], ...]:
    names: list[tuple[str, At]] = []
    while True:
        at = cursor.token.at
        names.append(("*", at) if cursor.accept("*") else (dotted_name(cursor, "an argument after `any`"), at))
        if not cursor.accept(","):
            return tuple(names)


def _as_name(cursor: Cursor) -> str:
    return cursor.need_kind("name", "a name after `as`").text


_CLAUSES: Final[dict[str, tuple[str, Callable[[Cursor], object]]]] = {
    "because": ("because", _because),
    "timeout": ("timeout_s", _duration),
    "remember": ("remember", _remember),
    "else": ("else_ask", _else_ask),
    "any": ("any_of", _any_of),
    "as": ("as_name", _as_name),
}


def _let(cursor: Cursor, first: Token) -> Let:
    name = cursor.need_kind("name", "a name after `let`")
    cursor.need("=", f"after `let {name.text}`")
    return Let(name.text, _pattern_list(cursor), name.at)


def _use(cursor: Cursor, first: Token) -> Use:
    token = cursor.need_kind("string", 'a file in `"` after `use`')
    return Use(str(token.value), token.at)


def _limit(cursor: Cursor, first: Token) -> Limit:
    ops, patterns, when = op_refs(cursor), _patterns(cursor), _when(cursor, "when")
    amount = literal(cursor)
    if amount.kind not in ("number", "size", "time"):
        raise Refusal("E001", f"`{amount.text}` is not an amount", amount.at, hint="an amount is 60, 200MB...")
    of = dotted_name(cursor, "an attribute after `of`") if cursor.accept_word("of") else ""
    cursor.need_word(("per",), "`per`")
    per = cursor.token.text
    if cursor.token.kind == "time":
        _duration(cursor)
    else:
        cursor.need_word(("process", "tree"), "a duration, process or tree", hint="a duration has a number: `per 1h`, `per 1d`")
    by = dotted_name(cursor, "an attribute after `by`") if cursor.accept_word("by") else ""
    return Limit(ops, patterns, when, amount, of, per, by, first.at)


def _require(cursor: Cursor, first: Token) -> Require:
    words = [cursor.need_word(_OBLIGATIONS, "an obligation").text]
    while cursor.accept(","):
        words.append(cursor.need_word(_OBLIGATIONS, "an obligation").text)
    cursor.need_word(("for",), "`for` after the obligations", hint=f"write `require {', '.join(words)} for fs.write`")
    return Require(tuple(words), op_refs(cursor), _patterns(cursor), _when(cursor, "when"), first.at)


def _label(cursor: Cursor, first: Token) -> Label:
    origin = source(cursor)
    words = [cursor.need_word(_LABELS, "a label").text]
    while cursor.accept(","):
        words.append(cursor.need_word(_LABELS, "a label").text)
    return Label(origin, tuple(words), first.at)


def _expect(cursor: Cursor, first: Token) -> Expect:
    word = cursor.need_word(("allow", "ask", "deny"), "allow, ask or deny after `expect`").text
    outcome: Outcome = "allow" if word == "allow" else "ask" if word == "ask" else "deny"
    op = _op_ref(cursor)
    resource = str(cursor.take().value) if cursor.token.kind == "string" else None
    values: list[tuple[str, Literal | tuple[Literal, ...]]] = []
    while cursor.token.kind == "name" and _is_assignment(cursor):
        name = dotted_name(cursor, "an argument")
        cursor.need("=", f"after `{name}`")
        values.append((name, _list_or_literal(cursor)))
    return Expect(outcome, op, resource, tuple(values), first.at)


def _list_or_literal(cursor: Cursor) -> Literal | tuple[Literal, ...]:
    if not cursor.accept("["):
        return literal(cursor)
    return () if cursor.accept("]") else items(cursor, "]", literal)


def _is_assignment(cursor: Cursor) -> bool:
    step = 1
    while cursor.ahead(step).text == "." and cursor.ahead(step + 1).kind == "name":
        step += 2
    return cursor.ahead(step).text == "="


_STATEMENTS: Final[dict[str, Callable[[Cursor, Token], Statement]]] = {
    "allow": _rule, "ask": _rule, "deny": _rule, "let": _let, "use": _use,
    "limit": _limit, "require": _require, "label": _label, "expect": _expect,
}  # fmt: skip
_STARTS: Final = frozenset(_STATEMENTS)
