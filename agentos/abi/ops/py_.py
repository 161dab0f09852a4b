"""py: small Python programs of the model, in an interpreter that has nothing but syscalls."""

from __future__ import annotations

from typing import Any

from agentos.abi.ops.declare import Family

FAMILY = Family("py")


@FAMILY.op("pure", on="id:self", name="eval")
def eval_(code: str, inputs: dict[str, Any] = {}) -> dict[str, Any]:  # noqa: B006 - a declaration, never called
    """Run code and return `{value or ref, stdout}`. Its syscalls are decided and journaled one by one, under this call."""
    raise NotImplementedError
