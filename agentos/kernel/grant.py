"""Grants: which capabilities a new process gets, and which of them each is derived from.

    plan      each text that is granted, cut to what the image requests and what the images it is made from do, then matched with a
              capability of the giver that contains it and has the uses: all of it before anything is changed
    give      mint (the host) or derive (a parent) what was planned, all or nothing
    confine   what a process keeps when it becomes another image

INVARIANT children-are-never-wider: a child's capabilities are derived from named ones of its parent, and an image can only take away.
Cost: linear in what is granted and held; a text that the giver holds as such is found without comparing patterns, and a plan that
counts nothing is remembered until the giver's capabilities change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from agentos.abi.op import OpTable
from agentos.abi.records import Change
from agentos.errors import Denied
from agentos.kernel.capability import depth_left, uses_refusal
from agentos.kernel.process import AgentProcess, Cap
from agentos.policy import CapSpec, parse_capability

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage
    from agentos.kernel.core import Core

__all__ = ["Grant", "Purse", "confine", "give", "plan", "within_image"]

_PLANS_MAX: Final = 256


class Grant(NamedTuple):
    """One capability to be made; `giver` None: minted by the host."""

    spec: CapSpec
    giver: Cap | None


def plan(core: Core, image: AgentImage, texts: Sequence[str] | None, parent: AgentProcess | None) -> list[Grant]:
    """Return what a new process of `image` gets, before anything is changed.

    Args:
        core: The kernel's state.
        image: What the process is started from; it bounds what is granted, unless it requests nothing.
        texts: What is granted; None is what the image requests.
        parent: Who gives; None is the host.

    Raises:
        Denied: the image does not request it, or the parent does not hold it.
        Invalid: a text is no capability.
    """
    granted = image.capabilities if texts is None else tuple(texts)
    if parent is None:
        return [Grant(spec, None) for text in granted for spec in _requested(core, image, text)]
    plans = core.caps.plans
    key = (parent.pid, parent.generation, image.digest, granted, len(core.ops))
    known = plans.get(key)
    if known is not None:
        return known
    purse = Purse(parent, core.clock.now())
    grants = [grant for text in granted for spec in _requested(core, image, text) for grant in purse.take_parts(spec)]
    if all(_is_steady(grant.giver) for grant in grants):
        if len(plans) >= _PLANS_MAX:
            plans.clear()
        plans[key] = grants
    return grants


def _requested(core: Core, image: AgentImage, text: str) -> list[CapSpec]:
    """Return what a granted text has in common with what the image requests, and what the images that it is made from do."""
    ops = core.ops
    specs = [parse_capability(text, ops)]
    for bound in _bounds((image.capabilities, *image.ceilings), ops, len(ops)):
        specs = [common for spec in specs for common in bound.common(spec, image.ref)]
    return specs


def within_image(core: Core, image: AgentImage, spec: CapSpec) -> list[CapSpec]:
    """Return what is left of a capability within what an image requests: all of it where the image requests nothing."""
    parts = [spec]
    for bound in _bounds((image.capabilities, *image.ceilings), core.ops, len(core.ops)):
        parts = [kept for part in parts for kept in bound.kept(part, image.ref)]
    return parts


def _is_steady(giver: Cap | None) -> bool:
    """Say whether a capability gives the same again for as long as its holder's generation lasts."""
    return giver is not None and giver.record.uses_left < 0 and giver.record.depth < 0 and not giver.record.expires


def give(core: Core, process: AgentProcess, grants: Sequence[Grant], changes: list[Change]) -> None:
    """Mint or derive every grant, or, when one is refused, nothing: the process is taken back.

    Raises:
        Denied: the process would hold too many.
    """
    given: list[Change] = []
    now = core.clock.now()
    try:
        for spec, giver in grants:
            if giver is None:
                core.caps.mint(process, spec, given, now=now)
                continue
            if spec.uses is not None and 0 <= giver.record.uses_left < spec.uses:
                core.caps.reclaim(giver, changes, now)  # stays true, also when a later grant is refused
            core.caps.derive(giver, spec, process, given, now=now)
    except Denied:
        for cap in list(process.caps.values()):
            core.caps.revoke(cap, given)
        process.state = "failed"
        core.processes.remove(process)
        raise
    changes += given


def confine(core: Core, process: AgentProcess, image: AgentImage, changes: list[Change]) -> None:
    """Cut what a process holds down to what an image requests: narrowed where it is wider, dropped where nothing is left.

    A capability with counted uses that several requests would share is dropped: its uses belong to the whole.
    """
    ops, now = core.ops, core.clock.now()
    bounds = _bounds((image.capabilities, *image.ceilings), ops, len(ops))
    for cap in list(process.caps.values()):
        parts = [cap.spec] if image.capabilities else []
        for bound in bounds:
            parts = [kept for part in parts for kept in bound.kept(part, image.ref)]
        if not parts or (len(parts) > 1 and cap.record.uses_left >= 0):
            core.caps.revoke(cap, changes, "dropped")
        elif len(parts) > 1 or parts[0].text != cap.spec.text:
            core.caps.shrink(cap, parts, changes, now=now)


