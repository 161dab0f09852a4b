"""What a condition may know beyond the call: the labels it carries, where its values come from, and what happened before.

The kernel hands one `Flow` per process in as the fact ``flow``; the policy room only asks it. Without one, tests on labels, sources and
history are unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Protocol

__all__ = ["COSTS", "Charge", "Flow", "NoHistory", "Origin"]

COSTS: Final = ("tokens", "usd", "bytes", "wall_s")
"""Costs of a call that are known only after it: a limit may be `of` one."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from.

    Attributes:
        label: Its label bits (`abi.labels`). A value that is not grounded has the label of the process.
        sources: ``prompt``, ``human``, ``result(op)``, ``result(op).field``, ``object(namespace)``; empty when it is not grounded.
    """

    label: int
    sources: frozenset[str]


class Flow(Protocol):
    """What the kernel knows about one process's values and history."""

    @property
    def label(self) -> int:
        """Label bits of the call that is decided."""

    def origin(self, value: Any) -> Origin:
        """Return the origin of an argument's value. Of a list or object: the join of the labels, the sources that all leaves share."""

    def count(self, op: str) -> int:
        """Return how many calls of `op` the task (the whole tree) was admitted to make."""

    def total(self, op: str, attr: str) -> float:
        """Return the sum of the numeric argument `attr` over those calls."""

    def happened(self, op: str) -> bool:
        """Say whether a call of `op` by the task has succeeded."""


class NoHistory:
    """Base of a `Flow` before which nothing happened."""

    __slots__ = ()

    def count(self, op: str) -> int:
        """Return 0."""
        return 0

    def total(self, op: str, attr: str) -> float:
        """Return 0."""
        return 0.0

    def happened(self, op: str) -> bool:
        """Return False."""
        return False


@dataclass(frozen=True, slots=True)
class Charge:
    """What one call takes from one limit, or adds to one counter of history.

    Attributes:
        key: Stable name of the statement: the same after a reopen, and for the same statement of a layer with the same name.
        where: ``file:line`` of the limit; empty for a counter.
        amount: What is reserved before the call, never negative, exactly as the argument has it. 0 where the cost is only known after
            it (`of` names a cost then); more than `amount_max` where it cannot be known, so that the call cannot pass.
        amount_max: The limit; None for a counter, which is never full.
        per: ``process``, ``tree``, or ``window`` (then `window_s` is its length in seconds, sliding, shared by all who have the layer).
        by: Canonical value of the argument that splits the limit; empty for none.
        of: Name of the cost that is settled after the call (tokens, usd, bytes...), else empty.
        text: The limit as written, for messages.
        succeeded: Only a call that succeeded counts (counters of ``after``): charged at SETTLE.
    """

    key: str
    where: str
    amount: float | Decimal
    amount_max: float | None
    per: str
    window_s: float = 0.0
    by: str = ""
    of: str = ""
    text: str = ""
    succeeded: bool = False
