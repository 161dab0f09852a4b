"""Capabilities: unforgeable rights held by one process, and the tree of their derivation.

The host mints; everything else is derived from a capability the giver holds and is never wider. Decisions are made in memory: the
capabilities of a process are indexed by op, and a covering capability without condition or counted uses is remembered until the
process's generation changes.

INVARIANT children-are-never-wider: `derive` is the only constructor besides `mint`, and narrows by construction: ops and patterns
contained in the parent's, conditions joined with the parent's, the earlier expiry, uses carved out of the parent's. `shrink` replaces
a capability by parts of itself.
INVARIANT revoke-wins: revoking ends the whole subtree in one append and drops the holders' remembered decisions, so nothing that is
decided afterwards (a waking approval, a restore) can use it.
INVARIANT uses-are-conserved: over a capability and everything derived from it, uses left and uses taken add up to what was minted. What
ends, by revocation, the holder's end or its time, returns its unused uses to a live parent; what has expired does so in the append of
the decision or derivation that needs them.
Source: seL4's capability derivation tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from agentos.abi.limits import CAPS_PER_PROCESS_MAX, DECISION_CACHE_MAX
from agentos.abi.op import Op
from agentos.abi.records import CapRecord, Change
from agentos.abi.resource import Resource
from agentos.errors import Denied
from agentos.kernel.process import AgentProcess, Cap
from agentos.policy.draft import draft_request

if TYPE_CHECKING:
    from agentos.policy import CapSpec

__all__ = ["CapTable", "bounded", "depth_left", "is_usable", "is_within", "uses_left", "uses_refusal"]


class CapTable:
    """Handle -> live capability, of every process."""

    def __init__(self, first: int = 1) -> None:
        self._live: dict[int, Cap] = {}
        self._next = first
        self.dormant: dict[int, CapRecord] = {}  # of devices that are not mounted: they cover nothing, and can be revoked
        self.plans: dict[tuple[Any, ...], list[Any]] = {}  # of `agentos.kernel.grant`
        self._now = 0.0  # the latest time at which something was decided: what had expired then has expired

    def get(self, cap: int) -> Cap | None:
        """Return the live capability, or None."""
        return self._live.get(cap)

    def __iter__(self) -> Iterator[Cap]:
        """Iterate over the live capabilities in order of making."""
        return iter(list(self._live.values()))

    # --- making -------------------------------------------------------------------------------------------------------------

    def mint(self, holder: AgentProcess, spec: CapSpec, changes: list[Change], *, now: float, origin: str = "host") -> Cap:
        """Make a capability from nothing: the host's right only, and that of a person who grants a request.

        Raises:
            Denied: the holder has CAPS_PER_PROCESS_MAX live capabilities.
        """
        self._check_room(holder, changes, now)
        return self._make(
            holder, spec, None, changes, uses=-1 if spec.uses is None else spec.uses, expires=now + spec.ttl_s if spec.ttl_s else 0.0,
            depth=-1 if spec.depth is None else spec.depth, origin=origin,
        )  # fmt: skip

    def derive(self, parent: Cap, wanted: CapSpec, to: AgentProcess, changes: list[Change], *, now: float) -> Cap:
        """Make a narrower copy of `parent` for process `to`; its uses are carved out of the parent's.

        Raises:
            Denied: `denied.capability`, it would be wider, the parent has ended or has not enough uses or depth left.
        """
        record = parent.record
        if self._live.get(parent.cap) is not parent or 0 < record.expires <= now:
            raise Denied("capability", f"capability {parent.cap} has ended", cap=parent.cap)
        spec = parent.spec.narrow(wanted)
        depth = -1
        if record.depth >= 0 or wanted.depth is not None or to.parent is not parent.holder:
            depth = depth_left(parent, wanted, to)
        if len(to.caps) >= CAPS_PER_PROCESS_MAX:
            self._check_room(to, changes, now)
        uses = -1 if wanted.uses is None else wanted.uses
        if record.uses_left >= 0:
            self._carve(parent, wanted, changes, now)
        expires = record.expires
        if wanted.ttl_s:
            expires = min(expires, now + wanted.ttl_s) if expires else now + wanted.ttl_s
        assert record.uses_left < 0 or uses >= 0, "counted uses never become uncounted"
        return self._make(to, spec, parent, changes, uses=uses, expires=expires, depth=depth, origin=str(parent.holder.pid))

    def _carve(self, parent: Cap, wanted: CapSpec, changes: list[Change], now: float) -> None:
        refused = uses_refusal(parent, wanted, now)
        if refused is not None:
            raise refused
        assert wanted.uses is not None
        if parent.record.uses_left < wanted.uses:
            self.reclaim(parent, changes, now)
        self._change_uses(parent, -wanted.uses, changes)

    def shrink(self, cap: Cap, parts: Sequence[CapSpec], changes: list[Change], *, now: float) -> None:
        """Keep of a capability only `parts`, each within it: the first under its handle, the others beside it.

        What was derived from it and is not within its first part ends.
        """
        parent, record, holder = cap.parent, cap.record, cap.holder
        assert len(parts) == 1 or record.uses_left < 0, "counted uses are kept whole"
        bounds = [(bounded(record.expires, part.ttl_s, now), _least(record.depth, part.depth)) for part in parts]
        for child in list(cap.children.values()):
            if not _stays(child, parts[0], *bounds[0]):
                self.revoke(child, changes, "dropped")
        self._leave(cap)
        replaced = record.seq
        cap.spec, record.text = parts[0], parts[0].text
        record.expires, record.depth = bounds[0]
        changes.append(Change(record, replaced))
        self._enter(cap)
        uses = parts[0].uses
        if uses is not None and (record.uses_left < 0 or uses < record.uses_left):
            self._give_back(record, record.uses_left - uses, changes)
            record.uses_left = uses
        for part, (expires, depth) in zip(parts[1:], bounds[1:], strict=True):
            self._make(
                holder, part, parent, changes, uses=-1 if part.uses is None else part.uses, expires=expires, depth=depth,
                origin=record.origin,
            )  # fmt: skip

    def load(self, record: CapRecord, spec: CapSpec, holder: AgentProcess) -> Cap:
        """Enter a capability read from the store; parents come before children because handles grow.

        One that was dormant is hung between what it was derived from and what was derived from it.
        """
        was_dormant = self.dormant.pop(record.cap, None) is not None
        cap = Cap(record, spec, holder, self._live.get(record.parent))
        self._enter(cap)
        for child in self._live.values() if was_dormant else ():
            if child.record.parent == record.cap:
                child.parent, cap.children[child.cap] = cap, child
        return cap

    def _make(  # noqa: PLR0913 - the columns of a capability
        self,
        holder: AgentProcess,
        spec: CapSpec,
        parent: Cap | None,
        changes: list[Change],
        *,
        uses: int,
        expires: float,
        depth: int,
        origin: str,
    ) -> Cap:
        record = CapRecord(
            cap=self._next, pid=holder.pid, text=spec.text, uses_left=uses, expires=expires, depth=depth,
            parent=parent.record.cap if parent is not None else 0, origin=origin,
        )  # fmt: skip
        self._next += 1
        cap = Cap(record, spec, holder, parent)
        self._enter(cap)
        changes.append(Change(record))
        return cap

    def _check_room(self, holder: AgentProcess, changes: list[Change], now: float) -> None:
        if len(holder.caps) < CAPS_PER_PROCESS_MAX:
            return
        for cap in list(holder.caps.values()):
            if 0 < cap.record.expires <= now:
                self.revoke(cap, changes, "expired")
        if len(holder.caps) >= CAPS_PER_PROCESS_MAX:
            raise Denied("capability", f"process {holder.pid} holds {CAPS_PER_PROCESS_MAX} capabilities, the most it may")

    def _enter(self, cap: Cap) -> None:
        handle, holder, parent = cap.record.cap, cap.holder, cap.parent
        self._live[handle] = holder.caps[handle] = cap
        by_op = holder.by_op
        for op in cap.spec.ops:
            held = by_op.get(op)
            if held is None:
                by_op[op] = [cap]
            else:
                held.append(cap)
        if parent is not None:
            parent.children[handle] = cap
        holder.forget_decisions()

    def _leave(self, cap: Cap) -> None:
        holder, handle = cap.holder, cap.record.cap
        del self._live[handle], holder.caps[handle]
        for op in cap.spec.ops:
            holder.by_op[op].remove(cap)
        if cap.parent is not None:
            cap.parent.children.pop(handle, None)
        holder.forget_decisions()

    # --- deciding -----------------------------------------------------------------------------------------------------------

    def cover(
        self, process: AgentProcess, op: Op, resources: tuple[Resource, ...], args: dict[str, Any], now: float, *, paid: int = 0
    ) -> Cap:
        """Return a live capability of `process` that covers the call; one whose last use was `paid` for this very call still does.

        Args:
            process: Who calls.
            op: The op.
            resources: Its canonical resources, all of which must be covered.
            args: Its validated arguments, for conditions.
            now: The time.
            paid: As for `is_usable`.

        Raises:
            Denied: `denied.capability`, none does; says what it holds for this op.
        """
        key = (op.name, *(resource.text for resource in resources))
        cached = process.cover_cache.get(key)
        if cached is not None:
            return cached
        self._now = max(self._now, now)
        for cap in process.by_op.get(op.name, ()):
            if is_usable(cap, now, paid=paid) and cap.spec.covers(op, resources, args):
                if cap.is_plain:
                    if len(process.cover_cache) >= DECISION_CACHE_MAX:
                        process.cover_cache.clear()
                    process.cover_cache[key] = cap
                return cap
        raise _refusal(process, op, resources, args)

    # --- using and ending ---------------------------------------------------------------------------------------------------

    def use_all(self, caps: Sequence[Cap], changes: list[Change]) -> None:
        """Take one use of each capability that a call needs, or of none.

        Raises:
            Denied: as `use`.
        """
        for at, cap in enumerate(caps):
            try:
                self.use(cap, changes)
            except Denied:
                for taken in caps[:at]:
                    self.return_use(taken, changes)
                raise

    def use(self, cap: Cap, changes: list[Change]) -> None:
        """Take one use, where uses are counted.

        A capability that the very call has given up (`proc.exec`) pays all the same: the use is taken where its uses went.

        Raises:
            Denied: it was revoked or used up by another call since this one was decided; nothing was taken.
        """
        if cap.record.state == "revoked":
            raise Denied("revoked", f"capability {cap.cap} was revoked meanwhile", cap=cap.cap)
        if cap.record.uses_left < 0:
            return
        purse = self._purse(cap)
        if purse is None:
            return
        if purse.record.uses_left == 0:
            self.reclaim(purse, changes, self._now)
        if purse.record.uses_left == 0:
            raise Denied("capability", f"the last use of capability {cap.cap} was taken by another call", cap=cap.cap)
        self._change_uses(purse, -1, changes)

    def return_use(self, cap: Cap, changes: list[Change]) -> None:
        """Give one use back: the call it was reserved for provably never started."""
        purse = self._purse(cap)
        if cap.record.uses_left >= 0 and purse is not None:
            self._change_uses(purse, 1, changes)

    def reclaim(self, cap: Cap, changes: list[Change], now: float) -> None:
        """End what was derived from a capability and has expired: unused uses come back to it."""
        for child in list(cap.children.values()):
            if 0 < child.record.expires <= now:
                self.revoke(child, changes, "expired")

    def _purse(self, cap: Cap) -> Cap | None:
        """Return the capability that the uses of `cap` are in: itself, or, once it has ended, the nearest one above that counts."""
        found: Cap | None = cap
        while found is not None and self._live.get(found.cap) is not found:
            found = found.parent
        return found if found is not None and found.record.uses_left >= 0 else None

    def _change_uses(self, cap: Cap, by: int, changes: list[Change]) -> None:
        replaced = cap.record.seq
        cap.record.uses_left += by
        assert cap.record.uses_left >= 0
        changes.append(Change(cap.record, replaced))

    def _give_back(self, record: CapRecord, uses: int, changes: list[Change]) -> None:
        """Return uses to what a capability was derived from, if that lives and counts."""
        parent = self._live.get(record.parent)
        above = parent.record if parent is not None else self.dormant.get(record.parent)
        if uses > 0 and above is not None and above.uses_left >= 0:
            replaced = above.seq
            above.uses_left += uses
            changes.append(Change(above, replaced))

    def revoke(self, cap: Cap, changes: list[Change], state: str = "revoked") -> int:
        """End a capability and everything derived from it; unused uses go back to a live parent. Returns how many ended."""
        return self.end(cap.cap, changes, state)

    def end_all(self, process: AgentProcess, changes: list[Change]) -> None:
        """End what a process holds, with it."""
        for handle in [*process.caps, *(record.cap for record in self.dormant.values() if record.pid == process.pid)]:
            self.end(handle, changes, "ended")

    def end(self, handle: int, changes: list[Change], state: str) -> int:
        """End a capability, live or dormant, by its handle, and everything derived from it. Returns how many ended, 0 for none.

        What was derived ends before what it was derived from, so that uses go all the way back. No recursion: chains are long.
        """
        found = [handle]
        for at in found:
            cap = self._live.get(at)
            found += cap.children if cap is not None else ()
            if self.dormant:
                found += [record.cap for record in self.dormant.values() if record.parent == at]
                found += [held.cap for held in self._live.values() if held.parent is None and held.record.parent == at]
        return sum(self._end(at, changes, state) for at in reversed(found))

    def revive(self, record: CapRecord, spec: CapSpec, holder: AgentProcess, changes: list[Change], *, now: float) -> str:
        """Bring back a capability that ended only because its holder, or the holder of what it came from, did: derived as before.

        Its uses are taken again. Returns why it stays ended, or an empty text.
        """
        parent = self._live.get(record.parent)
        if record.uses_left == 0 or 0 < record.expires <= now:
            return "it was used up" if record.uses_left == 0 else "its time is over"
        if record.parent:
            if parent is None or 0 < parent.record.expires <= now:
                return f"capability {record.parent}, which it was derived from, has ended"
            above = parent.record
            if not _stays(Cap(record, spec, holder, parent), parent.spec, above.expires, above.depth):
                return f"capability {record.parent}, which it was derived from, is narrower now"
            if above.uses_left >= 0:
                if not 0 < record.uses_left <= above.uses_left:
                    return f"capability {record.parent} has no {record.uses_left} uses left"
                self._change_uses(parent, -record.uses_left, changes)
        replaced = record.seq
        record.live, record.state = 1, "live"
        self._enter(Cap(record, spec, holder, parent))
        changes.append(Change(record, replaced))
        return ""

    def _end(self, handle: int, changes: list[Change], state: str) -> int:
        cap = self._live.get(handle)
        if cap is not None:
            self._leave(cap)
            record: CapRecord | None = cap.record
        else:
            record = self.dormant.pop(handle, None)
        if record is None:
            return 0
        self._give_back(record, record.uses_left, changes)
        replaced = record.seq
        record.live, record.state = 0, state
        changes.append(Change(record, replaced))
        return 1


# --- what a capability has left -----------------------------------------------------------------------------------------------


def is_usable(cap: Cap, now: float, *, paid: int = 0) -> bool:
    """Say whether a capability can cover a call: it has not expired, and has a use left or the call has `paid` for its own already.

    `paid` is a handle, 0 for none, -1 when the call has paid, and what with is not known.
    """
    record = cap.record
    if 0 < record.expires <= now:
        return False
    return record.uses_left != 0 or paid in (record.cap, -1) or (bool(cap.children) and uses_left(cap, now) > 0)


def uses_left(cap: Cap, now: float) -> int:
    """Return the uses that a counted capability has, those included that come back from what has expired below it."""
    expired = [child for child in cap.children.values() if 0 < child.record.expires <= now]
    for child in expired:
        expired += child.children.values()  # none outlives what it was derived from
    return cap.record.uses_left + sum(child.record.uses_left for child in expired)


def uses_refusal(cap: Cap, wanted: CapSpec, now: float, *, promised: int = 0) -> Denied | None:
    """Return why `wanted` cannot be carved out of a capability whose uses are counted, None when it can.

    Args:
        cap: The giver's.
        wanted: What is to be derived.
        now: The time.
        promised: Uses that are to be carved out of it as well.
    """
    if cap.record.uses_left < 0:
        return None
    left = uses_left(cap, now) - promised
    if wanted.uses is None:
        text = f"capability {cap.cap} has {left} uses left, and `{wanted.text}` does not say how many it takes"
        return Denied("capability", text, hint="say `uses N`", cap=cap.cap)
    if wanted.uses > left:
        return Denied("capability", f"capability {cap.cap} has only {left} uses left", hint="take fewer", cap=cap.cap)
    return None


def depth_left(cap: Cap, wanted: CapSpec, to: AgentProcess | None) -> int:
    """Return the depth that a capability derived for `to` gets; None is a child that the holder is about to have.

    Raises:
        Denied: `denied.capability`, it may not be passed on, or not to that process.
    """
    mine, holder = cap.record.depth, cap.holder
    if mine == 0:
        raise Denied(
            "capability", f"capability {cap.cap} may not be passed on (depth 0)", hint="its giver can derive it", cap=cap.cap
        )
    if mine < 0 and not (to is None or to.parent is holder or to is holder or holder.is_ancestor_of(to)):
        raise Denied(
            "capability",
            f"capability {cap.cap} may be passed to descendants only, and process {to.pid} is none",
            hint="a capability with `depth N` may be passed to others",
            cap=cap.cap,
        )
    return _least(mine - 1 if mine > 0 else -1, wanted.depth)


def is_within(inner: CapSpec, outer: CapSpec) -> bool:
    """Say whether `inner` covers only what `outer` does."""
    try:
        return outer.narrow(inner).text == inner.text
    except Denied:
        return False


def _stays(child: Cap, spec: CapSpec, expires: float, depth: int) -> bool:
    """Say whether a derived capability is within what is left of the one it came from; counting that begins now counts everything."""
    record, parent = child.record, child.parent
    assert parent is not None
    if spec.uses is not None and parent.record.uses_left < 0:
        return False
    in_time = not expires or 0 < record.expires <= expires
    return in_time and (depth < 0 or 0 <= record.depth < depth) and is_within(child.spec, spec)


def bounded(expires: float, ttl_s: float | None, now: float) -> float:
    """Return when something ends that ends at `expires` (0 = never) and lives for at most `ttl_s` from now."""
    ends = [end for end in (expires, now + ttl_s if ttl_s else 0.0) if end]
    return min(ends, default=0.0)


def _least(depth: int, wanted: int | None) -> int:
    """Return the smaller of two depths; -1 and None are unlimited."""
    if wanted is None:
        return depth
    return wanted if depth < 0 else min(depth, wanted)


def _above(cap: Cap) -> Iterator[Cap]:
    """Yield the capabilities of others that one was derived from."""
    above = cap.parent
    while above is not None:
        if above.holder is not cap.holder:
            yield above
        above = above.parent


def _refusal(process: AgentProcess, op: Op, resources: tuple[Resource, ...], args: dict[str, Any]) -> Denied:
    held = process.by_op.get(op.name, ())
    texts = [cap.record.text for cap in held if not any(above.holder.label for above in _above(cap))][:3]
    what = resources[0].text[:200]
    hint = f"it holds `{'`, `'.join(texts)}`" if texts else f"it holds no capability for `{op.name}`"
    if held and not texts:
        hint = "what it holds for that does not cover it: see `cap.list`"  # whose text a fooled giver chose, and a list says so
    fields: dict[str, Any] = {"pid": process.pid, "op": op.name, "resource": what}
    request = draft_request(op, resources, args)
    if request is not None:
        fields["request"] = request
        hint += f"; `cap.request` can ask a person for `{request}`"
    return Denied("capability", f"process {process.pid} may not `{op.name}` `{what}`", hint=hint, **fields)