class Purse:
    """What a process can give: its live capabilities, less what was promised out of them already.

    Args:
        giver: The process.
        now: The time.
        to: Who is to get it; None is a child that the giver is about to have.
    """

    def __init__(self, giver: AgentProcess, now: float, to: AgentProcess | None = None) -> None:
        self._giver = giver
        self._now = now
        self._to = to
        self._promised: dict[int, int] = {}
        self._by_text: dict[str, Cap] = {}
        for cap in reversed(giver.caps.values()):
            self._by_text[cap.spec.text] = cap

    def take_parts(self, spec: CapSpec) -> list[Grant]:
        """Promise `spec` out of one capability, or op by op out of several.

        Raises:
            Denied: `denied.capability`, the giver holds nothing that it is within.
        """
        try:
            return [Grant(spec, self.take(spec))]
        except Denied:
            parts = spec.split()
            if len(parts) == 1:
                raise
            return [Grant(part, self.take(part)) for part in parts]

    def take(self, wanted: CapSpec) -> Cap:
        """Promise `wanted` out of the first capability that contains it, has the uses, and may be passed on.

        Raises:
            Denied: `denied.capability`, there is none; the message is that of the nearest one.
        """
        same = self._by_text.get(wanted.text)
        refusal: Denied | None = None
        if same is not None and self._refusal(same, wanted) is None:
            return self._promise(same, wanted)
        for cap in self._giver.by_op.get(min(wanted.ops), ()):
            if 0 < cap.record.expires <= self._now:
                continue
            why = self._refusal(cap, wanted)
            if why is None:
                return self._promise(cap, wanted)
            if refusal is None or "wider" in refusal.message:
                refusal = why
        raise refusal or Denied(
            "capability",
            f"process {self._giver.pid} holds nothing that `{wanted.text}` could be derived from",
            hint="a process gives only what it holds",
            pid=self._giver.pid,
        )

    def _refusal(self, cap: Cap, wanted: CapSpec) -> Denied | None:
        """Return why a capability cannot give `wanted`, None when it can."""
        record = cap.record
        if 0 < record.expires <= self._now:
            return Denied("capability", f"capability {record.cap} has ended", cap=record.cap)
        if cap.spec.text != wanted.text:
            try:
                cap.spec.narrow(wanted)
            except Denied as wider:
                return wider
        try:
            if record.depth >= 0 or self._to is not None:
                depth_left(cap, wanted, self._to)
        except Denied as refused:
            return refused
        if record.uses_left < 0:
            return None
        return uses_refusal(cap, wanted, self._now, promised=self._promised.get(record.cap, 0))

    def _promise(self, cap: Cap, wanted: CapSpec) -> Cap:
        if wanted.uses is not None and cap.record.uses_left >= 0:
            self._promised[cap.record.cap] = self._promised.get(cap.record.cap, 0) + wanted.uses
        return cap


# --- what an image bounds -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _bounds(requests: tuple[tuple[str, ...], ...], ops: OpTable, ops_known: int) -> tuple[Bound, ...]:
    """Return the bounds that lists of requests set; an empty list sets none. Remembered while the op table has not grown."""
    assert ops_known == len(ops)
    return tuple(_bound([parse_capability(text, ops) for text in texts]) for texts in requests if texts)


def _bound(requests: Sequence[CapSpec]) -> Bound:
    return Bound(
        tuple(requests), frozenset(spec.text for spec in requests), frozenset(op for spec in requests for op in spec.ops)
    )


@dataclass(frozen=True, slots=True)
class Bound:
    """What one image requests: the capabilities, their texts, and every op that one of them names."""

    requests: tuple[CapSpec, ...]
    texts: frozenset[str]
    ops: frozenset[str]

    def common(self, spec: CapSpec, image: str) -> list[CapSpec]:
        """Return what a grant has in common with what the image requests.

        That is the grant where one request contains it, else, op by op, the requests that it contains. Counted uses are never
        multiplied: a grant that would have to be cut into several is refused.

        Raises:
            Denied: there is nothing in common for one of its ops, or counted uses would be shared.
        """
        if spec.text in self.texts:
            return [spec]
        whole = next((found for allowed in self.requests if (found := _contained(spec, allowed)) is not None), None)
        if whole is not None:
            return [whole]
        common = [one for part in spec.split() for one in self._common_part(part, image)]
        if len(common) > 1 and spec.uses is not None:
            raise Denied(
                "capability",
                f"`{spec.text}` counts uses over what are several requests of `{image}`",
                hint="grant each by itself",
            )
        return common

    def kept(self, spec: CapSpec, image: str) -> list[CapSpec]:
        """Return what is left of a capability within what the image requests: nothing, itself, or parts of it."""
        left = spec.only(self.ops)
        if left is None:
            return []
        try:
            return self.common(left, image)
        except Denied:
            parts = left.split()
            return [] if len(parts) == 1 else [one for part in parts for one in self.kept(part, image)]

    def _common_part(self, part: CapSpec, image: str) -> list[CapSpec]:
        requests = [one for whole in self.requests for one in (whole, *whole.split()) if one.ops & part.ops]
        whole = next((found for allowed in requests if (found := _contained(part, allowed)) is not None), None)
        if whole is not None:
            return [whole]
        parts = {one.text: one for allowed in requests if (one := _contained(allowed, part)) is not None}
        common = list(parts.values())
        if not common:
            raise Denied(
                "capability",
                f"image `{image}` does not request `{part.text}`",
                hint="add it to the manifest's capabilities, or grant it to the running process",
            )
        return common


def _contained(inner: CapSpec, outer: CapSpec) -> CapSpec | None:
    """Return what is left of `inner` within `outer`, None when it is wider."""
    try:
        return inner.within(outer)
    except Denied:
        return None
