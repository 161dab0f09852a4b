"""ckpt.*: checkpoints of the caller, going back to them, starting from them, and what has changed since."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from agentos.abi.ops.ckpt import NOW
from agentos.abi.permit import Permit
from agentos.abi.records import ProcessRecord
from agentos.abi.syscall import Syscall
from agentos.errors import Denied
from agentos.kernel.branch import fork_at
from agentos.kernel.checkpoint import as_checkpoint
from agentos.kernel.compare import compare
from agentos.kernel.ops.serve import serve
from agentos.kernel.past import own_checkpoint
from agentos.kernel.process import AgentProcess
from agentos.kernel.restore import replace, restarted, stopped

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]


def syscalls(core: Core) -> list[Syscall]:
    """Return the ops of this family."""
    found = serve(core, "ckpt", {"save": _save, "list": _list, "fork": _fork, "diff": _diff})
    return [*found, *serve(core, "ckpt", {"restore": _restore}, awaits=True)]


def _save(core: Core, permit: Permit, args: dict[str, Any]) -> str:
    process: AgentProcess = permit.process
    record = core.checkpoints.save(process, args["note"], permit.changes, by=permit.pid, now=core.clock.now())
    return record.checkpoint


def _list(core: Core, permit: Permit, args: dict[str, Any]) -> list[dict[str, Any]]:
    process: AgentProcess = permit.process
    found = core.checkpoints.of(tree=process.record.tree)
    for record in found:  # a note outlives a restore: it carries the label of who wrote it, as it was then
        maker = core.store.get(ProcessRecord, record.by, at=record.at_seq) if record.by else None
        permit.labels |= maker.label if maker is not None else 0
    return [asdict(as_checkpoint(record)) for record in found]


async def _restore(core: Core, permit: Permit, args: dict[str, Any]) -> None:
    process: AgentProcess = permit.process
    record = own_checkpoint(core, process, args["checkpoint"])
    if record.pid != process.pid:
        said = f"checkpoint `{record.checkpoint}` is of process {record.pid}"
        raise Denied("capability", said, hint="a process restores itself; the host restores others", pid=record.pid)
    async with stopped(core, record, caller=process):
        done = replace(core, record, permit.changes, caller=process)
    restarted(core, done, caller=process)


def _fork(core: Core, permit: Permit, args: dict[str, Any]) -> int:
    process: AgentProcess = permit.process
    record = own_checkpoint(core, process, args["checkpoint"])
    return fork_at(core, record.pid, record.at_seq, permit.changes, parent=process, grant=args["grant"]).pid


def _diff(core: Core, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
    process: AgentProcess = permit.process
    a = own_checkpoint(core, process, args["a"])
    b = None if args["b"] == NOW else own_checkpoint(core, process, args["b"])
    found, label = compare(core, a, b, for_process=True)
    permit.labels |= label
    return asdict(found)
