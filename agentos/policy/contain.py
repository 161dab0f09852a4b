"""Is everything that one glob matches also matched by another? Exact, by automata, with a witness when it is not.

Both patterns become nondeterministic automata over characters; a segment is spelled with a closing separator. The inner one's states are
explored together with the subsets of states the outer one may be in. Characters that no pattern names behave alike, so one
stands for all of them. States are bounded: past STATES_MAX the answer is "not contained" (fail closed), without a witness.

INVARIANT containment-is-sound: whenever `witness` returns None, no sequence of segments matches `inner` without matching `outer`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from agentos.policy.glob import ONE, STAR, Deep, Segment, Sequence_

__all__ = ["STATES_MAX", "UNDECIDED", "witness"]

STATES_MAX: Final = 5_000
_SEPARATOR: Final = "\0"
UNDECIDED: Final = (_SEPARATOR,)
"""No segments at all: the question was not decided within STATES_MAX states."""
_SPARE: Final = "xyzabcdefghijklmnopqrstuvw0123456789-_~\u00e9\u03b1\u0436\u05d0\u0905\u3042"


@dataclass(frozen=True, slots=True)
class _Atom:
    """One step of the automaton: `kind` is char, one, star, end (of a segment) or deep; wildcards never take `barred`."""

    kind: str
    char: str = ""
    barred: str = ""


class _Automaton:
    """States 0..n stand before the n atoms and at the end; state ``~i`` is inside a segment that the deep atom i is taking."""

    def __init__(self, pattern: Sequence_, *, empty_segments: bool) -> None:
        self.atoms = [atom for item in pattern for atom in _atoms(item)]
        self._empty_segments = empty_segments

    def closure(self, states: Iterable[int]) -> frozenset[int]:
        found: set[int] = set()
        todo = list(states)
        while todo:
            state = todo.pop()
            if state in found:
                continue
            found.add(state)
            if 0 <= state < len(self.atoms) and self.atoms[state].kind in ("star", "deep"):
                todo.append(state + 1)
        return frozenset(found)

    def step(self, states: Iterable[int], char: str) -> frozenset[int]:
        return self.closure(target for state in states for target in self._targets(state, char))

    def accepts(self, states: Iterable[int]) -> bool:
        return len(self.atoms) in states

    def _targets(self, state: int, char: str) -> Iterator[int]:
        if state < 0:
            yield ~state if char == _SEPARATOR else state
            return
        if state >= len(self.atoms):
            return
        atom = self.atoms[state]
        if atom.kind == "deep":
            if char != _SEPARATOR or self._empty_segments:
                yield state if char == _SEPARATOR else ~state
        elif atom.kind in ("char", "end"):
            if char == atom.char:
                yield state + 1
        elif char != _SEPARATOR and char not in atom.barred:
            yield state if atom.kind == "star" else state + 1


def _atoms(item: Segment | Deep) -> Iterator[_Atom]:
    if isinstance(item, Deep):
        yield _Atom("deep")
        return
    if item.matches_any:
        yield _Atom("one", barred=item.barred)
    for part in item.parts:
        if part is STAR:
            yield _Atom("star", barred=item.barred)
        elif part is ONE:
            yield _Atom("one", barred=item.barred)
        else:
            yield from (_Atom("char", char) for char in str(part))
    yield _Atom("end", _SEPARATOR)


def _alphabet(*automata: _Automaton) -> list[str]:
    named = {atom.char for automaton in automata for atom in automaton.atoms if atom.char} - {_SEPARATOR}
    named |= {char for automaton in automata for atom in automaton.atoms for char in atom.barred}
    spare = next((char for char in _SPARE if char not in named), None)
    if spare is None:
        spare = next(chr(code) for code in range(0x4E00, 0x10000) if chr(code) not in named)
    return [*sorted(named), spare, _SEPARATOR]


def witness(outer: Sequence_, inner: Sequence_, *, empty_segments: bool = False) -> tuple[str, ...] | None:
    """Return segments that `inner` matches and `outer` does not, or None when there are none.

    Args:
        outer: The pattern that should be the wider one.
        inner: The pattern that should be contained.
        empty_segments: ``**`` may also take empty segments (URL paths may end in ``/``).

    Returns:
        None when contained; UNDECIDED when that would take more than STATES_MAX states.
    """
    wide, narrow = (_Automaton(pattern, empty_segments=empty_segments) for pattern in (outer, inner))
    alphabet = _alphabet(wide, narrow)
    start = (narrow.closure([0]), wide.closure([0]))
    came_from: dict[tuple[frozenset[int], frozenset[int]], tuple[tuple[frozenset[int], frozenset[int]], str] | None] = {
        start: None
    }
    todo = [start]
    for pair in todo:
        inside, outside = pair
        if narrow.accepts(inside) and not wide.accepts(outside):
            return _spell(pair, came_from)
        if len(came_from) > STATES_MAX:
            return UNDECIDED
        for char in alphabet:
            after = narrow.step(inside, char)
            if after:
                following = (after, wide.step(outside, char))
                if following not in came_from:
                    came_from[following] = (pair, char)
                    todo.append(following)
    return None


def _spell(
    pair: tuple[frozenset[int], frozenset[int]],
    came_from: dict[tuple[frozenset[int], frozenset[int]], tuple[tuple[frozenset[int], frozenset[int]], str] | None],
) -> tuple[str, ...]:
    chars: list[str] = []
    step = came_from[pair]
    while step is not None:
        pair, char = step
        chars.append(char)
        step = came_from[pair]
    return tuple("".join(reversed(chars)).split(_SEPARATOR)[:-1])
