"""How a family of kernel ops is bound: verb -> handler(core, permit, args)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from agentos.abi.permit import Permit
from agentos.abi.syscall import Syscall

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["Handler", "serve"]

Handler = Callable[["Core", Permit, dict[str, Any]], Any]


def serve(core: Core, family: str, handlers: Mapping[str, Handler], *, awaits: bool = False) -> list[Syscall]:
    """Bind each handler to its op; the permit is spent here, before the handler sees anything (no-effect-without-permit).

    Args:
        core: The kernel's state.
        family: The device.
        handlers: Verb -> handler.
        awaits: The handlers are coroutine functions.
    """
    return [
        Syscall(core.ops.find(f"{family}.{verb}"), partial(_spend, handler, core, f"{family}.{verb}"), awaits=awaits)
        for verb, handler in handlers.items()
    ]


def _spend(handler: Handler, core: Core, name: str, permit: Permit, args: dict[str, Any]) -> Any:
    permit.spend(name)
    return handler(core, permit, args)
