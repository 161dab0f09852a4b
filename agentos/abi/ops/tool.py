"""tool: what the caller's model sees, and tools that agents write themselves. A tool never grants anything."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from agentos.abi.limits import LIST_LIMIT_MAX
from agentos.abi.ops.declare import Family

FAMILY = Family("tool")


@FAMILY.op("pure", on="id:jit", self_right=True, name="list")
def list_() -> list[dict[str, Any]]:
    """List the caller's tools: `[{name, description, ops, schema, effect}]`."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:jit", self_right=True)
def search(query: str, k: Annotated[int, Ge(1), Le(LIST_LIMIT_MAX)] = 10) -> list[dict[str, Any]]:
    """Return the `k` tools that fit a description best."""
    raise NotImplementedError


@FAMILY.op("local", on="id:jit/{name}")
def propose(
    name: str,
    description: str,
    source: str,
    ops: list[str],
    input: dict[str, Any],  # noqa: A002 - frozen name
    output: dict[str, Any] | None = None,
    tests: list[dict[str, Any]] = [],  # noqa: B006 - a declaration, never called
    language: Literal["ts"] = "ts",
) -> str:
    """Store the source of a tool with its schemas, the ops it will use and its tests; returns its digest. Nothing is callable yet."""
    raise NotImplementedError


@FAMILY.op("local", on="id:jit/{digest}")
def test(digest: str) -> dict[str, Any]:
    """Run a proposed tool's own tests in the sandbox against scripted syscalls: `{passed, failures}`."""
    raise NotImplementedError


@FAMILY.op("local", on="id:jit/{digest}", late={"tests_passed": bool})
def install(digest: str) -> str:
    """Make a proposed tool callable by the caller; returns its name."""
    raise NotImplementedError


@FAMILY.op("pure", on="id:jit/{name}")
def call(name: str, args: dict[str, Any]) -> Any:
    """Run an installed tool. Its syscalls are decided and journaled one by one, under this call."""
    raise NotImplementedError
