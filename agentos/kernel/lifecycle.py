"""The life of a process: spawn, fork, exec, signals and the end.

INVARIANT children-are-never-wider: a child's capabilities are derived from named ones of its parent (the host alone mints), its policy
stack is its parent's with layers pushed on top, its budget is reserved from its parent's, and an image can only take away.
INVARIANT a-bounded-run-never-changes-fate: nothing here is called because a host stopped waiting; only exit, a failure of the program,
a signal or an exhausted budget end a process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from agentos.abi.codec import decode, encode, plain
from agentos.abi.fence import has_fence, own_words
from agentos.abi.labels import UNTRUSTED
from agentos.abi.limits import GOAL_BYTES_MAX, IDENTIFIER_CHARS_MAX, LINEAGE_DEPTH_MAX
from agentos.abi.records import Change, NameRecord, ProcessRecord
from agentos.abi.resultschema import check_result
from agentos.abi.values import ErrorData, Exit
from agentos.errors import AgentOSError, Denied, Invalid
from agentos.kernel.budget import Account, parse_limits
from agentos.kernel.flow import OWN_ARGS, ProcessFlow
from agentos.kernel.grant import confine, give, plan
from agentos.kernel.image import plant
from agentos.kernel.poison import retried
from agentos.kernel.process import AgentProcess
from agentos.kernel.tree import Tree
from agentos.policy import Layer, Policy

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage
    from agentos.kernel.core import Core

__all__ = [
    "Birth", "charge_late", "check_exit", "decode_layers", "end", "end_below", "exec_image", "fork", "kill", "link", "signal", "spawn",
]  # fmt: skip

_NEVER = float("inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Birth:
    """What a process is started with, beyond its image. `grant` None = what the image requests (the host only).

    `seeded` False leaves the seed of a committed image out: a fork has its parent's state.
    """

    goal: Any = None
    args: dict[str, Any] | None = None
    grant: Sequence[str] | None = None
    layers: Sequence[Layer] = ()
    budget: dict[str, Any] | None = None
    name: str | None = None
    weight: float = 1.0
    deadline: float = 0.0
    options: dict[str, Any] = field(default_factory=dict)
    seeded: bool = True


def spawn(core: Core, image: AgentImage, birth: Birth, parent: AgentProcess | None, changes: list[Change]) -> AgentProcess:
    """Start a process and return it; it runs once the caller's append is made and the scheduler admits it.

    Raises:
        Invalid: a bad goal, name, weight, budget or capability text, or no model to drive it.
        Denied: `denied.capability` (the parent does not hold what is granted), `denied.budget` (children, depth).
    """
    limits = {**parse_limits(image.limits), **parse_limits(birth.budget)}
    for name, bound in parse_limits(image.limits).items():
        limits[name] = min(limits[name], bound)
    check_birth(birth)
    core.runner.expect_model(image)
    grants = plan(core, image, birth.grant, parent)
    if parent is not None:
        check_family(parent)
    process = _make(core, image, birth, parent, limits)
    give(core, process, grants, changes)
    if birth.seeded:
        plant(core.store, process, changes, core.clock.now())
        process.facts["proc.goal"] = own_goal(process.record)
    process.fresh = True
    process.record.code = core.runner.code_of(process)
    for layer in (*image_layers(core, image), *birth.layers):
        core.layers.keep(layer, changes)
    changes += [Change(process.record), Change(process.account.record)]
    if not process.hosted:
        core.scheduler.ready(process)
    return process


def check_birth(birth: Birth) -> None:
    """Check goal, name, deadline and weight, before there is a process."""
    if birth.goal is not None and len(encode(birth.goal)) > GOAL_BYTES_MAX:
        raise Invalid(
            "argument", f"goal has over {GOAL_BYTES_MAX} bytes", hint="put it into a file and name that", field="goal"
        )
    if birth.name is not None and not 0 < len(birth.name) <= IDENTIFIER_CHARS_MAX:
        raise Invalid(
            "argument", f"name has {len(birth.name)} characters", hint=f"give 1 to {IDENTIFIER_CHARS_MAX}", field="name"
        )
    encode(birth.name)  # text that cannot be stored is refused before there is a process
    if not 0 <= birth.deadline < _NEVER:
        raise Invalid("argument", f"deadline is `{birth.deadline}`", hint="give seconds from now", field="deadline_s")
    if not 0 < birth.weight <= 1_000_000:
        raise Invalid("argument", f"weight is `{birth.weight}`", hint="give a number above 0", field="weight")


def check_family(parent: AgentProcess) -> None:
    """Check the limits on how many children and how deep a family may be, along the whole chain."""
    depth = parent.record.depth + 1
    if depth > LINEAGE_DEPTH_MAX:
        raise Denied("budget", f"process {parent.pid} is {depth - 1} generations deep, the most there may be", limit="depth")
    for generations, process in enumerate((parent, *parent.ancestors()), 1):
        limits = process.account.limits
        if "depth" in limits and generations > limits["depth"]:
            raise Denied("budget", f"process {process.pid} may have {limits['depth']:g} generations below it", limit="depth")
    limit = parent.account.limits.get("children")
    if limit is not None and len(parent.children) >= limit:
        raise Denied("budget", f"process {parent.pid} has {len(parent.children)} children, the most it may", limit="children")


def image_layers(core: Core, image: AgentImage) -> list[Layer]:
    """Return the policy layers that an image brings: its own, if it has one."""
    policy = image.policy
    return [core.layers.compile(Policy(policy.text, source=policy.source))] if policy is not None else []


def _make(core: Core, image: AgentImage, birth: Birth, parent: AgentProcess | None, limits: dict[str, float]) -> AgentProcess:
    pid = core.new_pid()
    now = core.clock.now()
    given = [layer.digest for layer in (*image_layers(core, image), *birth.layers)]
    layers = [*passed_on(parent.record), *given] if parent is not None else given
    above = parent.record.deadline if parent is not None else 0.0
    ends = [t for t in (above, birth.deadline, now + limits["wall_s"] if "wall_s" in limits else 0.0) if t]
    record = ProcessRecord(
        pid=pid, tree=pid, name=birth.name or image.name, image=image.ref, image_digest=image.digest, program=image.body.kind,
        goal=encode(birth.goal) if birth.goal is not None else b"", args=_stored(birth.args), limits=_stored(limits),
        weight=birth.weight, deadline=min(ends, default=0.0), created=now, layers=_stored(layers), options=_stored(birth.options),
    )  # fmt: skip
    if parent is not None:
        record.ppid, record.tree, record.depth = parent.pid, parent.record.tree, parent.record.depth + 1
        record.label, record.cwd, record.id_map = parent.label, parent.cwd, parent.record.id_map
        record.overlay = parent.record.overlay
    record.endorsing = len(given) if parent is None else parent.record.endorsing
    if has_fence(birth.goal) or has_fence(birth.args):
        record.label |= UNTRUSTED
    record.birth_label = record.label
    account = Account(core.new_account(pid), limits, parent.account if parent else None)
    return link(core, record, account, image, parent)


def _stored(value: Any) -> bytes:
    return encode(value) if value else b""


def link(core: Core, record: ProcessRecord, account: Account, image: AgentImage, parent: AgentProcess | None) -> AgentProcess:
    """Enter a process, new or read from the store, into the tables."""
    process = AgentProcess(record, parent, image, account)
    process.stack = core.layers.stack_of(record)
    process.facts = {
        "proc.pid": record.pid, "proc.depth": record.depth, "proc.image": record.image, "proc.name": record.name,
        "proc.mode": core.mode, "proc.goal": own_goal(record), "overlay": bool(record.overlay), "flow": ProcessFlow(core, process),
    }  # fmt: skip
    process.tree = parent.tree if parent else Tree(record.tree, record.weight)
    core.processes.add(process)
    if record.restored:
        core.timers.repeating.add(record.pid)
    if record.deadline:
        core.waits.watch_deadline(process, record.deadline)
    return process


def own_goal(record: ProcessRecord) -> str | None:
    """Return the goal in the words of who may say what is wanted: people, or a parent that nobody could have fooled yet."""
    goal = decode(record.goal) if record.goal else None
    if not isinstance(goal, str) or (record.ppid and record.birth_label & UNTRUSTED):
        return None
    return own_words(goal)


def decode_layers(record: ProcessRecord) -> list[str]:
    """Return the digests of the policy layers that a process has on top of the kernel's."""
    return list(decode(record.layers)) if record.layers else []


