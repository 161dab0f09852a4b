"""Deciding one call: capability, policy, labels, obligations, limits, in this order, each room once.

    cover        a live capability covers op and resource                    kernel.capability
    mode         a kernel that only plans admits no effect outside
    verdict      every policy layer agrees, or a person is asked             policy
    secrets      the call may use the secrets that it names                  `broker.secrets`
    clearance    a sink takes nothing stricter than its clearance            `broker.labels`
    permissions  an executable file is not an agent's to make                `broker.files`
    weigh        what policies require can be met, their limits have room    `broker.obligation`, kernel.quota

`recheck` is the second decision: a device found out what the call really leads to, before the first byte.

INVARIANT deny-wins: whatever was remembered, granted or approved, a deny of any layer ends the call here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from agentos.abi.limits import DECISION_CACHE_MAX
from agentos.abi.op import Effect
from agentos.abi.resource import Resource, canonical_url
from agentos.broker.files import check_permissions, compared_labels, touch
from agentos.broker.handle import not_told, why_not_told
from agentos.broker.labels import check_clearance
from agentos.broker.obligation import check_obligations
from agentos.broker.offer import answers_late
from agentos.broker.request import Request
from agentos.broker.secrets import authorise, authorise_host, secret_charges, secret_obligations
from agentos.errors import Denied
from agentos.kernel.core import Core
from agentos.kernel.flow import ProcessFlow
from agentos.kernel.process import AgentProcess, Cap
from agentos.policy import Stack, Verdict
from agentos.policy.verdict import least

__all__ = ["Decisions", "denial"]

_PLAN_DENIES: Final = frozenset({Effect.KEYED, Effect.PROBEABLE, Effect.ONCE})


class Decisions:
    """Decides the calls of one kernel. Keeps nothing but the caches that processes carry."""

    def __init__(self, core: Core) -> None:
        self.core = core

    def decide(self, call: Request) -> Verdict | None:
        """Find the capability and the verdict of every layer. None = allowed, no policy layer anywhere.

        Raises:
            Denied: `denied.capability` or `denied.policy`; nothing was journaled yet.
        """
        process, op, core = call.process, call.op, self.core
        own = op.self_right is True or (bool(op.self_right) and op.is_self_right(call.args, process.pid, process.image.profile))
        if own:
            call.cap = None
        else:
            paid = call.paid.cap if call.paid is not None else 0
            call.cap = core.caps.cover(process, op, call.resources, call.args, core.clock.now(), paid=paid)
        if core.mode == "plan" and op.effect in _PLAN_DENIES:
            raise Denied(
                "policy",
                f"`{op.name}` has an effect outside, and this kernel only plans",
                hint="run in mode `ask` to make it happen",
                rule="mode:plan",
                op=op.name,
            )
        if process.stack.uses_provenance:
            flow: ProcessFlow = process.facts["flow"]
            flow.given, flow.vouched = call.given, call.vouched
        verdict = call.verdict = self._verdict(process, call, own)
        if verdict is not None and verdict.outcome == "deny":
            raise denial(call, verdict)
        if not op.inside and (asked := authorise(core, call)) is not None:
            verdict = call.verdict = least(verdict, asked) if verdict is not None else asked
        if op.clearance is not None and process.label:
            check_clearance(call)
        if "permissions" in call.args and op.name == "fs.write":
            check_permissions(call)
        if process.stack.layers:
            self._weigh(call)
        return verdict

    def _weigh(self, call: Request) -> None:
        """Find what the layers require of an allowed call, and whether their limits have room for it."""
        process, op, core = call.process, call.op, self.core
        stack = process.stack
        call.obligations = stack.obligations(op, call.resources, call.args, process.facts)
        if call.secrets:
            call.obligations |= secret_obligations(core, call)
        if call.obligations:
            check_obligations(call)
        if call.reservation is None and call.paid is None:
            call.charges = stack.charges(op, call.resources, call.args, process.facts)
            if call.secrets:
                call.charges += secret_charges(core, call)
            if call.charges:
                core.quotas.room(call.charges, process, core.clock.now())

    def _verdict(self, process: AgentProcess, call: Request, own: bool) -> Verdict | None:
        if call.op.asks:
            return self._asked(process, call, own)
        if not process.stack.layers:
            return None
        verdict = self._remembered(process, call, own)
        if not self.core.has_other_names:
            return verdict
        return self._by_other_name(call, call.resources, call.args, verdict)

    def _remembered(self, process: AgentProcess, call: Request, own: bool) -> Verdict:
        key = (call.op.name, call.resource_text)
        verdict = process.verdict_cache.get(key)
        if verdict is None:
            verdict = process.stack.decide(call.op, call.resources, call.args, process.facts, own=own)
            if verdict.constant:
                if len(process.verdict_cache) >= DECISION_CACHE_MAX:
                    process.verdict_cache.clear()
                process.verdict_cache[key] = verdict
        return verdict

    def _asked(self, process: AgentProcess, call: Request, own: bool) -> Verdict:
        """Return the verdict on an op that a person is asked about in any case: a deny of the layers, else an ask."""
        verdict = process.stack.decide(call.op, call.resources, call.args, process.facts, own=own)
        if verdict.outcome != "allow":
            return verdict
        return replace(verdict, outcome="ask", rule=f"op:{call.op.name}", because=f"it {call.op.asks}", constant=False)

    def _by_other_name(
        self, call: Request, resources: tuple[Resource, ...], args: dict[str, Any], verdict: Verdict, *, late: bool = False
    ) -> Verdict:
        """Return the verdict where two mounts show the same file: what a rule denies or asks by one name, it does by the other."""
        if not self.core.has_other_names:
            return verdict
        place, process = self.core.place, call.process
        names = tuple(Resource("path", place(r.text), place(r.text)) if r.kind == "path" else r for r in resources)
        if all(name.text == resource.text for name, resource in zip(names, resources, strict=True)):
            return verdict
        for layer in process.stack.layers:
            found = Stack((layer,)).decide(call.op, names, args, process.facts, late=late)
            if found.outcome != "allow" and not found.rule.endswith(":default"):
                verdict = least(verdict, replace(found, constant=False))
        return verdict

    def recheck(self, call: Request, attribute: str, value: Any, index: int = 0) -> None:
        """Decide again on a late fact, on behalf of the device that found it: called with it before the first byte.

        Raises:
            Denied: the real target is not covered, is denied, or would need an approval of its own.
        """
        process, op = call.process, call.op
        flow: ProcessFlow = process.facts["flow"]
        flow.given, flow.vouched = call.given, call.vouched
        template = op.resources[index]
        resources, args = call.resources, {**call.args, attribute: value}
        if attribute == "redirect" and call.secrets:
            authorise_host(self.core, call, value)
        if attribute == "redirect" and template.kind == "url":
            url = canonical_url(value)
            resources = (*resources[:index], Resource("url", url.text, url), *resources[index + 1 :])
            args[template.field] = args[attribute] = url.text
        if attribute == "resolved":
            touch(self.core, call, value, index)
            check_comparison(self.core, call)
            resources = (*resources[:index], Resource("path", value, value), *resources[index + 1 :])
            args[template.field] = value
        if call.cap is not None:
            self._cover_late(call, call.cap, resources, args)
        verdict = process.stack.decide(op, resources, args, process.facts, late=True)
        verdict = self._by_other_name(call, resources, args, verdict, late=True)
        if verdict.outcome == "deny":
            raise denial(call, verdict)
        if verdict.outcome == "ask" and not answers_late(self.core, call, resources, args):
            raise Denied(
                "policy",
                f"`{value}`, which `{call.resource_text}` leads to, needs an approval",
                rule=verdict.rule,
                hint="use the real path",
            )

    def _cover_late(self, call: Request, held: Cap, resources: tuple[Resource, ...], args: dict[str, Any]) -> None:
        """Have what was found covered too. A capability whose uses are counted is only used by the name that it covers."""
        process, op, caps = call.process, call.op, self.core.caps
        found = caps.cover(process, op, resources, args, self.core.clock.now(), paid=held.cap)
        if found is held or found.record.uses_left < 0:
            return
        if caps.get(held.cap) is not held or not held.spec.covers(op, resources, args):
            raise Denied(
                "capability",
                f"what `{call.resource_text[:200]}` leads to is covered by a capability with counted uses, which this call has not taken",
                hint="use the real path",
                cap=found.cap,
                op=op.name,
            )


def check_comparison(core: Core, call: Request) -> None:
    """Refuse to compare a file with what a model has guessed, where that may not be told what the file holds.

    Raises:
        Denied: `denied.label`.
    """
    why = why_not_told(core, call, compared_labels(core, call))
    if why:
        raise not_told(call, why)


def denial(call: Request, verdict: Verdict) -> Denied:
    """Return the error of a deny."""
    text = f"{verdict.because}" if verdict.because else f"`{call.op.name}` on `{call.resource_text[:200]}` is denied"
    return Denied(
        "policy", f"{text} ({verdict.rule})", hint="this was a decision, not a failure; do not retry", rule=verdict.rule, op=call.op.name,
        resource=call.resource_text[:200], layer=verdict.layer,
    )  # fmt: skip
