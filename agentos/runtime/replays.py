"""The part of the embedded API for running a finished process again from its journal."""

from __future__ import annotations

from agentos.runtime.base import KernelBase

__all__ = ["Replays"]


class Replays(KernelBase):
    """Running a finished process again from its journal; a base of `Kernel`."""
