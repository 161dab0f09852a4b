"""Reading policies for the room that must not: files become `Policy` values, with what they `use`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from agentos.abi.limits import POLICY_BYTES_MAX
from agentos.errors import Invalid
from agentos.policy import Policy

__all__ = ["as_policies", "read_policy"]


def read_policy(path: str | Path) -> Policy:
    """Read a policy file.

    Raises:
        Invalid: `invalid.policy`, it cannot be read, is too large or not UTF-8.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(
            "policy", f"policy `{path}` cannot be read: {error}", hint="give the path of a text file", where=str(path)
        ) from error
    if len(data) > POLICY_BYTES_MAX:
        raise Invalid("policy", f"policy `{path}` has {len(data)} bytes, {POLICY_BYTES_MAX} at most", where=str(path))
    return Policy(text, source=str(path), use=lambda name: _beside(path, name))


def _beside(path: Path, name: str) -> str | None:
    """Read a file that a policy uses: one in its own folder, or None."""
    used = path.parent / name
    if "/" in name or used.is_symlink() or not used.is_file():
        return None
    return used.read_text()


def as_policies(policy: Any) -> list[Policy]:
    """Return the policies that a `policy=` argument means: None, a path, a text, a `Policy`, or a list of these."""
    if policy is None:
        return []
    if isinstance(policy, Policy):
        return [policy]
    if isinstance(policy, Path):
        return [read_policy(policy)]
    if isinstance(policy, str):
        is_path = "\n" not in policy and policy.endswith(".policy")
        return [read_policy(policy) if is_path else Policy(policy, source="<policy>")]
    if isinstance(policy, Iterable):
        return [found for each in policy for found in as_policies(each)]
    raise Invalid(
        "argument", f"policy is a `{type(policy).__name__}`", hint="give a path, a text or agentos.Policy", field="policy"
    )
