"""How a family of built-in ops is declared: one stub function per op, whose signature and docstring are the declaration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from agentos.abi.op import Derived, Effect, Op
from agentos.abi.resource import Kind, Template

__all__ = ["Family"]

F = TypeVar("F", bound=Callable[..., Any])


class Family:
    """The ops of one built-in device or room, in the order of its declaration file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ops: list[Op] = []

    def op(
        self,
        effect: str,
        *,
        on: str | tuple[str, ...],
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
        name: str = "",
    ) -> Callable[[F], F]:
        """Declare the decorated stub as an op of this family.

        Args:
            effect: Effect class.
            on: The resource as ``kind:template`` (``path:{path}``, ``id:image/{image}``), or several.
            sinks: Arguments through which data leaves.
            self_right: Every process may do it to itself, always or when the function of (arguments, pid) says so.
            prepare: Fills defaults that depend on the calling pid.
            trusted: Result fields that the device vouches for.
            untrusted: What it returns comes from outside.
            clearance: Strictest level of what may go out through its arguments.
            asks: Why a person is asked about every call.
            slot: Scarce resource that it occupies.
            late: Late attributes with their types.
            derived: Attributes computed from the arguments.
            ids: As of `Op`.
            by_profile: As of `Op`.
            name: The verb, where the stub cannot have its name.
        """

        def declare(stub: F) -> F:
            templates = tuple(_template(text) for text in ((on,) if isinstance(on, str) else on))
            op = Op(
                f"{self.name}.{name or stub.__name__}",
                stub,
                Effect(effect),
                templates,
                sinks=sinks, self_right=self_right, prepare=prepare, late=late, derived=derived, trusted=trusted, untrusted=untrusted,
                clearance=clearance, asks=asks, slot=slot, ids=ids, by_profile=by_profile,
            )  # fmt: skip
            self.ops.append(op)
            return stub

        return declare


def _template(text: str) -> Template:
    kind, _, template = text.partition(":")
    kinds: dict[str, Kind] = {"path": "path", "url": "url", "argv": "argv", "id": "id"}
    return Template(kinds[kind], template)
