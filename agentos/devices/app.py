"""Device: ops made of an application's own Python functions.

    bank = agentos.Device("bank")

    @bank.op(resource="acct/{account}", effect="keyed", sinks=("to", "amount"))
    async def transfer(ctx: agentos.Call, account: str, to: str, amount: Decimal) -> Receipt: ...

The signature is the declaration: argument names, types, defaults, the result type, the docstring. `Device.syscalls()` turns every
function into a served op, or refuses the device as a whole (`invalid.op`): nothing undeclared is ever mounted.
A coroutine function runs on the event loop, any other in a worker thread. This is not an authority: mounting adds syscalls, and
each still needs a capability.

INVARIANT no-effect-without-permit: the function runs only inside a handler that has spent its permit.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import anyio.from_thread

from agentos.abi.op import Effect, Op
from agentos.abi.permit import Permit
from agentos.abi.resource import Kind, Template
from agentos.abi.syscall import Syscall
from agentos.devices.signature import from_json_schema, takes_context, without_bound
from agentos.devices.threads import Threads
from agentos.errors import AgentOSError, Invalid, KernelPanic, Unavailable

__all__ = ["AppOp", "Call", "Device"]

Function: TypeAlias = Callable[..., Any]
Declared: TypeAlias = "Function | tuple[Any, ...]"

_KINDS: Final[dict[str, Kind]] = {"path": "path", "url": "url", "argv": "argv", "id": "id"}


@dataclass(frozen=True, slots=True)
class Call:
    """What a function may know of the call it performs: its optional first parameter, by convention ``ctx``.

    Attributes:
        pid: The calling process.
        seq: Journal number of the intent, 0 for a pure op.
        key: Idempotency key, equal on every attempt of this call and of no other.
        attempt: 1 on the first run.
        deadline: When the call times out, in seconds since the epoch, or None.
        secrets: The device's secrets by name; never journaled.
    """

    pid: int
    seq: int
    key: str
    attempt: int = 1
    deadline: float | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    _recheck: Function | None = field(default=None, repr=False, compare=False)

    def recheck(self, attribute: str, value: Any) -> None:
        """Have a late attribute of the op decided, before the effect it describes. Any thread.

        Raises:
            Denied: capability or policy refuse the value.
        """
        if self._recheck is not None:
            self._recheck(attribute, value)


class AppOp:
    """One declared op. Called, it is the plain function; nothing is checked then."""

    def __init__(self, name: str, function: Function, options: dict[str, Any]) -> None:
        function = without_bound(function)
        self.name = name
        self.function = function
        self.options = options
        self.prober: Function | None = None
        self.signature = function
        self.absent: frozenset[str] = frozenset()
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the plain function."""
        return self.function(*args, **kwargs)

    def reconcile(self, function: Function) -> Function:
        """Declare how to find out after a crash whether the effect happened.

        The function takes what the op takes and returns the op's result, `agentos.NOT_STARTED` or `agentos.UNKNOWN`.
        """
        self.prober = function
        return function


