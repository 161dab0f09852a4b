"""A supposed flow: labels, origins and history as a comparison needs them, and the few of each that stand for all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from agentos.abi.labels import INTERNAL, PUBLIC, SECRET, UNTRUSTED, join, names
from agentos.policy.flow import Origin
from agentos.policy.narrow.probe import Probe
from agentos.policy.narrow.text import Findings
from agentos.policy.syntax import From, Test

__all__ = ["LABELS", "Supposed", "origins_of"]

LABELS: Final = tuple(level | integrity for level in (PUBLIC, INTERNAL, SECRET) for integrity in (0, UNTRUSTED))
"""Every label there is."""
_SOURCES_MAX: Final = 6
_ANY_FIELD: Final = "some field"


class Supposed:
    """A `policy.flow.Flow` whose answers are given.

    Args:
        label: Label bits of the call.
        origins: By object: the same value may come from different places in one call.
        history: ``count OP``, ``sum OP.ATTR``, ``after OP`` -> value.
        plain: By value, as a kernel knows it: (type name, value) -> origin.
    """

    def __init__(
        self,
        label: int = PUBLIC,
        origins: Mapping[int, Origin] | None = None,
        history: Mapping[str, Any] | None = None,
        plain: Mapping[tuple[str, Any], Origin] | None = None,
    ) -> None:
        self.label = label
        self._origins = origins or {}
        self._history = history or {}
        self._plain = plain or {}

    def origin(self, value: Any) -> Origin:
        """Return what was supposed; of a list or object that nothing was supposed about, what its parts have in common."""
        known = self._origins.get(id(value))
        if known is None and not isinstance(value, list | tuple | dict):
            known = self._plain.get((type(value).__name__, value))
        if known is not None:
            return known
        parts = list(value.values()) if isinstance(value, dict) else list(value) if isinstance(value, list | tuple) else []
        if not parts:
            return Origin(self.label, frozenset())
        found = [self.origin(part) for part in parts]
        return Origin(join(*(one.label for one in found)), frozenset.intersection(*(one.sources for one in found)))

    def count(self, op: str) -> int:
        """Return the supposed number of calls."""
        return int(self._history.get(f"count {op}", 0))

    def total(self, op: str, attr: str) -> float:
        """Return the supposed sum."""
        return float(self._history.get(f"sum {op}.{attr}", 0))

    def happened(self, op: str) -> bool:
        """Say what was supposed."""
        return bool(self._history.get(f"after {op}", False))

    def described(self) -> Iterable[str]:
        """Iterate over what a person should know about the call: its label and history."""
        if self.label:
            yield f"the call is {', '.join(names(self.label))}"
        for (_, value), origin in self._plain.items():
            label = f", {' '.join(names(origin.label))}" if origin.label else ""
            shown = ascii(value)[1:-1] if isinstance(value, str) else value
            yield f"`{shown}` comes from {' and '.join(sorted(origin.sources)) or 'nowhere known'}{label}"
        for name, value in self._history.items():
            verb, _, subject = name.partition(" ")
            yield f"{verb}({subject}) is {str(value).lower() if isinstance(value, bool) else f'{value:g}'}"


def origins_of(probes: Sequence[Probe], findings: Findings) -> list[Origin]:
    """Return origins for every combination of answers to the tests on a value's label and sources; one is enough without such tests."""
    asked = [probe for probe in probes if probe.asks_origin]
    if not asked:
        return []
    measured = any(probe.measure for probe in asked)
    sources = sorted({name for probe in asked for name in _sources(probe)})
    if len(sources) > _SOURCES_MAX:
        findings.exact = False
        sources = sources[:_SOURCES_MAX]
    subsets = [frozenset(some) for size in range(len(sources) + 1) for some in itertools.combinations(sources, size)]
    return [Origin(label, some) for some in subsets for label in (LABELS if measured else (_usual(some),))]


def _usual(sources: frozenset[str]) -> int:
    """Return the label that a value of these sources has where none is asked for: what people say is trusted."""
    return PUBLIC if sources and sources <= {"prompt", "human"} else UNTRUSTED


def _sources(probe: Probe) -> list[str]:
    if not isinstance(probe.leaf, Test) or probe.leaf.verb != "from":
        return []
    sources = [value for value in probe.leaf.values if isinstance(value, From) and value.kind != "set"]
    return [f"result({source.name}).{_ANY_FIELD}" if source.field == "*" else source.text for source in sources]
