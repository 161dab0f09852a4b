"""testing: what users need to test their own agents, shipped with agentos.

Owns: a fake clock, the effect ledger, crash points, and models that say what they are told to.
Must never: be imported by a room; tests and applications' tests only.
"""

from __future__ import annotations

from agentos.abi.model import ModelReply, ModelRequest, ToolCall
from agentos.devices.llm.scripted import ScriptedModel
from agentos.testing.clock import FakeClock
from agentos.testing.ledger import Ledger

__all__ = ["FakeClock", "Ledger", "ModelReply", "ModelRequest", "ScriptedModel", "ToolCall"]
