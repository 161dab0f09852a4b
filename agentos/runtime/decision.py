"""A dry run, told to people: the capability, every layer's word, labels, limits, and what would allow the call.

process 3 (clerk:1): fs.write /out/a.md
  deny, denied.policy: limit "fs.write 2 per tree" is reached (desk.policy:4): 2 of 2 used
  capability 7: fs.write /out/**
  labels: the process carries untrusted; fs.write takes up to internal
  fs.write /out/a.md: allow by desk.policy:2
  used: 2 of 2 of desk.policy:4, this call takes 1
  closest change: ...
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from agentos.abi.labels import LEVELS, names
from agentos.abi.records import StandingRecord
from agentos.broker.broker import Broker
from agentos.broker.labels import clearance_of
from agentos.broker.offer import covering
from agentos.broker.request import Request
from agentos.errors import Denied
from agentos.kernel.core import Core
from agentos.kernel.counter import amount_text, to_units
from agentos.kernel.process import AgentProcess
from agentos.policy import Verdict
from agentos.policy.explain import Explanation
from agentos.runtime.outcome import Decision

__all__ = ["DryRuns"]


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
        core = self._broker.core
        return _decision(core, call, verdict, denied, covering(core, call) if asks else None)

    def check(self, process: AgentProcess, op: str, args: dict[str, Any]) -> dict[str, Any]:
        """Decide a call and return it as plain data."""
        found = self.decide(process, op, args)
        return {"outcome": found.outcome, "code": found.code, "rule": found.rule, "because": found.because, "text": found.text}


def _decision(
    core: Core, call: Request, verdict: Verdict | None, denied: Denied | None, grant: StandingRecord | None = None
) -> Decision:
    """Return the decision of a call that was decided but not made; `grant` is the standing grant that answers its ask, if one does."""
    if denied is not None:
        told = verdict is not None and verdict.outcome == "deny" and denied.rule == verdict.rule
        because = (verdict.because or "") if told and verdict is not None else denied.message
        outcome, code, rule = "deny", denied.code, denied.rule or ""
    elif verdict is None:
        outcome, code, rule, because = "allow", "", "", "no policy layer: capabilities alone decide"
    else:
        outcome, code, rule, because = verdict.outcome, "", verdict.rule, verdict.because or ""
    text = _explain(core, call, verdict, denied, has_grant=grant is not None)
    if grant is not None:
        outcome, because = "allow", f"standing grant {grant.standing}, given by {grant.by} with ask {grant.ask}"
        text += f"\n  {because} (scope {grant.scope}), answers the ask of {rule}: {grant.text}"
    return Decision(outcome, code, rule, because, call.cap.cap if call.cap else None, text)


def _explain(core: Core, call: Request, verdict: Verdict | None, denied: Denied | None, *, has_grant: bool) -> str:
    process = call.process
    explanation = _explanation(call)
    lines = [f"process {process.pid} ({process.record.image}): {call.op.name} {call.resource_text}"]
    lines += _apart(verdict, denied, explanation)
    lines.append(_capability(call, denied))
    lines += _labels(call)
    if call.secrets:
        lines.append("  secrets: " + ", ".join(f"{name} by capability {cap.cap}" for name, cap in call.secrets.items()))
    if explanation is None:
        lines.append("  policy: no layer; capabilities alone decide")
    else:
        lines += [f"  {line}" for line in str(replace(explanation, change="")).splitlines()]
        lines += _limits(core, call)
    changes = [] if has_grant else list(_changes(core, call, verdict, denied, explanation))
    return "\n".join([*lines, f"  closest change: {'; and '.join(changes)}"] if changes else lines)


def _explanation(call: Request) -> Explanation | None:
    process = call.process
    if not process.stack.layers:
        return None
    own = call.op.is_self_right(call.args, process.pid, process.image.profile)
    return process.stack.explain(call.op, call.resources, call.args, process.facts, own=own)


def _apart(verdict: Verdict | None, denied: Denied | None, explanation: Explanation | None) -> list[str]:
    """Return what is decided by something other than the rules of the layers: a right, a limit, a label, a mode, the op itself."""
    told = explanation.verdict if explanation is not None else None
    if denied is not None:
        if told is not None and told.outcome == "deny" and denied.rule == told.rule:
            return []
        return [f"  deny, {denied.code}: {denied.message}"]
    if verdict is not None and (told is None or (told.outcome, told.rule) != (verdict.outcome, verdict.rule)):
        return [f"  {verdict.outcome} by {verdict.rule}" + (f" ({verdict.because})" if verdict.because else "")]
    return []


def _capability(call: Request, denied: Denied | None) -> str:
    if call.cap is not None:
        left = call.cap.record.uses_left
        return f"  capability {call.cap.cap}: {call.cap.record.text}" + (f" ({left} uses left)" if left >= 0 else "")
    if denied is not None and denied.code == "denied.capability":
        return f"  capability: none covers it; {denied.hint}"
    return "  capability: none needed, a right over itself"


def _labels(call: Request) -> list[str]:
    """Return what the process carries and what the op takes, where either says something."""
    carried, clearance = names(call.process.call_label), clearance_of(call)
    if not carried:
        return []
    takes = "" if clearance is None else f"; {call.op.name} takes up to {LEVELS[clearance]}"
    return [f"  labels: the process carries {', '.join(carried)}{takes}"]


def _limits(core: Core, call: Request) -> Iterator[str]:
    """Iterate over how much of each limit is used, and how much the call would take."""
    process, now = call.process, core.clock.now()
    for charge in process.stack.charges(call.op, call.resources, call.args, process.facts):
        if charge.amount_max is None:
            continue
        used = core.quotas.used(charge, process, now)
        takes = "" if charge.of else f", this call takes {_amount(charge.amount)}"
        yield f"  used: {_amount(used)} of {_amount(charge.amount_max)} of {charge.where}{takes}"


def _amount(number: Any) -> str:
    units = to_units(number, up=True)
    return str(number) if units is None else amount_text(units)


def _changes(
    core: Core, call: Request, verdict: Verdict | None, denied: Denied | None, explanation: Explanation | None
) -> Iterator[str]:
    """Iterate over all that would have to change for the call to be allowed."""
    policy = explanation.change if explanation is not None else ""
    if denied is not None and (lift := _lift(call.process, denied)):
        yield lift
    if policy:
        yield policy
    elif denied is None and verdict is not None and verdict.outcome == "ask":
        yield f"a person approves the ask of {verdict.rule}"
    if core.mode == "noninteractive" and denied is None and verdict is not None and verdict.outcome == "ask":
        yield "the kernel is opened with mode `ask`: this one denies what would be asked"


def _lift(process: AgentProcess, denied: Denied) -> str:
    """Return what would lift a refusal that is not a rule's: the least grant, room in a limit, a lower label, another mode."""
    fields = denied.fields
    if "request" in fields:
        return f"agentos grant {process.pid} {shlex.quote(fields['request'])}"
    if "limit" in fields:
        wait_s = fields.get("retry_after_s")
        return (
            f"wait {math.ceil(wait_s)} s, or " if wait_s is not None else ""
        ) + f"a change of {denied.rule}: {fields['limit']}"
    if denied.code == "denied.label":
        return "a person approves a `proc.relabel` of the process"
    if denied.rule == "mode:plan":
        return "the kernel is opened with another mode: this one only plans"
    return "" if denied.code == "denied.policy" else denied.hint