def passed_on(record: ProcessRecord) -> list[str]:
    """Return the digests of the layers that a child gets: those of its parent, and the parent's own."""
    return [*decode_layers(record), record.own_layer] if record.own_layer else decode_layers(record)


def fork(core: Core, process: AgentProcess, grant: Iterable[str], goal: Any, changes: list[Change]) -> AgentProcess:
    """Start a child that continues from the caller's program state: same image, save point and tape, nothing else.

    Raises:
        Denied: as `spawn`.
    """
    birth = Birth(goal=process.goal if goal is None else goal, grant=tuple(grant), name=process.record.name, seeded=False)
    child = spawn(core, process.image, birth, process, changes)
    mine, its = process.record, child.record
    its.args, its.cwd, its.label, its.options = mine.args, mine.cwd, process.label, mine.options
    if goal is None:  # the words it was given are its parent's; those of a new goal are as trusted as who wrote it
        its.birth_label = mine.birth_label
        child.facts["proc.goal"] = own_goal(its)
    its.save_number, its.save_state = mine.save_number, mine.save_state
    its.fork_pid, its.fork_seq = process.pid, core.journal.head + 1
    its.layers, its.own_layer, its.endorsing = mine.layers, mine.own_layer, mine.endorsing
    changes += _copied_names(core, process.pid, child.pid)
    child.stack, child.label, child.fresh = process.stack, process.label, False
    return child


