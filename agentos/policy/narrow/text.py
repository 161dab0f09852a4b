"""Texts and numbers that stand for all others: for a set of tests, values that give every combination of answers they can give.

Texts longer than a condition searches answer "unknown"; a `Text` is one that says it is longer than it is, so that such combinations need
no long text until a person is to see one.

INVARIANT combinations-are-complete: a combination of answers that no value here gives, no value gives; where that cannot be promised,
`Findings.exact` is False.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final, SupportsIndex

from agentos.policy.attributes import TEXT_CHARS_MAX
from agentos.policy.conditions import REGEX_CHARS_MAX
from agentos.policy.glob import sequence_of
from agentos.policy.narrow.automaton import EVERY, Allowance, Automaton, excluding, glob_node, many, spelled
from agentos.policy.regex_parse import Chain, Node, parse_regex

__all__ = ["Asked", "Findings", "Text", "numbers", "texts"]

_LINK: Final = "http:/ "


class Text(str):
    """A text that says it has `chars` characters."""

    __slots__ = ("chars",)
    chars: int

    def __new__(cls, text: str, chars: int | None = None) -> Text:
        """Return `text`, claiming a length."""
        made = super().__new__(cls, text)
        made.chars = str.__len__(made) if chars is None else chars
        return made

    def __len__(self) -> int:
        """Return the claimed length."""
        return self.chars

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        """Return the parts, which claim nothing."""
        return str(self).split(sep, maxsplit)


@dataclass(slots=True)
class Findings:
    """Whether the values that were found are known to be complete."""

    exact: bool = True


@dataclass(slots=True)
class Asked:
    """What tests ask of one text: to match globs, expressions, whole texts and networks, to have so many characters or links."""

    globs: list[str] = field(default_factory=list)
    expressions: list[str] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    networks: list[str] = field(default_factory=list)
    lengths: list[float] = field(default_factory=list)
    links: list[float] = field(default_factory=list)


def texts(asked: Asked, findings: Findings, allowance: Allowance) -> list[str]:
    """Return texts for every combination of answers to what is asked."""
    classes = _classes(asked, allowance)
    if classes is None:
        findings.exact = False
        return [*asked.whole, ""]
    found: list[str] = [text for _, text in classes]
    unnamed = [text for is_whole, text in classes if not is_whole]
    if asked.expressions:
        found += [Text(text, REGEX_CHARS_MAX + 1) for text in unnamed]
    if asked.expressions or asked.globs or asked.links:
        found.append(Text("x" * (TEXT_CHARS_MAX + 1)))
    if asked.networks:
        findings.exact = findings.exact and not (asked.globs or asked.expressions)
        found += _addresses(asked)
    if asked.links:
        findings.exact = findings.exact and not (asked.globs or asked.expressions)
        found += [
            _LINK * int(count) for count in numbers(asked.links, is_whole=True) if 0 <= count <= TEXT_CHARS_MAX // len(_LINK)
        ]
    if asked.lengths:
        counts = [int(count) for count in numbers(asked.lengths, is_whole=True) if count >= 0]
        found += [Text(text, count) for text in list(found) if text not in asked.whole for count in counts]
    return found


def _classes(asked: Asked, allowance: Allowance) -> list[tuple[bool, str]] | None:
    """Return texts with whether they are one of the whole texts asked for. Every language is spelled behind a ``/``."""
    automaton = Automaton(Chain((spelled("/"), many(EVERY))))
    for glob in dict.fromkeys(asked.globs):
        automaton.add(_glob(glob))
    for expression in dict.fromkeys(asked.expressions):
        automaton.add(Chain((spelled("/"), parse_regex(expression))))
    first_whole = automaton.count
    for text in dict.fromkeys(asked.whole):
        automaton.add(spelled(f"/{text}"))
    found = automaton.explore(allowance, lead="/")
    return None if found is None else [(max(vector, default=-1) >= first_whole, text) for (vector, _), text in found.items()]


def _glob(pattern: str) -> Node:
    """Return the language of a glob over text, as `pattern.text_matcher` matches it."""
    if pattern == "**":
        return Chain((spelled("/"), many(EVERY)))
    if pattern == "*":
        return Chain((spelled("/"), many(excluding("/"))))
    return glob_node(sequence_of(pattern.split("/")), "/")


def _addresses(asked: Asked) -> list[str]:
    """Return addresses at and around the ends of every network, enough of them that the whole texts do not use them up."""
    spread = len(asked.whole) + 2
    found: list[str] = ["no address"]
    networks: list[IPv4Network | IPv6Network] = [ip_network(text) for text in asked.networks]
    ends = [(network.version, int(end)) for network in networks for end in (network.network_address, network.broadcast_address)]
    for version, end in dict.fromkeys([*ends, (4, 0), (6, 0)]):
        top = 2 ** (32 if version == 4 else 128) - 1
        for number in range(max(0, end - spread), min(top, end + spread) + 1):
            address = ip_address(number) if version == 4 else IPv6Address(number)
            found.append(str(address))
    return found


def numbers(constants: Iterable[float], *, is_whole: bool, bounds: Sequence[tuple[str, float]] = ()) -> list[float]:
    """Return numbers for every combination of comparisons with `constants`, within `bounds` (pairs such as ``("ge", 1)``).

    Args:
        constants: What is compared with.
        is_whole: Only whole numbers exist.
        bounds: What the declaration of the argument demands: ge, gt, le, lt.
    """
    known = sorted({*constants, *(bound for _, bound in bounds)})
    found: list[float] = [0, 1]
    for constant in known:
        below, above = math.floor(constant), math.ceil(constant)
        found += [below - 1, below, above, above + 1]
        found += [] if is_whole else [constant, math.nextafter(constant, -math.inf), math.nextafter(constant, math.inf)]
    if not is_whole:
        found += [low + (high - low) / 2 for low, high in itertools.pairwise(known)] + [math.nan]
    return [value for value in dict.fromkeys(found) if all(_is_within(value, word, bound) for word, bound in bounds)]


def _is_within(value: float, word: str, bound: float) -> bool:
    return {"ge": value >= bound, "gt": value > bound, "le": value <= bound, "lt": value < bound}[word]
