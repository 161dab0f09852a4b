"""`policy fmt`: one spelling of a policy file. What it means, its comments, the order of its lines and its groups stay.

    a statement                       one line; over WIDTH columns, one line per condition and clause, indented; a condition that is still
                                      too long is broken before `and` and `or`, and within brackets only where what they hold does not fit
    an expectation                    one line; over WIDTH columns, broken between its settings
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
from itertools import accumulate
from typing import Final

from agentos.policy.format_lines import Piece, group_lines
from agentos.policy.lexer import Token, tokenize
from agentos.policy.parse import parse_file
from agentos.policy.problems import At, invalid, problem_of

__all__ = ["format_text"]

_COMMENT: Final = re.compile(r"#[^\n]*")


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
        lines += group_lines(group)
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


def _pieces(text: str, tokens: list[Token], starts: list[int]) -> tuple[list[Piece], list[str]]:
    """Split a file into statements with their comments; also return the comment lines after the last."""
    offset = _Offsets(text)
    pieces = [Piece(tokens[first:last]) for first, last in zip(starts, [*starts[1:], len(tokens) - 1], strict=True)]
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


def _blank_before(piece: Piece, previous: Piece, offset: _Offsets, text: str) -> None:
    """Note a blank line right above a statement: one that stands below its comments, or between it and the statement before."""
    first = piece.tokens[0].at.line
    if first > previous.tokens[-1].at.line + 1 and not text.split("\n")[first - 2].strip():
        piece.above.append("")


def _groups(pieces: list[Piece]) -> Iterator[list[Piece]]:
    """Yield runs of statements with nothing between them."""
    group: list[Piece] = []
    for piece in pieces:
        if group and (piece.above or group[0] is pieces[0]):
            yield group
            group = []
        group.append(piece)
    yield group


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
