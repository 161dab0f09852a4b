"""Commands that stand for all commands: one for every set of argv patterns and every way interpreters can be named in it.

What an argv pattern grants is less than what it matches: a command that carries code (``python -c``) must be named. So commands are
explored several times: all of them; those that are no interpreter's; and, for every interpreter that a pattern names or that the first
exploration came upon, those of it, told apart by the token that carries the code.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from typing import Final

from agentos.policy.argv import CODE_WORDS, INTERPRETERS, Argv, argv_of
from agentos.policy.narrow.automaton import Allowance, Automaton, excluding, glob_node, many, spelled
from agentos.policy.regex_parse import Chain, Node

__all__ = ["commands"]

_END: Final = "\0"
_NICE: Final = "_~\u00e9\u03b1\u0436+%=,xyzabcdefghijklmnopqrstuvw0123456789-XYZ"
"""The preferred characters occur in no interpreter's name."""
_CUT: Final = "\1"
_VERSIONED: Final = re.compile("(.+?)[-.]?([0-9][0-9.]*)?", re.DOTALL)
_STRANGERS: Final = ("sh", "python")
_ANY_COMMAND: Final = argv_of("* **")
_TOKEN: Final = many(excluding(_END), 1)


def commands(patterns: Sequence[Argv], allowance: Allowance) -> list[tuple[str, ...]] | None:
    """Return commands that realise every combination of `patterns` matching and naming, or None when the allowance is used up."""
    everything = Chain((spelled(_END), _TOKEN))
    found = _explored(patterns, many(everything, 1), None, allowance)
    plain = _explored(patterns, many(everything, 1), _Plain(), allowance)
    if found is None or plain is None:
        return None
    found += plain
    heads = {pattern.executable for pattern in patterns} | {argv[0] for argv in found} | set(_STRANGERS)
    literals = sorted({token for pattern in patterns for token in pattern.literals})
    for name in sorted(head for head in heads if head is not None and _is_interpreter(head)):
        base = Chain((spelled(_END + name), many(everything)))
        more = _explored(patterns, base, _Carried(name, literals), allowance)
        if more is None:
            return None
        found += more
    return list(dict.fromkeys(found))


def _explored(
    patterns: Sequence[Argv], base: Node, machine: _Plain | _Carried | None, allowance: Allowance
) -> list[tuple[str, ...]] | None:
    automaton = Automaton(base, nice=_NICE)
    for tokens in dict.fromkeys(pattern.tokens for pattern in patterns):
        automaton.add(glob_node(tokens, _END))
    classes = automaton.explore(allowance, lead=_END, machine=machine)
    if classes is None:
        return None
    found = [tuple(text.split(_END)) for text in classes.values()]
    return None if isinstance(machine, _Plain) and any(_is_interpreter(argv[0]) for argv in found) else found


def _is_interpreter(executable: str) -> bool:
    """Say whether an executable may run commands or code that are given to it; without arguments every such one does."""
    return not _ANY_COMMAND.names((executable,))


def _carries(executable: str, token: str) -> bool:
    """Say whether `token`, alone behind the executable, carries commands or code."""
    return not _ANY_COMMAND.names((executable, token))


class _Plain:
    """Follows the first token to leave interpreters out; only what stands behind its last ``/`` counts, and no name is very long."""

    def start(self) -> Hashable:
        return ""

    def step(self, state: Hashable, char: str) -> Hashable:
        if state is True or state is False:
            return state
        head = str(state)
        if char == _END:
            return not (head and _is_interpreter(head))
        return "" if char == "/" else self._kept(head + char)

    def label(self, state: Hashable) -> Hashable:
        return "" if self.step(state, _END) is True else None

    def _kept(self, name: str) -> str:
        """Return what of a name decides whether it, or a longer one, is an interpreter's; one version stands for all."""
        if any(known.startswith(name) for known in INTERPRETERS):
            return name
        found = _VERSIONED.fullmatch(name)
        if found is None or found[1] not in INTERPRETERS:
            return "_"
        return f"{found[1]}0" if found[2] else name


class _Carried:
    """Follows the tokens of one interpreter to the first that carries code.

    The state is (carrier so far, what matters of the token so far).
    """

    def __init__(self, name: str, literals: Sequence[str]) -> None:
        self._name = name
        self._literals = frozenset(literals)
        self._known = (*self._literals, *(f"{word}=" for word in CODE_WORDS))
        self._is_runner = _carries(name, "_")

    def start(self) -> Hashable:
        return (None, None)

    def step(self, state: Hashable, char: str) -> Hashable:
        carrier, token = _parted(state)
        if char == _END:
            return (self._carrier(carrier, token), "")
        return (carrier, None if token is None else self._kept(token + char))

    def label(self, state: Hashable) -> Hashable:
        carrier, token = _parted(state)
        return (self._carrier(carrier, token), token is None)

    def _carrier(self, carrier: str | None, token: str | None) -> str | None:
        if carrier is not None or self._is_runner or not token or not _carries(self._name, token):
            return carrier
        return token if token in self._literals else "another"

    def _kept(self, token: str) -> str:
        """Return what of a token decides whether it, or a longer one, carries code or is one that a pattern names."""
        if any(known.startswith(token) for known in self._known):
            return token
        word, equals, _ = token.partition("=")
        if equals and _carries(self._name, f"{word}="):
            return f"{word}={_CUT}"
        if not token.startswith("-") or token.startswith("--"):
            return _CUT
        return f"-{_CUT}{next((char for char in token[1:] if char != _CUT and _carries(self._name, f'-{char}')), '')}"


def _parted(state: Hashable) -> tuple[str | None, str | None]:
    assert isinstance(state, tuple)
    carrier, token = state
    return carrier, token
