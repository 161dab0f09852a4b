"""The part of the embedded API for standing orders to spawn."""

from __future__ import annotations

from agentos.runtime.base import KernelBase

__all__ = ["Schedules"]


class Schedules(KernelBase):
    """Standing orders to spawn; a base of `Kernel`."""
