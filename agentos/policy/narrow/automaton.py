"""Which combinations of languages does some text have? The lazy product of automata behind containment of policies.

Globs, regular expressions and literal texts become parts of one nondeterministic automaton over characters; exploring its subsets of
states finds, for every set of languages that some text belongs to, a shortest such text. Characters that nothing in a state names
behave alike there, so one stands for all of them. The number of subsets is bounded by the caller.

    automaton = Automaton(base)            the texts that exist at all
    number = automaton.add(glob_node(...)) one language more
    automaton.explore(...)                 {frozenset of numbers: shortest text}, None past the bound

INVARIANT classes-are-complete: a set of languages that is missing in what `explore` returns holds no text of the base at all.
Source: M. O. Rabin, D. Scott, Finite Automata and Their Decision Problems, 1959 (the subset construction, explored lazily).
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agentos.policy.glob import ONE, STAR, Deep, Segment, Sequence_
from agentos.policy.regex_parse import Branches, Chain, Chars, Node, Repeat
from agentos.policy.regex_states import States

__all__ = ["EVERY", "Allowance", "Automaton", "Machine", "either", "excluding", "glob_node", "many", "spelled"]

_LAST: Final = 0x10FFFF
_SURROGATES: Final = (0xD800, 0xDFFF)
EVERY: Final = Chars(((0, _LAST),))
_NICE: Final = "xyzabcdefghijklmnopqrstuvw0123456789_~-XYZ\u00e9\u03b1\u0436"

Vector = frozenset[int]


class Machine(Protocol):
    """A deterministic automaton that runs beside: states must be few."""

    def start(self) -> Hashable:
        """Return the state before the first character."""

    def step(self, state: Hashable, char: str) -> Hashable:
        """Return the state after one character more."""

    def label(self, state: Hashable) -> Hashable:
        """Return what the text that led here is, None when it does not count."""


def spelled(text: str) -> Node:
    """Return the language of one text."""
    return Chain(tuple(Chars(((ord(char), ord(char)),)) for char in text))


def excluding(chars: str) -> Chars:
    """Return the language of one character that is none of `chars`."""
    ranges: list[tuple[int, int]] = []
    start = 0
    for code in sorted({ord(char) for char in chars}):
        if code > start:
            ranges.append((start, code - 1))
        start = code + 1
    return Chars((*ranges, (start, _LAST)))


def either(nodes: Sequence[Node]) -> Node:
    """Return the union of one or more languages."""
    return nodes[0] if len(nodes) == 1 else Branches(tuple(nodes))


def many(node: Node, least: int = 0) -> Node:
    """Return the language of `least` or more of `node` in a row."""
    return Repeat(node, least, None)


def glob_node(pattern: Sequence_, separator: str) -> Node:
    """Return the language of a glob, every segment spelled with the separator before it; no segment at all is the empty text."""
    return Chain(tuple(_item_node(item, separator) for item in pattern))


def _item_node(item: Segment | Deep, separator: str) -> Node:
    if isinstance(item, Deep):
        return many(Chain((spelled(separator), many(excluding(separator)))))
    wild = excluding(separator + item.barred)
    if item.matches_any:
        return Chain((spelled(separator), many(wild, 1)))
    parts = (many(wild) if part is STAR else wild if part is ONE else spelled(str(part)) for part in item.parts)
    return Chain((spelled(separator), *parts))


@dataclass(slots=True)
class Allowance:
    """How many steps several explorations together may still make."""

    left: int

    @property
    def is_over(self) -> bool:
        """True once more was asked for than there was."""
        return self.left < 0

    def take(self, steps: int) -> bool:
        """Use some of it; False when there is not enough left."""
        self.left -= steps
        return self.left >= 0


class Automaton:
    """One automaton for many languages over the texts of a base language.

    Args:
        base: The texts that exist.
        nice: Characters to spell witnesses with, the preferred first.

    Attributes:
        count: How many languages were added; they are numbered from 0.
    """

    def __init__(self, base: Node, *, nice: str = _NICE) -> None:
        self._nice = [ord(char) for char in nice]
        self._ranks = {code: rank for rank, code in enumerate(self._nice)}
        self._states = States()
        self._edges, self._free = self._states.edges, self._states.free
        self._finals: dict[int, int] = {}
        self._starts: list[int] = []
        self._closures: dict[int, tuple[int, ...]] = {}
        self._base_final = self._language(base)
        self._base_size = len(self._edges)
        self.count = 0

    def add(self, node: Node) -> int:
        """Add a language and return its number."""
        number = self.count
        self.count += 1
        self._finals[self._language(node)] = number
        return number

    def explore(
        self, allowance: Allowance, *, lead: str = "", machine: Machine | None = None
    ) -> dict[tuple[Vector, Hashable], str] | None:
        """Return every realisable pair of (languages, label of `machine`) with a shortest text, or None when the allowance is used up.

        Args:
            allowance: How much work is left: the sizes of the subsets that are looked at.
            lead: Text that every language begins with and that the returned texts leave out.
            machine: Runs beside; its label is part of the key (empty without one).
        """
        if not allowance.take(len(self._edges)):
            return None
        nfa = self._closed(self._starts)
        for char in lead:
            nfa = self._step(nfa, ord(char))
        start = (nfa, machine.start() if machine else "")
        parents: dict[tuple[frozenset[int], Hashable], tuple[tuple[frozenset[int], Hashable], int] | None] = {start: None}
        found: dict[tuple[Vector, Hashable], str] = {}
        todo = [start]
        for state in todo:
            nfa, beside = state
            if not allowance.take(10 + len(nfa)):
                return None
            if self._base_final in nfa:
                label = machine.label(beside) if machine else ""
                vector = frozenset(self._finals[one] for one in nfa if one in self._finals)
                if label is not None and (vector, label) not in found:
                    found[vector, label] = _spell(state, parents)
            for code, following in self._successors(nfa):
                allowance.take(len(following))
                after = (following, machine.step(beside, chr(code)) if machine else "")
                if after not in parents:
                    parents[after] = (state, code)
                    todo.append(after)
        return found

    # --- exploring ----------------------------------------------------------------------------------------------------------

    def _successors(self, states: frozenset[int]) -> Iterable[tuple[int, frozenset[int]]]:
        singles: dict[int, list[int]] = {}
        wide: dict[tuple[int, int], list[int]] = {}
        for state in states:
            for ranges, target in self._edges[state]:
                for low, high in ranges:
                    if low == high:
                        singles.setdefault(low, []).append(target)
                    else:
                        wide.setdefault((low, high), []).append(target)
        bounds = sorted({bound for low, high in wide for bound in (low, high + 1)})
        spare: list[tuple[int, list[int]]] = []
        for first, after in itertools.pairwise(bounds):
            inside = [target for (low, high), wides in wide.items() if low <= first and after - 1 <= high for target in wides]
            code = self._pick(first, after - 1, singles) if inside else None
            spare += [] if code is None else [(code, inside)]
        for code, inside in sorted(spare, key=lambda one: self._ranks.get(one[0], len(self._ranks))):
            following = self._closed(inside)
            if self._exists(following):
                yield code, following
        for code, targets in sorted(singles.items(), key=_plainness):
            more = [target for (low, high), wides in wide.items() if low <= code <= high for target in wides]
            following = self._closed([*targets, *more])
            if self._exists(following):
                yield code, following

    def _exists(self, states: frozenset[int]) -> bool:
        return min(states, default=self._base_size) < self._base_size

    def _pick(self, low: int, high: int, taken: dict[int, list[int]]) -> int | None:
        """Return a character of a range that no single edge names; None when there is none."""
        for code in self._nice:
            if low <= code <= high and code not in taken:
                return code
        code = low
        while code <= high:
            if _SURROGATES[0] <= code <= _SURROGATES[1]:
                code = _SURROGATES[1] + 1
            elif code in taken:
                code += 1
            else:
                return code
        return None

    def _step(self, states: frozenset[int], code: int) -> frozenset[int]:
        return self._closed(
            target
            for state in states
            for ranges, target in self._edges[state]
            if any(low <= code <= high for low, high in ranges)
        )

    def _closed(self, states: Iterable[int]) -> frozenset[int]:
        return frozenset(inner for state in states for inner in self._closure(state))

    def _closure(self, state: int) -> tuple[int, ...]:
        known = self._closures.get(state)
        if known is None:
            found: set[int] = set()
            todo = [state]
            while todo:
                one = todo.pop()
                if one not in found:
                    found.add(one)
                    todo += self._free[one]
            # a state without edges of its own only leads on: what it leads to is kept instead
            known = self._closures[state] = tuple(one for one in found if self._edges[one] or self._is_final(one))
        return known

    def _is_final(self, state: int) -> bool:
        return state == self._base_final or state in self._finals

    def _language(self, node: Node) -> int:
        start = self._states.add()
        self._starts.append(start)
        self._closures.clear()
        end = self._states.build(node, start)
        final = self._states.add()
        self._free[end].append(final)
        return final


def _spell(
    state: tuple[frozenset[int], Hashable],
    parents: dict[tuple[frozenset[int], Hashable], tuple[tuple[frozenset[int], Hashable], int] | None],
) -> str:
    codes: list[int] = []
    step = parents[state]
    while step is not None:
        state, code = step
        codes.append(code)
        step = parents[state]
    return "".join(map(chr, reversed(codes)))


def _plainness(item: tuple[int, list[int]]) -> tuple[bool, int]:
    return (not chr(item[0]).isalnum(), item[0])
