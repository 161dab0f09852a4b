"""The op table: what every syscall is called, takes, returns, touches and risks.

A *declaration* is a Python signature: argument names, types and defaults in positional order, the result type, and the docstring.
Built-in families are declared in `agentos.abi.ops` by stub functions, an app's device by its own functions; both become an `Op`
here, so there is one table for the broker, policies, tools, the command line and the docs.
The pydantic model of an op's arguments is built once, when the op is first called or asked for its schema.
"""

from __future__ import annotations

import inspect
import re
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from typing import Any, Final

from agentos.abi.labels import LEVELS
from agentos.abi.resource import Resource, Template
from agentos.errors import Invalid

__all__ = ["OP_NAME", "PROFILE_DEFAULT", "Derived", "Effect", "Op", "OpTable", "closest"]

OP_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z][A-Za-z0-9_]*)+")


PROFILE_DEFAULT: Final = "default"  # the model profile of an image that names none


class Effect(StrEnum):
    """What a crash may do to a call, declared by every op; undeclared means `once`."""

    PURE = "pure"  # no effect: rerun freely
    LOCAL = "local"  # the store only: exactly once, in one transaction with its row
    REPEATABLE = "repeatable"  # outside, harmless to repeat
    KEYED = "keyed"  # outside, takes an idempotency key
    PROBEABLE = "probeable"  # the device can tell whether it happened
    ONCE = "once"  # outside, never repeated by itself

    @property
    def is_harmless(self) -> bool:
        """True for the classes that may be repeated as often as one likes."""
        return self.inside or self is Effect.REPEATABLE

    @property
    def inside(self) -> bool:
        """True for the classes that need no intent before they run."""
        return self is Effect.PURE or self is Effect.LOCAL


Derived = tuple[type, Callable[[dict[str, Any]], Any]]
"""An attribute that policies may test though it is not an argument: its type, and how it follows from the arguments."""


def closest(word: str, known: Iterable[str]) -> str:
    """Return a did-you-mean hint for `word`, or an empty text when nothing is near."""
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else ""


