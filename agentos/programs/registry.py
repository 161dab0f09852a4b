"""The registry of Python programs: name -> async function, filled by the host's own imports.

INVARIANT visibility-is-not-authority: an image names a program, it never brings one; only code that the host imported, passed to
`open(programs=...)` or installed under the `agentos.programs` entry point can be run.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from importlib.metadata import entry_points
from typing import Any

from agentos.abi.op import closest
from agentos.errors import Invalid

__all__ = ["Program", "Programs", "program"]

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
