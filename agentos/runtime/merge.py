"""Merge: the changes of an overlay as the one part of a plan. What is below must be what it was when it was first changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from agentos.devices.fs.atomic import content_digest
from agentos.devices.fs.look import SHOWN_BYTES_MAX
from agentos.runtime.fileplan import ABSENT, FOLDER, Change, Plan, State, make_plan

if TYPE_CHECKING:
    from agentos.abi.records import OverlayRecord
    from agentos.devices.fs.look import Looking

__all__ = ["plan_merge"]

_BASES: Final = {"": ABSENT, "folder": FOLDER, "link": State("link")}


def plan_merge(changes: Sequence[OverlayRecord], looking: Looking, load: Callable[[str], bytes]) -> Plan:
    """Return the plan that makes `changes` true. Blocks while it reads files: run it in a thread."""
    part = {each.path: Change(_BASES.get(each.base, State("file", each.base)), _goal(each, load)) for each in changes}
    return make_plan([part], looking, load)


def _goal(change: OverlayRecord, load: Callable[[str], bytes]) -> State:
    if change.kind != "file":
        return FOLDER if change.kind == "folder" else ABSENT
    data = load(change.object)
    return State("file", content_digest(data), change.object, len(data), data=data if len(data) <= SHOWN_BYTES_MAX else None)
