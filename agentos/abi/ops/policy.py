"""policy: the caller's own layer, and what the layers would say."""

from __future__ import annotations

from typing import Any

from agentos.abi.ops.declare import Family

FAMILY = Family("policy")


@FAMILY.op("local", on="id:self")
def update(text: str) -> str:
    """Replace the caller's own layer. Narrower applies at once, wider asks a person first; returns the layer's digest."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:self", self_right=True)
def explain(op: str, args: dict[str, Any]) -> dict[str, Any]:
    """Say what would be decided about a call of the caller and why, without making it."""
    raise NotImplementedError
