"""exec: commands in the sandbox, as an argument vector, never as shell text."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt

from agentos.abi.ops.declare import Family

FAMILY = Family("exec")


def _overlay(args: dict[str, Any]) -> bool:
    return bool(args["snapshot"] == "overlay")


@FAMILY.op(
    "once",
    on="argv:{argv}",
    late={"executable": str},
    derived={"overlay": (bool, _overlay)},
    trusted=("code",),
    clearance="internal",
    slot="exec",
)
def run(
    argv: list[str],
    cwd: str = ".",
    stdin: str | bytes | None = None,
    env: dict[str, str] = {},  # noqa: B006 - a declaration, never called
    wall_s: Annotated[float, Gt(0)] = 60,
    mem_bytes: Annotated[int, Gt(0)] | None = None,
    cpu_s: Annotated[float, Gt(0)] | None = None,
    procs: Annotated[int, Ge(1)] | None = None,
    net: bool = False,
    snapshot: Literal["off", "changed", "overlay"] = "changed",
) -> dict[str, Any]:
    """Run a command: `{code, stdout, stderr, truncated, ref, peak}`. A non-zero `code` is a value, not an error."""
    raise NotImplementedError
