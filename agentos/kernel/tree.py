"""A process tree as the scheduler sees it: what the host spawned, with its descendants."""

from __future__ import annotations

__all__ = ["Tree"]


class Tree:
    """What one process tree has had of the kernel. `active` counts its processes that run code right now."""

    __slots__ = ("active", "entered", "number", "share", "stalled", "virtual")

    def __init__(self, number: int, weight: float) -> None:
        self.number = number
        self.share = 1.0 / weight
        self.virtual = 0.0
        self.active = 0
        self.entered = False
        self.stalled = False
