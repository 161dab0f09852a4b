"""A place in the tokens, with the few moves that a recursive-descent parser needs. Every complaint names what was expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn

from agentos.policy.lexer import Token
from agentos.policy.problems import Refusal, did_you_mean

__all__ = ["Cursor"]


class Cursor:
    """Reads tokens forward; never past the `end` token."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._index = 0

    @property
    def token(self) -> Token:
        """The token that comes next."""
        return self._tokens[self._index]

    def ahead(self, count: int = 1) -> Token:
        """Return the token `count` after the next one."""
        return self._tokens[min(self._index + count, len(self._tokens) - 1)]

    def take(self) -> Token:
        """Return the next token and move past it."""
        token = self._tokens[self._index]
        if token.kind != "end":
            self._index += 1
        return token

    def at_word(self, *words: str) -> bool:
        """Say whether the next token is one of these words."""
        return self.token.kind == "name" and self.token.text in words

    def accept_word(self, *words: str) -> Token | None:
        """Take the next token if it is one of these words."""
        return self.take() if self.at_word(*words) else None

    def accept(self, symbol: str) -> Token | None:
        """Take the next token if it is this symbol."""
        return self.take() if self.token.kind == "symbol" and self.token.text == symbol else None

    def need(self, symbol: str, where: str, *, hint: str = "") -> Token:
        """Take this symbol.

        Raises:
            Refusal: something else comes next.
        """
        return self.accept(symbol) or self.fail(f"`{symbol}` {where}", hint=hint)

    def need_kind(self, kind: str, what: str, *, hint: str = "") -> Token:
        """Take a token of this kind.

        Raises:
            Refusal: something else comes next.
        """
        return self.take() if self.token.kind == kind else self.fail(what, hint=hint)

    def need_word(self, words: Iterable[str], what: str, *, hint: str = "") -> Token:
        """Take one of these words.

        Raises:
            Refusal: something else comes next; the nearest of the words is suggested, or else `hint`.
        """
        known = tuple(words)
        return self.accept_word(*known) or self.fail(what, known=known, hint=hint)

    def fail(self, expected: str, *, known: Iterable[str] = (), hint: str = "") -> NoReturn:
        """Complain that `expected` was expected instead of the next token."""
        token = self.token
        if isinstance(token.value, Refusal):
            raise token.value
        found = f"found `{token.text}`" if token.kind != "end" else "the text ends"
        raise Refusal("E001", f"expected {expected}, {found}", token.at, hint=did_you_mean(token.text, known, hint))

    def skip_to_line_of(self, words: frozenset[str]) -> None:
        """Move to the next token that is one of `words` and first on its line, or to the end: where parsing can go on."""
        if self.token.kind != "end":
            self.take()
        while self.token.kind != "end" and not (self.token.first and self.token.text in words):
            self.take()
