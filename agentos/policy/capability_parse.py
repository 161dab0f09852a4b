"""The text of a capability -> what it covers.

    fs.read, fs.list /docs/**
    fs.write /src/** when size <= 64KB uses 20 for 30m depth 1
    exec.run "pytest **"
    bank.transfer acct/7 when amount <= 100 and every to in ["DE1", "DE2"]

`when` takes the tests of policies on arguments and what follows from them. A capability is decided by itself, so it has no test on labels
or sources, on history, on the calling process or on what only a device finds out: those refuse to parse.

Ops are resolved when the text is parsed: a capability for ``fs.*`` covers the ops that exist then, and its canonical text names
them, so that it covers nothing more after a reopen.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from agentos.abi.op import Op, OpTable
from agentos.errors import Invalid
from agentos.policy.attributes import attribute_of
from agentos.policy.capability import CLAUSE, CapSpec, compiled, joined, named
from agentos.policy.check import check_expression, ops_of
from agentos.policy.cursor import Cursor
from agentos.policy.lexer import Token, tokenize
from agentos.policy.origin import leaves_of
from agentos.policy.parse import op_refs
from agentos.policy.parse_expr import expression
from agentos.policy.pattern import compile_pattern
from agentos.policy.problems import At, Refusal, did_you_mean
from agentos.policy.syntax import Aggregate, Expr, Test

__all__ = ["parse_capability", "parse_once"]

_TEXT_CHARS_MAX: Final = 65_536
_OP: Final = r"(?:\*|effect\s+\w+|[A-Za-z_]\w*(?:\.\w+)*(?:\.\*)?)"
_LATER_OP: Final = r"(?:\*|effect\s+\w+|[A-Za-z_]\w*(?:\.\w+)+(?:\.\*)?|[A-Za-z_]\w*\.\*)"
_OPS = re.compile(rf"\s*({_OP}(?:\s*,\s*{_LATER_OP})*)(?=\s|$)")
_SHAPE: Final = "write `OPS PATTERNS when EXPR uses N for DURATION depth N`"


def parse_capability(text: str, table: OpTable) -> CapSpec:
    """Parse the text of a capability; its ops are resolved against `table` now.

    Patterns may stand without quotes; ``,`` parts several. A command pattern runs to the end or to the first clause.

    Raises:
        Invalid: `invalid.argument` with `field` "capability", naming what is wrong and the nearest known name; where it is at one place,
            `col` (from 1) and `source_line` point at it.
    """
    try:
        return _parse(text, table, len(table))
    except Refusal as refusal:
        raise _misplaced(text, refusal) from refusal


def parse_once(text: str, table: OpTable) -> CapSpec:
    """Parse the text of a capability that will not be asked for again: nothing is remembered.

    Raises:
        Invalid: as `parse_capability`.
    """
    try:
        return _parse.__wrapped__(text, table, len(table))
    except Refusal as refusal:
        raise _misplaced(text, refusal) from refusal


def _invalid(text: str, message: str, hint: str) -> Invalid:
    return Invalid("argument", f"capability `{text[:200]}`: {message}", hint=hint or _SHAPE, field="capability")


def _misplaced(text: str, refusal: Refusal) -> Invalid:
    """Return the error of a text that is wrong at one place."""
    lines = text.splitlines() or [""]
    line = lines[min(refusal.at.line, len(lines)) - 1]
    where = f"column {refusal.at.col}" if len(lines) == 1 else f"line {refusal.at.line}, column {refusal.at.col}"
    start = max(0, refusal.at.col - 60)
    return Invalid(
        "argument", f"capability `{text[:200]}`: {refusal.message} ({where})", hint=refusal.hint or _SHAPE, field="capability",
        line=refusal.at.line, col=refusal.at.col, source_line=line[:400],
        caret=f"{line[start : start + 100]}\n{' ' * (refusal.at.col - 1 - start)}^",
    )  # fmt: skip


@lru_cache(maxsize=1_024)
def _parse(text: str, table: OpTable, ops_known: int) -> CapSpec:
    """Parse; remembered for as long as the table has not grown, which `ops_known` stands for."""
    if len(text) > _TEXT_CHARS_MAX:
        raise _invalid(text, f"it is longer than {_TEXT_CHARS_MAX} characters", "make several")
    match = _OPS.match(text)
    if match is None:
        raise _invalid(text, "it starts with no op", _SHAPE)
    refs = op_refs(Cursor(_tokens(text, match.start(1), match.end(1))))
    ops = {op.name: op for ref in refs for op in ops_of(ref.text, table, ref.at)}
    is_command = all(template.kind == "argv" for op in ops.values() for template in op.resources)
    patterns, tail = _patterns(text, text[match.end() :], is_command=is_command)
    test, uses, ttl_s, depth = _clauses(text, Cursor(_tokens(text, len(text) - len(tail), len(text))))
    for op in ops.values():
        _check(text, op, patterns, test)
    tests = () if test is None else joined((test,))
    return named(CapSpec("", frozenset(ops), patterns, uses, ttl_s, depth, table, tests))


def _tokens(text: str, start: int, end: int) -> list[Token]:
    """Return the tokens of a part of the text, placed as they are in the whole."""
    before = text[:start]
    lines, lead = before.count("\n"), start - (before.rfind("\n") + 1)
    return [
        replace(
            token,
            at=At(token.at.line + lines, token.at.col + (lead if token.at.line == 1 else 0)),
            value=_moved(token, lines, lead),
        )
        for token in tokenize(text[start:end])
    ]


def _moved(token: Token, lines: int, lead: int) -> Any:
    """Return a token's value; the refusal of what is none is placed with it."""
    value = token.value
    if isinstance(value, Refusal):
        at = At(value.at.line + lines, value.at.col + (lead if value.at.line == 1 else 0))
        return Refusal(value.code, value.message, at, hint=value.hint)
    return value


