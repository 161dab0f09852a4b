"""From a supposed call to a call that can be made: witnesses, verified by the evaluator that decides for real.

A comparison supposes things apart: a resource, the arguments, what follows from these, what is known only at the device. Here they are put
together as the op would do it; what still tells the two layers apart then is a witness.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import unquote

from agentos.abi.op import Op
from agentos.abi.resource import Resource, Template, Url
from agentos.errors import Invalid
from agentos.policy.attributes import Type, type_of
from agentos.policy.decide import Stack
from agentos.policy.flow import Origin
from agentos.policy.narrow.flow import Supposed
from agentos.policy.narrow.probe import Key
from agentos.policy.narrow.text import Text
from agentos.policy.narrow.value import UNKNOWN, Option, is_optional
from agentos.policy.question import shown
from agentos.policy.syntax import Outcome
from agentos.policy.verdict import RANK, width_of

__all__ = ["Pair", "Said", "Sample", "Witness", "facts_of", "filler", "freer", "statement_witness", "witness_of"]

_VARIANTS_MAX: Final = 24
_CHARS_MAX: Final = 2_000_000
_SHOWN_CHARS: Final = 60
_URL_PARTS: Final = frozenset({"scheme", "host", "port"})


@dataclass(frozen=True, slots=True)
class Said:
    """What a layer says about one call."""

    outcome: Outcome
    remember: str
    obligations: frozenset[str]

    def __str__(self) -> str:
        """Return it in words."""
        return f"ask, remember {self.remember}" if self.outcome == "ask" and self.remember else self.outcome


@dataclass(frozen=True, slots=True)
class Sample:
    """A supposed call: each root has one of its options, whether they can come together or not."""

    resources: tuple[Resource, ...]
    options: Mapping[Key, Option]
    own: bool


@dataclass(frozen=True, slots=True)
class Witness:
    """A call, or a statement, on which two layers differ.

    Attributes:
        op: The op; empty when the difference is a statement.
        resources: Canonical resources.
        args: Validated arguments.
        facts: What the kernel and the device say, with the `Flow` under ``flow``.
        late: Late attributes that are known, empty on the first pass.
        own: The caller has a right over itself to the call.
        old: What the old layer says: deny, ask or allow, with the scope of answers where that differs.
        new: What the new layer says.
        note: What else tells them apart: an obligation, a limit, a label.
        shown: The arguments that `text` shows: those that are neither defaults nor in the resource.
    """

    op: str
    resources: tuple[Resource, ...]
    args: dict[str, Any]
    facts: dict[str, Any]
    late: frozenset[str]
    own: bool
    old: str
    new: str
    note: str = ""
    shown: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the call as a person reads it, on one line."""
        if not self.op:
            return self.note
        words = [self.op, *(_shown(resource.text, 4 * _SHOWN_CHARS) for resource in self.resources)]
        words += [f"{name}={_shown(self.args[name])}" for name in self.shown]
        given = "; ".join(self._settings())
        call = " ".join(words) + (f" ({given})" if given else "")
        said = f"{self.old} before, {self.new} after" if self.old != self.new else f"{self.old} before and after"
        return f"{call}: {said}" + (f"; {self.note}" if self.note else "")

    def _settings(self) -> Iterator[str]:
        for name, value in self.facts.items():
            if isinstance(value, Supposed):
                yield from value.described()
            elif name in self.late or "." in name:
                yield f"{name} is {'unknown' if value is None else _shown(value)}"


class Pair:
    """Two layers, ready to decide calls of one op."""

    def __init__(self, op: Op, old: Stack, new: Stack) -> None:
        self.op = op
        self._stacks = (old, new)

    def say(
        self,
        resources: tuple[Resource, ...],
        args: dict[str, Any],
        facts: Mapping[str, Any],
        late: frozenset[str],
        *,
        own: bool,
    ) -> tuple[Said, Said]:
        """Return what each says about a call."""
        said = []
        for stack in self._stacks:
            verdict = stack.decide(self.op, resources, args, facts, late=late, own=own)
            said.append(Said(verdict.outcome, verdict.remember, stack.obligations(self.op, resources, args, facts)))
        return said[0], said[1]


