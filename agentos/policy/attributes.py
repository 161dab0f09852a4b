"""What a condition may test: the attributes of an op, with their types and how their value is found in a call.

    from the call      an argument (``path``), a field of one (``args.user``), what follows from them (``size``)
    from the kernel    ``proc.pid``, ``proc.depth``, ``proc.image``, ``proc.name``: handed in as `facts`
    from the device    late attributes (``resolved``, ``dest_ip``): handed in with facts or arguments on the second pass

A value that is not there, or null, is None: tests on it are unknown.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

from agentos.abi.op import Op
from agentos.abi.resource import Kind
from agentos.policy.problems import At, Refusal, did_you_mean

__all__ = ["FACTS", "Attribute", "Type", "attribute_of", "known_attributes"]

Get = Callable[[Mapping[str, Any], Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Type:
    """What values an attribute has. `any` is only known at the call; `opaque` can only be absent; `fields` holds None for any name."""

    kind: Literal["number", "text", "bool", "list", "fields", "any", "opaque"]
    choices: tuple[str, ...] = ()
    item: Type | None = None
    fields: tuple[tuple[str, Any], ...] | None = None
    value: Type | None = None

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

FACTS: Final[dict[str, Type]] = {"proc.pid": _NUMBER, "proc.depth": _NUMBER, "proc.image": _TEXT, "proc.name": _TEXT}
"""What the kernel says about the calling process."""

_NOT_YET: Final = frozenset({"level", "integrity", "readers"})


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of one op. `resource_kind` is set when it is the argument that names the resource."""

    name: str
    type: Type
    get: Get
    late: bool = False
    resource_kind: Kind | None = None


def known_attributes(op: Op) -> list[str]:
    """Return the names that conditions on `op` may start with, the op's own first."""
    return [*op.arg_names, *op.derived, *op.late, *FACTS]


def attribute_of(op: Op, name: str, at: At) -> Attribute:
    """Return the attribute `name` of `op`.

    Raises:
        Refusal: the op has no such attribute, or this version knows nothing about it yet.
    """
    root, _, rest = name.partition(".")
    if root == "flow" or (rest and name.rpartition(".")[2] in _NOT_YET):
        raise Refusal(
            "E002", f"`{name}` is not enforced by this version", at, hint="labels and flow come later; leave the test out"
        )
    if name in FACTS:
        return Attribute(name, FACTS[name], lambda args, facts: facts.get(name))
    if root in op.arg_names:
        return _argument(op, name, root, rest.split(".") if rest else [], at)
    if name in op.derived:
        hint, derive = op.derived[name]
        return Attribute(name, type_of(hint), _derived(name, derive))
    if name in op.late:
        return Attribute(
            name, type_of(op.late[name]), lambda args, facts: facts[name] if name in facts else args.get(name), late=True
        )
    known = known_attributes(op)
    raise Refusal(
        "E011", f"unknown attribute `{name}` for {op.name}; has: {', '.join(known)}", at,
        hint=did_you_mean(name, known, f"`{op.name}` has: {', '.join(known)}"),
    )  # fmt: skip


def _derived(name: str, derive: Callable[[dict[str, Any]], Any]) -> Get:
    def get(args: Mapping[str, Any], facts: Mapping[str, Any]) -> Any:
        given = facts.get(name)
        return derive(typing.cast("dict[str, Any]", args)) if given is None else given

    return get


def _argument(op: Op, name: str, root: str, rest: list[str], at: At) -> Attribute:
    kind = type_of(op.hints[root])
    for part in rest:
        kind = _field(op, name, kind, part, at)
    if not rest:
        on = next((template.kind for template in op.resources if template.kind != "id" and template.field == root), None)
        return Attribute(name, kind, lambda args, facts: args.get(root), resource_kind=on)
    path = tuple(rest)
    return Attribute(name, kind, lambda args, facts: _dig(args.get(root), path))


def _field(op: Op, name: str, kind: Type, part: str, at: At) -> Type:
    if kind.kind == "any":
        return ANY
    if kind.kind == "list" and kind.item is not None:
        inner = _field(op, name, kind.item, part, at)
        return inner if inner.kind == "list" else Type("list", item=inner)
    if kind.kind == "fields" and kind.value is not None:
        return kind.value
    fields = dict(kind.fields or ())
    if part in fields:
        return type_of(fields[part])
    has = f"; has: {', '.join(fields)}" if fields else f", it is {kind}"
    raise Refusal(
        "E011",
        f"`{name}` of {op.name}: no field `{part}`{has}",
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
    if origin is typing.Annotated:
        return type_of(arguments[0])
    if origin is Literal:
        return _choices(arguments)
    if origin in (typing.Union, types.UnionType):
        return _union([type_of(argument) for argument in arguments if argument is not type(None)])
    if origin in (list, tuple, set, frozenset) or hint in (list, tuple, set, frozenset):
        return Type("list", item=type_of(arguments[0]) if arguments else ANY)
    if origin is dict or hint is dict:
        return Type("fields", value=type_of(arguments[1]) if arguments else ANY)
    if dataclasses.is_dataclass(hint) or typing.is_typeddict(hint) or hasattr(hint, "model_fields"):
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
