"""The tree of a regular expression or glob -> states and edges, which `Regex` runs and `Automaton` explores.

Source: K. Thompson, Regular Expression Search Algorithm, CACM 11(6), 1968.
"""

from __future__ import annotations

from agentos.policy.regex_parse import Branches, Chain, Chars, Node, Ranges, Repeat

__all__ = ["States"]


class States:
    """A nondeterministic automaton that grows.

    Args:
        states_max: How many states it may have; None = any number.
        steps_max: How many nodes may be built, those within repetitions once for each; None = any number.

    Attributes:
        edges: For each state the (characters, state) that it leads to by one character.
        free: For each state those that it leads to without one.
    """

    def __init__(self, states_max: int | None = None, steps_max: int | None = None) -> None:
        self.edges: list[list[tuple[Ranges, int]]] = []
        self.free: list[list[int]] = []
        self._states_max = states_max
        self._steps_max = steps_max
        self._steps = 0

    def add(self) -> int:
        """Add a state and return its number.

        Raises:
            ValueError: there are too many.
        """
        if self._states_max is not None and len(self.edges) >= self._states_max:
            raise ValueError(f"it needs more than {self._states_max} states")
        self.edges.append([])
        self.free.append([])
        return len(self.edges) - 1

    def build(self, node: Node, start: int) -> int:
        """Add states for `node` after `start`; return the state at its end.

        Raises:
            ValueError: it takes too many states or steps.
        """
        self._steps += 1
        if self._steps_max is not None and self._steps > self._steps_max:
            raise ValueError(f"it takes more than {self._steps_max} steps to build")
        if isinstance(node, Chars):
            end = self.add()
            self.edges[start].append((node.ranges, end))
            return end
        if isinstance(node, Chain):
            for item in node.items:
                start = self.build(item, start)
            return start
        return self._branch(node, start) if isinstance(node, Branches) else self._repeat(node, start)

    def _branch(self, node: Branches, start: int) -> int:
        end = self.add()
        for item in node.items:
            first = self.add()
            self.free[start].append(first)
            self.free[self.build(item, first)].append(end)
        return end

    def _repeat(self, node: Repeat, start: int) -> int:
        for _ in range(node.least):
            start = self.build(node.item, start)
        if node.most is None:
            loop = self.add()
            self.free[start].append(loop)
            self.free[self.build(node.item, loop)].append(loop)
            return self._after(loop)
        end = self._after(start)
        for _ in range(node.most - node.least):
            start = self.build(node.item, start)
            self.free[start].append(end)
        return end

    def _after(self, state: int) -> int:
        end = self.add()
        self.free[state].append(end)
        return end
