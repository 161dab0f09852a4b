"""What a client of the control socket may call: a table from names to methods of `Kernel` and `Process`, with typed arguments.

INVARIANT only-the-table-is-served: a name from the wire is looked up here and nowhere else, and its arguments are checked against
the types below before the kernel sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import isawaitable
from typing import Annotated, Any, Final

import msgspec

from agentos.abi.limits import LIST_LIMIT_MAX
from agentos.abi.op import closest
from agentos.errors import AgentOSError, Invalid, KernelPanic
from agentos.runtime.kernel import Kernel
from agentos.runtime.process import Process

__all__ = ["METHODS", "Broken", "Method", "find"]


_Number = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class Broken(Exception):
    """A method raised what no method may: a program's query, or a bug. Concerns the one who asked, not the kernel."""


class _Arguments(msgspec.Struct, forbid_unknown_fields=True):
    """Base of the arguments of one method."""


class _None(_Arguments):
    pass


class _Spawn(_Arguments):
    image: Any
    goal: Any = None
    args: dict[str, Any] | None = None
    parent: _Number | None = None
    grant: list[str] | None = None
    policy: Any = None
    budget: dict[str, Any] | None = None
    name: str | None = None
    weight: float = 1
    deadline_s: float | None = None
    snapshot: str = "changed"


class _Schedule(_Arguments):
    image: Any
    every: float | str | None = None
    cron: str | None = None
    at: Any = None
    goal: Any = None
    args: dict[str, Any] | None = None
    grant: list[str] | None = None
    policy: Any = None
    budget: dict[str, Any] | None = None
    name: str | None = None
    weight: float = 1
    deadline_s: float | None = None
    overlap: str = "skip"
    zone: str = "UTC"
    first: Any = None


class _Ordered(_Arguments):
    schedule: _Number


class _Image(_Arguments):
    image: Any


class _Ps(_Arguments):
    all: bool = False


class _Pid(_Arguments):
    pid: _Number | None = None


class _Grant(_Arguments):
    pid: _Number
    text: str


class _Cap(_Arguments):
    cap: _Number


class _Check(_Arguments):
    pid: _Number
    op: str
    args: dict[str, Any] = {}


class _Asks(_Arguments):
    state: str | None = "pending"


class _Ask(_Arguments):
    ask_id: _Number


class _Standing(_Arguments):
    standing: _Number


class _Answer(_Arguments):
    ask_id: _Number
    verdict: str
    by: str
    scope: str = "once"
    edit: dict[str, Any] | None = None
    reason: str | None = None
    value: Any = msgspec.UNSET


class _AskLink(_Arguments):
    ask_id: _Number
    base_url: str
    for_: str | None = None


class _Notify(_Arguments):
    ask_id: _Number
    url: str
    base_url: str
    for_: str | None = None


class _Audit(_Arguments):
    since: _Number = 0
    pid: _Number | None = None
    op: str | None = None
    outcome: str | None = None


class _Head(_Arguments):
    head: str | None = None


class _Path(_Arguments):
    path: Any


class _Export(_Arguments):
    path: Any
    since: _Number = 0
    pid: _Number | None = None


class _Repair(_Arguments):
    repair: bool = False


class _Retain(_Arguments):
    scope: str
    keep_s: float
    value: Any = None
    action: str = "archive"


class _Id(_Arguments):
    id: _Number


class _Archive(_Arguments):
    tree: _Number | None = None
    keep_s: float = 0.0


class _Erase(_Arguments):
    tree: _Number | None = None
    pid: _Number | None = None
    namespace: str | None = None
    label: str | None = None
    before: float | None = None
    dry_run: bool = False
    by: str = "host"


class _DryRun(_Arguments):
    dry_run: bool = False


class _Since(_Arguments):
    since: _Number | None = None


class _Timeout(_Arguments):
    timeout_s: float | None = None


class _Call(_Arguments):
    op: str
    args: dict[str, Any] = {}
    key: str | None = None
    timeout_s: float | None = None
    retries: int = 0


class _Calls(_Arguments):
    calls: list[tuple[str, dict[str, Any]]]


class _Signal(_Arguments):
    what: str


