"""How `policy fmt` writes statements: columns for those of a group, and lines for one that is too long for a single line.

A condition is broken before ``or``, then before ``and``; within brackets only where what they hold does not fit into a line of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from agentos.policy.lexer import Token

__all__ = ["WIDTH", "Piece", "group_lines"]

WIDTH: Final = 120
INDENT: Final = " " * 6
OUTCOME_WIDTH: Final = len("allow")
OPS_WIDTH_MAX: Final = 24
PATTERNS_WIDTH_MAX: Final = 40
"""A wider cell overflows its column instead of widening it."""

_RULES: Final = frozenset({"allow", "ask", "deny"})
_PARTS: Final = frozenset({"when", "unless", "because", "timeout", "remember", "else", "any", "as", "per"})
"""Words that may start a line of a statement that is too long for one."""
_BEFORE_A_NAME: Final = frozenset(
    {"when", "unless", "and", "or", "not", "every", "some", "any", "as", "of", "by", ".", ",", "("}
)
_COMPARISONS: Final = frozenset({"==", "!=", "<=", ">=", "<", ">", "=", ".", "is", "in", "like", "matches", "in_cidr", "from"})
_CALLS: Final = frozenset({"count", "sum", "after", "result", "object"})


@dataclass(slots=True)
class Piece:
    """One statement with what stands around it. `above` are its own comment lines, ``""`` for a blank line."""

    tokens: list[Token] = field(default_factory=list)
    above: list[str] = field(default_factory=list)
    inside: list[tuple[int, str]] = field(default_factory=list)
    behind: str = ""

    @property
    def is_let(self) -> bool:
        """True for the one statement with blanks around ``=``."""
        return self.tokens[0].text == "let"


def group_lines(group: list[Piece]) -> list[str]:
    """Return the lines of statements with nothing between them, in columns."""
    cells = [_cells(piece) if _is_row(piece) else None for piece in group]
    widths = _widths([cell for cell in cells if cell is not None])
    lines: list[str] = []
    for piece, cell in zip(group, cells, strict=True):
        lines += piece.above
        made = _broken(piece) if cell is None else _laid_out(piece, cell, widths)
        made[-1] += f"  {piece.behind}" if piece.behind else ""
        lines += made
    return lines


def _is_row(piece: Piece) -> bool:
    """Say whether a statement stands in the columns of its group: what fits in one line, and every expectation."""
    return not piece.inside and (_is_expect(piece) or len(_spaced(piece.tokens, is_let=piece.is_let)) <= WIDTH)


def _laid_out(piece: Piece, cell: tuple[str, ...], widths: dict[str, tuple[int, int]]) -> list[str]:
    """Return the lines of a statement in columns: one, unless that is too long by them."""
    row = _row(cell, widths)
    if len(row) <= WIDTH:
        return [row]
    if not _is_expect(piece):
        return _broken(piece)
    first, *others = _settings(piece) or [""]
    lines = [_row((*cell[:3], first), widths)]
    for word in others:
        if len(lines[-1]) + 1 + len(word) > WIDTH:
            lines.append(INDENT + word)
        else:
            lines[-1] += f" {word}"
    return lines


def _is_expect(piece: Piece) -> bool:
    return piece.tokens[0].text == "expect"


def _cells(piece: Piece) -> tuple[str, ...]:
    """Return the columns of a one-line statement: what decides, ops, patterns, the rest. Other statements are one cell."""
    tokens = piece.tokens
    word = tokens[0].text
    if word in _RULES:
        rest = tokens[1:]
        start = word.ljust(OUTCOME_WIDTH)
    elif word == "expect":
        rest = tokens[2:]
        start = f"expect {tokens[1].text.ljust(OUTCOME_WIDTH)}"
    else:
        return (_spaced(tokens, is_let=piece.is_let),)
    ops = _end_of_ops(rest)
    patterns = _end_of_patterns(rest, ops)
    return start, _spaced(rest[:ops]), _spaced(rest[ops:patterns]), _spaced(rest[patterns:])


def _widths(rows: list[tuple[str, ...]]) -> dict[str, tuple[int, int]]:
    """Return the widths of the ops and patterns columns, for rules and for expectations."""
    found: dict[str, tuple[int, int]] = {}
    for shape in ("rule", "expect"):
        mine = [row for row in rows if len(row) == 4 and row[0].startswith("expect") == (shape == "expect")]
        ops = [len(row[1]) for row in mine if (row[2] or row[3]) and len(row[1]) <= OPS_WIDTH_MAX]
        patterns = [len(row[2]) for row in mine if row[2] and row[3] and len(row[2]) <= PATTERNS_WIDTH_MAX]
        found[shape] = max(ops, default=0), max(patterns, default=0)
    return found


def _row(cells: tuple[str, ...], widths: dict[str, tuple[int, int]]) -> str:
    if len(cells) == 1:
        return cells[0]
    start, ops, patterns, rest = cells
    ops_width, patterns_width = widths["expect" if start.startswith("expect") else "rule"]
    parts = [start, ops.ljust(ops_width)]
    if patterns:
        parts.append(patterns.ljust(patterns_width))
    return " ".join([*parts, rest]).rstrip()


def _broken(piece: Piece) -> list[str]:
    """Return the lines of a statement that does not fit into one, or that holds comments."""
    if piece.inside:
        return _author_lines(piece)
    lines: list[str] = []
    for part in _parts(piece.tokens):
        lines += _wrapped(part, INDENT if lines else "", is_let=piece.is_let)
    word = piece.tokens[0].text
    if word in _RULES:
        lines[0] = word.ljust(OUTCOME_WIDTH) + lines[0][len(word) :]
    return lines


def _author_lines(piece: Piece) -> list[str]:
    """Keep the author's lines, for the comments that stand behind them."""
    by_line: dict[int, tuple[list[Token], str]] = {}
    for token in piece.tokens:
        by_line.setdefault(token.at.line, ([], ""))[0].append(token)
    for line, comment in piece.inside:
        by_line[line] = (by_line.get(line, ([], ""))[0], comment)
    found: list[str] = []
    for number, line in enumerate(sorted(by_line)):
        tokens, comment = by_line[line]
        found.append(
            (INDENT if number else "") + "  ".join(part for part in (_spaced(tokens, is_let=piece.is_let), comment) if part)
        )
    return found


