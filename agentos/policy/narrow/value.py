"""Values of one root that stand for all its values: every combination of answers that the tests on it can give, once.

Values are built by the declared type, then decided by the real tests; what answers alike is kept once. Lists are grown by one element at a
time until no list answers differently, which is complete because `every` and `some` only join answers.
"""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from annotated_types import Ge

from agentos.abi.op import Op
from agentos.policy.attributes import FACTS, Type, type_of
from agentos.policy.flow import Origin
from agentos.policy.narrow.automaton import Allowance
from agentos.policy.narrow.flow import LABELS, Supposed, origins_of
from agentos.policy.narrow.probe import Probe, Root
from agentos.policy.narrow.text import Asked, Findings, Text, numbers, texts
from agentos.policy.syntax import Aggregate, From, PatternRef, Test

__all__ = ["UNKNOWN", "Option", "Values", "is_optional"]

OPTIONS_MAX: Final = 4_000
_SAID: Final = {"proc.pid": Annotated[int, Ge(1)], "proc.depth": Annotated[int, Ge(0)], "proc.image": str, "proc.name": str}
"""What a kernel says about every process."""
_TestPath = tuple[tuple[str, ...], Probe]


class _Unknown:
    def __repr__(self) -> str:
        return "unknown"


UNKNOWN: Final = _Unknown()
"""The value of a late attribute on the pass that does not know it yet, and of the flow where there is none."""


class _Whole(int):
    """A number that is an object of its own."""


class _Real(float):
    """A number that is an object of its own."""


@dataclass(frozen=True, slots=True)
class Option:
    """One value of a root, where its parts come from (by object), and what its tests answer, by number (``later``: not on this pass)."""

    value: Any
    origins: tuple[tuple[Any, Origin], ...] = ()
    answers: dict[int, Any] = field(default_factory=dict)


_Built = tuple[Any, tuple[tuple[Any, Origin], ...]]


