"""proc: processes, their children and their end."""

from __future__ import annotations

from typing import Any, Literal

from agentos.abi.ops.declare import Family
from agentos.abi.values import Exit

FAMILY = Family("proc")


@FAMILY.op("local", on="id:{image:path}")
def spawn(
    image: str,
    goal: str | None = None,
    args: dict[str, Any] | None = None,
    grant: list[str] = [],  # noqa: B006 - a declaration, never called
    policy: str | None = None,
    budget: dict[str, float] | None = None,
    name: str | None = None,
) -> int:
    """Start a child from an image (`name:version`) and return its pid. It holds only what `grant` derives from the caller."""
    raise NotImplementedError


@FAMILY.op("local", on="id:self")
def fork(goal: str | None = None, grant: list[str] = [], speculative: bool = False) -> int:  # noqa: B006
    """Start a child with the same program state at this point: returns its pid, and 0 in the child."""
    raise NotImplementedError


@FAMILY.op("local", on="id:{image:path}", name="exec")
def exec_(image: str, args: dict[str, Any] | None = None) -> None:
    """Replace the caller's image and start its program anew; capabilities may only shrink. Does not return."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:{pid}", ids={"pid": "pid"})
def wait(pid: int, timeout_s: float | None = None) -> Exit:
    """Wait until a process has ended. `unavailable.timeout` after `timeout_s` seconds; the process is not touched."""
    raise NotImplementedError


@FAMILY.op("local", on="id:{pid}", ids={"pid": "pid"})
def signal(pid: int, signal: Literal["pause", "resume", "interrupt", "kill"]) -> None:
    """Send a signal: pause and resume hold and release it, interrupt ends its open waits, kill ends it and its descendants."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:self", self_right=True, name="list")
def list_(tree: bool = True) -> list[dict[str, Any]]:
    """List the caller and its descendants (`tree=False`: its children only)."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:self", self_right=True, ids={"pid": "pid"})
def info(pid: int | None = None) -> dict[str, Any]:
    """Describe the caller, or one of its descendants."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:self", self_right=True)
def status() -> dict[str, Any]:
    """Say what the caller has left: `{unread, left: {tokens, usd, calls, wall_s}, limits, rights}`.

    `left` and `limits` have what is limited on its way up. `rights` is a fingerprint: another one means that capabilities, policy or
    standing grants have changed.
    """
    raise NotImplementedError


@FAMILY.op("pure", on="id:{pid}", self_right=True, ids={"pid": "pid"})
def overlay(pid: int) -> list[dict[str, Any]]:
    """List what a speculative descendant of the caller has changed in its view of the files: `[{path, kind, size, base, ref}]`.

    `kind` is file, folder or gone; `base` is the sha256 of the file below when it was first changed, or what is there.
    """
    raise NotImplementedError


@FAMILY.op("local", on="id:self", self_right=True, name="exit")
def exit_(value: Any = None) -> None:
    """End the caller with a result. Does not return."""
    raise NotImplementedError


@FAMILY.op("local", on="path:{path}", self_right=True)
def chdir(path: str) -> str:
    """Change the folder that relative paths start from; needs `fs.list` on it. Returns the new folder."""
    raise NotImplementedError


@FAMILY.op("local", on="id:self", self_right=True)
def save(state: Any = None) -> None:
    """Make a save point: the program restarts from here, with `state`, after a crash."""
    raise NotImplementedError


@FAMILY.op("local", on="id:self", asks="takes a label off the process")
def relabel(remove: list[Literal["internal", "secret", "untrusted"]], why: str) -> list[str]:
    """Take words off the caller's label, once a person has agreed that what it knows may be treated so; returns what is left.

    `secret` leaves `internal`.
    """
    raise NotImplementedError
