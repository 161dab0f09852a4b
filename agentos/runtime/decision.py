"""A dry run, told to people: the capability, every layer's word, and what would allow the call."""

from __future__ import annotations

from typing import Any

from agentos.abi.records import StandingRecord
from agentos.broker.broker import Broker
from agentos.broker.offer import covering
from agentos.broker.request import Request
from agentos.errors import Denied
from agentos.kernel.process import AgentProcess
from agentos.policy import Verdict
from agentos.runtime.outcome import Decision

__all__ = ["DryRuns", "decision_of"]


class DryRuns:
    """Decides calls without making them, for people and, as `abi.protocols.Checker`, for `policy.explain`."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def decide(self, process: AgentProcess, op: str, args: dict[str, Any]) -> Decision:
        """Decide a call: no effect, no journal row.

        Raises:
            Invalid: the op or its arguments are wrong.
        """
        call, verdict, denied = self._broker.check(process, op, args)
        asks = denied is None and verdict is not None and verdict.outcome == "ask"
        return decision_of(process, call, verdict, denied, covering(self._broker.core, call) if asks else None)

    def check(self, process: AgentProcess, op: str, args: dict[str, Any]) -> dict[str, Any]:
        """Decide a call and return it as plain data."""
        found = self.decide(process, op, args)
        return {"outcome": found.outcome, "code": found.code, "rule": found.rule, "because": found.because, "text": found.text}


def decision_of(
    process: AgentProcess, call: Request, verdict: Verdict | None, denied: Denied | None, grant: StandingRecord | None = None
) -> Decision:
    """Return the decision of a call that was decided but not made; `grant` is the standing grant that answers its ask, if one does."""
    if denied is not None:
        because = verdict.because if verdict is not None and denied.code == "denied.policy" else denied.message
        outcome, code, rule = "deny", denied.code, denied.rule or ""
    elif verdict is None:
        outcome, code, rule, because = "allow", "", "", "no policy layer: capabilities alone decide"
    else:
        outcome, code, rule, because = verdict.outcome, "", verdict.rule, verdict.because or ""
    text = _explain(process, call, denied)
    if grant is not None:
        outcome, because = "allow", f"standing grant {grant.standing}, given by {grant.by} with ask {grant.ask}"
        text += f"\n  {because} (scope {grant.scope}), answers the ask of {rule}: {grant.text}"
    return Decision(outcome, code, rule, because, call.cap.cap if call.cap else None, text)


def _explain(process: AgentProcess, call: Request, denied: Denied | None) -> str:
    lines = [f"process {process.pid} ({process.record.image}): {call.op.name} {call.resource_text}"]
    if call.cap is not None:
        lines.append(f"  capability {call.cap.cap}: {call.cap.record.text}")
    elif denied is not None and denied.code == "denied.capability":
        lines.append(f"  capability: none covers it; {denied.hint}")
    else:
        lines.append("  capability: none needed, a right over itself")
    if process.stack.layers:
        explanation = process.stack.explain(
            call.op, call.resources, call.args, process.facts, own=call.op.is_self_right(call.args, process.pid)
        )
        lines += [f"  {line}" for line in str(explanation).splitlines()]
    else:
        lines.append("  policy: no layer; capabilities alone decide")
    return "\n".join(lines)
