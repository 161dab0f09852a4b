"""Reading policies for the room that must not: files become `Policy` values, with what they `use`.

The admin files stand outside of every kernel's own layers, whatever the program that opens it says: the machine's
``/etc/agentos/admin.policy``, if there is one, and the file that ``AGENTOS_ADMIN_POLICY`` names. The second adds to the first.

INVARIANT admin-only-tightens: an admin file is a `restrict` file; one that is none, or that is named and cannot be read, opens no kernel.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from agentos.abi.limits import POLICY_BYTES_MAX
from agentos.errors import Invalid
from agentos.policy import Policy
from agentos.policy.parse import parse_file

__all__ = ["ADMIN_POLICY", "admin_policies", "as_policies", "read_policy"]

ADMIN_POLICY: Final = Path("/etc/agentos/admin.policy")


def admin_policies(environ: Mapping[str, str], machine: Path = ADMIN_POLICY) -> list[Policy]:
    """Return the admin layers of this machine and this environment, outermost first.

    Args:
        environ: The environment; ``AGENTOS_ADMIN_POLICY`` names a file.
        machine: The file of the machine; one that is not there is none.

    Raises:
        Invalid: `invalid.policy`, a file cannot be read, or is no `restrict` file.
    """
    named = environ.get("AGENTOS_ADMIN_POLICY")
    return [_admin_policy(path) for path in [*([machine] if _is_there(machine) else []), *([Path(named)] if named else [])]]


def _is_there(path: Path) -> bool:
    """Say whether there is something under a name; what cannot be looked at is taken to be there."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def _admin_policy(path: Path) -> Policy:
    policy = read_policy(path)
    tree, _ = parse_file(policy.text)
    if tree is not None and tree.kind != "restrict":
        hint = f'begin it with: restrict "{tree.name}"'
        raise Invalid("policy", f"admin policy `{path}` is no `restrict` file, so it could allow", hint=hint, where=str(path))
    return policy


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
        why = (error.strerror or "unreadable").lower() if isinstance(error, OSError) else "it is not UTF-8"
        raise Invalid(
            "policy", f"policy `{path}` cannot be read: {why}", hint="give the path of a text file", where=str(path)
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