def _parts(tokens: list[Token]) -> list[list[Token]]:
    """Split a statement before each condition and clause."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for number, token in enumerate(tokens):
        depth += _opening(token)
        before = tokens[number - 1].text if number else ""
        after = tokens[number + 1].text if number + 1 < len(tokens) else ""
        is_word = token.kind == "name" and token.text in _PARTS and before not in _BEFORE_A_NAME and after not in _COMPARISONS
        if number and not depth and is_word:
            parts.append([])
        parts[-1].append(token)
    return parts


def _wrapped(tokens: list[Token], indent: str, *, is_let: bool) -> list[str]:
    """Fill lines of WIDTH columns with what should stay together."""
    lines = [indent]
    for level, chunk in _chunks(tokens, 0, is_let=is_let):
        text = _spaced(chunk, is_let=is_let)
        if lines[-1].strip() and len(lines[-1]) + 1 + len(text) > WIDTH:
            lines.append(_margin(level) + text)
        else:
            lines[-1] += f" {text}" if lines[-1].strip() else text
    return lines


def _margin(level: int) -> str:
    return INDENT + "  " * (level + 1)


def _chunks(
    tokens: list[Token], level: int, *, is_let: bool, word: str = "or", begins: int = 0
) -> Iterator[tuple[int, list[Token]]]:
    """Split after commas and before `or` within `level` brackets; what is still too long before `and`, then one bracket further in.

    Yields the number of brackets around the start of each part, and the part. The first part starts within `begins` brackets.
    """
    chunks: list[list[Token]] = [[]]
    depth = deepest = 0
    for number, token in enumerate(tokens):
        is_joint = token.kind == "name" and token.text == word
        if number and depth == level and (is_joint or (word == "or" and tokens[number - 1].text == ",")):
            chunks.append([])
        chunks[-1].append(token)
        depth += _opening(token)
        deepest = max(deepest, depth)
    for chunk in chunks:
        if len(_margin(level)) + len(_spaced(chunk, is_let=is_let)) <= WIDTH:
            yield begins, chunk
        elif word == "or":
            yield from _chunks(chunk, level, is_let=is_let, word="and", begins=begins)
        elif deepest > level:
            yield from _chunks(chunk, level + 1, is_let=is_let, begins=begins)
        else:
            yield begins, chunk
        begins = level


def _opening(token: Token) -> int:
    """Return 1 for a bracket that opens, -1 for one that closes, else 0."""
    return (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))


def _settings(piece: Piece) -> list[str]:
    """Return what an expectation sets, each with its value."""
    rest = piece.tokens[2:]
    rest = rest[_end_of_patterns(rest, _end_of_ops(rest)) :]
    found: list[list[Token]] = []
    depth = 0
    for number, token in enumerate(rest):
        if not number or (token.kind == "name" and not depth and rest[number - 1].text not in (".", "=")):
            found.append([])
        found[-1].append(token)
        depth += _opening(token)
    return [_spaced(tokens) for tokens in found]


def _end_of_ops(tokens: list[Token]) -> int:
    index = _end_of_op(tokens, 0)
    while index < len(tokens) and tokens[index].text == ",":
        index = _end_of_op(tokens, index + 1)
    return index


def _end_of_op(tokens: list[Token], index: int) -> int:
    following = tokens[index + 1] if index + 1 < len(tokens) else None
    if tokens[index].text == "effect" and following is not None and following.kind == "name":
        return index + 2
    index += 1
    while index + 1 < len(tokens) and tokens[index].text == ".":
        index += 2
    return index


def _end_of_patterns(tokens: list[Token], index: int) -> int:
    while index < len(tokens) and (tokens[index].kind in ("string", "set") or tokens[index].text == ","):
        index += 1
    return index


def _spaced(tokens: Sequence[Token], *, is_let: bool = False) -> str:
    """Return the tokens on one line, with the blanks that the canonical spelling has."""
    text = ""
    for number, token in enumerate(tokens):
        text += " " if number and _parted(tokens[number - 1], token, is_let=is_let) else ""
        text += token.text
    return text


def _parted(left: Token, right: Token, *, is_let: bool) -> bool:
    """Say whether a blank stands between two tokens."""
    if left.kind != "symbol" and right.kind != "symbol":
        return True
    if right.text in (",", ")", "]", ".") or left.text in ("(", "[", "."):
        return False
    if "=" in (left.text, right.text):
        return is_let
    return not (right.text == "(" and left.kind == "name" and left.text in _CALLS)
