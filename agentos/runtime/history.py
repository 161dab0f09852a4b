"""The part of the embedded API for checkpoints, restore, fork, and what has changed since."""

from __future__ import annotations

from agentos.runtime.base import KernelBase

__all__ = ["History"]


class History(KernelBase):
    """Checkpoints, restore, fork, and what has changed since; a base of `Kernel`."""
