"""cap: the capabilities a process holds, narrows, passes on and gives up."""

from __future__ import annotations

from typing import Any

from agentos.abi.ops.declare import Family

FAMILY = Family("cap")


@FAMILY.op("pure", on="id:self", self_right=True, name="list")
def list_() -> list[dict[str, Any]]:
    """List the caller's live capabilities."""
    raise NotImplementedError


@FAMILY.op("local", on="id:{cap}", self_right=True, ids={"cap": "cap"})
def drop(cap: int) -> None:
    """Give one of the caller's capabilities up, with what was derived from it."""
    raise NotImplementedError


@FAMILY.op("local", on="id:self", self_right=True, sinks=("text", "why"))
def request(text: str, why: str) -> int:
    """Ask a person for a capability, for example the `request` of a `denied.capability`; returns its id once it was granted.

    The person may grant another text than was asked for: `cap.list` shows it. A denial is `denied.human`.
    """
    raise NotImplementedError


@FAMILY.op("local", on="id:{to}", self_right=True, ids={"to": "pid"})
def grant(text: str, to: int) -> int:
    """Give process `to` what `text` says out of the first of the caller's capabilities that can give it; returns its id."""
    raise NotImplementedError


@FAMILY.op("local", on="id:{cap}", self_right=True, ids={"cap": "cap", "to": "pid"})
def derive(cap: int, text: str, to: int) -> int:
    """Give process `to` a narrower copy of one of the caller's capabilities; returns its id."""
    raise NotImplementedError


@FAMILY.op("local", on="id:{cap}", self_right=True, ids={"cap": "cap"})
def revoke(cap: int) -> int:
    """Revoke a capability that was derived from one of the caller's, with its subtree; returns how many ended."""
    raise NotImplementedError
