"""One call on its way through the door."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import anyio

from agentos.abi.codec import encode
from agentos.abi.limits import ARGS_BYTES_MAX
from agentos.abi.records import Row
from agentos.abi.resource import canonical_path
from agentos.abi.syscall import Syscall
from agentos.errors import Invalid

if TYPE_CHECKING:
    from agentos.abi.records import AskRecord, Change
    from agentos.abi.resource import Resource
    from agentos.kernel.budget import Hold
    from agentos.kernel.process import AgentProcess, Cap
    from agentos.kernel.quota import Reservation
    from agentos.policy import Verdict
    from agentos.policy.flow import Charge

__all__ = ["Deadline", "FileUse", "Request", "call_digest", "is_host_call"]

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_NO_OBLIGATIONS: Final[frozenset[str]] = frozenset()


def is_host_call(number: str) -> bool:
    """Say whether a call was made by the host, not by the process's own program: those count from 1 and are replayed."""
    return not number[0].isdigit()


def call_digest(op: bytes, encoded: bytes) -> bytes:
    """Return the 128-bit digest of op and canonical arguments by which a replayed call is known again."""
    return hashlib.blake2b(encoded, digest_size=16, key=op).digest()


class FileUse:
    """What a call of `fs` really uses.

    Attributes:
        paths: Number of the resource -> path, under its one name.
        labels: Changes of file labels that were made while the device ran.
        is_alone: False when somebody else wrote to one of the paths at the same time.
        moved: Path of what is moved -> label that statements give it where it was.
        found: Label that the file which is written had before.
    """

    __slots__ = ("found", "is_alone", "labels", "moved", "paths")

    def __init__(self) -> None:
        self.paths: dict[int, str] = {}
        self.labels: list[Change] = []
        self.is_alone = True
        self.moved: dict[str, int] = {}
        self.found = 0


class Deadline:
    """When who made a call will cancel it (`anyio.current_time`), and, once it has, whether the effect may exist all the same.

    `due` is the same by the kernel's clock, for a program's call: it wakes a process that was unwound meanwhile.
    """

    __slots__ = ("at", "due", "may_have_happened")

    def __init__(self, at: float, due: float | None = None) -> None:
        self.at = at
        self.due = due
        self.may_have_happened = False


class Request:
    """A typed call: validated arguments, canonical resources, one encoding. Nothing about its target has been observed."""

    __slots__ = (
        "approval", "args", "attempt", "cap", "charges", "deadline", "digest", "encoded", "files", "given", "hold", "is_counted", "key",
        "label", "number", "obligations", "op", "paid", "process", "reservation", "resources", "secrets", "syscall", "verdict",
        "vouched",
    )  # fmt: skip

    def __init__(self, process: AgentProcess, syscall: Syscall, args: dict[str, Any], number: str, key: str) -> None:
        op = syscall.op
        self.process = process
        self.syscall = syscall
        self.op = op
        self.number = number
        self.key = key
        self.label = process.call_label
        self.vouched: tuple[Any, ...] = ()
        self.given: Mapping[str, str] = _NOTHING
        self.set_args(op.validate(args))
        self.cap: Cap | None = None
        self.verdict: Verdict | None = None
        self.approval: AskRecord | None = None
        self.attempt = 1
        self.paid: Row | None = None  # the interrupted intent that this attempt finishes
        self.deadline: Deadline | None = None
        self.is_counted = False
        self.hold: Hold | None = None  # of the budget, until the intent has it
        self.charges: tuple[Charge, ...] = ()
        self.reservation: Reservation | None = None
        self.obligations = _NO_OBLIGATIONS
        self.secrets: Mapping[str, Cap] = _NOTHING  # name -> the capability that lets the call have it
        self.files: FileUse | None = None  # the paths that it really uses, once a device has found out

    def count(self, counted: bool) -> None:
        """Have the call count in the budget, or no longer; limits or not: what was used was used.

        A call that does not count holds nothing either.
        """
        if not counted:
            self.let_go()
        if counted != self.is_counted:
            self.is_counted = counted
            self.process.account.charge({"calls": 1 if counted else -1})

    def let_go(self) -> None:
        """Give back what the call holds of the budget, unless its intent has that."""
        if self.hold is not None:
            self.process.account.release(self.hold)
            self.hold = None

    def set_args(self, args: dict[str, Any]) -> None:
        """Take validated arguments and derive resource, encoding and digest from them.

        Raises:
            Invalid: a resource is malformed, or the arguments are larger than ARGS_BYTES_MAX.
        """
        process, op = self.process, self.op
        if process.ids is not None and op.ids and not is_host_call(self.number):
            op.translate(args, process.ids)
        given = {name: args[name] for name in op.spelled} if op.spelled else None
        self.resources: tuple[Resource, ...] = op.render(args, process.cwd, process.pid, process.image.profile)
        self.args = args
        if given:
            self.given = _same_from_root(given, args)
        self.encoded = encode(args)
        if len(self.encoded) > ARGS_BYTES_MAX:
            raise Invalid(
                "argument", f"arguments have {len(self.encoded)} bytes, {ARGS_BYTES_MAX} at most", hint="pass a reference"
            )
        self.digest = call_digest(op.key_bytes, self.encoded)

    @property
    def timed_out(self) -> bool:
        """True once the host's deadline has passed."""
        return self.deadline is not None and anyio.current_time() >= self.deadline.at

    @property
    def is_over(self) -> bool:
        """True when nobody is left to get the result: the process has ended, or its program, which made the call, is being unwound."""
        process = self.process
        return process.ended or (process.unwinding and not is_host_call(self.number))

    @property
    def approved_by(self) -> int:
        """The ask that a person answered for this call, now or for the interrupted attempt that it finishes; 0 for none."""
        if self.approval is not None:
            return self.approval.ask
        return self.paid.ask if self.paid is not None else 0

    @property
    def resource_text(self) -> str:
        """The canonical resources, one per line."""
        resources = self.resources
        return resources[0].text if len(resources) == 1 else "\n".join(r.text for r in resources)

    def row(self, kind: str, outcome: str, at: float) -> Row:
        """Return the row that records the call itself, without a result."""
        verdict, cap = self.verdict, self.cap
        return Row(
            pid=self.process.pid, number=self.number, kind=kind, op=self.op.name, resource=self.resource_text, effect=self.op.effect.value,
            digest=self.digest, args=self.encoded, outcome=outcome, rule=verdict.rule if verdict is not None else "",
            cap=cap.cap if cap is not None else 0, ask=self.approved_by, labels=self.process.label | self.label, key=self.key,
            at=at,
        )  # fmt: skip


def _same_from_root(given: dict[str, Any], args: dict[str, Any]) -> dict[str, Any]:
    """Return canonical value -> value as it was given, where the two mean the same seen from the root.

    Whoever wrote the given form (a user, in the goal) then wrote the canonical one too. A name that only means this because of the
    current folder, which the process itself chose, is not that.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        canonical = args[name]
        if isinstance(value, str) and value != canonical and ("://" in value or canonical_path(value) == canonical):
            found[canonical] = value
    return found