class Op:
    """One syscall type.

    Args:
        name: ``device.verb``.
        signature: A function whose parameters are the arguments. It is only inspected, never called.
        effect: Effect class.
        resources: Templates, in the order in which they are decided; most ops have one.

    Keyword Args:
        sinks: Arguments through which data or value leaves: a policy's allow must mention each (or say `any`).
        self_right: True when every process may call it for itself without a capability; or a function of (arguments, pid).
        prepare: Fills defaults that depend on the calling pid into the arguments, before the resource is rendered.
        late: Attributes known only at the device (`resolved`, `dest_ip`, `redirect`), with their types; decided again there.
        derived: Attributes that follow from the arguments, for example the `size` of a write.
        trusted: Fields of the result that the device vouches for; ``*`` is the whole result.
        untrusted: True when what it returns comes from outside: every field that is not in `trusted` is then untrusted.
        clearance: The strictest confidentiality (``public``, ``internal``, ``secret``) that may go out through its arguments; "" leaves
            that to the policy.
        asks: Why a person is asked about every call, whatever the policy says; "" for nearly all ops.
        slot: Name of the scarce resource that a call occupies while it runs, or "" for none.
        ids: Arguments that name a process or a capability -> ``pid`` or ``cap``: a process that was restored under other ids goes on using
            those that it knows, and they are translated.
        by_profile: True for model calls: without a `profile` they are made with that of the caller's image, which is its own right.
        skip: Number of leading parameters of `signature` that are not arguments (a `ctx`).
    """

    def __init__(  # noqa: PLR0913 - a declaration: every argument is one thing that is declared
        self,
        name: str,
        signature: Callable[..., Any],
        effect: Effect,
        resources: tuple[Template, ...],
        *,
        sinks: Iterable[str] = (),
        self_right: bool | Callable[[dict[str, Any], int], bool] = False,
        prepare: Callable[[dict[str, Any], int], None] | None = None,
        late: dict[str, type] | None = None,
        derived: dict[str, Derived] | None = None,
        trusted: Iterable[str] = (),
        untrusted: bool = False,
        clearance: str = "",
        asks: str = "",
        slot: str = "",
        ids: Mapping[str, str] | None = None,
        by_profile: bool = False,
        skip: int = 0,
    ) -> None:
        if not OP_NAME.fullmatch(name):
            raise Invalid("op", f"`{name}` is not an op name", hint="use letters, digits and `_` as `device.verb`", field=name)
        self.name = name
        self.effect = effect
        self.resources = resources
        self.sinks = frozenset(sinks)
        self.self_right = self_right if not by_profile else lambda args, pid: bool(args["profile"] == PROFILE_DEFAULT)
        self.prepare = prepare
        self.late = late or {}
        self.derived = derived or {}
        self.trusted = frozenset(trusted)
        self.untrusted = untrusted
        self.asks = asks
        if clearance and clearance not in LEVELS:
            raise Invalid("op", f"`{name}`: `{clearance}` is no level", hint=f"use one of {', '.join(LEVELS)}", field=name)
        self.clearance = LEVELS.index(clearance) if clearance else None
        self.slot = slot
        self.ids = ids or {}
        self.by_profile = by_profile
        self.spelled = tuple(field for template in resources if template.kind in ("path", "url") for field in template.fields)
        self.key_bytes = name.encode()
        self.inside = effect.inside
        self._signature = signature
        self._skip = skip
        self.doc = inspect.getdoc(signature) or ""
        unknown = (self.sinks | {f for t in resources for f in t.fields}) - set(self.arg_names)
        if unknown:
            raise Invalid("op", f"`{name}` has no argument `{min(unknown)}`", hint="check resource= and sinks=", field=name)

    def __repr__(self) -> str:
        """Return the name and effect class."""
        return f"<Op {self.name} {self.effect}>"

    @cached_property
    def arg_names(self) -> tuple[str, ...]:
        """Argument names in declared order, which is also the order of positional arguments."""
        return tuple(self._parameters)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The declared defaults of the optional arguments."""
        return {name: p.default for name, p in self._parameters.items() if p.default is not inspect.Parameter.empty}

    @cached_property
    def _parameters(self) -> dict[str, inspect.Parameter]:
        return dict(list(inspect.signature(self._signature).parameters.items())[self._skip :])

    @cached_property
    def hints(self) -> dict[str, Any]:
        """Types of the arguments and, under ``return``, of the result.

        Raises:
            Invalid: `invalid.op`, an argument or the result is undeclared or its type is unknown.
        """
        try:
            hints = typing.get_type_hints(self._signature, include_extras=True)
        except NameError as error:
            raise Invalid(
                "op", f"`{self.name}`: {error}", hint="declare types that exist at module level", field=self.name
            ) from error
        for name in (*self.arg_names, "return"):
            if name not in hints:
                raise Invalid("op", f"`{self.name}` declares no type for `{name}`", hint="annotate it", field=self.name)
        return hints

    @cached_property
    def model(self) -> Any:
        """The pydantic model of the arguments, built on first use; unknown arguments are refused."""
        from pydantic import ConfigDict, create_model  # noqa: PLC0415 - heavy, and only needed when a model is

        fields: dict[str, Any] = {
            name: (self.hints[name], ... if p.default is inspect.Parameter.empty else p.default)
            for name, p in self._parameters.items()
        }
        title = "".join(part.capitalize() for part in self.name.split("."))
        config = ConfigDict(extra="forbid", arbitrary_types_allowed=False, protected_namespaces=())
        return create_model(title, __config__=config, **fields)

    @cached_property
    def _validate(self) -> Callable[[dict[str, Any]], Any]:
        validate: Callable[[dict[str, Any]], Any] = self.model.__pydantic_validator__.validate_python
        return validate

    @cached_property
    def _adapter(self) -> Any:
        from pydantic import TypeAdapter  # noqa: PLC0415 - heavy, and only needed when a result is typed

        return TypeAdapter(self.hints["return"])

    @cached_property
    def restore(self) -> Callable[[Any], Any]:
        """Give a decoded result the type that the op declares. Plain data passes untouched."""
        if self.hints["return"] in (Any, None, type(None), int, str, bool, float, bytes, str | bytes):
            return _identity
        restore: Callable[[Any], Any] = self._adapter.validate_python
        return restore

    @cached_property
    def schema(self) -> dict[str, Any]:
        """JSON schema of the arguments, as models and editors see it."""
        schema: dict[str, Any] = self.model.model_json_schema()
        return schema

    def validate(self, args: dict[str, Any]) -> dict[str, Any]:
        """Coerce the arguments once and fill defaults in. The dict returned is fresh: policy, digest, journal, device all see it.

        Raises:
            Invalid: `invalid.argument` naming the first wrong field, what was expected, and the nearest known name.
        """
        try:
            values: dict[str, Any] = self._validate(args).__dict__
        except ValueError as error:
            raise self._explain(error) from error
        return values

    def _explain(self, error: ValueError) -> Invalid:
        first = error.errors()[0] if hasattr(error, "errors") else {"loc": ("",), "msg": str(error), "type": ""}
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = closest(field, self.arg_names) or f"it takes {', '.join(self.arg_names) or 'no arguments'}"
            return Invalid("argument", f"`{self.name}` has no argument `{field}`", field=field, hint=hint)
        return Invalid("argument", f"`{field}` of `{self.name}`: {first['msg']}", field=field, hint=f"it takes {self.usage}")

    @property
    def usage(self) -> str:
        """The arguments as a person writes them: ``path, bytes_max=1048576``."""
        shown = [
            name if p.default is inspect.Parameter.empty else f"{name}={p.default!r}" for name, p in self._parameters.items()
        ]
        return ", ".join(shown) or "no arguments"

    def named(self, positional: tuple[Any, ...], args: dict[str, Any]) -> dict[str, Any]:
        """Merge positional arguments, taken in declared order, into keyword arguments.

        Raises:
            Invalid: more positional arguments than the op has, or one given twice.
        """
        if len(positional) > len(self.arg_names):
            raise Invalid("argument", f"`{self.name}` takes {len(self.arg_names)} arguments", hint=f"it takes {self.usage}")
        merged = dict(zip(self.arg_names, positional, strict=False))
        for name in merged.keys() & args.keys():
            raise Invalid("argument", f"`{name}` of `{self.name}` is given twice", field=name)
        return {**merged, **args}

    def translate(self, args: dict[str, Any], known: Mapping[str, Mapping[str, int]]) -> None:
        """Replace ids in `args` that a process knows from before a restore by today's: `known` has, by kind, old id as text -> new."""
        for name, kind in self.ids.items():
            args[name] = known.get(kind, {}).get(str(args.get(name)), args.get(name))

    def is_self_right(self, args: dict[str, Any], pid: int, profile: str = PROFILE_DEFAULT) -> bool:
        """Say whether process `pid`, whose image has that model profile, may make this call without a capability."""
        if self.by_profile:
            return bool(args["profile"] == profile)
        right = self.self_right
        return right if isinstance(right, bool) else right(args, pid)

    def render(self, args: dict[str, Any], cwd: str, pid: int, profile: str = PROFILE_DEFAULT) -> tuple[Resource, ...]:
        """Return the canonical resources of a call by `pid`, whose image has that model profile; puts canonical values back into `args`."""
        if self.by_profile and args["profile"] is None:
            args["profile"] = profile
        if self.prepare is not None:
            self.prepare(args, pid)
        templates = self.resources
        if len(templates) == 1:
            return (templates[0].render(args, cwd),)
        return tuple(template.render(args, cwd) for template in templates)


