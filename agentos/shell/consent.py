"""Consent: a person sees what an image requests before it is granted, once per image digest.

Without a terminal nothing is granted silently: `--yes` says so, or `--grant` names the rights. Either way the policy still decides calls.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from agentos.abi.image import AgentImage
from agentos.errors import Denied, Invalid
from agentos.runtime.policies import read_policy
from agentos.shell.context import Shell
from agentos.shell.escape import line
from agentos.shell.remembered import confirm, is_confirmed

__all__ = ["layers", "obtain"]


def obtain(shell: Shell, image: AgentImage, *, yes: bool, grant: Sequence[str] | None) -> None:
    """Return when the request of an image may be granted.

    Raises:
        Invalid: there is nobody to ask and nothing on the command line says yes.
        Denied: `denied.human`, the person said no.
    """
    if yes or grant or not image.capabilities:
        return
    requests = [line(text) for text in image.capabilities]
    if not shell.has_person:
        said, hint = (
            f"image `{image.ref}` requests: {'; '.join(requests)}",
            "grant it with --yes, or name what to grant with --grant",
        )
        raise Invalid("argument", said, hint=hint, field="--yes", requests=requests, digest=image.digest)
    if is_confirmed(image.digest):
        return
    shell.output.note("\n".join([f"image {image.ref} ({image.digest[:12]}) requests", *(f"  {text}" for text in requests)]))
    print("grant this, now and for later runs of this image? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Denied("human", f"the request of image `{image.ref}` was not granted", hint="name less with --grant")
    confirm(image.digest, image.ref)


def layers(image: AgentImage, given: Sequence[Path], *, none: bool) -> list[Any]:
    """Return the policy layers that a new process gets on top of its image's: those given, or the default where there is none at all.

    They belong to the process, so that they still hold when another command goes on with it.

    Raises:
        Invalid: a file cannot be read, or both `--policy` and `--no-policy` are given.
    """
    if given and none:
        raise Invalid("argument", "--policy and --no-policy exclude each other", hint="give one of them", field="--no-policy")
    if given:
        return [read_policy(path) for path in given]
    if none or image.policy is not None:
        return []
    return [_default()]


def _default() -> Any:
    """Return the shipped default policy: beside this module in a wheel, at the root of a checkout."""
    from agentos.policy import Policy  # noqa: PLC0415 - runs with a policy of their own do without

    shipped = files("agentos.shell") / "default.policy"
    if not shipped.is_file():
        shipped = Path(__file__).parents[2] / "policies" / "default.policy"
    return Policy(shipped.read_text(encoding="utf-8"), source="default.policy")
