"""agentos: a library OS for LLM agents.

    async with agentos.open("team.db", workspace="work/") as kernel:
        process = await kernel.spawn("images/coder.yaml", goal="make the tests pass")
        exit = await process.wait()

Or, for one answer: `agentos.run("summarise notes/", tools=[lookup], result=Summary)`.

Agents are processes with lineage, capabilities and checkpoints. Everything they do goes through one door, is decided by capability and
policy, is written down before it happens, and survives a crash. Start with README.md, then ARCHITECTURE.md.

Names are imported when they are first used, so that importing agentos costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from agentos.errors import AgentOSError, Denied, Invalid, KernelPanic, Unavailable

if TYPE_CHECKING:
    from agentos import models
    from agentos.abi.fence import trusted, untrusted
    from agentos.abi.image import AgentImage as Image
    from agentos.abi.secret import Secret
    from agentos.abi.syscall import NOT_STARTED, UNKNOWN
    from agentos.abi.values import CapInfo, Event, Exit, Message, ProcessInfo, Ref
    from agentos.devices.app import Call, Device
    from agentos.kernel.ask import Ask
    from agentos.policy import Policy
    from agentos.programs.registry import program
    from agentos.runtime.boot import Open as open  # noqa: A004, N813 - the frozen name
    from agentos.runtime.client import connect
    from agentos.runtime.kernel import Kernel
    from agentos.runtime.once import arun, run
    from agentos.runtime.outcome import Decision, Entry, Outcome
    from agentos.runtime.process import Process
    from agentos.runtime.sync import open_sync

__all__ = [
    "NOT_STARTED", "UNKNOWN", "AgentOSError", "Ask", "Call", "CapInfo", "Decision", "Denied", "Device", "Entry", "Event", "Exit", "Image",
    "Invalid", "Kernel", "KernelPanic", "Message", "Outcome", "Policy", "Process", "ProcessInfo", "Ref", "Secret", "Unavailable", "arun",
    "connect", "models", "open", "open_sync", "program", "run", "trusted", "untrusted",
]  # fmt: skip
__version__ = "0.1.0"

_PLACES = {
    "NOT_STARTED": "abi.syscall", "UNKNOWN": "abi.syscall", "Ask": "kernel.ask", "Call": "devices.app", "CapInfo": "abi.values",
    "Decision": "runtime.outcome", "Device": "devices.app", "Entry": "runtime.outcome", "Event": "abi.values", "Exit": "abi.values",
    "Image": "abi.image:AgentImage", "Kernel": "runtime.kernel", "Message": "abi.values", "Outcome": "runtime.outcome", "Policy": "policy",
    "Process": "runtime.process", "ProcessInfo": "abi.values", "Ref": "abi.values", "Secret": "abi.secret", "arun": "runtime.once",
    "connect": "runtime.client", "open": "runtime.boot:Open", "open_sync": "runtime.sync", "program": "programs.registry",
    "run": "runtime.once", "trusted": "abi.fence", "untrusted": "abi.fence",
}  # fmt: skip
_MODULES = frozenset({"models", "testing"})


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{name}")
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module `agentos` has no attribute `{name}`")
    module, _, attribute = place.partition(":")
    value = getattr(import_module(f"{__name__}.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
