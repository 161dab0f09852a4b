"""The flow that an `expect` statement describes: just what it says about its arguments, and no history.

Implements `agentos.policy.flow.Flow`. The label of a sourced argument is what the file's own label statements and the op table say.
"""

from __future__ import annotations

from typing import Any

from agentos.abi.labels import UNTRUSTED, parse
from agentos.abi.op import OpTable
from agentos.policy.cursor import Cursor
from agentos.policy.flow import NoHistory, Origin
from agentos.policy.label import Labels
from agentos.policy.lexer import tokenize
from agentos.policy.origin import check_source
from agentos.policy.parse_expr import source
from agentos.policy.problems import Refusal, did_you_mean
from agentos.policy.syntax import From, Literal

__all__ = ["ExpectedFlow"]


class ExpectedFlow(NoHistory):
    """What is known about the values of one expected call."""

    __slots__ = ("_labels", "_said", "_sources", "_table", "label")

    def __init__(self, labels: Labels, table: OpTable) -> None:
        self.label = 0
        self._labels = labels
        self._table = table
        self._said: list[tuple[Any, int]] = []
        self._sources: list[tuple[Any, From]] = []

    def say(self, word: str, value: Literal, *, of: tuple[str, ...]) -> None:
        """Set ``flow.level`` or ``flow.integrity``.

        Raises:
            Refusal: it is never that.
        """
        self.label |= _bits(f"flow.{word}", value, of)

    def say_of(self, argument: Any, word: str, value: Literal) -> None:
        """Set source, level or integrity of an argument's value; of a list, of each element.

        Raises:
            Refusal: it is never that.
        """
        values = argument if isinstance(argument, list) and argument else [argument]
        if word == "source":
            found = self._source(value)
            self._sources += [(item, found) for item in values]
            return
        words = ("trusted", "untrusted") if word == "integrity" else ("public", "internal", "secret")
        self._said += [(item, _bits(word, value, words)) for item in values]

    def _source(self, value: Literal) -> From:
        cursor = Cursor(tokenize(str(value.value)))
        try:
            found = source(cursor)
            if cursor.token.kind != "end" or found.kind == "set" or found.field == "*":
                cursor.fail("one source")
            check_source(found, self._table)
        except Refusal as refusal:
            hint = refusal.hint or 'a source is prompt, human, "result(op).field" or "object(namespace)"'
            raise Refusal(refusal.code, f"`{value.text}` is no source: {refusal.message}", value.at, hint=hint) from refusal
        return found

    def origin(self, value: Any) -> Origin:
        """Return what was said of this value."""
        if isinstance(value, list | tuple) and value:
            parts = [self.origin(item) for item in value]
            label = 0
            for part in parts:
                label |= part.label
            return Origin(label, frozenset.intersection(*(part.sources for part in parts)))
        sources = [found for known, found in self._sources if _same(known, value)]
        said = [bits for known, bits in self._said if _same(known, value)]
        label = 0 if said or sources else self.label
        for bits in (*said, *map(self._label_of, sources if not said else ())):
            label |= bits
        return Origin(label, frozenset(found.text for found in sources))

    def _label_of(self, found: From) -> int:
        bits = self._labels.about(found)
        if found.kind != "result":
            return bits
        op = self._table.find(found.name)
        endorsed = self._labels.result(found.name, found.field)[1]
        vouched = "*" in op.trusted or any(f"{found.field}.".startswith(f"{name}.") for name in op.trusted)
        return bits | UNTRUSTED if op.untrusted and not endorsed and not vouched else bits


def _same(known: Any, value: Any) -> bool:
    return type(known) is type(value) and bool(known == value)


def _bits(name: str, value: Literal, of: tuple[str, ...]) -> int:
    word = str(value.value)
    if word not in of:
        raise Refusal("E012", f"`{name}` is never `{word}`", value.at, hint=did_you_mean(word, of, f"one of {', '.join(of)}"))
    return parse([word])
