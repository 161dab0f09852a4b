"""ckpt: named points of versioned state, to go back to or to start from."""

from __future__ import annotations

from typing import Any

from agentos.abi.ops.declare import Family

FAMILY = Family("ckpt")
NOW = "now"


def _until_now(args: dict[str, Any], pid: int) -> None:
    if args["b"] is None:
        args["b"] = NOW


@FAMILY.op("local", on="id:self", self_right=True)
def save(note: str = "") -> str:
    """Name this point of the caller's tree; returns the checkpoint's id."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:self", self_right=True, name="list")
def list_() -> list[dict[str, Any]]:
    """List the checkpoints of the caller's tree: `[{id, note, seq, at}]`."""
    raise NotImplementedError


@FAMILY.op("local", on="id:{checkpoint}", self_right=True)
def restore(checkpoint: str) -> None:
    """Take the caller back to one of its own checkpoints. Rights revoked since stay revoked. Does not return."""
    raise NotImplementedError


@FAMILY.op("local", on="id:{checkpoint}")
def fork(checkpoint: str, grant: list[str] = []) -> int:  # noqa: B006 - a declaration, never called
    """Start a child from a checkpoint and return its pid; it holds only what `grant` derives from the caller."""
    raise NotImplementedError


@FAMILY.op("pure", on=("id:{a}", "id:{b}"), prepare=_until_now)
def diff(a: str, b: str | None = None) -> dict[str, Any]:
    """Say what changed between two checkpoints; without `b` until `now`."""
    raise NotImplementedError
