"""Capabilities as trees: what was derived from what, as people see it."""

from __future__ import annotations

from collections.abc import Iterable

from agentos.abi.values import CapInfo
from agentos.shell import words

__all__ = ["drawn", "expiry", "passes_to", "related"]


def related(caps: Iterable[CapInfo], pid: int | None) -> list[CapInfo]:
    """Return the capabilities of a process with those they were derived from and those derived from them; all, without `pid`."""
    known = {cap.id: cap for cap in caps}
    if pid is None:
        return list(known.values())
    kept = {cap.id for cap in known.values() if cap.pid == pid}
    for handle in sorted(kept):
        above = known[handle].parent
        while above in known and above not in kept:
            kept.add(above)
            above = known[above].parent
    held = {cap.id for cap in known.values() if cap.pid == pid}
    for cap in known.values():  # in order of making: what it was derived from has been seen
        if cap.parent in held:
            held.add(cap.id)
    return [cap for cap in known.values() if cap.id in kept | held]


def drawn(caps: Iterable[CapInfo], now: float) -> list[str]:
    """Draw capabilities below what they were derived from, one line each; the first of a tree says where it comes from."""
    known = {cap.id: cap for cap in caps}
    below: dict[int, list[int]] = {}
    for cap in known.values():
        below.setdefault(cap.parent if cap.parent in known and cap.parent is not None else 0, []).append(cap.id)
    lines: list[str] = []
    stack = [(handle, f"{' -> '.join(known[handle].chain[:-1])} -> ", "") for handle in reversed(below.get(0, []))]
    while stack:
        handle, lead, rest = stack.pop()
        lines.append(f"{lead}{_told(known[handle], now)}")
        children = below.get(handle, [])
        for at, child in enumerate(reversed(children)):
            stack.append((child, f"{rest}{'|- ' if at else '`- '}", f"{rest}{'|  ' if at else '   '}"))
    return lines


def _told(cap: CapInfo, now: float) -> str:
    uses = [] if cap.uses_left is None else [f"{cap.uses_left} uses left"]
    ends = [expiry(cap, now)] if cap.expires is not None else []
    return f"pid {cap.pid} cap {cap.id}  {cap.text}  ({', '.join([*uses, *ends, f'passes to {passes_to(cap)}'])})"


def expiry(cap: CapInfo, now: float) -> str:
    """Return when a capability ends: ``in 3m``, ``expired``, nothing for never."""
    if cap.expires is None:
        return ""
    return "expired" if cap.state == "expired" or cap.expires <= now else f"in {words.span(cap.expires - now)}"


def passes_to(cap: CapInfo) -> str:
    """Return who may get a part of it: ``descendants``, ``anyone, 2 deep``, ``nobody``."""
    return f"anyone, {cap.depth} deep" if cap.passes_to == "anyone" else cap.passes_to
