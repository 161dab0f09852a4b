"""proc.*: children, signals, the end, and the save point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentos.abi.codec import digest, encode
from agentos.abi.labels import INTERNAL, SECRET, UNTRUSTED, names
from agentos.abi.permit import Permit
from agentos.abi.records import Change, ProcessRecord
from agentos.abi.syscall import Park, Syscall
from agentos.abi.values import Exit
from agentos.errors import Denied, Invalid, Unavailable
from agentos.kernel.info import describe, exit_from, info
from agentos.kernel.lifecycle import Birth, check_exit, end, exec_image, fork, signal, spawn
from agentos.kernel.ops.serve import serve
from agentos.kernel.overlay import describe as describe_change
from agentos.kernel.process import AgentProcess
from agentos.kernel.speculation import check_not_nested, speculate
from agentos.policy import Policy

if TYPE_CHECKING:
    from agentos.kernel.core import Core

__all__ = ["syscalls"]

_LOWERED = {"internal": SECRET, "secret": SECRET & ~INTERNAL, "untrusted": UNTRUSTED}
"""Bits that taking a word off a label clears."""


def syscalls(core: Core) -> list[Syscall]:
    """Return the ops of this family."""
    handlers = {
        "spawn": _spawn, "fork": _fork, "exec": _exec, "wait": _wait, "signal": _signal, "list": _list, "info": _info,
        "status": _status, "exit": _exit, "overlay": _overlay, "chdir": _chdir, "save": _save, "relabel": _relabel,
    }  # fmt: skip
    return serve(core, "proc", handlers)


def _spawn(core: Core, permit: Permit, args: dict[str, Any]) -> int:
    image = core.images.find(args["image"])
    layers = [core.layers.compile(Policy(args["policy"], source="<proc.spawn>"))] if args["policy"] else []
    birth = Birth(
        goal=args["goal"], args=args["args"], grant=args["grant"], layers=layers, budget=args["budget"], name=args["name"]
    )
    child = spawn(core, image, birth, permit.process, permit.changes)
    return child.pid


def _fork(core: Core, permit: Permit, args: dict[str, Any]) -> int:
    process: AgentProcess = permit.process
    if "." in permit.number:
        raise Invalid("state", "a fork inside gather has no single point to continue from", hint="fork outside gather")
    if args["speculative"]:
        check_not_nested(process)
    child = fork(core, process, args["grant"], args["goal"], permit.changes)
    if args["speculative"]:
        speculate(core, child, permit.changes)
    return child.pid


def _overlay(core: Core, permit: Permit, args: dict[str, Any]) -> list[dict[str, Any]]:
    caller: AgentProcess = permit.process
    record = core.store.get(ProcessRecord, args["pid"])
    above = record
    while above is not None and above.pid != caller.pid:
        above = core.store.get(ProcessRecord, above.ppid) if above.ppid else None
    if record is None or above is None or record is above or record.overlay != record.pid:
        message = f"process {args['pid']} is not a speculative descendant"
        raise Denied("capability", message, hint="see what your own forks have tried", pid=args["pid"])
    living = core.processes.get(record.pid)
    permit.labels |= record.label if living is None else living.label
    found = list(core.overlays.of(record.pid))
    for each in found:
        permit.labels |= each.labels
    return [describe_change(each) for each in found]


def _exec(core: Core, permit: Permit, args: dict[str, Any]) -> None:
    exec_image(core, permit.process, core.images.find(args["image"]), args["args"], permit.changes)
    process: AgentProcess = permit.process
    if process.scope is None:
        core.scheduler.ready(process)
        return
    process.unwinding = process.rerun = True
    process.scope.cancel()


def _wait(core: Core, permit: Permit, args: dict[str, Any]) -> Exit | Park:
    pid = args["pid"]
    if core.processes.get(pid) is None:
        record = _ended(core, pid)
        permit.labels |= record.label
        return exit_from(record)
    timeout_s = args["timeout_s"]
    due = permit.deadline if permit.deadline is not None else None if timeout_s is None else core.clock.now() + timeout_s
    if due is not None and core.clock.now() >= due:
        raise Unavailable("timeout", f"process {pid} has not ended", hint="it was not touched", pid=pid)
    return Park((("child", pid),), due, f"child {pid}")


def _ended(core: Core, pid: int) -> ProcessRecord:
    record = core.store.get(ProcessRecord, pid)
    if record is None or not record.exit:
        raise Invalid("argument", f"there is no process {pid}", field="pid", hint="see `proc.list`")
    return record


def _signal(core: Core, permit: Permit, args: dict[str, Any]) -> None:
    target = core.processes.get(args["pid"])
    caller: AgentProcess = permit.process
    if target is None or (target is not caller and not caller.is_ancestor_of(target)):
        raise Denied(
            "capability", f"process {args['pid']} is not a live descendant", hint="signal your own descendants", pid=args["pid"]
        )
    signal(core, target, args["signal"], permit.changes, by=caller.pid)


def _list(core: Core, permit: Permit, args: dict[str, Any]) -> list[dict[str, Any]]:
    caller: AgentProcess = permit.process
    below = list(caller.descendants() if args["tree"] else caller.children.values())
    for process in below:
        permit.labels |= process.label  # goals, names and what they wait for are of their choice
    return [describe(info(core, process)) for process in (caller, *below)]


def _info(core: Core, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
    caller: AgentProcess = permit.process
    target = core.processes.get(args["pid"]) if args["pid"] is not None else caller
    if target is None or (target is not caller and not caller.is_ancestor_of(target)):
        raise Denied(
            "capability",
            f"process {args['pid']} is not a live descendant",
            hint="ask about your own descendants",
            pid=args["pid"],
        )
    if target is not caller:
        permit.labels |= target.label
    return describe(info(core, target))


def _status(core: Core, permit: Permit, args: dict[str, Any]) -> dict[str, Any]:
    process: AgentProcess = permit.process
    left, limits = process.account.left(), {}
    for name in left:
        limits[name] = process.account.limit(name)
    if process.record.deadline:
        now = core.clock.now()
        left["wall_s"] = round(max(process.record.deadline - now, 0.0), 3)
        limits["wall_s"] = round(process.record.deadline - process.record.created, 3)
    unread = core.mail.count(process.pid, "main")
    return {"unread": unread, "left": left, "limits": limits, "rights": _rights(core, process)}


def _rights(core: Core, process: AgentProcess) -> str:
    """Return a fingerprint of what decides about the calls of a process, beside what it and others have done."""
    layers = [layer.digest for layer in process.stack.layers]
    granted = [record.standing for record in core.standing if record.live]
    return digest(encode([sorted(process.caps), layers, granted])).hex()[:16]


def _exit(core: Core, permit: Permit, args: dict[str, Any]) -> None:
    check_exit(permit.process, args["value"])
    end(core, permit.process, "exited", permit.changes, args["value"])


def _chdir(core: Core, permit: Permit, args: dict[str, Any]) -> str:
    process: AgentProcess = permit.process
    op = core.ops.find("fs.list")
    call = op.validate({"path": args["path"]})
    resources = op.render(call, process.cwd, process.pid)
    core.caps.cover(process, op, resources, call, core.clock.now())
    process.cwd = resources[0].text
    if process.hosted:
        replaced = process.record.seq
        process.record.cwd = process.cwd
        permit.changes.append(Change(process.record, replaced))
    return process.cwd


def _save(core: Core, permit: Permit, args: dict[str, Any]) -> None:
    process: AgentProcess = permit.process
    if "." in permit.number:
        raise Invalid("state", "a save inside gather has no single point to restart from", hint="save outside gather")
    record = process.record
    replaced = record.seq
    record.save_state = core.store.objects.pack(args["state"])
    record.save_number, record.cwd = process.next_number, process.cwd
    record.save_seq = core.journal.head + 1
    record.fork_pid = record.fork_seq = 0
    process.tape, process.calls_since_save = None, 0
    permit.changes += [Change(record, replaced), core.account_change(process)]


def _relabel(core: Core, permit: Permit, args: dict[str, Any]) -> list[str]:
    process: AgentProcess = permit.process
    record = process.record
    replaced = record.seq
    for word in args["remove"]:
        process.label &= ~_LOWERED[word]
    record.label = process.label
    permit.changes.append(Change(record, replaced))
    process.forget_decisions()
    return names(process.label)
