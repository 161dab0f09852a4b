"""policy: the privilege language, from text to verdict.

Owns: patterns over resources, policy files (parse, check, compile), layers and stacks, the decision, its explanation, and the text
form of capabilities with their containment.
Must never: await, read a clock, do I/O, keep state that changes an answer, or know a process.
Invariants: deny-wins, unknown-fails-closed, order-is-irrelevant, closed-to-the-unknown, containment-is-sound, narrow-never-widens,
interpreters-are-named.
Source: Cedar and Progent for what goes wrong, capability systems for what goes right; see docs/reference/policy-language.md.
"""

from __future__ import annotations

from agentos.policy.capability import CapSpec
from agentos.policy.capability_parse import parse_capability
from agentos.policy.decide import Stack
from agentos.policy.expect import resource_of
from agentos.policy.layer import Layer
from agentos.policy.load import CheckReport, Policy, check_text, load_layer
from agentos.policy.pattern import Pattern, compile_pattern
from agentos.policy.problems import Problem, render_errors
from agentos.policy.verdict import Verdict

__all__ = [
    "CapSpec", "CheckReport", "Layer", "Pattern", "Policy", "Problem", "Stack", "Verdict", "check_text", "compile_pattern", "load_layer",
    "parse_capability", "render_errors", "resource_of",
]  # fmt: skip
