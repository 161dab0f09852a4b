"""image.*: images out of checkpoints, and what is registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentos.abi.permit import Permit
from agentos.abi.syscall import Syscall
from agentos.kernel.ops.serve import serve
from agentos.kernel.past import own_checkpoint
from agentos.kernel.seed import commit_image

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]


def syscalls(core: Core) -> list[Syscall]:
    """Return the ops of this family."""
    return serve(core, "image", {"commit": _commit, "list": _list})


def _commit(core: Core, permit: Permit, args: dict[str, Any]) -> str:
    checkpoint = own_checkpoint(core, permit.process, args["checkpoint"])
    return commit_image(core, checkpoint, args["name"], args["version"], permit.changes, by=permit.process).digest


def _list(core: Core, permit: Permit, args: dict[str, Any]) -> list[dict[str, Any]]:
    for image in core.images:  # their names were chosen by who had this label
        permit.labels |= image.seed.labels if image.seed is not None else 0
    return [
        {"name": record.name, "version": record.version, "digest": record.digest, "at": record.at}
        for record in core.images.records()
    ]