class _Value(_Arguments):
    value: Any = None


class _Send(_Arguments):
    value: Any
    channel: str = "main"


class _Fork(_Arguments):
    grant: list[str] = []
    goal: Any = None
    speculative: bool = False


class _Undo(_Arguments):
    pid: _Number | None = None
    seq: _Number | None = None
    checkpoint: str | None = None
    dry_run: bool = False


class _Merge(_Arguments):
    pid: _Number
    dry_run: bool = False


class _Drop(_Arguments):
    pid: _Number


class _Note(_Arguments):
    note: str = ""


class _Checkpoint(_Arguments):
    checkpoint: str


class _Restore(_Arguments):
    checkpoint: str
    mode: str = "replace"


class _ForkAt(_Arguments):
    pid: _Number | None = None
    checkpoint: str | None = None
    seq: _Number | None = None
    speculative: bool = False
    grant: list[str] | None = None


class _Diff(_Arguments):
    a: str
    b: str | None = None
    limit: int = LIST_LIMIT_MAX
    cursor: str | None = None


class _CommitImage(_Arguments):
    checkpoint: str
    name: str
    version: str = "1"


class _Replay(_Arguments):
    pid: _Number
    upto: _Number | None = None


class _Name(_Arguments):
    name: str


class _Text(_Arguments):
    text: Any = None
    since: int | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """One entry of the table.

    Attributes:
        name: As it stands on the wire.
        arguments: Their types.
        run: Called with the `Kernel` or `Process` and the arguments; returns a value, a coroutine or, when `streams`, an iterator.
        of_process: True for methods of `Process`: the request names a pid.
        streams: True when it yields items.
    """

    name: str
    arguments: type[_Arguments]
    run: Callable[..., Any]
    of_process: bool
    streams: bool

    def start(self, kernel: Kernel, pid: int | None, args: dict[str, Any]) -> Any:
        """Check the arguments and call the method, without awaiting anything.

        Raises:
            Invalid: the arguments are wrong, or there is no such process.
        """
        try:
            found = msgspec.convert(args, self.arguments)
        except (msgspec.ValidationError, RecursionError) as error:
            raise Invalid("argument", f"`{self.name}`: {error}", hint="see the embedded API") from error
        if self.of_process and pid is None:
            raise Invalid("argument", f"`{self.name}` names no process", hint="send its pid", field="pid")
        target = kernel.process(pid) if self.of_process and pid is not None else kernel
        return self.run(
            target, **{name: value for name, value in msgspec.structs.asdict(found).items() if value is not msgspec.UNSET}
        )

    async def value(self, kernel: Kernel, pid: int | None, args: dict[str, Any]) -> Any:
        """Run the method to its value; a process is told by its pid."""
        value = self.start(kernel, pid, args)
        if isawaitable(value):
            value = await value
        return value.pid if isinstance(value, Process) else value

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Run the method in this block: what it raises and no method may becomes `Broken`."""
        try:
            yield
        except (AgentOSError, TimeoutError, KernelPanic):
            raise
        except Exception as error:
            raise Broken(f"`{self.name}` raised {type(error).__name__}: {error}") from error


def find(name: str) -> Method:
    """Return the method of a name from the wire.

    Raises:
        Invalid: there is none.
    """
    method = METHODS.get(name)
    if method is None:
        raise Invalid("argument", f"there is no method `{name[:100]}`", hint=closest(name[:100], METHODS), field="method")
    return method


def _check(kernel: Kernel, pid: int, op: str, args: dict[str, Any]) -> Any:
    return kernel.check(pid, op, **args)


def _call(process: Process, op: str, args: dict[str, Any], **options: Any) -> Any:
    taken = sorted(args.keys() & options.keys())
    if taken:
        raise Invalid("argument", f"`{taken[0]}` is no argument of an op", hint="send it beside `args`", field=taken[0])
    return process.call(op, **options, **args)


def _spawn(kernel: Kernel, image: Any, **options: Any) -> Any:
    return kernel.spawn(_named(image), **options)


def _schedule(kernel: Kernel, image: Any, **options: Any) -> Any:
    return kernel.schedule(_named(image), **options)


def _register(kernel: Kernel, image: Any) -> Any:
    return kernel.register(_named(image))


def _copy(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that makes a copy, which takes nothing but a text or path for one."""

    def run(kernel: Kernel, path: Any, **options: Any) -> Any:
        if not isinstance(path, str) and not hasattr(path, "__fspath__"):
            raise Invalid("argument", f"path is a `{type(path).__name__}`", hint="give the path of a new file", field="path")
        return method(kernel, path, **options)

    return run


