"""What is wrong with a policy text, as data and as a person reads it.

`Refusal` travels inside this room only: a stage raises it at a place in the text, `load` turns it into a `Problem`, and the
caller sees `invalid.policy` with the first problem and all of them in `errors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from agentos.abi.op import closest
from agentos.errors import Invalid

__all__ = ["At", "Problem", "Refusal", "did_you_mean", "invalid", "render_errors"]


class At(NamedTuple):
    """A place in a text: line and column, both from 1."""

    line: int
    col: int


class Refusal(Exception):
    """One stage refuses the text at one place."""

    def __init__(self, code: str, message: str, at: At, *, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.at = at
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Problem:
    """One error (``E...``) or warning (``W...``) with its place, the line it is in, and what to do."""

    code: str
    message: str
    source: str
    at: At
    source_line: str
    hint: str = ""

    @property
    def where(self) -> str:
        """The place as ``file:line:col``."""
        return f"{self.source}:{self.at.line}:{self.at.col}"

    def to_data(self) -> dict[str, Any]:
        """Return the problem as plain data: what `-o json` prints and the error's field `errors` holds."""
        return {
            "code": self.code, "message": self.message, "where": self.where, "line": self.at.line, "col": self.at.col,
            "source_line": self.source_line, "hint": self.hint,
        }  # fmt: skip

    def __str__(self) -> str:
        """Return place, message, the line with a caret under the column, and the hint."""
        lines = [f"{self.where}: {self.code} {self.message}"]
        if self.source_line:
            pad = "".join("\t" if char == "\t" else " " for char in self.source_line[: self.at.col - 1])
            lines += [f"  {self.source_line}", f"  {pad}^"]
        return "\n".join([*lines, f"  hint: {self.hint}"] if self.hint else lines)


def problem_of(refusal: Refusal, source: str, text: str) -> Problem:
    """Return the problem that `refusal` found in `text`."""
    lines = text.splitlines()
    line = lines[refusal.at.line - 1] if 0 < refusal.at.line <= len(lines) else ""
    return Problem(refusal.code, refusal.message, source, refusal.at, line, refusal.hint)


def render_errors(problems: Iterable[Problem]) -> str:
    """Return the problems as a person reads them, one block each: place, message, source line, caret, hint."""
    return "\n".join(str(problem) for problem in problems)


def did_you_mean(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """Return a hint with the nearest known word, or `otherwise`."""
    return closest(word, known) or otherwise


def invalid(problems: Sequence[Problem]) -> Invalid:
    """Return `invalid.policy` for the first problem; its field `errors` lists all of them."""
    first = problems[0]
    return Invalid(
        "policy", first.message, hint=first.hint, where=first.where, line=first.at.line, col=first.at.col,
        source_line=first.source_line, rule=first.code, errors=[problem.to_data() for problem in problems],
    )  # fmt: skip