class Values:
    """Makes the options of the roots of one op. `findings.exact` is False once some of them are not known to be complete."""

    def __init__(self, op: Op, allowance: Allowance) -> None:
        self._op = op
        self._allowance = allowance
        self.findings = Findings()

    def options(self, root: Root, given: Sequence[str] | None = None) -> list[Option]:
        """Return the options of a root. `given` are its values where its resource decides them."""
        place = root.key[0]
        probes = list(root.probes.values())
        if place == "flow":
            built: Iterable[_Built] = [(label, ()) for label in LABELS] + [(UNKNOWN, ())]
        elif place == "history":
            built = [(value, ()) for value in _histories(probes)]
        elif given is not None:
            built = [pair for text in given for pair in self._from_anywhere(Text(text), probes)]
        else:
            built = self._of_type(root)
        found: list[Option] = []
        for value, origins in _bounded(built, self.findings):
            if not self._allowance.take(len(probes)):
                self.findings.exact = False
                break
            found.append(Option(value, origins, self.answers(root, value, origins)))
        if given is not None:
            return found
        return list({tuple(option.answers.items()): option for option in reversed(found)}.values())[::-1]

    def answers(self, root: Root, value: Any, origins: tuple[tuple[Any, Origin], ...]) -> dict[int, Any]:
        """Return what the tests of a root answer about one value of it."""
        place, name = root.key
        if place == "device" and value is UNKNOWN:
            return dict.fromkeys(root.probes, "later")
        args: dict[str, Any] = {name: value} if place == "argument" else {}
        facts: dict[str, Any] = {"flow": Supposed(origins={id(part): origin for part, origin in origins})}
        if place == "flow":
            facts = {} if value is UNKNOWN else {"flow": Supposed(value)}
        elif place == "history":
            facts = {"flow": Supposed(history={name: value})}
        elif place != "argument":
            facts[name] = value
        late = frozenset({name}) if place == "device" else frozenset[str]()
        return {number: probe.condition(args, facts, late) for number, probe in root.probes.items()}

    def _of_type(self, root: Root) -> Iterator[_Built]:
        place, name = root.key
        probes = list(root.probes.values())
        hint, kind = self._declared(place, name)
        yield from self._values(kind, [(probe.path, probe) for probe in probes], hint)
        if place == "argument":
            if is_optional(hint, self._op.defaults.get(name, ...)):
                yield None, ()
        elif place == "derived":
            self.findings.exact = self.findings.exact and not is_optional(hint)
        elif name not in _SAID:
            yield None, ()
        if place == "device":
            yield UNKNOWN, ()

    def _declared(self, place: str, name: str) -> tuple[Any, Type]:
        if place == "process":
            return _SAID.get(name), FACTS[name]
        if place == "argument":
            return self._op.hints[name], type_of(self._op.hints[name])
        hint = self._op.derived[name][0] if place == "derived" else self._op.late[name]
        return hint, type_of(hint)

    # --- by type ------------------------------------------------------------------------------------------------------------

    def _values(self, kind: Type, tests: Sequence[_TestPath], hint: Any, *, inside: bool = False) -> Iterator[_Built]:
        """Build values of a type. `inside` an element, `every` and `some` have been heeded."""
        here = [probe for path, probe in tests if not path]
        is_asked = any(isinstance(probe.leaf, Test) and probe.leaf.asked for _, probe in tests)
        if inside and kind.kind == "list":
            self.findings.exact = False
        elif kind.kind == "list" or (kind.kind == "any" and is_asked and not inside):
            yield from self._lists(kind.item or kind, _item_hint(hint), tests)
        if kind.kind == "any":
            yield {}, ()
        if kind.kind == "fields" or (kind.kind == "any" and any(path for path, _ in tests)):
            yield from self._objects(kind, [(path, probe) for path, probe in tests if path], here, inside=inside)
        if kind.kind == "opaque":
            yield b"", ()
        for value in self._scalars(kind, here, hint):
            yield from self._from_anywhere(value, here)

    def _scalars(self, kind: Type, probes: Sequence[Probe], hint: Any) -> Iterator[Any]:
        if kind.choices:
            yield from map(Text, kind.choices)
            return
        asked, constants = _asked(probes)
        if kind.kind in ("text", "any"):
            yield from (text if isinstance(text, Text) else Text(text) for text in texts(asked, self.findings, self._allowance))
        if kind.kind in ("number", "any"):
            is_whole = hint is not None and _is_whole(hint)
            for number in numbers(constants, is_whole=is_whole, bounds=_bounds(hint)):
                yield _Real(number) if isinstance(number, float) else _Whole(number)
        if kind.kind in ("bool", "any"):
            yield from (True, False)

    def _from_anywhere(self, value: Any, probes: Sequence[Probe]) -> Iterator[_Built]:
        origins = origins_of(probes, self.findings)
        if not origins:
            yield value, ()
        for origin in origins:
            own = (
                Text(str(value), len(value))
                if isinstance(value, str)
                else value
                if isinstance(value, bool)
                else type(value)(value)
            )
            yield own, ((own, origin),)

    def _objects(self, kind: Type, tests: Sequence[_TestPath], here: Sequence[Probe], *, inside: bool) -> Iterator[_Built]:
        """Build objects with every combination of values of the tested fields; any of these may be missing."""
        declared = dict(kind.fields or ())
        names = list(dict.fromkeys(path[0] for path, _ in tests))
        choices: list[list[_Built]] = []
        for name in names:
            inner = type_of(declared[name]) if name in declared else kind.value or Type("any")
            below = [(path[1:], probe) for path, probe in tests if path[0] == name]
            values = self._values(inner, below, declared.get(name), inside=inside)
            choices.append([*_bounded(values, self.findings), (None, ())])
        for parts in itertools.product(*choices):
            made = {name: value for name, (value, _) in zip(names, parts, strict=True) if value is not None}
            known = tuple(pair for _, pairs in parts for pair in pairs)
            origins = origins_of(here, self.findings)
            yield from ((copy := dict(made), (*known, (copy, origin))) for origin in origins) if origins else [(made, known)]

    def _lists(self, item: Type, hint: Any, tests: Sequence[_TestPath]) -> Iterator[_Built]:
        """Grow lists until none answers differently; a list's own origin is taken to be free of its elements'."""
        on_elements = [(path, probe) for path, probe in tests if isinstance(probe.leaf, Test) and probe.leaf.asked]
        whole = [probe for path, probe in tests if not path and isinstance(probe.leaf, Test) and not probe.leaf.asked]
        values = self._values(item, on_elements, hint, inside=True)
        elements: list[_Built] = [*_bounded(values, self.findings)]
        elements += [(None, ())] if hint is None or is_optional(hint) else []
        elements = _distinct(elements, lambda one: self._answers_of([one[0]], one[1], on_elements))
        todo: list[_Built] = [([], ())]
        known: set[Any] = {(self._answers_of([], (), on_elements), False)}
        for made, origins in todo:
            for element, its in elements:
                longer: _Built = ([*made, element], (*origins, *its))
                key = (self._answers_of(*longer, on_elements), True)
                if key not in known:
                    known.add(key)
                    todo.append(longer)
            if len(todo) > OPTIONS_MAX:
                self.findings.exact = False
                break
        own = origins_of(whole, self.findings)
        for made, origins in (
            sorted(todo, key=lambda one: not one[0]) if own else todo
        ):  # only a full list has an origin of its own
            yield from ((copy := list(made), (*origins, (copy, origin))) for origin in own) if own else [(made, origins)]

    def _answers_of(self, made: list[Any], origins: Any, tests: Sequence[_TestPath]) -> tuple[bool | None, ...]:
        flow = Supposed(origins={id(part): origin for part, origin in origins})
        return tuple(_at(probe, path, made, flow) for path, probe in tests)


