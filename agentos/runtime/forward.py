"""Methods of the embedded API for those who hold no kernel: sent to the one that runs, or refused where none does.

`forwarded` makes a method out of the name of the original: names, parameters and texts are the original's, which is imported with the
first call only. Who may send what is `served`'s.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from agentos.errors import Invalid

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage

__all__ = ["forwarded", "image_sent", "no_kernel", "policy_sent", "refusing"]


def forwarded(where: str, *, process: Callable[[Any, int], Any] | None = None) -> Any:
    """Return the method that sends the call of an original, such as ``history.History.restore``, over `self._link`.

    Args:
        where: Module of `agentos.runtime`, class and method.
        process: Makes a handle of the link and a pid, for originals that return a process.
    """
    module, owner, name = where.split(".")

    async def request(self: Any, *args: Any, **options: Any) -> Any:
        """Send the call to the kernel that runs; see the method of the same name of `Kernel`."""
        bound = _signature(module, owner, name).bind(self, *args, **options)
        sent = {parameter: _sent(parameter, value) for parameter, value in bound.arguments.items() if parameter != "self"}
        value = await self._link.request(name, sent)
        return process(self._link, value) if process is not None else value

    request.__name__ = name
    return request


def refusing(what: str) -> Any:
    """Return the method `what` of a store that no kernel runs."""

    def refuse(self: Any, *args: Any, **options: Any) -> Any:
        """Refuse: nothing runs that could do it."""
        raise no_kernel(what)

    refuse.__name__ = what
    return refuse


def no_kernel(what: str) -> Invalid:
    """Return the error of a method that needs a running kernel."""
    return Invalid("state", f"`{what}` needs a running kernel", hint="no kernel runs; open the store")


@functools.cache
def _signature(module: str, owner: str, name: str) -> inspect.Signature:
    return inspect.signature(getattr(getattr(import_module(f"agentos.runtime.{module}"), owner), name))


def image_sent(image: str | Path | AgentImage) -> Any:
    """Return an image as it can be sent: what names a file becomes its absolute path."""
    if isinstance(image, Path) or (isinstance(image, str) and ("/" in image or image.endswith((".yaml", ".yml")))):
        return Path(image).absolute()
    return image


def policy_sent(policy: Any) -> Any:
    """Return a `policy=` argument as it can be sent: what names a file becomes its absolute path."""
    if isinstance(policy, Path) or (isinstance(policy, str) and "\n" not in policy and policy.endswith(".policy")):
        return Path(policy).absolute()
    if policy is None or isinstance(policy, str):
        return policy
    if getattr(policy, "use", None) is not None:
        raise Invalid(
            "argument", "a policy that reads its used files itself cannot be sent", hint="give its path", field="policy"
        )
    return [policy_sent(each) for each in policy] if isinstance(policy, Iterable) else policy


def _path_sent(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()


_AS: Final[Mapping[str, Callable[[Any], Any]]] = {"image": image_sent, "policy": policy_sent, "path": _path_sent}


def _sent(parameter: str, value: Any) -> Any:
    """Return an argument as it goes over the wire: a process as its pid, a path as this process's, a tuple as a list."""
    if parameter in _AS:
        return _AS[parameter](value)
    if hasattr(value, "pid") and hasattr(value, "call"):
        return value.pid
    if isinstance(value, Path):
        return value.absolute()
    return list(value) if isinstance(value, tuple) else value
