"""Speculation: a fork that may be thrown away. It works on a file overlay, under a policy layer that takes away what would leave a trace.

The layer is `policies/speculative.policy`. It is one of the process's layers, so its children have it too, and no exec takes it off.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from agentos.abi.codec import encode
from agentos.abi.records import Change, ProcessRecord
from agentos.errors import Invalid
from agentos.kernel.lifecycle import decode_layers, passed_on
from agentos.policy import Policy

if TYPE_CHECKING:
    from agentos.kernel.core import Core
    from agentos.kernel.process import AgentProcess
    from agentos.policy import Layer

__all__ = ["check_not_nested", "is_unused", "layers_without_speculation", "speculate", "speculative_layer"]


def speculative_layer() -> Policy:
    """Return the policy layer of a speculative process: beside this module in a wheel, at the root of a checkout."""
    shipped = files("agentos.kernel") / "speculative.policy"
    if not shipped.is_file():
        shipped = Path(__file__).parents[2] / "policies" / "speculative.policy"
    return Policy(shipped.read_text(encoding="utf-8"), source="speculative.policy")


def speculate(core: Core, child: AgentProcess, changes: list[Change]) -> None:
    """Make a process that was just forked speculative: its file effects go to an overlay, and it has no others outside.

    Args:
        core: The kernel's state.
        child: The fork; its record is in `changes` and not yet appended.
        changes: Gets the layer, where it is new.

    Raises:
        Invalid: it works on an overlay already.
    """
    record = child.record
    if record.overlay:
        raise Invalid(
            "state", "what is tried within a try goes to the same overlay", field="speculative", hint="fork without it"
        )
    layer = core.layers.compile(speculative_layer())
    core.layers.keep(layer, changes)
    record.overlay = child.pid
    record.layers = encode([*decode_layers(record), layer.digest])
    child.stack = core.layers.stack_of(record)
    child.facts["overlay"] = True
    child.forget_decisions()


def layers_without_speculation(core: Core, record: ProcessRecord) -> list[Layer]:
    """Return the layers of a process without the one that speculation brought."""
    own = core.layers.compile(speculative_layer()).digest
    return [core.layers.get(digest) for digest in passed_on(record) if digest != own]


def check_not_nested(process: AgentProcess) -> None:
    """Refuse a speculative fork of what is speculative itself.

    Raises:
        Invalid: its forks work on its own overlay.
    """
    if process.record.overlay:
        raise Invalid(
            "state", "what is tried within a try goes to the same overlay", field="speculative", hint="fork without it"
        )


def is_unused(core: Core, root: int) -> bool:
    """Say whether no process can change the overlay of `root` any more, or does so now: all have ended, or wait for the host."""
    return not any(p.record.overlay == root and (not p.hosted or p.branches) for p in core.processes)
