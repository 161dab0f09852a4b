"""`policy fmt`: one spelling of a policy file. What it means, its comments, the order of its lines and its groups stay.

    a statement                       one line; over WIDTH columns, one line per condition and clause, indented
    neighbours without a blank line   a group: outcome, ops and patterns stand in columns
    a comment inside a statement      keeps the author's lines; only blanks change
    blank lines                       one between groups, none at the start

Words, strings and numbers are written as the author wrote them: only blanks and line breaks move, which mean nothing in the language.

INVARIANT format-keeps-meaning: the tokens and the comments of the result are those of the text, in their order; both are compared.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from agentos.policy.lexer import Token, tokenize
from agentos.policy.parse import parse_file
from agentos.policy.problems import At, invalid, problem_of

__all__ = ["format_text"]

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
_COMMENT: Final = re.compile(r"#[^\n]*")


@dataclass(slots=True)
class _Piece:
    """One statement with what stands around it. `above` are its own comment lines, ``""`` for a blank line."""

    tokens: list[Token] = field(default_factory=list)
    above: list[str] = field(default_factory=list)
    inside: list[tuple[int, str]] = field(default_factory=list)
    behind: str = ""

    @property
    def is_let(self) -> bool:
        """True for the one statement with blanks around ``=``."""
        return self.tokens[0].text == "let"


def format_text(text: str, *, source: str) -> str:
    """Return the canonical spelling of a policy file.

    Args:
        text: The file. It must parse; whether its ops and attributes exist is not looked at.
        source: Its name, for messages.

    Raises:
        Invalid: `invalid.policy`, the text does not parse; the fields are those of `load_layer`.
    """
    starts, tokens = _parsed(text, source)
    pieces, below = _pieces(text, tokens, starts)
    lines: list[str] = []
    for group in _groups(pieces):
        lines += _group_lines(group)
    lines += below
    result = "\n".join(_single_blanks(lines)) + "\n"
    assert _content(result) == _content(text), "only blanks move"
    return result


def _parsed(text: str, source: str) -> tuple[list[int], list[Token]]:
    """Return the index of the first token of every statement, and the tokens."""
    tree, refusals = parse_file(text)
    if tree is None or refusals:
        raise invalid([problem_of(refusal, source, text) for refusal in refusals])
    tokens = tokenize(text)
    at = {token.at: number for number, token in enumerate(tokens)}
    starts = [0]
    for statement in tree.statements:
        index = at[statement.at]
        starts.append(index if type(statement).__name__.lower() not in ("let", "use") else index - 1)
    return starts, tokens


def _content(text: str) -> tuple[list[str], list[str]]:
    tokens = tokenize(text)
    return [token.text for token in tokens], [comment for _, comment in _comments(text, tokens)]


# --- taking apart ------------------------------------------------------------------------------------------------------------


def _comments(text: str, tokens: Sequence[Token]) -> Iterator[tuple[int, str]]:
    """Yield (offset, comment) of every comment: what stands between tokens and is no blank."""
    offset = _Offsets(text)
    end = 0
    for token in tokens:
        start = offset(token.at) if token.kind != "end" else len(text)
        for match in _COMMENT.finditer(text, end, start):
            yield match.start(), match.group().rstrip()
        end = start + len(token.text)


class _Offsets:
    """Place in a text -> offset, and back to the line."""

    def __init__(self, text: str) -> None:
        self._starts = [0, *accumulate(len(line) + 1 for line in text.split("\n"))]

    def __call__(self, at: At) -> int:
        return self._starts[at.line - 1] + at.col - 1

    def line(self, offset: int) -> int:
        """Return the number of the line that holds `offset`, from 1."""
        return bisect_right(self._starts, offset)


def _pieces(text: str, tokens: list[Token], starts: list[int]) -> tuple[list[_Piece], list[str]]:
    """Split a file into statements with their comments; also return the comment lines after the last."""
    offset = _Offsets(text)
    pieces = [_Piece(tokens[first:last]) for first, last in zip(starts, [*starts[1:], len(tokens) - 1], strict=True)]
    heads = [offset(piece.tokens[0].at) for piece in pieces]
    below: list[str] = []
    lines = [piece.tokens[-1].at.line for piece in pieces]
    last_line = 0
    for start, comment in _comments(text, tokens):
        number = bisect_right(heads, start) - 1
        line = offset.line(start)
        if number >= 0 and start < offset(pieces[number].tokens[-1].at):
            pieces[number].inside.append((line, comment))
        elif number >= 0 and line == lines[number]:
            pieces[number].behind = comment
        else:
            above = pieces[number + 1].above if number + 1 < len(pieces) else below
            before = last_line if above else max(last_line, lines[number] if number >= 0 else 0)
            above += [""] if line > before + 1 and before else []
            above.append(comment)
        last_line = line
    for number, piece in enumerate(pieces[1:], 1):
        _blank_before(piece, pieces[number - 1], offset, text)
    return pieces, below


def _blank_before(piece: _Piece, previous: _Piece, offset: _Offsets, text: str) -> None:
    """Note a blank line right above a statement: one that stands below its comments, or between it and the statement before."""
    first = piece.tokens[0].at.line
    if first > previous.tokens[-1].at.line + 1 and not text.split("\n")[first - 2].strip():
        piece.above.append("")


def _groups(pieces: list[_Piece]) -> Iterator[list[_Piece]]:
    """Yield runs of statements with nothing between them."""
    group: list[_Piece] = []
    for piece in pieces:
        if group and (piece.above or group[0] is pieces[0]):
            yield group
            group = []
        group.append(piece)
    yield group


# --- writing -----------------------------------------------------------------------------------------------------------------


def _group_lines(group: list[_Piece]) -> list[str]:
    cells = [
        _cells(piece) if not piece.inside and len(_spaced(piece.tokens, is_let=piece.is_let)) <= WIDTH else None
        for piece in group
    ]
    widths = _widths([cell for cell in cells if cell is not None])
    lines: list[str] = []
    for piece, cell in zip(group, cells, strict=True):
        lines += piece.above
        made = _broken(piece) if cell is None else [_row(cell, widths)]
        word = piece.tokens[0].text
        if cell is None and word in _RULES:
            made[0] = word.ljust(OUTCOME_WIDTH) + made[0][len(word) :]
        made[-1] += f"  {piece.behind}" if piece.behind else ""
        lines += made
    return lines


def _cells(piece: _Piece) -> tuple[str, ...]:
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


def _broken(piece: _Piece) -> list[str]:
    """Return the lines of a statement that does not fit into one, or that holds comments."""
    if piece.inside:
        return _author_lines(piece)
    lines: list[str] = []
    for part in _parts(piece.tokens):
        lines += _wrapped(part, INDENT if lines else "", is_let=piece.is_let)
    return lines


def _author_lines(piece: _Piece) -> list[str]:
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
        depth += (token.text in ("(", "[", "{")) - (token.text in (")", "]", "}"))
        before = tokens[number - 1].text if number else ""
        after = tokens[number + 1].text if number + 1 < len(tokens) else ""
        is_word = token.kind == "name" and token.text in _PARTS and before not in _BEFORE_A_NAME and after not in _COMPARISONS
        if number and not depth and is_word:
            parts.append([])
        parts[-1].append(token)
    return parts


def _wrapped(tokens: list[Token], indent: str, *, is_let: bool) -> list[str]:
    """Fill lines of WIDTH columns, broken after commas and before `and` and `or`."""
    chunks: list[list[Token]] = [[]]
    for number, token in enumerate(tokens):
        if number and (tokens[number - 1].text == "," or (token.kind == "name" and token.text in ("and", "or"))):
            chunks.append([])
        chunks[-1].append(token)
    lines: list[list[Token]] = [[]]
    for chunk in chunks:
        if lines[-1] and len(INDENT) + 2 + len(_spaced([*lines[-1], *chunk], is_let=is_let)) > WIDTH:
            lines.append([])
        lines[-1] += chunk
    return [(f"{INDENT}  " if number else indent) + _spaced(line, is_let=is_let) for number, line in enumerate(lines)]


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


def _single_blanks(lines: Sequence[str]) -> Iterator[str]:
    """Yield the lines, of several blank ones only one, and none at the start or the end."""
    pending = False
    started = False
    for line in lines:
        if not line:
            pending = started
            continue
        if pending:
            yield ""
        pending, started = False, True
        yield line
