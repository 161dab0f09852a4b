"""The whole error tree of agentos.

    AgentOSError                    every error a caller can be expected to handle
    |- Denied                       a decision: never retry
    |    .capability .policy .label .budget .human .sandbox .revoked
    |- Unavailable                  the world failed: `may_have_happened` says whether a retry can repeat an effect
    |    .timeout .cancelled .device .outcome_unknown .overloaded .missing
    `- Invalid                      the request or the input is wrong: fix it, then try again
         .argument .op .state .manifest .policy .store
    KernelPanic                     a bug of agentos or a broken store: not an AgentOSError, never caught on the way

Every error has a stable `code` such as ``denied.policy``, a message that says what happened, structured `fields`, a `hint`
that says what to do, and the journal number `seq` when it was journaled. Errors cross the journal as plain data
(`to_data`, `from_data`), so a replayed error equals the live one.

Messages are lower-case, have no full stop, and quote user input in backticks.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = ["AgentOSError", "Denied", "Invalid", "KernelPanic", "Unavailable", "from_data"]


_USUAL_FIELDS = frozenset({"field", "where", "reason", "rule", "cap", "ask", "pid", "op", "resource", "limit"})


class AgentOSError(Exception):
    """Base of the three families.

    Args:
        reason: The part of the code after the family, one of `reasons`.
        message: What happened, lower-case, without a full stop.
        hint: What the reader can do about it.
        seq: Journal number of the row that records it, if there is one.
        fields: Structured facts (`rule`, `cap`, `ask`, `field`, `where`...), all of them plain data.
    """

    family: ClassVar[str] = "error"
    reasons: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, reason: str, message: str, /, *, hint: str = "", seq: int | None = None, **fields: Any) -> None:
        assert reason in self.reasons, f"{self.family}.{reason} is not a code of the error tree"
        super().__init__(message)
        self.code = f"{self.family}.{reason}"
        self.message = message
        self.hint = hint
        self.seq = seq
        self.fields = fields
        if hint:
            self.add_note(f"hint: {hint}")  # a traceback shows it

    def __getattr__(self, name: str) -> Any:
        """Look a structured field up as an attribute; the usual ones are None where this error does not carry them."""
        fields = self.__dict__.get("fields", {})
        if name in fields or name in _USUAL_FIELDS:
            return fields.get(name)
        raise AttributeError(name)

    def __str__(self) -> str:
        """Return the code and the message, with the journal number where there is one."""
        where = f" (journal {self.seq})" if self.seq is not None else ""
        return f"{self.code}: {self.message}{where}"

    def to_data(self) -> dict[str, Any]:
        """Return the error as plain data: what the journal keeps and `-o json` prints."""
        data: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.hint:
            data["hint"] = self.hint
        if self.fields:
            data["fields"] = self.fields
        return data


class Denied(AgentOSError):
    """A decision said no. Repeating the same call cannot help.

    Reasons: capability (no live capability covers the call), policy (a rule or the default of a layer), label (flow of
    confidential or untrusted data), budget (nothing left), human (a person said no, or nobody answered in time),
    sandbox (a deny cannot be enforced by the sandbox), revoked (the right was withdrawn meanwhile).
    """

    family = "denied"
    reasons = frozenset({"capability", "policy", "label", "budget", "human", "sandbox", "revoked"})


class Unavailable(AgentOSError):
    """The world failed. `may_have_happened` is True when the effect may exist all the same.

    Reasons: timeout, cancelled, device (the device raised: it happened and said no), outcome_unknown (a crash lay between
    intent and result), overloaded (a bound of agentos was reached), missing (file or dependency not there).
    """

    family = "unavailable"
    reasons = frozenset({"timeout", "cancelled", "device", "outcome_unknown", "overloaded", "missing"})

    def __init__(
        self,
        reason: str,
        message: str,
        /,
        *,
        may_have_happened: bool = False,
        hint: str = "",
        seq: int | None = None,
        **fields: Any,
    ) -> None:
        super().__init__(reason, message, hint=hint, seq=seq, **fields)
        self.may_have_happened = may_have_happened

    def to_data(self) -> dict[str, Any]:
        """Return the error as plain data, `may_have_happened` included."""
        return {**super().to_data(), "may_have_happened": self.may_have_happened}


class Invalid(AgentOSError):
    """The request, manifest, policy or store is wrong. Carries `field` or `where` (``file:line:col``).

    Reasons: argument, op, state, manifest, policy, store (field `reason`: full, readonly, held, corrupt, in_mount, schema).
    """

    family = "invalid"
    reasons = frozenset({"argument", "op", "state", "manifest", "policy", "store"})


class KernelPanic(Exception):
    """agentos itself is wrong, or the store failed under it: nothing further is acknowledged."""


_FAMILIES: dict[str, type[AgentOSError]] = {c.family: c for c in (Denied, Unavailable, Invalid)}


def from_data(data: dict[str, Any], *, seq: int | None = None) -> AgentOSError:
    """Build the error that `to_data` described.

    Raises:
        KernelPanic: the data names no error of the tree, so the record that held it is damaged.
    """
    family, _, reason = str(data.get("code", "")).partition(".")
    cls = _FAMILIES.get(family)
    if cls is None or reason not in cls.reasons:
        raise KernelPanic(f"`{data.get('code')}` is not a code of the error tree")
    extra = {"may_have_happened": data["may_have_happened"]} if "may_have_happened" in data else {}
    return cls(reason, data["message"], hint=data.get("hint", ""), seq=seq, **extra, **data.get("fields", {}))
