"""What a condition may test: the attributes of an op, with their types and how their value is found in a call.

    from the call      an argument (``path``), a field of one (``args.user``), its measures (``body.length``, ``body.links``), what
                       follows from them (``size``)
    from the flow      ``flow.level``, ``flow.integrity``, ``flow.readers``; of an argument ``to.level``, ``to.integrity``
    from the kernel    ``proc.pid``, ``proc.image``, ``proc.mode``, ``proc.goal``, ``overlay`` and other FACTS: handed in as `facts`
    from the device    late attributes (``resolved``, ``dest_ip``): handed in with facts or arguments on the second pass

A value that is not there, or null, is None: tests on it are unknown. So is every test on labels where no flow is handed in.
"""

from __future__ import annotations

import dataclasses
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from agentos.abi.labels import LEVELS, UNTRUSTED, level
from agentos.abi.op import Op
from agentos.abi.resource import Kind
from agentos.policy.flow import Flow
from agentos.policy.problems import At, Refusal, did_you_mean

__all__ = [
    "FACTS", "FLOW", "TEXT_CHARS_MAX", "Attribute", "Get", "Type", "attribute_of", "field_type", "flow_of", "known_attributes", "type_of",
]  # fmt: skip

Get = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]

TEXT_CHARS_MAX: Final = 65_536
"""Longer texts are not searched: tests on them are unknown."""


@dataclass(frozen=True, slots=True)
class Type:
    """What values an attribute has. `any` is only known at the call; `opaque` can only be absent; `fields` holds None for any name.

    The `choices` of an ordered one rise from left to right.
    """

    kind: Literal["number", "text", "bool", "list", "fields", "any", "opaque"]
    choices: tuple[str, ...] = ()
    item: Type | None = None
    fields: tuple[tuple[str, Any], ...] | None = None
    value: Type | None = None
    is_ordered: bool = False

    def __str__(self) -> str:
        """Return the word for it in messages."""
        if self.kind == "list":
            return "a list"
        return {"number": "a number", "text": "text", "bool": "true or false", "fields": "an object"}.get(self.kind, "a value")


ANY: Final = Type("any")
_NUMBER: Final = Type("number")
_TEXT: Final = Type("text")
_PLAIN: Final[dict[Any, Type]] = {
    int: _NUMBER,
    float: _NUMBER,
    Decimal: _NUMBER,
    str: _TEXT,
    bool: Type("bool"),
    bytes: Type("opaque"),
}

FACTS: Final[dict[str, Type]] = {
    "proc.pid": _NUMBER, "proc.depth": _NUMBER, "proc.image": _TEXT, "proc.name": _TEXT, "proc.mode": _TEXT, "overlay": Type("bool"),
    "proc.goal": _TEXT,
}  # fmt: skip
"""What the kernel says about the calling process. `overlay`: its file writes go to a copy-on-write layer."""

_LEVEL: Final = Type("text", choices=LEVELS, is_ordered=True)
_INTEGRITY: Final = Type("text", choices=("trusted", "untrusted"))
FLOW: Final[dict[str, Type]] = {
    "flow.level": _LEVEL, "flow.integrity": _INTEGRITY, "flow.readers": Type("list", item=_TEXT),
}  # fmt: skip
"""What the labels of the call say. `flow.readers` is empty: everybody may read what carries no group of readers, and none exist yet."""

_OF_LABEL: Final[dict[str, tuple[Type, Callable[[int], str]]]] = {
    "level": (_LEVEL, lambda label: LEVELS[level(label)]),
    "integrity": (_INTEGRITY, lambda label: "untrusted" if label & UNTRUSTED else "trusted"),
}
_LINK: Final = re.compile(r"https?:[/\\]", re.IGNORECASE)  # browsers forgive one slash, and a wrong one
_OF_TEXT: Final[dict[str, Callable[[str], int | None]]] = {
    "length": len,
    "links": lambda text: len(_LINK.findall(text)) if len(text) <= TEXT_CHARS_MAX else None,
}


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of one op.

    Attributes:
        name: As conditions write it.
        type: What values it has.
        get: Finds the value in (arguments, facts).
        late: True when it is known only at the device.
        resource_kind: Set when it is the argument that names the resource.
        of: Where the value comes from: an ``argument`` or a field of one, what is ``derived`` from the call, what the ``flow`` or the
            ``process`` says, the ``device``.
    """

    name: str
    type: Type
    get: Get
    late: bool = False
    resource_kind: Kind | None = None
    of: Literal["argument", "derived", "flow", "process", "device"] = "argument"


def known_attributes(op: Op) -> list[str]:
    """Return the names that conditions on `op` may start with, the op's own first."""
    return list(dict.fromkeys([*op.arg_names, *op.derived, *op.late, *FLOW, *FACTS]))


