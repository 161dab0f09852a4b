"""One charge against its counter: what the counter is called, what is taken, whether there is room, and what a refusal says.

Functions only; who keeps counters is `kernel.quota`, how they count is `kernel.counter`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agentos.errors import Denied
from agentos.kernel.counter import UNITS, Counter, amount_text, to_units, window_us

if TYPE_CHECKING:
    from agentos.kernel.process import AgentProcess
    from agentos.policy.flow import Charge

__all__ = ["Take", "expect_room", "key_of", "left_of", "parts_of", "refusal", "too_little", "units_of"]

_HASH_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Take:
    """What one call takes from one counter, and at which moment of its window (None: an earlier kernel knew)."""

    charge: Charge
    counter: Counter
    units: int
    moment: int | None

    @property
    def reserved(self) -> int:
        """The units that count from before the call."""
        return 0 if self.charge.succeeded else self.units

    def settled(self, cost: Mapping[str, float], *, succeeded: bool) -> int:
        """Return the units that count only once the call has ended."""
        if self.charge.succeeded:
            return self.units if succeeded else 0
        if not self.charge.of:
            return 0
        units = to_units(cost.get(self.charge.of, 0), up=True)
        return _most(self.charge) if units is None else max(units, 0)


def key_of(charge: Charge, process: AgentProcess) -> str:
    """Return the name of the counter that a charge of `process` is taken from."""
    if charge.per == "process":
        holder = f"p{process.pid}"
    elif charge.per == "tree":
        holder = f"t{process.record.tree}"
    else:
        assert charge.per == "window", "a limit is per process, tree or window"
        holder = f"w{window_us(charge.window_s)}"
    if not charge.by:
        return f"{charge.key}/{holder}"
    value = hashlib.blake2b(charge.by.encode(errors="surrogatepass"), digest_size=_HASH_BYTES).hexdigest()
    return f"{charge.key}/{holder}.{value}"


def parts_of(key: str) -> tuple[str, str, str]:
    """Return the statement, the holder and the hash of the value that a key consists of."""
    statement, _, rest = key.rpartition("/")
    holder, _, value = rest.partition(".")
    return statement, holder, value


def units_of(charge: Charge) -> int:
    """Return what a charge takes. A counter of history never goes down, so less than nothing adds nothing to it.

    Raises:
        Denied: the amount is negative or no number.
    """
    units = to_units(charge.amount, up=True)
    if units is None or (units < 0 and charge.amount_max is not None):
        raise refusal(charge, "cannot be counted", f"the call has an amount of {charge.amount}", "give a number of at least 0")
    return max(units, 0)


def expect_room(charge: Charge, units: int, counter: Counter | None, now: float) -> None:
    """Raise unless a limit has room for so many units; a limit of a cost has while any of it is left.

    Raises:
        Denied: `denied.policy` with `rule`, `limit`, and `retry_after_s` where time makes room again.
    """
    most = _most(charge)
    used = counter.at(now) if counter is not None else 0
    wanted = max(units, 1) if charge.of else units
    if used + wanted <= most:
        return
    detail = f"{amount_text(used)} of {amount_text(most)} used"
    if units and used < most:
        detail += f", this call takes {amount_text(units)}"
    free_at = counter.free_at(most - wanted) if counter is not None else None
    if free_at is None:
        raise refusal(charge, "is reached", detail, "the same call will be denied again; only a person can change the limit")
    wait_s = max(free_at - now, 0.0)
    raise refusal(
        charge, "is reached", f"{detail}, room again in {_span(wait_s)}", "do not repeat the call before then", wait_s
    )


def left_of(charge: Charge, counter: Counter, now: float) -> float:
    """Return what a limit of a cost has left."""
    return (_most(charge) - counter.at(now)) / UNITS


def too_little(charge: Charge, counter: Counter, needs: float, now: float) -> Denied:
    """Return the error of a call that is about to cost more than a limit has left."""
    detail = f"{amount_text(counter.at(now))} of {amount_text(_most(charge))} used, this call needs about {needs:g}"
    free_at = counter.free_at(_most(charge) - (to_units(needs, up=True) or 0))
    wait_s = max(free_at - now, 0.0) if free_at is not None else None
    return refusal(charge, "is reached", detail, "ask for less, or have a person change the limit", wait_s)


def refusal(charge: Charge, what: str, detail: str, hint: str, wait_s: float | None = None) -> Denied:
    """Return the error of a call that a charge stops: which limit, where it stands, what is the matter."""
    name = f'limit "{charge.text.removeprefix("limit ")}"' if charge.text else f"counter `{charge.key}`"
    where = f" ({charge.where})" if charge.where else ""
    denied = Denied("policy", f"{name} {what}{where}: {detail}", hint=hint, rule=charge.where, limit=charge.text)
    if wait_s is not None:
        denied.fields["retry_after_s"] = wait_s
    return denied


def _most(charge: Charge) -> int:
    """Return the amount of a limit; one that is no number lets nothing pass."""
    return (to_units(charge.amount_max, up=False) or 0) if charge.amount_max is not None else 0


def _span(seconds: float) -> str:
    """Return a time to wait in the largest unit it fills, rounded up."""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{math.ceil(seconds / size)}{unit}"
    return f"{math.ceil(seconds)}s"
