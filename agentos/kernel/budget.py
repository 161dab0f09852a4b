"""Budgets: what a process and all its descendants may use, reserved along the whole ancestor chain at once.

An `Account` belongs to one process and points at its parent's. `reserve` looks at every account of the chain before it changes any,
so a reservation either holds everywhere or nowhere. Usage of a subtree is exact: an account counts its own calls and those below.
What a call will cost is held until its true cost is known (`Account.hold`): however many are made at once, no more is used than there
is, as far as estimates are true.
Resources: calls, tokens, usd (counted) · children (live ones) · depth, rss_bytes (bounds on one value) · wall_s (a timer).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anyio

from agentos.abi.codec import decode, encode
from agentos.abi.op import closest
from agentos.abi.records import AccountRecord, Row
from agentos.abi.syscall import Estimate
from agentos.errors import Denied, Invalid

__all__ = ["RESOURCES", "Account", "Hold", "parse_limits", "used_by"]

RESOURCES = ("tokens", "usd", "wall_s", "calls", "children", "depth", "rss_bytes")
_COUNTED = ("calls", "tokens", "usd")
SNAPSHOT_CALLS = 1_000  # calls after which usage is written down, so that counting the tail stays short


def parse_limits(budget: dict[str, Any] | None) -> dict[str, float]:
    """Check a budget.

    Raises:
        Invalid: an unknown resource, or an amount that is not a number of at least 0.
    """
    limits: dict[str, float] = {}
    for name, amount in (budget or {}).items():
        if name not in RESOURCES:
            hint = closest(name, RESOURCES) or f"use one of {', '.join(RESOURCES)}"
            raise Invalid("argument", f"there is no budget `{name}`", hint=hint, field="budget")
        if isinstance(amount, bool) or not isinstance(amount, int | float) or not amount >= 0:
            raise Invalid("argument", f"budget `{name}` is `{amount}`", hint="give a number of at least 0", field="budget")
        limits[name] = amount
    return limits


@dataclass(frozen=True, slots=True)
class Hold:
    """What one call holds until it is over: at `least` that, and so many of the units that it wanted."""

    cost: dict[str, float]
    least: dict[str, float]
    units: int


def used_by(row: Row) -> dict[str, float]:
    """Return what a row of the journal adds to usage. What an intent shows is an estimate: its result has the true cost."""
    is_new = row.kind in ("call", "intent") and not row.parent  # an intent with a parent runs an interrupted one again
    used = {"calls": 1.0} if is_new and row.outcome != "denied" else {}
    return {**used, **decode(row.cost)} if row.cost and row.kind != "intent" else used


class Account:
    """Limits and usage of one process."""

    __slots__ = ("_snapshot_calls", "ended", "held", "holds", "limits", "own", "parent", "record", "used", "waited")

    def __init__(self, record: AccountRecord, limits: dict[str, float], parent: Account | None) -> None:
        self.record = record
        self.limits = limits
        self.parent = parent
        self.own: dict[str, float] = dict(decode(record.own)) if record.own else {"calls": 0}
        self.ended: dict[str, float] = dict(decode(record.ended)) if record.ended else {}
        self.used: dict[str, float] = {"calls": 0}
        for used in (self.own, self.ended):
            for name, amount in used.items():
                self.used[name] = self.used.get(name, 0) + amount
        self._snapshot_calls = self.own.get("calls", 0)
        self.held: dict[str, float] = {}
        self.holds = 0
        self.waited: anyio.Event | None = None

    def reserve(self, cost: dict[str, float], pid: int) -> None:
        """Take `cost` from this account and every account above it.

        Raises:
            Denied: `denied.budget` naming the resource and the process whose limit it is; nothing was taken.
        """
        account: Account | None = self
        while account is not None:
            if account.limits:
                account.check(cost, pid)
            account = account.parent
        self.charge(cost)

    def reserve_call(self, pid: int) -> None:
        """Take one call: `reserve({"calls": 1})`, without building anything."""
        account: Account | None = self
        while account is not None:
            limit = account.limits.get("calls")
            if limit is not None and account.used["calls"] + 1 > limit:
                raise account.refusal("calls", pid)
            account = account.parent
        self.own["calls"] += 1
        account = self
        while account is not None:
            account.used["calls"] += 1
            account = account.parent

    def charge(self, cost: dict[str, float]) -> None:
        """Add true cost to this account and every account above it, limits or not: what was used was used."""
        for name, amount in cost.items():
            self.own[name] = self.own.get(name, 0) + amount
        account: Account | None = self
        while account is not None:
            for name, amount in cost.items():
                account.used[name] = account.used.get(name, 0) + amount
            account = account.parent

    # --- what is not known yet ----------------------------------------------------------------------------------------------

    def hold(self, estimate: Estimate, pid: int) -> Hold | Account:
        """Hold what a call may cost in this account and every account above it; what it may use at most is cut to what is left.

        Returns:
            The hold, or the account to wait for (`freed`): it has room once calls that are under way are over.

        Raises:
            Denied: `denied.budget`, not even the least is left; nothing was taken.
        """
        units = estimate.units
        for account in self._chain():
            for name, least in estimate.least.items():
                limit, each = account.limits.get(name), estimate.each.get(name, 0.0)
                if limit is None:
                    continue
                left = limit - account.used.get(name, 0)
                if left < least + (each if estimate.units else 0):
                    raise account.refusal(name, pid, needs=least)
                if least + each * units <= left - account.held.get(name, 0):
                    continue
                if account.holds:
                    return account
                units = int((left - least) / each)
        most = {name: least + estimate.each.get(name, 0.0) * units for name, least in estimate.least.items()}
        found = Hold(most, estimate.least, units)
        for account in self._chain():
            account.holds += 1
            for name, amount in found.cost.items():
                account.held[name] = account.held.get(name, 0) + amount
        return found

    def release(self, hold: Hold) -> None:
        """Give back what a call held, and wake who waits for room."""
        for account in self._chain():
            account.holds -= 1
            assert account.holds >= 0, "what is released was held"
            for name, amount in hold.cost.items():
                account.held[name] -= amount
            if not account.holds:
                account.held.clear()
            if account.waited is not None:
                account.waited.set()
                account.waited = None

    async def freed(self) -> None:
        """Wait until some call gives back what it held."""
        if self.waited is None:
            self.waited = anyio.Event()
        await self.waited.wait()

    def _chain(self) -> Iterator[Account]:
        account: Account | None = self
        while account is not None:
            yield account
            account = account.parent

    def limit(self, name: str) -> float | None:
        """Return the tightest limit of `name` along the chain, None when there is none."""
        limits = []
        account: Account | None = self
        while account is not None:
            if name in account.limits:
                limits.append(account.limits[name])
            account = account.parent
        return min(limits, default=None)

    def left(self) -> dict[str, float]:
        """Return what each counted resource has left, the least along the chain; nothing of what has no limit."""
        left: dict[str, float] = {}
        account: Account | None = self
        while account is not None:
            for name, limit in account.limits.items():
                if name in _COUNTED:
                    left[name] = max(min(left.get(name, limit), limit - account.used.get(name, 0)), 0)
            account = account.parent
        return left

    def fold(self, child: Account) -> None:
        """Keep the usage of a child that has ended: it counts here for good."""
        for used in (child.own, child.ended):
            self.fold_cost(used)

    def fold_cost(self, cost: dict[str, float]) -> None:
        """Keep what a child that has ended used; `used` has it already."""
        for name, amount in cost.items():
            self.ended[name] = self.ended.get(name, 0) + amount

    def unfold(self, child: Account) -> None:
        """Take the usage of a child out again, which lives once more and counts by itself: the opposite of `fold`."""
        for used in (child.own, child.ended):
            for name, amount in used.items():
                self.ended[name] = self.ended.get(name, 0) - amount

    def counted_in(self) -> Iterator[Account]:
        """Yield the accounts above up to the first of a living process: an ancestor that has ended still bounds who is below it."""
        account = self.parent
        while account is not None:
            yield account
            if account.record.live:
                return
            account = account.parent

    def adopt(self, child: Account) -> None:
        """Count, at load, what a live child's subtree has used."""
        for name, amount in child.used.items():
            self.used[name] = self.used.get(name, 0) + amount

    @property
    def is_due(self) -> bool:
        """True when so many calls were made since the last snapshot that usage should be written down again."""
        return self.own["calls"] - self._snapshot_calls >= SNAPSHOT_CALLS

    def snapshot(self) -> AccountRecord:
        """Return the record with today's usage, to be appended as a change."""
        self._snapshot_calls = self.own["calls"]
        self.record.own = encode(self.own)
        self.record.ended = encode(self.ended) if self.ended else b""
        return self.record

    def check(self, cost: dict[str, float], pid: int) -> None:
        """Raise unless this account alone has room for `cost`."""
        for name, amount in cost.items():
            limit = self.limits.get(name)
            if limit is not None and name in _COUNTED and self.used.get(name, 0) + amount > limit:
                raise self.refusal(name, pid)

    def refusal(self, name: str, pid: int, *, needs: float = 0) -> Denied:
        """Return the error of a call by `pid` that this account has no `name` left for; `needs` is what it would have taken at least."""
        limit = self.limits[name]
        whose = "its own" if pid == self.record.pid else f"process {self.record.pid}'s"
        about = f", and the call needs about {needs:g}" if needs else ""
        return Denied(
            "budget",
            f"process {pid} has no {name} left: {self.used.get(name, 0):g} of {limit:g} used of {whose} budget{about}",
            hint="give it a larger budget, or let it end",
            limit=name,
            pid=self.record.pid,
        )
