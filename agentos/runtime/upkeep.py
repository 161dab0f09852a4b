"""The part of the embedded API for what a store needs over the years: backup, retention, erasure, collection of what nothing refers to."""

from __future__ import annotations

from agentos.runtime.base import KernelBase

__all__ = ["Upkeep"]


class Upkeep(KernelBase):
    """What a store needs over the years: backup, retention, erasure, collection of what nothing refers to; a base of `Kernel`."""