def _copied_names(core: Core, pid: int, child_pid: int) -> list[Change]:
    """Return what makes the private namespace of a fork equal to its parent's: names are copied, contents are shared."""
    names = core.store.current(NameRecord, live=True, namespace=f"proc/{pid}")
    return [Change(msgspec.structs.replace(name, namespace=f"proc/{child_pid}", seq=0)) for name in names]


def exec_image(
    core: Core, process: AgentProcess, image: AgentImage, args: dict[str, Any] | None, changes: list[Change]
) -> None:
    """Replace the image: the program starts anew, capabilities are cut down to what the new image requests.

    Raises:
        Invalid: host processes have no program to replace.
    """
    if process.hosted or image.body.kind == "host":
        raise Invalid("state", "a host process has no program to replace", hint="exec is for programs", pid=process.pid)
    record = process.record
    replaced = record.seq
    confine(core, process, image, changes)
    for layer in image_layers(core, image):
        core.layers.keep(layer, changes)
        if layer.digest not in decode_layers(record):
            record.layers = encode([*decode_layers(record), layer.digest])
    record.image, record.image_digest, record.program = image.ref, image.digest, image.body.kind
    record.args = encode(args) if args else b""
    record.options = encode({**(decode(record.options) if record.options else {}), OWN_ARGS: True})
    record.save_state, record.save_number, record.fork_pid, record.fork_seq = b"", process.next_number, 0, 0
    record.save_seq, record.cwd = core.journal.head + 1, process.cwd
    process.image = image
    process.stack = core.layers.stack_of(record)
    process.facts["proc.image"] = record.image
    process.forget_decisions()
    changes.append(Change(record, replaced))


# --- signals and the end ----------------------------------------------------------------------------------------------------


def signal(core: Core, process: AgentProcess, what: str, changes: list[Change], *, by: int = 0) -> None:
    """Deliver a signal of process `by` (0: the host); see `proc.signal`. Pausing what is paused, or resuming what runs, changes nothing."""
    record = process.record
    if what == "kill":
        kill(core, process, changes, by=by, why="it was killed")
    elif what == "interrupt":
        core.waits.interrupt(process)
    elif what == "pause" and record.state != "paused":
        replaced = record.seq
        record.state, record.resumes = "paused", 0
        process.state = "paused"
        core.scheduler.withdraw(process)
        changes.append(Change(record, replaced))
    elif what == "resume" and record.state == "paused":
        replaced = record.seq
        record.state = "ready"
        is_active = process.running and process.waiting < process.branches
        process.state = "waiting" if process.open_calls and not is_active else "ready"
        retried(core, process)
        changes.append(Change(record, replaced))
        core.waits.wake(("resume", process.pid))
        if not process.hosted and not process.open_calls:
            core.scheduler.ready(process)
    elif what == "resume" and not (process.hosted or process.running or process.open_calls):
        core.scheduler.ready(process)  # opened with resume=False, or without its program


