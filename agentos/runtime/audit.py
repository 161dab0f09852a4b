"""The audit trail: journal rows as people read them, one entry per call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from agentos.abi.codec import decode
from agentos.abi.labels import names
from agentos.abi.records import Row
from agentos.runtime.outcome import Entry

if TYPE_CHECKING:
    from agentos.store import Store

__all__ = ["entries"]

_PAGE = 200


def entries(store: Store, *, since: int, pid: int | None, op: str | None, outcome: str | None) -> Iterator[Entry]:
    """Yield entries after row `since`, page by page."""
    while True:
        page, following = store.entries(since, _PAGE, pid=pid, op=op, outcome=outcome)
        for head, result in page:
            yield _entry(head, result)
        if following <= since:
            return
        since = following


def _entry(head: Row, result: Row | None) -> Entry:
    last = head if head.kind == "call" else result
    outcome = last.outcome if last is not None else "pending"
    value: Any = decode(last.result) if last is not None and last.result else None
    failed = outcome in ("denied", "failed", "unknown")
    return Entry(
        seq=head.seq, pid=head.pid, pseq=head.number, op=head.op, resource=head.resource, args=decode(head.args) if head.args else {},
        outcome=outcome, code=last.code if last is not None else "", rule=head.rule or (last.rule if last is not None else ""),
        cap=head.cap or None, ask=head.ask or None, labels=names(head.labels | (last.labels if last is not None else 0)),
        cost={"calls": 1.0, **(decode(last.cost) if last is not None and last.cost else {})}, result=None if failed else value,
        at=head.at, effect=head.effect, error=value if failed else None,
    )  # fmt: skip
