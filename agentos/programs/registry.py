"""The registry of Python programs: name -> async function, filled by the host's own imports.

INVARIANT visibility-is-not-authority: an image names a program, it never brings one; only code that the host imported, passed to
`open(programs=...)` or installed under the `agentos.programs` entry point can be run.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import entry_points
from types import CodeType, FunctionType
from typing import Any

from agentos.abi.codec import digest
from agentos.abi.op import closest
from agentos.errors import Invalid

__all__ = ["Program", "Programs", "fingerprint", "is_other_code", "program"]

Program = Callable[..., Awaitable[Any]]
_declared: dict[str, Program] = {}


def program(name: str) -> Callable[[Program], Program]:
    """Register an async function ``f(sys, **args)`` as the durable program `name`.

    Registering the same name again replaces it: a reloaded module means the newest code.

    Raises:
        Invalid: it is not an async function.
    """

    def declare(function: Program) -> Program:
        if not inspect.iscoroutinefunction(function):
            raise Invalid("argument", f"program `{name}` is not an async function", hint="write `async def`", field="program")
        _declared[name] = function
        function.__dict__["__agentos_program__"] = name
        return function

    return declare


class Programs:
    """The programs that one kernel can run."""

    def __init__(self, given: Iterable[Program] = ()) -> None:
        self._given: dict[str, Program] = {}
        for function in given:
            name = getattr(function, "__agentos_program__", None)
            if name is None:
                raise Invalid(
                    "argument",
                    f"`{function!r}` is not a program",
                    hint="decorate it with @agentos.program(NAME)",
                    field="programs",
                )
            self._given[name] = function

    def get(self, name: str) -> Program | None:
        """Return the program, or None: from this kernel, from the host's imports, from installed entry points."""
        return self._given.get(name) or _declared.get(name) or _installed(name)

    def find(self, name: str) -> Program:
        """Return the program.

        Raises:
            Invalid: `invalid.state`, the host has not registered it.
        """
        function = self.get(name)
        if function is None:
            hint = (
                closest(name, [*self._given, *_declared])
                or "import the module that declares it, or `agentos run --program FILE.py`"
            )
            raise Invalid("state", f"there is no program `{name}` in this kernel", hint=hint)
        return function


def _installed(name: str) -> Program | None:
    for entry in entry_points(group="agentos.programs", name=name):
        loaded: Program = entry.load()
        _declared.setdefault(name, loaded)
        return loaded
    return None


# --- is it still the same code? ---------------------------------------------------------------------------------------------


def fingerprint(name: str, function: Program) -> str:
    """Return a name of a program's text: ``NAME@PYTHON:DIGEST`` of its code and of the functions of its module that it uses.

    Lines, comments and docstrings do not count. It only ever explains a difference; nothing is refused because of it.
    """
    known: str | None = function.__dict__.get("__agentos_code__")
    if known is None:
        seen: dict[str, FunctionType] = {}
        _reach(function, seen)
        parts = [part for each in sorted(seen) for part in (each.encode(), *_parts(seen[each].__code__))]
        known = f"{sys.version_info[0]}.{sys.version_info[1]}:{digest(*parts).hex()[:16]}"
        function.__dict__["__agentos_code__"] = known
    return f"{name}@{known}"


def is_other_code(before: str, now: str) -> bool:
    """Say whether two fingerprints are of one program, as one Python compiles it, and differ."""
    return before != now and before.partition(":")[0] == now.partition(":")[0]


def _reach(function: Any, seen: dict[str, FunctionType]) -> None:
    """Collect a function and those of its own module that it names."""
    function = inspect.unwrap(function) if callable(function) else function
    if not isinstance(function, FunctionType) or function.__qualname__ in seen:
        return
    seen[function.__qualname__] = function
    for named in _names(function.__code__):
        other = function.__globals__.get(named)
        if getattr(other, "__module__", None) == function.__module__:
            _reach(other, seen)


def _names(code: CodeType) -> Iterable[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _parts(code: CodeType) -> Iterable[bytes]:
    yield code.co_code
    yield repr((code.co_names, code.co_varnames, code.co_freevars, code.co_flags)).encode()
    for at, constant in enumerate(code.co_consts):
        if isinstance(constant, CodeType):
            yield from _parts(constant)
        elif not (at == 0 and (constant is None or isinstance(constant, str))):  # the place of a docstring
            yield repr(sorted(constant, key=repr) if isinstance(constant, frozenset) else constant).encode()
