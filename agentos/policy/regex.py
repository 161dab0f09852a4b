r"""Regular expressions in linear time, for `matches`: a small language on sets of states, never on backtracking.

    x . [a-z_] [^"] \d \w \s \D \W \S \. (..) a|b x* x+ x? x{2} x{2,} x{2,5}

A match is always of the whole text, so there are no anchors; lookaround and back references do not exist. `.` and negated classes match
every character; ``\d \w \s`` are ASCII. The time is bounded by STATES_MAX x length of the text, and most steps are one lookup in
a memo of at most MEMO_MAX entries.
"""

from __future__ import annotations

from typing import Final

from agentos.policy.regex_parse import parse_regex
from agentos.policy.regex_states import States

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
        states = States(STATES_MAX, BUILD_STEPS_MAX)
        first = states.add()
        self._final = states.build(parse_regex(text), first)
        self._edges, self._free = states.edges, states.free
        self._start = self._closure([first])
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
