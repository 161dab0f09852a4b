"""Text -> tokens with places. Words are never reserved here: the parser knows where a word is a keyword.

A ``/`` starts a regular expression directly after the word `matches`, and a name directly after `as` may hold hyphens; nowhere else are
they part of the language.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

from agentos.abi.units import parse_duration_s, parse_size_bytes
from agentos.policy.problems import At, Refusal

__all__ = ["Token", "tokenize"]

_TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*")
      | (?P<number>-?\d+(?:\.\d+)?(?P<unit>[A-Za-z][A-Za-z0-9]*)?)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<set>\$[A-Za-z_][A-Za-z0-9_]*)
      | (?P<symbol>==|!=|<=|>=|[<>=,.*(){}\[\]])""",
    re.VERBOSE,
)
_REGEX = re.compile(r"/((?:[^/\\\n]|\\.)*)/")
_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_ESCAPE = re.compile(r"\\(.)")

DIGITS_MAX: Final = 30
Kind = Literal["string", "number", "size", "time", "name", "set", "symbol", "regex", "bad", "end"]


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `first` = first on its line.

    `value` is the text of a string, a number, a set's name without ``$``, and the refusal of what is no token (kind `bad`).
    """

    kind: Kind
    text: str
    value: Any
    at: At
    first: bool = False


def tokenize(text: str) -> list[Token]:
    """Return the tokens of `text`, closed by one of kind `end`. What is none becomes one of kind `bad` with the rest of its line."""
    tokens: list[Token] = []
    start, line, line_start, last_line = 0, 1, 0, 0
    while start < len(text):
        at = At(line, start - line_start + 1)
        match = _pattern_after(tokens, text[start]).match(text, start)
        if match is None:
            end = text.find("\n", start)
            tokens.append(Token("bad", text[start], _strange(text, start, at), at, first=line != last_line))
            last_line, start = line, len(text) if end < 0 else end
            continue
        if match.lastgroup == "space":
            if breaks := match.group().count("\n"):
                line += breaks
                line_start = start + match.group().rindex("\n") + 1
        else:
            try:
                tokens.append(_token(match, at, first=line != last_line))
            except Refusal as refusal:
                tokens.append(Token("bad", match.group(), refusal, at, first=line != last_line))
            last_line = line
        start = match.end()
    tokens.append(Token("end", "", None, At(line, max(1, start - line_start + 1)), first=True))
    return tokens


_INSTEAD: Final = {
    "&": "write `and`", "|": "write `or`", "!": "write `not`", ";": "a statement ends where the next one starts",
}  # fmt: skip
"""Characters of other languages, and what is written here."""


def _pattern_after(tokens: list[Token], char: str) -> re.Pattern[str]:
    """Return what the next token looks like: a regular expression follows `matches`, a name with hyphens may follow `as`."""
    word = tokens[-1].text if tokens and tokens[-1].kind == "name" else ""
    if word == "matches" and char == "/":
        return _REGEX
    return _LABEL if word == "as" and (char.isalpha() or char == "_") and char.isascii() else _TOKEN


def _strange(text: str, start: int, at: At) -> Refusal:
    char = text[start]
    if char == '"':
        return Refusal("E001", "a string is not closed", at, hint='close it with `"` on the same line')
    if char == "'":
        return Refusal("E001", "`'` does not start a string", at, hint='use `"`')
    if char == "/":
        return Refusal(
            "E001", "`/` starts nothing here", at, hint='put patterns in `"`; a regular expression follows `matches`'
        )
    return Refusal(
        "E001", f"`{char}` has no meaning here", at, hint=_INSTEAD.get(char, "see docs/reference/policy-language.md")
    )


def _token(match: re.Match[str], at: At, *, first: bool) -> Token:
    text = match.group()
    if match.re is _REGEX:
        return Token("regex", text, match.group(1), at, first)
    if match.re is _LABEL:
        return Token("name", text, text, at, first)
    if match.group("string"):
        return Token("string", text, _unescape(text[1:-1], at), at, first)
    if match.group("number"):
        return _number(text, match.group("unit") or "", at, first=first)
    if match.group("set"):
        return Token("set", text, text[1:], at, first)
    return Token("name" if match.group("name") else "symbol", text, text, at, first)


def _unescape(text: str, at: At) -> str:
    def replace(match: re.Match[str]) -> str:
        char = match.group(1)
        if char not in '"\\':
            raise Refusal("E001", f"`\\{char}` is not an escape", at, hint='only `\\"` and `\\\\` are')
        return char

    return _ESCAPE.sub(replace, text) if "\\" in text else text


def _number(text: str, unit: str, at: At, *, first: bool) -> Token:
    digits = text[: len(text) - len(unit)]
    if len(digits) > DIGITS_MAX:
        raise Refusal("E001", f"a number has {len(digits)} digits, {DIGITS_MAX} at most", at)
    if not unit:
        return Token("number", text, float(digits) if "." in digits else int(digits), at, first)
    try:
        return Token("size", text, parse_size_bytes(text), at, first)
    except ValueError:
        pass
    try:
        return Token("time", text, parse_duration_s(text), at, first)
    except ValueError:
        hint = "sizes: B KB MB GB; durations: ms s m h d w"
        raise Refusal("E001", f"`{text}` is neither a number, a size nor a duration", at, hint=hint) from None
