"""skill: folders of instructions that a model loads when it needs them."""

from __future__ import annotations

from typing import Any

from agentos.abi.ops.declare import Family

FAMILY = Family("skill")


@FAMILY.op("pure", on="id:self", self_right=True, name="list")
def list_() -> list[dict[str, Any]]:
    """List the skills of the caller's image: `[{name, description}]`."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:{name}")
def load(name: str) -> str:
    """Return a skill's instructions. Tools that it bundles are proposed, not installed."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:{name}")
def read(name: str, path: str) -> str:
    """Return one file of a skill, by its path inside the skill."""
    raise NotImplementedError
