"""Conditions: tokens -> expression tree. `not` binds tighter than `and`, `and` tighter than `or`.

INVARIANT bounded-depth: an expression nests at most POLICY_EXPR_DEPTH_MAX deep, so no later stage can run out of stack.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from agentos.abi.limits import POLICY_EXPR_DEPTH_MAX
from agentos.policy.cursor import Cursor
from agentos.policy.lexer import Token
from agentos.policy.problems import Refusal
from agentos.policy.syntax import Aggregate, And, Asked, Expr, From, Literal, Not, Or, PatternRef, Test

__all__ = ["COMPARISONS", "dotted_name", "expression", "items", "literal", "source"]

T = TypeVar("T", Literal, From)
COMPARISONS: Final = ("==", "!=", "<=", ">=", "<", ">")
_VERBS: Final = ("in", "like", "matches", "in_cidr", "from", "is")
_SOURCE_HINT: Final = "a source is prompt, human, result(OP), result(OP).FIELD, object(NAME) or $SET"
_TEST_HINT: Final = 'a test is `ATTR == VALUE`, `ATTR in [..]`, `ATTR like ".."`, `ATTR is absent`...'


def expression(cursor: Cursor, depth: int = 0) -> Expr:
    """Parse an expression.

    Raises:
        Refusal: it is malformed or nested too deep.
    """
    if depth > POLICY_EXPR_DEPTH_MAX:
        raise Refusal(
            "E019", f"an expression nests deeper than {POLICY_EXPR_DEPTH_MAX}", cursor.token.at, hint="split the rule"
        )
    items = [_conjunction(cursor, depth)]
    while cursor.accept_word("or"):
        items.append(_conjunction(cursor, depth))
    return items[0] if len(items) == 1 else Or(tuple(items))


def _conjunction(cursor: Cursor, depth: int) -> Expr:
    items = [_negation(cursor, depth)]
    while cursor.accept_word("and"):
        items.append(_negation(cursor, depth))
    return items[0] if len(items) == 1 else And(tuple(items))


def _negation(cursor: Cursor, depth: int) -> Expr:
    """Parse a negation; two of them are none, in three values too, so a tree never holds one within another."""
    negated = False
    while cursor.accept_word("not"):
        negated = not negated
    item = _primary(cursor, depth)
    if not negated:
        return item
    return item.item if isinstance(item, Not) else Not(item)


def _primary(cursor: Cursor, depth: int) -> Expr:
    if cursor.accept("("):
        inner = expression(cursor, depth + 1)
        cursor.need(")", "to close the group")
        return inner
    following = cursor.ahead()
    if cursor.at_word("count", "sum", "after") and following.text == "(":
        return _aggregate(cursor)
    if cursor.at_word("every", "some") and following.kind == "name" and following.text not in _VERBS:
        asked: Asked = "every" if cursor.take().text == "every" else "some"
        return _test(cursor, asked)
    return _test(cursor, "")


def _aggregate(cursor: Cursor) -> Aggregate:
    word = cursor.take()
    cursor.need("(", f"after `{word.text}`")
    subject = dotted_name(cursor, "an op")
    cursor.need(")", "to close it")
    if word.text == "after":
        return Aggregate("after", subject, "", None, word.at)
    compare = _compare(cursor)
    return Aggregate("count" if word.text == "count" else "sum", subject, compare, literal(cursor), word.at)


def dotted_name(cursor: Cursor, what: str) -> str:
    """Parse ``NAME {"." NAME}`` and return it as written."""
    parts = [cursor.need_kind("name", what).text]
    while cursor.token.text == "." and cursor.ahead().kind == "name":
        cursor.take()
        parts.append(cursor.take().text)
    return ".".join(parts)


def _compare(cursor: Cursor) -> str:
    token = cursor.token
    if token.kind == "symbol" and token.text in COMPARISONS:
        return cursor.take().text
    if token.text == "=":
        raise Refusal("E001", "`=` is not a comparison", token.at, hint="write `==`")
    return cursor.fail(f"one of {' '.join(COMPARISONS)}", hint=_TEST_HINT)


def _test(cursor: Cursor, asked: Asked) -> Test:
    at = cursor.token.at
    if cursor.token.kind != "name":
        cursor.fail("an attribute to test", hint=_TEST_HINT)
    attr = dotted_name(cursor, "an attribute")
    verb = cursor.accept_word(*_VERBS)
    if verb is None:
        following = cursor.ahead(0)
        if following.kind != "symbol":
            hint = f"a flag is tested as `{attr} == true`"
            cursor.fail(f"a test after `{attr}`", known=_VERBS if following.kind == "name" else (), hint=hint)
        return Test(attr, _compare(cursor), (literal(cursor),), asked, at)
    if verb.text == "is":
        cursor.need_word(("absent",), "`absent` after `is`")
        return Test(attr, "absent", (), asked, at)
    return Test(attr, verb.text, _operand(cursor, verb), asked, at)


def _operand(cursor: Cursor, verb: Token) -> tuple[Literal | PatternRef | From, ...]:
    if verb.text == "in":
        if cursor.token.kind == "set":
            token = cursor.take()
            return (PatternRef(token.value, token.at, is_set=True),)
        cursor.need("[", "or `$SET` after `in`")
        return items(cursor, "]", literal)
    if verb.text == "from":
        cursor.need("{", "after `from`", hint="write `from { prompt, human }`")
        return items(cursor, "}", source)
    if verb.text == "matches":
        token = cursor.need_kind("regex", "a regular expression as `/.../` after `matches`")
    else:
        token = cursor.need_kind("string", f"a string after `{verb.text}`")
    return (Literal("text", token.value, token.text, token.at),)


def items(cursor: Cursor, close: str, item: Callable[[Cursor], T]) -> tuple[T, ...]:
    """Parse items up to `close`, parted by ``,``; at least one."""
    found = [item(cursor)]
    while cursor.accept(","):
        found.append(item(cursor))
    cursor.need(
        close,
        "to close the list",
        hint='what has a dot stands in `"`' if cursor.token.text == "." else "items are parted by `,`",
    )
    return tuple(found)


def literal(cursor: Cursor) -> Literal:
    """Parse one value: a string, a bare word, a number, size or duration, true or false."""
    token = cursor.token
    if token.kind == "string":
        return Literal("text", cursor.take().value, token.text, token.at)
    if token.kind == "number" or token.kind == "size" or token.kind == "time":  # noqa: PLR1714 - the type checker follows this form
        cursor.take()
        return Literal(token.kind, token.value, token.text, token.at)
    if cursor.accept_word("true", "false"):
        return Literal("bool", token.text == "true", token.text, token.at)
    if token.kind == "name" and token.text in ("null", "none", "None"):
        raise Refusal("E001", f"`{token.text}` is not a value", token.at, hint="write `ATTR is absent`")
    if token.kind == "name":
        return Literal("word", cursor.take().text, token.text, token.at)
    return cursor.fail("a value", hint='values are "text", WORD, 10, 64KB, 10m, true, false')


def source(cursor: Cursor) -> From:
    """Parse a source of data: prompt, human, ``$SET``, ``result(op).field``, ``object(namespace)``."""
    token = cursor.token
    if token.kind == "set":
        return From(cursor.take().text, token.at, "set", str(token.value))
    word = cursor.need_word(("prompt", "human", "result", "object"), "a source", hint=_SOURCE_HINT)
    if word.text == "prompt":
        return From("prompt", token.at, "prompt")
    if word.text == "human":
        return From("human", token.at, "human")
    cursor.need("(", f"after `{word.text}`")
    inside = str(cursor.take().value) if cursor.token.kind == "string" else dotted_name(cursor, "a name")
    cursor.need(")", "to close it")
    if word.text == "object":
        return From(f"object({inside})", token.at, "object", inside)
    field = ""
    if cursor.accept("."):
        field = "*" if cursor.accept("*") else dotted_name(cursor, "a field")
    return From(f"result({inside})" + (f".{field}" if field else ""), token.at, "result", inside, field)