def _named(image: Any) -> Any:
    """Check that an image is named by a text or path, or is one."""
    from agentos.abi.image import AgentImage  # noqa: PLC0415 - the kernel has it loaded

    if not isinstance(image, str | AgentImage) and not hasattr(image, "__fspath__"):
        raise Invalid("argument", f"image is a `{type(image).__name__}`", hint="name it or send it", field="image")
    return image


def _table() -> dict[str, Method]:
    of_kernel: tuple[tuple[str, type[_Arguments], Callable[..., Any]], ...] = (
        ("spawn", _Spawn, _spawn), ("register", _Image, _register),
        ("schedule", _Schedule, _schedule), ("schedules", _Ps, Kernel.schedules),
        ("unschedule", _Ordered, Kernel.unschedule), ("pause_schedule", _Ordered, Kernel.pause_schedule),
        ("resume_schedule", _Ordered, Kernel.resume_schedule),
        ("ps", _Ps, Kernel.ps), ("tree", _Pid, Kernel.tree),
        ("grant", _Grant, Kernel.grant), ("revoke", _Cap, Kernel.revoke), ("caps", _Pid, Kernel.caps), ("check", _Check, _check),
        ("asks", _Asks, Kernel.asks), ("ask", _Ask, Kernel.ask), ("answer", _Answer, Kernel.answer),
        ("ask_link", _AskLink, Kernel.ask_link), ("notify", _Notify, Kernel.notify),
        ("standing", _None, Kernel.standing), ("revoke_standing", _Standing, Kernel.revoke_standing),
        ("checkpoints", _Pid, Kernel.checkpoints), ("drop_checkpoint", _Checkpoint, Kernel.drop_checkpoint),
        ("restore", _Restore, Kernel.restore), ("fork", _ForkAt, Kernel.fork), ("diff", _Diff, Kernel.diff),
        ("commit_image", _CommitImage, Kernel.commit_image), ("replay", _Replay, Kernel.replay),
        ("undo", _Undo, Kernel.undo), ("merge", _Merge, Kernel.merge), ("drop", _Drop, Kernel.drop),
        ("verify_audit", _Head, Kernel.verify_audit),
        ("backup", _Path, _copy(Kernel.backup)), ("export", _Export, _copy(Kernel.export)), ("inspect", _Repair, Kernel.inspect),
        ("retain", _Retain, Kernel.retain), ("retention", _None, Kernel.retention), ("forget_retention", _Id, Kernel.forget_retention),
        ("archive", _Archive, Kernel.archive), ("erase", _Erase, Kernel.erase), ("tidy", _DryRun, Kernel.tidy),
        ("run_until_idle", _Timeout, Kernel.run_until_idle), ("audit", _Audit, Kernel.audit), ("events", _Since, Kernel.events),
    )  # fmt: skip
    of_process: tuple[tuple[str, type[_Arguments], Callable[..., Any]], ...] = (
        ("call", _Call, _call), ("calls", _Calls, Process.calls), ("wait", _Timeout, Process.wait), ("signal", _Signal, Process.signal),
        ("send", _Send, Process.send), ("exit", _Value, Process.exit), ("fork", _Fork, Process.fork), ("query", _Name, Process.query),
        ("checkpoint", _Note, Process.checkpoint),
        ("caps", _None, Process.caps), ("info", _None, lambda process: process.info), ("stream", _Text, Process.stream),
    )  # fmt: skip
    table = [Method(name, arguments, run, False, name in ("audit", "events")) for name, arguments, run in of_kernel]
    table += [Method(f"process.{name}", arguments, run, True, name == "stream") for name, arguments, run in of_process]
    return {method.name: method for method in table}


METHODS: Final = _table()