def _at(probe: Probe, path: tuple[str, ...], made: list[Any], flow: Supposed) -> bool | None:
    """Decide a test on a list that stands where its path, up to the elements, leads."""
    value: Any = made
    for name in reversed(probe.path[: len(probe.path) - len(path)]):
        value = {name: value}
    return probe.condition(
        {probe.key[1]: value}, {"flow": flow}, frozenset({probe.key[1]}) if probe.key[0] == "device" else frozenset()
    )


def _distinct(built: Iterable[_Built], answers: Callable[[_Built], Any]) -> list[_Built]:
    return list({answers(one): one for one in reversed(list(built))}.values())[::-1]


def _bounded(built: Iterable[_Built], findings: Findings) -> Iterator[_Built]:
    for number, one in enumerate(built):
        if number >= OPTIONS_MAX:
            findings.exact = False
            return
        yield one


def _histories(probes: Sequence[Probe]) -> list[Any]:
    if any(isinstance(probe.leaf, Aggregate) and probe.leaf.verb == "after" for probe in probes):
        return [False, True]
    constants = [
        float(leaf.value.value) for probe in probes if isinstance(leaf := probe.leaf, Aggregate) and leaf.value is not None
    ]
    is_count = any(isinstance(probe.leaf, Aggregate) and probe.leaf.verb == "count" for probe in probes)
    return numbers(constants, is_whole=is_count, bounds=(("ge", 0),))


def _asked(probes: Sequence[Probe]) -> tuple[Asked, list[float]]:
    """Return what tests ask of a text, and the numbers they compare with."""
    asked = Asked()
    constants: list[float] = []
    for probe in probes:
        if isinstance(probe.leaf, Test) and probe.measure not in ("level", "integrity"):
            measured = asked.lengths if probe.measure == "length" else asked.links if probe.measure == "links" else constants
            _ask(probe.leaf, probe, asked, measured)
    return asked, constants


def _ask(test: Test, probe: Probe, asked: Asked, constants: list[float]) -> None:
    for value in test.values:
        if isinstance(value, PatternRef):
            asked.globs += probe.sets[value.text]
        elif isinstance(value, From):
            asked.globs += probe.sets[value.name] if value.kind == "set" else ()
        elif isinstance(value.value, str):
            into = {"like": asked.globs, "matches": asked.expressions, "in_cidr": asked.networks}.get(test.verb, asked.whole)
            into.append(value.value)
        elif not isinstance(value.value, bool):
            constants.append(value.value)


def is_optional(hint: Any, default: Any = ...) -> bool:
    """Say whether an argument of this declared type may be null."""
    if default is None or hint is Any or hint is object:
        return True
    if typing.get_origin(hint) is typing.Annotated:
        return is_optional(typing.get_args(hint)[0])
    return typing.get_origin(hint) in (typing.Union, types.UnionType) and any(
        part is type(None) or is_optional(part) for part in typing.get_args(hint)
    )


def _item_hint(hint: Any) -> Any:
    """Return the declared type of a list's elements, None where it is not plain."""
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    if typing.get_origin(hint) in (list, set, frozenset):
        return parts[0]
    is_wrapped = typing.get_origin(hint) is typing.Annotated or (
        typing.get_origin(hint) in (typing.Union, types.UnionType) and len(parts) == 1
    )
    return _item_hint(parts[0]) if is_wrapped else None


def _is_whole(hint: Any) -> bool:
    if typing.get_origin(hint) is typing.Annotated:
        return _is_whole(typing.get_args(hint)[0])
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return all(_is_whole(part) for part in typing.get_args(hint) if part is not type(None))
    if typing.get_origin(hint) is typing.Literal:
        return all(isinstance(value, int) for value in typing.get_args(hint))
    return hint is int


def _bounds(hint: Any) -> list[tuple[str, float]]:
    """Return what an annotation demands of a number; nothing where several types are possible."""
    parts = [part for part in typing.get_args(hint) if part is not type(None)]
    if typing.get_origin(hint) is typing.Annotated:
        demands = [
            (word, getattr(part, word)) for part in parts[1:] for word in ("ge", "gt", "le", "lt") if hasattr(part, word)
        ]
        return [*demands, *_bounds(parts[0])]
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    return _bounds(parts[0]) if is_union and len(parts) == 1 else []
