"""clock: time, recorded so that a replay sees the same."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Ge

from agentos.abi.ops.declare import Family

FAMILY = Family("clock")


@FAMILY.op("pure", on="id:clock", self_right=True)
def now() -> float:
    """Return seconds since the epoch, UTC."""
    raise NotImplementedError


@FAMILY.op("local", on="id:clock", self_right=True)
def sleep(seconds: Annotated[float, Ge(0)]) -> None:
    """Wait; the due time is durable, so days survive crashes."""
    raise NotImplementedError