def freer(old: Said, new: Said) -> bool:
    """Say whether `new` lets a call through more freely than `old`: by its outcome, the scope of answers or its obligations."""
    if RANK[new.outcome] != RANK[old.outcome]:
        return RANK[new.outcome] > RANK[old.outcome]
    if new.outcome == "ask" and _is_wider(old.remember, new.remember):
        return True
    return new.outcome != "deny" and not old.obligations <= new.obligations


def _duties_note(old: Said, new: Said, *, reverse: bool) -> str:
    """Say which obligations tell two answers of the same outcome apart."""
    words = sorted(new.obligations - old.obligations if reverse else old.obligations - new.obligations)
    if old.outcome != new.outcome or not words:
        return ""
    named = f"`{'`, `'.join(words)}` {'is' if len(words) == 1 else 'are'}"
    return f"{named} required now" if reverse else f"{named} no longer required"


def _is_wider(old: str, new: str) -> bool:
    """Say whether a person may answer for more. A duration and the process cannot be compared: either way it is more."""
    return width_of(new) > width_of(old) or (new == "process" and 2 <= width_of(old) < 3)


def facts_of(sample: Sample, origins: bool = True) -> tuple[dict[str, Any], frozenset[str]]:
    """Return the facts of a supposed call, and which late attributes are known."""
    facts: dict[str, Any] = {}
    late: set[str] = set()
    history: dict[str, Any] = {}
    for (place, name), option in sample.options.items():
        if place == "history":
            history[name] = option.value
        elif place == "device" and option.value is not UNKNOWN:
            late.add(name)
            facts[name] = option.value
        elif place in ("process", "derived"):
            facts[name] = option.value
    flow = sample.options.get(("flow", ""))
    if flow is None or flow.value is not UNKNOWN:
        known = [pair for option in sample.options.values() for pair in option.origins]
        by_object = {id(value): origin for value, origin in known} if origins else {}
        facts["flow"] = Supposed(flow.value if flow else 0, by_object, history, {} if origins else _by_value(known))
    return facts, frozenset(late)


def _by_value(known: Iterable[tuple[Any, Origin]]) -> dict[tuple[str, Any], Origin]:
    """Return origins as a kernel knows them, by value; the label that was supposed of a list or object, its parts have."""
    found: dict[tuple[str, Any], Origin] = {}
    for value, origin in sorted(known, key=lambda pair: isinstance(pair[0], list | dict)):
        if not isinstance(value, list | dict):
            found.setdefault((type(_plain(value)).__name__, _plain(value)), origin)
            continue
        for part in map(_plain, value if isinstance(value, list) else value.values()):
            if not isinstance(part, list | dict):
                key = (type(part).__name__, part)
                found[key] = Origin(origin.label, found[key].sources if key in found else origin.sources)
    return found


def witness_of(pair: Pair, sample: Sample, *, reverse: bool) -> Witness | None:
    """Return a call that can be made, near a supposed one, that new treats more freely than old (`reverse`: the other way round)."""
    op = pair.op
    facts, late = facts_of(sample, origins=False)
    for name in op.derived:
        facts.pop(name, None)
    facts = {name: _plain(value) for name, value in facts.items()}
    pid = facts.get("proc.pid", 1)
    for number, draft in enumerate(_drafts(op, sample)):
        if number >= _VARIANTS_MAX:
            return None
        try:
            args = op.validate(draft)
            resources = op.render(args, "/", pid)
            own = op.is_self_right(args, pid)
        except Invalid:
            continue
        old, new = pair.say(resources, args, facts, late, own=own)
        if freer(new, old) if reverse else freer(old, new):
            note = _duties_note(old, new, reverse=reverse)
            return Witness(op.name, resources, args, facts, late, own, str(old), str(new), note, _telling(op, args))
    return None


def statement_witness(note: str) -> Witness:
    """Return what stands for a statement on which two layers differ."""
    return Witness("", (), {}, {}, frozenset(), False, "", "", note)


def _telling(op: Op, args: Mapping[str, Any]) -> tuple[str, ...]:
    fields = {name for template in op.resources for name in template.fields}
    return tuple(
        name
        for name in op.arg_names
        if name not in fields and (name not in op.defaults or args.get(name, op.defaults[name]) != op.defaults[name])
    )


# --- drafts of arguments ----------------------------------------------------------------------------------------------------