def flow_of(facts: Mapping[str, Any]) -> Flow | None:
    """Return what the kernel knows about the process's values and history, or None when nothing was handed in."""
    return facts.get("flow")


def attribute_of(op: Op, name: str, at: At) -> Attribute:
    """Return the attribute `name` of `op`. What the op declares wins over what the kernel says under the same name.

    Raises:
        Refusal: the op has no such attribute.
    """
    root, _, rest = name.partition(".")
    parts = rest.split(".") if rest else []
    if name in FLOW and not (root in op.arg_names and _declares(type_of(op.hints[root]), parts)):
        return _of_flow(name)
    if "." in name and name in FACTS:
        return Attribute(name, FACTS[name], lambda args, facts: facts.get(name), of="process")
    if root in op.arg_names:
        return _argument(op, name, root, parts, at)
    if name in op.derived:
        hint, derive = op.derived[name]
        return Attribute(name, type_of(hint), _derived(name, derive), of="derived")
    if name in op.late:
        return Attribute(name, type_of(op.late[name]), _late(name), late=True, of="device")
    if name in FACTS:
        return Attribute(name, FACTS[name], lambda args, facts: facts.get(name), of="process")
    known = known_attributes(op)
    raise Refusal(
        "E011", f"unknown attribute `{name}` for {op.name}; has: {', '.join(known)}", at,
        hint=did_you_mean(name, known, f"`{op.name}` has: {', '.join(known)}"),
    )  # fmt: skip


