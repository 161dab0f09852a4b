"""testing: what users need to test their own agents, shipped with agentos.

Owns: a fake clock, the effect ledger, crash points, and the seeded kernel.
Must never: be imported by a room; tests and applications' tests only.
"""

from __future__ import annotations

from agentos.testing.clock import FakeClock
from agentos.testing.ledger import Ledger

__all__ = ["FakeClock", "Ledger"]
