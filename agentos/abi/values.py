"""Values that ops return and the API shows. Frozen; equal when live and when replayed from the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

__all__ = ["CapInfo", "ErrorData", "Event", "Exit", "Message", "ProcessInfo", "Ref"]


@dataclass(frozen=True, slots=True)
class ErrorData:
    """An error as data. `code` is a code of the error tree, or ``exception`` for what a program raised (`type` then names it)."""

    code: str
    message: str
    hint: str = ""
    type: str = ""
    fields: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return code and message."""
        return f"{self.code}: {self.message}"


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: `state` is exited, failed or killed; `value` is what its program returned."""

    state: str
    value: Any = None
    error: ErrorData | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One received message. `sender` is a pid, 0 for the host."""

    id: int
    sender: int
    value: Any
    channel: str = "main"
    reply_to: int | None = None
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Ref:
    """Handle of one version of an object: names it, grants nothing."""

    namespace: str
    name: str
    version: int
    digest: str
    type: str = "json"
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CapInfo:
    """One capability as its holder and the host see it. `uses_left` None = unlimited; `expires` None = never; `origin`: host, PID, ask.

    `chain` is who made it from what, from the host (or the ask) to itself; `passes_to` who may get a part of it: descendants, anyone
    (`depth` times), nobody. `state`: live, or expired.
    """

    id: int
    pid: int
    ops: tuple[str, ...]
    pattern: tuple[str, ...]
    text: str
    uses_left: int | None
    expires: float | None
    depth: int | None
    parent: int | None
    origin: str
    state: str = "live"
    chain: tuple[str, ...] = ()
    passes_to: str = "descendants"


@dataclass(frozen=True, slots=True)
class ProcessInfo:
    """One process as `ps` shows it. `usage` and `budget` are per resource; `waiting_on` are words such as ``ask 3``.

    `labels` are the words of what it has read: internal, secret, untrusted.
    """

    pid: int
    ppid: int
    name: str
    image: str
    digest: str
    state: str
    waiting_on: tuple[str, ...]
    goal: str | None
    usage: dict[str, float]
    budget: dict[str, float]
    created: float
    exit: Exit | None = None
    tree: int = 0
    program: str = "host"
    weight: float = 1.0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Event:
    """Something a follower can see happen: spawned, state, call, denied, ask, answered, exited, slow. `seq` orders and resumes."""

    seq: int
    kind: str
    pid: int
    at: float
    data: dict[str, Any] = field(default_factory=dict)
