"""Carrying a plan out: a host process makes its calls, one after the other, through the door.

    born       a process of the host's own, which keeps its plan and for whom it works; until it has ended, the same request finds it again
    may        one capability for each call that is left, for its very paths and one use
    calls      with a key each: one that was made before a crash is not made twice, one that was cut is settled first
    ends       with the last call, or with the first that fails: nothing goes on from there, and what was done is told

INVARIANT undo-is-ordinary: what a plan changes goes through the door like any call: decided, journaled before the effect, kept, and to be
taken back by the pid of its process.
Each call carries the label that the file shall have. The process has seen nothing, so its label is that of what it writes and no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from agentos.abi.codec import decode, encode
from agentos.abi.image import AgentImage
from agentos.abi.limits import PAGE_ROWS
from agentos.abi.probe import reached
from agentos.abi.records import Change
from agentos.abi.values import Event
from agentos.errors import AgentOSError, Denied
from agentos.kernel.answer import decide
from agentos.kernel.ask import Answer
from agentos.kernel.lifecycle import Birth, end, spawn
from agentos.kernel.process import AgentProcess
from agentos.policy import parse_capability
from agentos.policy.unparse import quoted
from agentos.runtime.fileplan import Plan, Step
from agentos.runtime.process import Process

if TYPE_CHECKING:
    from agentos.policy import CapSpec, Layer
    from agentos.runtime.base import KernelBase

__all__ = ["Errand", "carry_out", "unfinished"]

_ANY: Final = str.maketrans("\n*", "??")
_LISTS: Final = ("restored", "created", "deleted", "moved")


@dataclass(slots=True)
class Errand:
    """What a host process is to do, and what came of it.

    Attributes:
        name: undo or merge: name of the process, and who answers what its calls ask.
        about: What it is for, by which it is found again: ``{"pid": 7}``.
        plan: The calls, and what they come to.
        labels: Label of each path that is written.
        layers: Policy layers on top of the kernel's.
        pid: Its process, once there is one.
        refused: ``{op, path, code, message, rule, seq}`` of the call that ended it, if one did.
        finish: What else changes with its end; called with the changes of that row.
    """

    name: str
    about: dict[str, Any]
    plan: Plan
    labels: dict[str, int] = field(default_factory=dict)
    layers: Sequence[Layer] = ()
    pid: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)
    finish: Callable[[list[Change]], None] | None = None


def unfinished(kernel: KernelBase, name: str, about: dict[str, Any]) -> Errand | None:
    """Return the errand of this name and for this that a crash, or a caller that went away, has cut; None when there is none."""
    for process in kernel.core.processes:
        record = process.record
        if record.ppid or record.name != name or not process.hosted or not record.args:
            continue
        args = decode(record.args)
        if args.get("about") == about and "plan" in args and record.image == AgentImage.host().ref:
            kept = decode(kernel.core.store.objects.get(args["plan"]))
            plan = Plan(steps=[Step(*step) for step in kept["steps"]])
            for each in _LISTS:
                getattr(plan, each).extend(tuple(path) if isinstance(path, list) else path for path in kept[each])
            return Errand(name, about, plan, {path: int(bits) for path, bits in kept["labels"].items()}, pid=process.pid)
    return None


async def carry_out(kernel: KernelBase, errand: Errand) -> None:
    """Make the calls of an errand, and end its process.

    Raises:
        Invalid: a path that no capability can name.

    Cancellation: between two calls and within one; the process stays, and `unfinished` finds it.
    """
    wanted = [_right(kernel, step) for step in errand.plan.steps]
    if not errand.pid:
        await _born(kernel, errand)
    process = kernel.core.processes.find(errand.pid)
    follower = kernel.core.events.follow()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_answer, kernel, errand, follower)
        for at, step in enumerate(errand.plan.steps):
            try:
                if at % PAGE_ROWS == 0:
                    _mint(kernel, process, list(enumerate(wanted))[at : at + PAGE_ROWS])
                await _make(kernel, errand, process, at)
            except AgentOSError as error:
                errand.refused.append(_told(step, error))
                break
        tasks.cancel_scope.cancel()
    await _end(kernel, errand, process)


def _right(kernel: KernelBase, step: Step) -> CapSpec:
    """Return the capability for one call: its very paths, once. What is moved is decided entry by entry, so its content is covered too."""
    paths = [step.args[name] for name in ("path", "to") if name in step.args]
    if any("\n" in path for path in paths):  # no text of the language holds one, so it is any one character
        paths = [path.translate(_ANY) for path in paths]
    if step.op == "fs.move":
        patterns = ", ".join(f"{quoted(path)}, {quoted(path.rstrip('/') + '/**')}" for path in paths)
        return parse_capability(f"{step.op} {patterns} uses 1", kernel.core.ops)
    pinned = f" when path == {quoted(paths[0])}" if set("*?") & set(paths[0]) and "\n" not in step.args["path"] else ""
    return parse_capability(f"{step.op} {quoted(paths[0])}{pinned} uses 1", kernel.core.ops)


async def _born(kernel: KernelBase, errand: Errand) -> None:
    core = kernel.core
    plan = errand.plan
    kept = {
        "steps": [[step.op, step.args, step.object] for step in plan.steps],
        "labels": errand.labels,
        **{each: [list(path) if isinstance(path, tuple) else path for path in getattr(plan, each)] for each in _LISTS},
    }
    args = {"about": errand.about, "plan": core.store.objects.put(encode(kept))}
    goal = f"{errand.name} {' '.join(f'{key} {value}' for key, value in errand.about.items())}: {len(plan.steps)} calls"
    changes: list[Change] = []
    image = core.images.register(AgentImage.host(), changes, core.clock.now())
    birth = Birth(goal=goal, args=args, grant=(), layers=errand.layers, name=errand.name, options={"errand": errand.name})
    process = spawn(core, image, birth, None, changes)
    errand.pid = process.pid
    await core.journal.durable(
        core.note(process.pid, "spawned", {"image": image.ref, "parent": 0, "name": errand.name}, changes)
    )
    reached(f"{errand.name}.born")


def _mint(kernel: KernelBase, process: AgentProcess, wanted: Sequence[tuple[int, CapSpec]]) -> None:
    """Mint what the calls need that have not been made, and that was not minted before a crash."""
    core = kernel.core
    changes: list[Change] = []
    due = {spec.text for _, spec in wanted}  # a call that a crash has cut still needs the capability that it has used up
    for handle, cap in list(process.caps.items()):
        if not cap.record.uses_left and cap.record.text not in due:
            core.caps.end(handle, changes, "dropped")
    held = {cap.record.text for cap in process.caps.values() if cap.record.uses_left}
    texts = []
    for at, spec in wanted:
        if spec.text not in held and core.store.keyed(process.pid, str(at)) is None:
            texts.append(core.caps.mint(process, spec, changes, now=core.clock.now()).record.text)
    if changes:
        core.note(process.pid, "granted", {"texts": texts}, changes)


async def _make(kernel: KernelBase, errand: Errand, process: AgentProcess, at: int) -> None:
    step = errand.plan.steps[at]
    args = dict(step.args)
    written = args.get("to", args["path"])
    known = errand.labels.get(written)
    label = kernel.core.files.at(kernel.core.place(written)) if known is None else known
    _relabel(kernel, process, 0 if step.op == "fs.delete" else label)
    if step.op == "fs.write":
        args["data"] = kernel.core.store.objects.get(step.object)
    reached(f"{errand.name}.step")
    await Process(kernel.core, kernel.broker, errand.pid).call(step.op, key=str(at), **args)


def _relabel(kernel: KernelBase, process: AgentProcess, label: int) -> None:
    if process.label == label:
        return
    record = process.record
    replaced = record.seq
    process.label = record.label = label
    process.forget_decisions()
    kernel.core.note(process.pid, "label", {"label": label}, [Change(record, replaced)])


async def _answer(kernel: KernelBase, errand: Errand, follower: MemoryObjectReceiveStream[Event]) -> None:
    """Approve what the calls of the process ask, in the name of who wanted the errand; where others are to answer, it waits for them."""
    core = kernel.core
    try:
        for waiting in [record.ask for record in core.asks if record.pid == errand.pid and record.state == "pending"]:
            await _approve(kernel, errand.name, waiting)
        async for event in follower:
            if event.kind == "ask" and event.pid == errand.pid and event.data.get("ask"):
                await _approve(kernel, errand.name, int(event.data["ask"]))
    finally:
        follower.close()


async def _approve(kernel: KernelBase, name: str, ask: int) -> None:
    core = kernel.core
    record = core.asks.find(ask)
    if record.state != "pending" or record.kind != "approval":
        return
    try:
        _, settled, seq = decide(core, ask, Answer("approve", name, at=core.clock.now()))
    except Denied:
        return  # journaled; `open(people=...)` says who may answer it
    await core.journal.durable(seq)
    for each in settled:
        core.waits.wake(("ask", each))


def _told(step: Step, error: AgentOSError) -> dict[str, Any]:
    return {
        "op": step.op, "path": step.args["path"], "code": error.code, "message": error.message, "rule": error.rule or "",
        "seq": error.seq or 0,
    }  # fmt: skip


async def _end(kernel: KernelBase, errand: Errand, process: AgentProcess) -> None:
    core = kernel.core
    changes: list[Change] = []
    if process.ended:
        return
    if errand.refused:
        end(core, process, "failed", changes, {"refused": errand.refused[0]})
    else:
        if errand.finish is not None:
            errand.finish(changes)
        end(core, process, "exited", changes, {"calls": len(errand.plan.steps)})
    reached(f"{errand.name}.ending")
    await core.journal.durable(core.note(process.pid, "exited", {"state": process.state}, changes))
