"""The permit: proof that the broker admitted one call.

INVARIANT no-effect-without-permit: a Permit can only be made with the seal, the seal is handed out once per interpreter
(to the broker), and every op of every device takes a permit and spends it before it does anything.
"""

from __future__ import annotations

from typing import Any

from agentos.abi.resource import Resource
from agentos.errors import KernelPanic

__all__ = ["Permit", "claim_seal"]


class _Seal:
    __slots__ = ()


_SEAL = _Seal()
_claimed = False


def claim_seal() -> object:
    """Hand out the seal, once.

    Raises:
        KernelPanic: the broker has it already.
    """
    global _claimed  # noqa: PLW0603 - one seal per interpreter is the point
    if _claimed:
        raise KernelPanic("the seal of permits is taken: only the broker makes permits")
    _claimed = True
    return _SEAL


class Permit:
    """Admission of exactly one call by one process. Slotted and spent once.

    Attributes:
        pid: The calling process.
        seq: Journal number of the intent; 0 for pure and local calls, which are journaled after they ran.
        number: Path number of the call within its process (``"12"``, ``"12.3.1"``).
        op: Name of the op it admits.
        resources: Canonical resources that were decided, in the order of the op's templates.
        key: Stable idempotency key, equal on every attempt of this call.
        attempt: 1 on the first run, one more on every rerun.
        process: The kernel's record of the caller, for ops that rooms of the kernel serve; devices leave it alone.
        changes: State changes that the journal commits together with the call's row (local ops).
        recheck: Decides again on late facts; raises Denied. Devices call it with each late attribute before the first byte.
        keep: Keeps bytes as an object of this call and returns its digest once they are durable; async. What a device is about to
            overwrite or remove goes here first, so that `undo` has it.
        delta: Shows followers a piece of a result that is still being made; None when nobody follows. Pieces are not journaled.
        units: How much of what the call's estimate wants it may use: tokens of an answer; None where nothing was estimated.
        cost: What the device reports as the true cost beyond one call, for example ``{"tokens": 12}``.
        labels: Label bits that the result carries.
    """

    __slots__ = (
        "_spent", "attempt", "changes", "cost", "deadline", "delta", "keep", "key", "labels", "number", "op", "pid", "process", "recheck",
        "resources", "seq", "units",
    )  # fmt: skip

    def __init__(self, seal: object, pid: int, op: str, resources: tuple[Resource, ...], number: str, process: Any) -> None:
        if seal is not _SEAL:
            raise KernelPanic("a permit was forged: only the broker makes permits")
        self.pid = pid
        self.op = op
        self.resources = resources
        self.number = number
        self.process = process
        self.seq = 0
        self.key = ""
        self.attempt = 1
        self.deadline: float | None = None
        self.changes: list[Any] = []
        self.recheck: Any = None
        self.keep: Any = None
        self.delta: Any = None
        self.units: int | None = None
        self.cost: dict[str, float] | None = None
        self.labels = 0
        self._spent = False

    @property
    def resource(self) -> Resource:
        """The first (for most ops the only) resource."""
        return self.resources[0]

    def spend(self, op: str) -> None:
        """Use the permit up for `op`.

        Raises:
            KernelPanic: it was made for another op or was used before.
        """
        if self._spent or self.op != op:
            raise KernelPanic(f"permit for `{self.op}` of process {self.pid} was used twice or for `{op}`")
        self._spent = True

    def renew(self) -> None:
        """Make the permit of a parked local call usable again: its handler is asked anew after every wake."""
        self._spent = False
