r"""Regular expressions in linear time, for `matches`: a small language on sets of states, never on backtracking.

    x . [a-z_] [^"] \d \w \s \D \W \S \. (..) a|b x* x+ x? x{2} x{2,} x{2,5}

A match is always of the whole text, so there are no anchors; lookaround and back references do not exist. `.` and negated classes match
every character; ``\d \w \s`` are ASCII. The time is bounded by STATES_MAX x length of the text, and most steps are one lookup in
a memo of at most MEMO_MAX entries.
Source: K. Thompson, Regular Expression Search Algorithm, CACM 11(6), 1968.
"""

from __future__ import annotations

from typing import Final

from agentos.policy.regex_parse import Branches, Chain, Chars, Node, Ranges, Repeat, parse_regex

__all__ = ["STATES_MAX", "Regex"]

STATES_MAX: Final = 500
BUILD_STEPS_MAX: Final = 20_000
MEMO_MAX: Final = 500


class Regex:
    """One compiled expression.

    Raises:
        ValueError: the text is malformed, uses what this language does not have, or needs more than STATES_MAX states.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._edges: list[list[tuple[Ranges, int]]] = [[]]
        self._free: list[list[int]] = [[]]
        self._steps = 0
        self._final = self._build(parse_regex(text), 0)
        self._start = self._closure([0])
        self._memo: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def matches(self, text: str) -> bool:
        """Say whether the whole of `text` matches."""
        states = self._start
        for char in text:
            states = self._step(states, char)
            if not states:
                return False
        return self._final in states

    def _step(self, states: frozenset[int], char: str) -> frozenset[int]:
        following = self._memo.get((states, char))
        if following is None:
            code = ord(char)
            edges = [edge for state in states for edge in self._edges[state]]
            following = self._closure([target for ranges, target in edges if any(low <= code <= high for low, high in ranges)])
            if len(self._memo) >= MEMO_MAX:
                self._memo.clear()
            self._memo[states, char] = following
        return following

    def _closure(self, states: list[int]) -> frozenset[int]:
        found: set[int] = set()
        todo = list(states)
        while todo:
            state = todo.pop()
            if state not in found:
                found.add(state)
                todo += self._free[state]
        return frozenset(found)

    def _state(self) -> int:
        if len(self._edges) >= STATES_MAX:
            raise ValueError(f"it needs more than {STATES_MAX} states")
        self._edges.append([])
        self._free.append([])
        return len(self._edges) - 1

    def _build(self, node: Node, start: int) -> int:
        """Add states for `node` after `start`; return the state at its end."""
        self._steps += 1
        if self._steps > BUILD_STEPS_MAX:
            raise ValueError(f"it takes more than {BUILD_STEPS_MAX} steps to build")
        if isinstance(node, Chars):
            end = self._state()
            self._edges[start].append((node.ranges, end))
            return end
        if isinstance(node, Chain):
            for item in node.items:
                start = self._build(item, start)
            return start
        return self._branch(node, start) if isinstance(node, Branches) else self._repeat(node, start)

    def _branch(self, node: Branches, start: int) -> int:
        end = self._state()
        for item in node.items:
            first = self._state()
            self._free[start].append(first)
            self._free[self._build(item, first)].append(end)
        return end

    def _repeat(self, node: Repeat, start: int) -> int:
        for _ in range(node.least):
            start = self._build(node.item, start)
        if node.most is None:
            loop = self._state()
            self._free[start].append(loop)
            self._free[self._build(node.item, loop)].append(loop)
            return self._after(loop)
        end = self._after(start)
        for _ in range(node.most - node.least):
            start = self._build(node.item, start)
            self._free[start].append(end)
        return end

    def _after(self, state: int) -> int:
        end = self._state()
        self._free[state].append(end)
        return end
