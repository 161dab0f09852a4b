"""Capabilities: unforgeable rights held by one process, and the tree of their derivation.

The host mints; everything else is derived from a capability the giver holds and is never wider. Decisions are made in memory: the
capabilities of a process are indexed by op, and a covering capability without condition or counted uses is remembered until the
process's generation changes.

INVARIANT children-are-never-wider: `derive` is the only constructor besides `mint`, and narrows by construction: ops and patterns
contained in the parent's, conditions joined with the parent's, the earlier expiry, uses carved out of the parent's.
INVARIANT revoke-wins: revoking ends the whole subtree in one append and drops the holders' remembered decisions, so nothing that is
decided afterwards (a waking approval, a restore) can use it.
Source: seL4's capability derivation tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agentos.abi.limits import CAPS_PER_PROCESS_MAX, DECISION_CACHE_MAX
from agentos.abi.op import Op
from agentos.abi.records import CapRecord, Change
from agentos.abi.resource import Resource
from agentos.errors import Denied, Invalid
from agentos.kernel.process import AgentProcess, Cap

if TYPE_CHECKING:
    from agentos.policy import CapSpec

__all__ = ["CapTable"]


class CapTable:
    """Handle -> live capability, of every process."""

    def __init__(self, first: int = 1) -> None:
        self._live: dict[int, Cap] = {}
        self._next = first

    def get(self, cap: int) -> Cap | None:
        """Return the live capability, or None."""
        return self._live.get(cap)

    def __iter__(self) -> Iterator[Cap]:
        """Iterate over the live capabilities in order of making."""
        return iter(list(self._live.values()))

    def __len__(self) -> int:
        """Return the number of live capabilities."""
        return len(self._live)

    # --- making -------------------------------------------------------------------------------------------------------------

    def mint(self, holder: AgentProcess, spec: CapSpec, changes: list[Change], *, now: float, origin: str = "host") -> Cap:
        """Make a capability from nothing: the host's right only."""
        return self._make(holder, spec, None, changes, expires=now + spec.ttl_s if spec.ttl_s else 0.0, origin=origin)

    def derive(self, parent: Cap, wanted: CapSpec, to: AgentProcess, changes: list[Change], *, now: float) -> Cap:
        """Make a narrower copy of `parent` for process `to`; its uses are carved out of the parent's.

        Raises:
            Denied: `denied.capability`, it would be wider, the parent has ended or has not enough uses or depth left.
        """
        if not parent.is_live(now) or self._live.get(parent.cap) is not parent:
            raise Denied("capability", f"capability {parent.cap} has ended", cap=parent.cap)
        record = parent.record
        spec = parent.spec.narrow(wanted)
        depth = self._depth(parent, wanted, to)
        uses = -1 if wanted.uses is None else wanted.uses
        if record.uses_left >= 0:
            if uses < 0:
                raise Denied(
                    "capability",
                    f"capability {parent.cap} has {record.uses_left} uses left, and `{wanted.text}` does not say how many it takes",
                    hint="say `uses N`",
                    cap=parent.cap,
                )
            if uses > record.uses_left:
                raise Denied("capability", f"capability {parent.cap} has only {record.uses_left} uses left", cap=parent.cap)
            self._change_uses(parent, -uses, changes)
        ends = [t for t in (record.expires, now + wanted.ttl_s if wanted.ttl_s else 0.0) if t]
        child = self._make(
            to, spec, parent, changes, expires=min(ends, default=0.0), origin=str(parent.holder.pid), depth=depth
        )
        assert record.uses_left != 0 or uses >= 0
        return child

    def _depth(self, parent: Cap, wanted: CapSpec, to: AgentProcess) -> int:
        mine = parent.record.depth
        if mine == 0:
            raise Denied("capability", f"capability {parent.cap} may not be passed on (depth 0)", cap=parent.cap)
        if mine < 0 and to is not parent.holder and not parent.holder.is_ancestor_of(to):
            raise Denied(
                "capability",
                f"capability {parent.cap} may be passed to descendants only, and process {to.pid} is none",
                hint="a capability with `depth N` may be passed to others",
                cap=parent.cap,
            )
        left = mine - 1 if mine > 0 else -1
        if wanted.depth is None:
            return left
        return wanted.depth if left < 0 else min(left, wanted.depth)

    def find_parent(self, giver: AgentProcess, wanted: CapSpec, now: float) -> Cap:
        """Return the giver's capability that `wanted` can be derived from.

        Raises:
            Denied: `denied.capability`, none contains it; the message is that of the nearest one.
        """
        refusal: Denied | None = None
        held = [cap for cap in giver.by_op.get(min(wanted.ops), ()) if cap.is_live(now)]
        for cap in held:
            if cap.spec.text == wanted.text:
                return cap
        for cap in held:
            try:
                cap.spec.narrow(wanted)
            except Denied as error:
                refusal = error
            else:
                return cap
        raise refusal or Denied(
            "capability",
            f"process {giver.pid} holds nothing that `{wanted.text}` could be derived from",
            hint="a child gets only what its parent holds",
            pid=giver.pid,
        )

    def load(self, record: CapRecord, spec: CapSpec, holder: AgentProcess) -> Cap:
        """Enter a capability read from the store; parents come before children because handles grow."""
        cap = Cap(record, spec, holder, self._live.get(record.parent))
        self._enter(cap)
        return cap

    def _make(  # noqa: PLR0913 - the columns of a capability
        self,
        holder: AgentProcess,
        spec: CapSpec,
        parent: Cap | None,
        changes: list[Change],
        *,
        expires: float,
        origin: str,
        depth: int | None = None,
    ) -> Cap:
        if len(holder.caps) >= CAPS_PER_PROCESS_MAX:
            raise Denied("capability", f"process {holder.pid} holds {CAPS_PER_PROCESS_MAX} capabilities, the most it may")
        record = CapRecord(
            cap=self._next,
            pid=holder.pid,
            text=spec.text,
            uses_left=-1 if spec.uses is None else spec.uses,
            expires=expires,
            depth=depth if depth is not None else -1 if spec.depth is None else spec.depth,
            parent=parent.cap if parent else 0,
            origin=origin,
        )
        self._next += 1
        cap = Cap(record, spec, holder, parent)
        self._enter(cap)
        changes.append(Change(record))
        return cap

    def _enter(self, cap: Cap) -> None:
        self._live[cap.cap] = cap
        holder = cap.holder
        holder.caps[cap.cap] = cap
        for op in cap.spec.ops:
            holder.by_op.setdefault(op, []).append(cap)
        if cap.parent is not None:
            cap.parent.children[cap.cap] = cap
        holder.forget_decisions()

    # --- deciding -----------------------------------------------------------------------------------------------------------

    def cover(
        self, process: AgentProcess, op: Op, resources: tuple[Resource, ...], args: dict[str, Any], now: float, *, paid: int = 0
    ) -> Cap:
        """Return a live capability of `process` that covers the call; one whose last use was `paid` for this very call still does.

        Raises:
            Denied: `denied.capability`, none does; says what it holds for this op.
        """
        key = (op.name, *(resource.text for resource in resources))
        cached = process.cover_cache.get(key)
        if cached is not None:
            return cached
        for cap in process.by_op.get(op.name, ()):
            if (cap.is_live(now) or (cap.cap == paid and not 0 < cap.record.expires <= now)) and cap.spec.covers(
                op, resources, args
            ):
                if cap.is_plain:
                    if len(process.cover_cache) >= DECISION_CACHE_MAX:
                        process.cover_cache.clear()
                    process.cover_cache[key] = cap
                return cap
        raise self._refusal(process, op, resources)

    def _refusal(self, process: AgentProcess, op: Op, resources: tuple[Resource, ...]) -> Denied:
        held = [cap.record.text for cap in process.by_op.get(op.name, ())][:3]
        what = resources[0].text[:200]
        hint = f"it holds `{'`, `'.join(held)}`" if held else f"it holds no capability for `{op.name}`"
        return Denied(
            "capability",
            f"process {process.pid} may not `{op.name}` `{what}`",
            hint=hint,
            pid=process.pid,
            op=op.name,
            resource=what,
        )

    # --- using and ending ---------------------------------------------------------------------------------------------------

    def use(self, cap: Cap, changes: list[Change]) -> None:
        """Take one use, where uses are counted."""
        if cap.record.uses_left >= 0:
            assert cap.record.uses_left > 0, "a used-up capability covered a call"
            self._change_uses(cap, -1, changes)

    def return_use(self, cap: Cap, changes: list[Change]) -> None:
        """Give one use back: the call it was reserved for provably never started."""
        if cap.record.uses_left >= 0 and self._live.get(cap.cap) is cap:
            self._change_uses(cap, 1, changes)

    def _change_uses(self, cap: Cap, by: int, changes: list[Change]) -> None:
        replaced = cap.record.seq
        cap.record.uses_left += by
        assert cap.record.uses_left >= 0
        changes.append(Change(cap.record, replaced))

    def revoke(self, cap: Cap, changes: list[Change], state: str = "revoked") -> int:
        """End a capability and everything derived from it; unused uses go back to a live parent. Returns how many ended."""
        ended = 0
        for child in list(cap.children.values()):
            ended += self.revoke(child, changes, state)
        if self._live.pop(cap.cap, None) is None:
            return ended
        holder, record, parent = cap.holder, cap.record, cap.parent
        del holder.caps[cap.cap]
        for op in cap.spec.ops:
            holder.by_op[op].remove(cap)
        if parent is not None:
            parent.children.pop(cap.cap, None)
            if record.uses_left > 0 and parent.record.uses_left >= 0 and parent.cap in self._live:
                self._change_uses(parent, record.uses_left, changes)
        replaced = record.seq
        record.live, record.state = 0, state
        holder.forget_decisions()
        changes.append(Change(record, replaced))
        return ended + 1

    def find_held(self, process: AgentProcess, cap: int) -> Cap:
        """Return one of the process's own capabilities.

        Raises:
            Invalid: it holds no live capability of that handle. Whether another process does is not said.
        """
        held = process.caps.get(cap)
        if held is None:
            raise Invalid("argument", f"process {process.pid} holds no capability {cap}", field="cap", hint="see `cap.list`")
        return held
