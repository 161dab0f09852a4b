"""Obligations: what a policy's `require` statements make of a call that is allowed.

    log       the call's row is durable before its result is handed out, and the logger `agentos.audit` gets a line
    redact    secrets and credentials in text arguments are replaced by `[redacted]` before anything sees them
    label     the result comes back as a handle; whoever wants the content reads it, with its labels
    preview   what will happen is rendered and journaled before it does
    sandbox   the op runs in a sandbox: only an op that says so meets it

An obligation that cannot be met denies the call.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final

from agentos.broker.request import Request
from agentos.errors import Denied

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_obligations", "log_call", "redacted"]

audit = logging.getLogger("agentos.audit")

_BROKER: Final = frozenset({"log", "redact", "label", "preview"})
_MARK: Final = "[redacted]"
_CREDENTIALS: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.{0,16384}?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_[A-Za-z0-9]{20,255}\b|\bgithub_pat_[A-Za-z0-9_]{20,255}\b"
    r"|\bsk-[A-Za-z0-9_-]{20,255}"
    r"|\bxox[abprs]-[A-Za-z0-9-]{10,255}"
    r"|\beyJ[A-Za-z0-9_-]{10,4096}\.[A-Za-z0-9_-]{10,8192}\.[A-Za-z0-9_-]{10,4096}"
    r"|(?i:\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{16,4096}",
    re.DOTALL,
)


def check_obligations(call: Request) -> None:
    """Refuse a call with an obligation that neither the broker nor the op's device can meet.

    Raises:
        Denied: `denied.policy`.
    """
    unmet = call.obligations - _BROKER - call.syscall.meets
    if unmet:
        name = min(unmet)
        raise Denied(
            "policy",
            f"a policy requires `{name}` of `{call.op.name}`, and nothing here can meet that",
            hint="this was a decision, not a failure; do not retry",
            op=call.op.name,
            resource=call.resource_text[:200],
        )


def log_call(call: Request, seq: int, outcome: str) -> None:
    """Tell the audit logger about one call; arguments and results stay in the journal."""
    audit.info(
        "call pid=%d seq=%d op=%s resource=%s outcome=%s",
        call.process.pid,
        seq,
        call.op.name,
        call.resource_text[:200],
        outcome,
    )


def redacted(value: Any, scrub: Callable[[str], str]) -> Any:
    """Return plain data with secrets and credentials in its texts replaced.

    Args:
        value: Arguments of a call.
        scrub: Replaces the values of the kernel's own secrets in a text.
    """
    if isinstance(value, str):
        return _CREDENTIALS.sub(_MARK, scrub(value))
    if isinstance(value, bytes):
        text = value.decode("utf-8", "surrogateescape")
        return _CREDENTIALS.sub(_MARK, scrub(text)).encode("utf-8", "surrogateescape")
    if isinstance(value, dict):
        return {key: redacted(item, scrub) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(redacted(item, scrub) for item in value)
    return value
