"""Holdings: live capabilities as their holders and the host see them, with where each came from and where it may still go.

    chain       host -> pid 1 cap 3 -> pid 4 cap 9: who made it from what; the last is the capability itself
    passes_to   descendants, anyone (as often as its depth says) or nobody

What is shown is what counts now: uses that came back from below are its own, and one whose time is over is `expired` before anything
has ended it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from agentos.abi.records import CapRecord
from agentos.abi.values import CapInfo
from agentos.kernel.capability import uses_left

if TYPE_CHECKING:
    from agentos.kernel.core import Core
    from agentos.kernel.process import Cap

__all__ = ["listing", "with_lineage"]


def listing(core: Core, pid: int | None = None) -> list[CapInfo]:
    """Return the live capabilities of one process, or all, in order of making."""
    held = core.processes.get(pid) if pid is not None else None
    if pid is not None and held is None:
        return []
    now = core.clock.now()
    caps = core.caps if held is None else held.caps.values()
    return [_shown(core, cap, now) for cap in sorted(caps, key=lambda cap: cap.cap)]


def _shown(core: Core, cap: Cap, now: float) -> CapInfo:
    def record_of(handle: int) -> CapRecord | None:
        found = core.caps.get(handle)
        return found.record if found is not None else None

    info = with_lineage(cap.info(), cap.record, record_of)
    if info.uses_left is not None:
        info = replace(info, uses_left=uses_left(cap, now))
    return replace(info, state="expired") if 0 < cap.record.expires <= now else info


def with_lineage(info: CapInfo, record: CapRecord, record_of: Callable[[int], CapRecord | None]) -> CapInfo:
    """Return what is shown of a capability, with its chain and whom it may be passed to.

    Args:
        info: Without them.
        record: Its record.
        record_of: Finds the record of a live capability; what it was derived from lives as long as itself.
    """
    steps: list[str] = []
    at: CapRecord | None = record
    while at is not None:
        steps.append(f"pid {at.pid} cap {at.cap}")
        origin, at = at.origin, record_of(at.parent) if at.parent else None
    root = origin if not origin.isdigit() else "a capability that is dormant"
    passes_to = "descendants" if record.depth < 0 else "anyone" if record.depth > 0 else "nobody"
    return replace(info, chain=(root, *reversed(steps)), passes_to=passes_to)