def _drafts(op: Op, sample: Sample) -> Iterator[dict[str, Any]]:
    """Iterate over arguments that may realise a supposed call, the likeliest first."""
    tested = {name: option.value for (place, name), option in sample.options.items() if place == "argument"}
    base = {name: filler(op, name) for name in op.arg_names if name not in op.defaults}
    base |= {name: _plain(value) for name, value in tested.items()}
    tied: dict[str, Any] = {}
    for template, resource in zip(op.resources, sample.resources, strict=True):
        tied |= _named_by(op, template, resource)
    for start in ({**base, **tied, **_moved(op, sample)}, {**base, **tied}, base):
        if all(name in start for template in op.resources for name in template.fields):
            yield start
            yield from _stretched(start, tested)
            yield from _sized(op, start, sample)
    if tied:  # some names are capital letters only
        yield {**base, **{name: value.upper() if isinstance(value, str) else value for name, value in tied.items()}}


def _moved(op: Op, sample: Sample) -> dict[str, Any]:
    """Return URLs with the scheme, host and port that were supposed to follow from them."""
    found: dict[str, Any] = {}
    for template, resource in zip(op.resources, sample.resources, strict=True):
        if isinstance(resource.value, Url):
            parts: dict[str, Any] = {
                name: int(option.value) if name == "port" else str(option.value)
                for (place, name), option in sample.options.items()
                if place == "derived" and name in _URL_PARTS
            }
            url = replace(resource.value, **parts)
            found[template.field] = url.text
    return found


def _named_by(op: Op, template: Template, resource: Resource) -> dict[str, Any]:
    """Return the arguments that a resource was rendered from."""
    if template.kind in ("path", "url"):
        return {template.field: resource.text}
    if isinstance(resource.value, tuple):
        return {template.field: list(resource.value)}
    pattern = re.escape(template.text)
    for name in template.fields:
        pattern = pattern.replace(re.escape(f"{{{name}:path}}"), f"(?P<{name}>.+)").replace(
            re.escape(f"{{{name}}}"), f"(?P<{name}>[^/]+)"
        )
    found = re.fullmatch(pattern, resource.text, re.DOTALL)
    return {} if found is None else {name: unquote(text) for name, text in found.groupdict().items()}


def _stretched(draft: dict[str, Any], tested: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Make texts as long as they were said to be."""
    for name, value in tested.items():
        if isinstance(value, Text) and str.__len__(value) < value.chars <= _CHARS_MAX:
            text, more = str(value), "x" * (value.chars - str.__len__(value))
            for at in dict.fromkeys((str.__len__(value), 0, str.__len__(value) // 2)):
                yield {**draft, name: text[:at] + more + text[at:]}


def _sized(op: Op, draft: dict[str, Any], sample: Sample) -> Iterator[dict[str, Any]]:
    """Give a text that nothing else tests the length that a derived number wants."""
    sizes = [option.value for (place, _), option in sample.options.items() if place == "derived"]
    tested = {name for (place, name), _ in sample.options.items() if place == "argument"}
    fields = {name for template in op.resources for name in template.fields}
    for size in sizes:
        if isinstance(size, int | float) and not isinstance(size, bool) and 0 <= size <= _CHARS_MAX:
            for name in op.arg_names:
                if (
                    name not in tested | fields
                    and type_of(op.hints[name]).kind == "text"
                    and not type_of(op.hints[name]).choices
                ):
                    yield {**draft, name: "x" * int(size)}


def filler(op: Op, name: str) -> Any:
    """Return some value of an argument that nothing tests."""
    if name in op.defaults:
        return op.defaults[name]
    return None if is_optional(op.hints[name]) else _some(type_of(op.hints[name]))


def _some(kind: Type) -> Any:
    if kind.kind == "text":
        return kind.choices[0] if kind.choices else "x"
    if kind.kind == "fields":
        return {name: _some(type_of(hint)) for name, hint in kind.fields or ()}
    return {"number": 1, "bool": False, "list": [], "opaque": b""}.get(kind.kind, "x")


def _plain(value: Any) -> Any:
    """Return a value without what comparisons add to it."""
    if isinstance(value, bool) or value is None:
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):
            return str.__str__(value) if kind is str else kind(value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def _shown(value: Any, chars_max: int = _SHOWN_CHARS) -> str:
    """Return a value for a person: cut, and with nothing in it that a terminal would obey."""
    text = value if isinstance(value, str) else shown(value)
    text = text if len(text) <= chars_max else f"{text[:chars_max]}... ({len(text)} characters)"
    return text if text.isprintable() else ascii(text)[1:-1]
