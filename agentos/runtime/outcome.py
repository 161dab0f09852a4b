"""Values of the embedded API that only it has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from agentos.errors import AgentOSError

__all__ = ["Decision", "Entry", "Outcome"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one of several parallel calls came to."""

    ok: bool
    value: Any
    error: AgentOSError | None
    seq: int | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict of a dry run. `outcome` is allow, ask or deny; `rule` is ``file:line`` or what else decided."""

    outcome: str
    code: str
    rule: str
    because: str
    cap: int | None
    text: str = field(repr=False, default="")

    def explain(self) -> str:
        """Return, in lines, which capability and which rules said what, and the closest change that would allow the call."""
        return self.text


@dataclass(frozen=True, slots=True)
class Entry:
    """One call in the audit trail: intent and result are one entry. `outcome`: done denied failed unknown pending."""

    seq: int
    pid: int
    pseq: str
    op: str
    resource: str
    args: dict[str, Any]
    outcome: str
    code: str
    rule: str
    cap: int | None
    ask: int | None
    labels: list[str]
    cost: dict[str, float]
    result: Any
    at: float
    effect: str = ""
    error: dict[str, Any] | None = None