def _patterns(whole: str, rest: str, *, is_command: bool) -> tuple[tuple[str, ...], str]:
    """Split what follows the ops into patterns and clauses. A quoted pattern ends at its quote."""
    found: list[str] = []
    rest = rest.lstrip()
    while rest:
        if rest.startswith('"'):
            end = _closing_quote(whole, rest)
            found.append(str(Cursor(tokenize(rest[:end])).need_kind("string", "a pattern").value))
            rest = rest[end:].lstrip()
        else:
            tail = CLAUSE.search(rest)
            comma = rest.find(",")
            end = min(tail.start() if tail else len(rest), comma if comma >= 0 else len(rest))
            if end > 0:
                found.append(_unquoted(whole, rest[:end].strip(), is_command=is_command))
            rest = rest[end:].lstrip()
        if not rest.startswith(","):
            break
        rest = rest[1:].lstrip()
        if not rest:
            raise _invalid(whole, "a pattern is missing after `,`", _SHAPE)
    if any(not pattern for pattern in found):
        raise _invalid(whole, "a pattern is empty", _SHAPE)
    return tuple(dict.fromkeys(found)), rest


def _unquoted(whole: str, pattern: str, *, is_command: bool) -> str:
    word, space, rest = pattern.partition(" ")
    if space and not is_command:
        hint = did_you_mean(rest.split()[0], ("when", "uses", "for", "depth"), 'put a pattern with spaces in `"`')
        raise _invalid(whole, f"`{rest.strip()}` after the pattern `{word}` means nothing", hint)
    return pattern


def _closing_quote(whole: str, rest: str) -> int:
    match = re.match(r'"(?:[^"\\]|\\.)*"', rest)
    if match is None:
        raise _invalid(whole, "a quote is not closed", 'close it with `"`')
    return match.end()


def _clauses(whole: str, cursor: Cursor) -> tuple[Expr | None, int | None, float | None, int | None]:
    test = expression(cursor) if cursor.accept_word("when") else None
    found: dict[str, float] = {}
    while word := cursor.accept_word("uses", "for", "depth"):
        if word.text in found:
            raise _invalid(whole, f"`{word.text}` is given twice", _SHAPE)
        kind = "time" if word.text == "for" else "number"
        value = cursor.need_kind(kind, "a duration such as `30m`" if kind == "time" else "a whole number").value
        if value < (0 if word.text == "depth" else 1e-3) or (kind == "number" and not isinstance(value, int)):
            raise _invalid(whole, f"`{word.text} {value}` is out of range", "uses from 1, depth from 0, durations above 0")
        found[word.text] = value
    if cursor.token.kind != "end":
        cursor.fail("when, uses, for or depth", known=("when", "uses", "for", "depth"), hint=_SHAPE)
    uses, depth = found.get("uses"), found.get("depth")
    return test, None if uses is None else int(uses), found.get("for"), None if depth is None else int(depth)


def _check(text: str, op: Op, patterns: tuple[str, ...], test: Expr | None) -> None:
    kinds = sorted({template.kind for template in op.resources})
    for pattern in patterns:
        if not any(compiled((pattern,), kind) for kind in kinds):
            try:
                compile_pattern(kinds[0], pattern)
            except Invalid as error:
                raise _invalid(text, f"{error.message} (for {op.name})", error.hint) from error
    if test is None:
        return
    check_expression(test, op, {})
    for leaf in leaves_of(test):
        _check_leaf(leaf, op)


def _check_leaf(leaf: Test | Aggregate, op: Op) -> None:
    """Refuse a test that cannot be decided for one call by itself."""
    hint = "test arguments here, the rest in a policy"
    if isinstance(leaf, Aggregate):
        raise Refusal("E012", f"a capability cannot test history with `{leaf.verb}(...)`", leaf.at, hint="count with `uses N`")
    if leaf.verb == "from":
        raise Refusal("E012", f"a capability cannot test where `{leaf.attr}` is from", leaf.at, hint=hint)
    if attribute_of(op, leaf.attr, leaf.at).of not in ("argument", "derived"):
        raise Refusal("E012", f"a capability cannot test `{leaf.attr}`", leaf.at, hint=hint)