def _identity(value: Any) -> Any:
    return value


class OpTable:
    """Name -> Op: every syscall this kernel knows, built in or mounted."""

    def __init__(self, ops: Iterable[Op] = ()) -> None:
        self._ops: dict[str, Op] = {}
        for op in ops:
            self.add(op)

    def add(self, op: Op) -> None:
        """Add one op.

        Raises:
            Invalid: `invalid.op`, the name is taken.
        """
        if op.name in self._ops:
            raise Invalid("op", f"`{op.name}` exists already", hint="mount the device under another name", field=op.name)
        self._ops[op.name] = op

    def get(self, name: str) -> Op | None:
        """Return the op called `name`, or None."""
        return self._ops.get(name)

    def find(self, name: str) -> Op:
        """Return the op called `name`.

        Raises:
            Invalid: `invalid.op` with the nearest known name.
        """
        op = self._ops.get(name)
        if op is None:
            hint = closest(str(name), self._ops) or "the op `tool.list` lists those that a process may call"
            raise Invalid("op", f"there is no op `{name}`", hint=hint, field=str(name))
        return op

    def matching(self, pattern: str) -> list[Op]:
        """Return the ops that ``*``, ``fs.*`` or ``fs.read`` names, in the order they were added."""
        if pattern == "*":
            return list(self._ops.values())
        if pattern.endswith(".*"):
            return [op for op in self._ops.values() if op.name.startswith(pattern[:-1])]
        op = self._ops.get(pattern)
        return [op] if op else []

    def __iter__(self) -> Iterator[Op]:
        """Iterate over the ops in the order they were added."""
        return iter(self._ops.values())

    def __contains__(self, name: str) -> bool:
        """Say whether an op of that name exists."""
        return name in self._ops

    def __len__(self) -> int:
        """Return the number of ops."""
        return len(self._ops)
