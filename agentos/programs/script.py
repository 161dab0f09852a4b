"""Script programs: fixed calls, one after the other. The exit value is the list of their results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentos.programs.sys import Sys

__all__ = ["run_script"]


async def run_script(sys: Sys, steps: Iterable[dict[str, Any]]) -> list[Any]:
    """Make each step's call; the first error ends the process."""
    return [await sys(step["op"], **step.get("args", {})) for step in steps]