def _of_flow(name: str) -> Attribute:
    if name == "flow.readers":
        return Attribute(name, FLOW[name], lambda args, facts: None if flow_of(facts) is None else [], of="flow")
    word = _OF_LABEL[name.partition(".")[2]][1]

    def get(args: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
        flow = flow_of(facts)
        return None if flow is None else word(flow.label)

    return Attribute(name, FLOW[name], get, of="flow")


def _is_of_kernel(name: str) -> bool:
    """Say whether the kernel hands in a fact of this name with every call, so that it says nothing about the op's own attribute."""
    return name in FACTS or name == "flow"


def _derived(name: str, derive: Callable[[dict[str, Any]], Any]) -> Get:
    """Return how a derived attribute is found: a fact of its name stands for it."""

    def get(args: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
        given = facts.get(name)
        return derive(typing.cast("dict[str, Any]", args)) if given is None else given

    return (lambda args, facts: derive(typing.cast("dict[str, Any]", args))) if _is_of_kernel(name) else get


def _late(name: str) -> Get:
    if _is_of_kernel(name):
        return lambda args, facts: args.get(name)
    return lambda args, facts: facts[name] if name in facts else args.get(name)


def _argument(op: Op, name: str, root: str, rest: list[str], at: At) -> Attribute:
    kind = type_of(op.hints[root])
    if rest and not _declares(_walk(op, name, kind, rest[:-1], at), rest[-1:]):
        last, inner = rest[-1], _walk(op, name, kind, rest[:-1], at)
        if last in _OF_LABEL:
            return Attribute(name, _OF_LABEL[last][0], _label_of(root, tuple(rest[:-1]), last), of="flow")
        if last in _OF_TEXT and "text" in (inner.kind, inner.item.kind if inner.item else ""):
            measured = _NUMBER if inner.kind == "text" else Type("list", item=_NUMBER)
            return Attribute(name, measured, _measure_of(root, tuple(rest[:-1]), _OF_TEXT[last]), of="derived")
    kind = _walk(op, name, kind, rest, at)
    if not rest:
        on = next((template.kind for template in op.resources if template.kind != "id" and template.field == root), None)
        return Attribute(name, kind, lambda args, facts: args.get(root), resource_kind=on)
    path = tuple(rest)
    return Attribute(name, kind, lambda args, facts: _dig(args.get(root), path))


def _declares(kind: Type, parts: list[str]) -> bool:
    """Say whether a type declares a field by name; an object that may have any field declares none."""
    for part in parts:
        while kind.kind == "list" and kind.item is not None:
            kind = kind.item
        fields = dict(kind.fields or ())
        if part not in fields:
            return False
        kind = type_of(fields[part])
    return True


def _label_of(root: str, path: tuple[str, ...], word: str) -> Get:
    read = _OF_LABEL[word][1]

    def get(args: Mapping[str, Any], facts: Mapping[str, Any]) -> str | None:
        flow, value = flow_of(facts), _dig(args.get(root), path)
        return None if flow is None or value is None else read(flow.origin(value).label)

    return get


def _measure_of(root: str, path: tuple[str, ...], measure: Callable[[str], int | None]) -> Get:
    def one(value: Any) -> int | None:
        return measure(value) if isinstance(value, str) else None

    def get(args: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
        value = _dig(args.get(root), path)
        return [one(item) for item in value] if isinstance(value, list | tuple) else one(value)

    return get


def _walk(op: Op, name: str, kind: Type, parts: list[str], at: At) -> Type:
    for part in parts:
        kind = field_type(kind, part, f"`{name}` of {op.name}", at)
    return kind


def field_type(kind: Type, part: str, whose: str, at: At) -> Type:
    """Return the type of a field; over a list, of each element's.

    Raises:
        Refusal: a value of this type has no such field. `whose` names it in the message.
    """
    if kind.kind == "any":
        return ANY
    if kind.kind == "list" and kind.item is not None:
        inner = field_type(kind.item, part, whose, at)
        return inner if inner.kind == "list" else Type("list", item=inner)
    if kind.kind == "fields" and kind.value is not None:
        return kind.value
    fields = dict(kind.fields or ())
    if part in fields:
        return type_of(fields[part])
    has = f"; has: {', '.join(fields)}" if fields else f", it is {kind}"
    raise Refusal(
        "E011",
        f"{whose}: no field `{part}`{has}",
        at,
        hint=did_you_mean(part, fields, "test the argument itself"),
    )


def _dig(value: Any, path: tuple[str, ...]) -> Any:
    if value is None or not path:
        return value
    if isinstance(value, (list, tuple)):
        found = [_dig(item, path) for item in value]
        return [inner for item in found for inner in item] if found and all(isinstance(item, list) for item in found) else found
    if isinstance(value, Mapping):
        return _dig(value.get(path[0]), path[1:])
    return _dig(getattr(value, path[0], None), path[1:])


def type_of(hint: Any) -> Type:
    """Return the type that a declaration's annotation stands for; what has no type here is `any`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return _PLAIN[hint]
    if origin in (typing.Annotated, typing.NotRequired, typing.Required):
        return type_of(arguments[0])
    if origin is Literal:
        return _choices(arguments)
    if origin in (typing.Union, types.UnionType):
        return _union([type_of(argument) for argument in arguments if argument is not type(None)])
    if origin in (list, tuple, set, frozenset) or hint in (list, tuple, set, frozenset):
        return Type("list", item=type_of(arguments[0]) if arguments else ANY)
    if origin is dict or hint is dict:
        return Type("fields", value=type_of(arguments[1]) if arguments else ANY)
    if dataclasses.is_dataclass(hint) or hasattr(hint, "__required_keys__") or hasattr(hint, "model_fields"):
        names = typing.get_type_hints(hint, include_extras=True)
        return Type("fields", fields=tuple((name, inner) for name, inner in names.items() if not name.startswith("_")))
    return ANY


def _choices(values: tuple[Any, ...]) -> Type:
    if all(isinstance(value, str) for value in values):
        return Type("text", choices=values)
    kinds = {type(value) for value in values}
    return _PLAIN.get(kinds.pop(), ANY) if len(kinds) == 1 else ANY


def _union(kinds: list[Type]) -> Type:
    tested = [kind for kind in kinds if kind.kind != "opaque"]
    if not tested:
        return Type("opaque")
    return tested[0] if len({kind.kind for kind in tested}) == 1 and len(tested) == 1 else _widened(tested)


def _widened(kinds: list[Type]) -> Type:
    if all(kind.kind == "number" for kind in kinds):
        return _NUMBER
    return _TEXT if all(kind.kind == "text" for kind in kinds) else ANY
