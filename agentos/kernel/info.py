"""What a process looks like from outside: `ProcessInfo`, for the living from memory and for the dead from their record."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agentos.abi.codec import decode
from agentos.abi.labels import names
from agentos.abi.records import AccountRecord, ProcessRecord
from agentos.abi.values import ErrorData, Exit, ProcessInfo
from agentos.kernel.process import AgentProcess

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["describe", "exit_from", "from_record", "info"]


def info(core: Core, process: AgentProcess) -> ProcessInfo:
    """Describe a live process."""
    usage = dict(process.account.used)
    usage["wall_s"] = round(core.clock.now() - process.record.created, 3)
    return _build(process.record, process.state, core.waits.waiting_on(process), usage, process.account.limits)


def from_record(record: ProcessRecord, account: AccountRecord | None) -> ProcessInfo:
    """Describe a process from the store: one that has ended, or one whose kernel is not running."""
    usage: dict[str, float] = {}
    for used in (account.own, account.ended) if account else ():
        for name, amount in (decode(used) if used else {}).items():
            usage[name] = usage.get(name, 0) + amount
    waiting = (decode(record.waits)[2],) if record.waits else ()
    return _build(record, record.state, waiting, usage, decode(record.limits) if record.limits else {})


def _build(
    record: ProcessRecord, state: str, waiting_on: tuple[str, ...], usage: dict[str, float], budget: dict[str, float]
) -> ProcessInfo:
    return ProcessInfo(
        pid=record.pid, ppid=record.ppid, name=record.name, image=record.image, digest=record.image_digest, state=state,
        waiting_on=waiting_on, goal=decode(record.goal) if record.goal else None, usage=usage, budget=dict(budget),
        created=record.created, exit=exit_from(record) if record.exit else None, tree=record.tree, program=record.program,
        weight=record.weight, labels=tuple(names(record.label)),
    )  # fmt: skip


def exit_from(record: ProcessRecord) -> Exit:
    """Return the exit that an ended process's record holds."""
    data = decode(record.exit)
    error = data["error"]
    return Exit(data["state"], data["value"], ErrorData(**error) if error else None)


def describe(shown: ProcessInfo) -> dict[str, Any]:
    """Return a `ProcessInfo` as plain data."""
    return asdict(shown)