class Device:
    """A named set of ops.

    Args:
        name: Letters, digits and `_`; the ops are ``NAME.OP`` unless it is mounted under another name.
        secrets: Values that the functions find in `ctx.secrets`; they are never journaled.
    """

    def __init__(self, name: str, *, secrets: Mapping[str, str] | None = None) -> None:
        self.name = name
        self._secrets = dict(secrets or {})
        self._ops: dict[str, AppOp] = {}
        self._threads = Threads()

    def __repr__(self) -> str:
        """Return the name and the ops."""
        return f"<Device {self.name}: {', '.join(self._ops) or 'no ops'}>"

    def op(  # noqa: PLR0913 - the frozen API
        self,
        resource: str | Function | None = None,
        *,
        kind: str = "id",
        effect: str = "once",
        sinks: Iterable[str] = (),
        trusted: Iterable[str] = (),
        name: str | None = None,
        late: Mapping[str, type] | None = None,
    ) -> Any:
        """Declare the decorated function as an op.

        Args:
            resource: Template over the arguments (``acct/{account}``); none = ``NAME/op``.
            kind: Kind of resource: id, path, url or argv. The last three are exactly one argument, ``{argument}``.
            effect: Effect class: pure, repeatable, keyed, probeable or once.
            sinks: Arguments through which data or value leaves.
            trusted: Fields of the result that the device vouches for, ``*`` for all of it; the rest is untrusted.
            name: The verb, where the function cannot have its name.
            late: Attributes with their types that the function hands to `ctx.recheck`.

        Raises:
            Invalid: `invalid.op`, the device has an op of that name.
        """
        if callable(resource):
            return self.op()(resource)
        options = {
            "resource": resource, "kind": kind, "effect": effect, "sinks": (sinks,) if isinstance(sinks, str) else tuple(sinks),
            "trusted": (trusted,) if isinstance(trusted, str) else tuple(trusted), "late": dict(late or {}),
        }  # fmt: skip

        def declare(function: Function) -> AppOp:
            return self._add(AppOp(name or function.__name__, function, options))

        return declare

    @classmethod
    def from_functions(cls, name: str, ops: Mapping[str, Declared], *, secrets: Mapping[str, str] | None = None) -> Device:
        """Make a device of functions that are declared elsewhere.

        Args:
            name: Name of the device.
            ops: Verb -> function, (function, options as for `op`), or (JSON schema of the arguments, function) with options as an
                optional third part; a function with a schema may return any data.
            secrets: As for `Device`.

        Raises:
            Invalid: `invalid.op`, an option is unknown or a schema is not understood.
        """
        device = cls(name, secrets=secrets)
        for verb, declared in ops.items():
            function, options, schema = _parts(f"{name}.{verb}", declared)
            app: AppOp = device.op(**{**options, "name": verb})(function)
            if schema is not None:
                app.signature, app.absent = from_json_schema(f"{name}.{verb}", schema, inspect.getdoc(function) or "")
        return device

    def _add(self, op: AppOp) -> AppOp:
        if op.name in self._ops:
            raise Invalid("op", f"`{self.name}.{op.name}` is declared twice", field=op.name, hint="pass name= to one of them")
        self._ops[op.name] = op
        return op

    def syscalls(self, mounted: str | None = None) -> list[Syscall]:
        """Return the served ops.

        Args:
            mounted: Name under which the device is mounted, when that is another.

        Raises:
            Invalid: `invalid.op`: a bad name, an undeclared argument or result type, a type that cannot be stored, a keyed op without
                `ctx`, a probeable op without `reconcile`, a local op, a resource or sink that names no argument.
        """
        return [self._serve(op, mounted or self.name) for op in self._ops.values()]

    def _serve(self, app: AppOp, device: str) -> Syscall:
        name = f"{device}.{app.name}"
        if inspect.isgeneratorfunction(app.function) or inspect.isasyncgenfunction(app.function):
            raise Invalid("op", f"`{name}` is a generator", field=name, hint="return a list: a call has one result")
        has_schema = app.signature is not app.function
        takes_ctx = takes_context(app.function, Call, name, is_declared=has_schema)
        effect = _effect(name, app, takes_ctx)
        template = _template(name, app, f"{device}/{app.name}")
        options = app.options
        skip = 1 if takes_ctx and not has_schema else 0
        op = Op(
            name,
            app.signature,
            effect,
            (template,),
            sinks=options["sinks"],
            late=options["late"],
            trusted=options["trusted"],
            untrusted="*" not in options["trusted"],
            skip=skip,
        )
        _check_types(op)
        prober = None
        if app.prober is not None:
            prober = self._handler(name, app.prober, app.absent, takes_context(app.prober, Call, name, is_declared=has_schema))
        return Syscall(op, self._handler(name, app.function, app.absent, takes_ctx), prober)

    def _handler(self, name: str, function: Function, absent: frozenset[str], takes_ctx: bool) -> Function:
        is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)

        async def handle(permit: Permit, args: dict[str, Any]) -> Any:
            permit.spend(name)
            given = {key: value for key, value in args.items() if not (value is None and key in absent)}
            context = (self._context(permit, is_async),) if takes_ctx else ()
            if is_async:
                return await self._guarded_async(name, function, context, given)
            return await self._threads.run(functools.partial(self._guarded, name, function, context, given), name)

        return handle

    def _context(self, permit: Permit, on_loop: bool) -> Call:
        recheck = permit.recheck
        if recheck is not None and not on_loop:
            recheck = functools.partial(anyio.from_thread.run_sync, recheck)
        return Call(permit.pid, permit.seq, permit.key, permit.attempt, permit.deadline, self._secrets, recheck)

    def _guarded(self, name: str, function: Function, context: tuple[Call, ...], args: dict[str, Any]) -> Any:
        try:
            return function(*context, **args)
        except (AgentOSError, KernelPanic):
            raise
        except Exception as error:  # the edge to foreign code: whatever it raises is the device's answer
            raise self._failed(name, error) from error

    async def _guarded_async(self, name: str, function: Function, context: tuple[Call, ...], args: dict[str, Any]) -> Any:
        try:
            return await function(*context, **args)
        except (AgentOSError, KernelPanic):
            raise
        except Exception as error:  # the edge to foreign code: whatever it raises is the device's answer
            raise self._failed(name, error) from error

    def _failed(self, name: str, error: Exception) -> Unavailable:
        """Return what a process is told of an exception; it may quote anything, but not the device's secrets."""
        said = str(error)
        for secret, value in self._secrets.items():
            said = said.replace(value, f"[secret {secret}]") if value else said
        text = f"{type(error).__name__}: {said}" if said else type(error).__name__
        hint = "the device said no; look at its own message"
        return Unavailable("device", f"`{name}` failed: {text}", may_have_happened=False, hint=hint, op=name)


