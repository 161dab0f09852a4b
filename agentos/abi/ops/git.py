"""git: the workspace's repository, without a shell and without the repository's hooks."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from annotated_types import Ge, Le

from agentos.abi.limits import LIST_LIMIT_MAX
from agentos.abi.ops.declare import Family
from agentos.abi.values import Ref

FAMILY = Family("git")
_op = partial(FAMILY.op, on="id:workspace", slot="exec")


@_op("pure")
def status() -> dict[str, Any]:
    """Return the branch and what changed: `{branch, head, staged, changed, untracked}`."""
    raise NotImplementedError


@_op("pure")
def diff(path: str | None = None, staged: bool = False) -> str:
    """Return the changes as a unified diff."""
    raise NotImplementedError


@_op("pure")
def log(n: Annotated[int, Ge(1), Le(LIST_LIMIT_MAX)] = 20) -> list[dict[str, Any]]:
    """Return the last commits, newest first: `[{id, author, at, message}]`."""
    raise NotImplementedError


@_op("probeable")
def commit(message: str, paths: list[str] | None = None) -> str:
    """Commit the given paths, or everything changed; returns the commit's id."""
    raise NotImplementedError


@_op("probeable")
def patch(base: str = "HEAD") -> Ref:
    """Store the changes since `base` as an object that `git.apply` takes."""
    raise NotImplementedError


@_op("probeable")
def apply(ref: Ref) -> None:
    """Apply a stored patch to the workspace, completely or not at all."""
    raise NotImplementedError


@_op("probeable")
def worktree(action: Literal["add", "remove"], name: str) -> str:
    """Add or remove a second working tree; returns its virtual path."""
    raise NotImplementedError


@FAMILY.op("keyed", on="id:{remote}", sinks=("remote",), clearance="public", slot="net")
def push(remote: str, ref: str) -> None:
    """Push a branch or tag to a configured remote."""
    raise NotImplementedError
