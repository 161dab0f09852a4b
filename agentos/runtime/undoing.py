"""The part of the embedded API for undo of file effects, and the files of speculative processes."""

from __future__ import annotations

from agentos.runtime.base import KernelBase

__all__ = ["Undoing"]


class Undoing(KernelBase):
    """Undo of file effects, and the files of speculative processes; a base of `Kernel`."""