def _parts(op: str, declared: Declared) -> tuple[Function, dict[str, Any], Mapping[str, Any] | None]:
    """Take one entry of `from_functions` apart: function, options, schema."""
    parts: list[Any] = list(declared) if isinstance(declared, tuple) else [declared]
    schema = parts.pop(0) if parts and isinstance(parts[0], Mapping) else None
    rest: tuple[Any, ...] = (*parts, {}, {})
    function, options = rest[:2]
    if not callable(function) or not isinstance(options, Mapping):
        raise Invalid(
            "op", f"`{op}` is not a function", field=op, hint="give function, (function, options) or (schema, function)"
        )
    unknown = set(options) - {"resource", "kind", "effect", "sinks", "trusted", "late"}
    if unknown:
        raise Invalid("op", f"`{op}` has an unknown option `{min(unknown)}`", field=op, hint="see `Device.op`")
    return function, dict(options), schema


def _effect(name: str, app: AppOp, takes_ctx: bool) -> Effect:
    word = app.options["effect"]
    if word not in [str(effect) for effect in Effect]:
        raise Invalid("op", f"`{name}`: `{word}` is no effect class", field=name, hint=f"use one of {', '.join(Effect)}")
    effect = Effect(word)
    if effect is Effect.LOCAL:
        hint = "a device acts outside of the store: declare keyed, probeable or once"
        raise Invalid("op", f"`{name}` cannot be local", field=name, hint=hint)
    if effect is Effect.KEYED and not takes_ctx:
        raise Invalid(
            "op", f"`{name}` is keyed but takes no `ctx`", field=name, hint="take `ctx: agentos.Call` and pass ctx.key on"
        )
    if effect is Effect.PROBEABLE and app.prober is None:
        raise Invalid("op", f"`{name}` is probeable but has no reconcile", field=name, hint=f"add `@{app.name}.reconcile`")
    return effect


def _template(name: str, app: AppOp, default: str) -> Template:
    kind, text = app.options["kind"], app.options["resource"]
    if kind not in _KINDS:
        raise Invalid("op", f"`{name}`: `{kind}` is no kind of resource", field=name, hint=f"use one of {', '.join(_KINDS)}")
    if kind != "id" and (text is None or not (text[:1] == "{" and text[-1:] == "}" and text[1:-1].isidentifier())):
        raise Invalid("op", f"`{name}`: a {kind} resource is one argument", field=name, hint='write resource="{argument}"')
    return Template(_KINDS[kind], text if text is not None else default)


def _check_types(op: Op) -> None:
    """Build what validates arguments and result now, so that a bad type refuses the device and not its first call."""
    from pydantic.errors import PydanticUserError  # noqa: PLC0415 - heavy, and only needed when a device is mounted

    result = op.hints["return"]
    try:
        _ = op.model, op.restore
    except (PydanticUserError, NameError, TypeError) as error:
        text = str(error).partition("\n")[0]
        hint = "use pydantic models, dataclasses or JSON types"
        raise Invalid("op", f"`{op.name}` has a type that cannot be stored: {text}", field=op.name, hint=hint) from error
    known = getattr(result, "__pydantic_fields__", None) or getattr(result, "__dataclass_fields__", None)
    for name in op.trusted - {"*"} if known else ():
        if name not in (known or ()):
            raise Invalid("op", f"the result of `{op.name}` has no field `{name}`", field=op.name, hint="check trusted=")