def kill(core: Core, process: AgentProcess, changes: list[Change], *, by: int, why: str) -> None:
    """End a process and all its descendants in one append, so that a crash ends all of them or none; each gets a row that says so.

    Args:
        core: The kernel's state.
        process: Who is meant.
        changes: Of the append.
        by: Pid of the process that wanted it, 0 for the host.
        why: What happened to `process`, in words.
    """
    end_below(core, process, changes, by=by, why=why)
    end(core, process, "killed", changes)
    core.tell_after(process.pid, "exited", {"state": "killed", "by": by, "why": why})


def end_below(core: Core, process: AgentProcess, changes: list[Change], *, by: int, why: str) -> None:
    """End all descendants of a process, the youngest first: their effects under way are cancelled and settle by their class."""
    for descendant in reversed(list(process.descendants())):
        error = ErrorData(
            code="unavailable.cancelled", message=f"process {descendant.pid} was ended with process {process.pid}: {why}",
            hint="it did nothing wrong; start it again where it is still wanted", fields={"ancestor": process.pid, "by": by, "why": why},
        )  # fmt: skip
        end(core, descendant, "killed", changes, None, error)
        data = {"state": "killed", "ancestor": process.pid, "by": by, "why": why, "error": str(error)}
        core.tell_after(descendant.pid, "exited", data)


def end(
    core: Core, process: AgentProcess, state: str, changes: list[Change], value: Any = None, error: ErrorData | None = None
) -> None:
    """End a process: everything it held goes back or away in the same append, and those who wait for it wake."""
    if process.ended:
        return
    ended = encode(Exit(state, value, error))  # refused before anything has changed
    core.asks.withdraw_all(process.pid, changes)
    core.quotas.end_process(process.pid, changes)
    _end_standing(core, process, changes)
    core.timers.end_all(process.pid, changes)
    core.caps.end_all(process, changes)
    record, account = process.record, process.account
    replaced = record.seq
    record.live, record.state, record.waits = 0, state, b""
    record.exit = ended
    process.state = state
    process.unwinding = True
    changes += [Change(record, replaced), core.account_change(process)]
    account.record.live = 0
    if state == "killed" and record.overlay == process.pid:
        core.overlays.drop(process.pid, changes)
    for above in account.counted_in():
        above.fold(account)
        changes.append(Change(above.snapshot(), above.record.seq))
    core.scheduler.withdraw(process)
    core.mail.forget(process.pid)
    core.processes.remove(process)
    for call in list(process.open_calls):
        core.waits.wake_call(call)
    core.waits.wake(("child", process.pid))
    for scope in (process.scope, *process.host_scopes):
        if scope is not None:
            scope.cancel()


def check_exit(process: AgentProcess, value: Any) -> None:
    """Check what a process would end with.

    Raises:
        Invalid: it does not fit the result schema of its image.
    """
    if process.image.result_schema is not None:
        check_result(plain(value), process.image.result_schema)


def charge_late(core: Core, process: AgentProcess, cost: dict[str, float], changes: list[Change]) -> None:
    """Write down the cost of a call that outlived its process: it was folded into those above before that was known."""
    changes.append(core.account_change(process))
    for above in process.account.counted_in():
        above.fold_cost(cost)
        changes.append(Change(above.snapshot(), above.record.seq))


def _end_standing(core: Core, process: AgentProcess, changes: list[Change]) -> None:
    """End the standing grants that were for the process, or for its tree when it was the last of that; a tree's counters too."""
    core.standing.end_process(process.pid, changes)
    tree = process.record.tree
    if not (core.standing.is_for_tree(tree) or core.quotas.is_for_tree(tree)):
        return
    if core.processes.is_last_of_tree(process):
        core.standing.end_tree(tree, changes)
        core.quotas.end_tree(tree, changes)


def error_data(error: Exception) -> ErrorData:
    """Return what a process's exit says about the error that ended it."""
    if isinstance(error, AgentOSError):
        return ErrorData(code=error.code, message=error.message, hint=error.hint, fields=encodable(error.fields))
    return ErrorData(code="exception", message=str(error)[:4000], type=type(error).__name__)


def encodable(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that can be stored."""
    return {name: value for name, value in fields.items() if isinstance(value, str | int | float | bool | list | dict)}
