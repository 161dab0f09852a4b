"""The process table: every process that lives, its lineage, what it holds (`Cap`) and what it waits for (`OpenCall`).

An `AgentProcess` is the kernel's record of one process: the durable part (`record`, what the store has) and the part that exists only
while this kernel runs (open calls, the scope of its running program, caches). Who may write what:

    record, children        lifecycle only, together with a Change
    caps, generation        capability only
    waiting, open_calls     waits only
    scope, running          scheduler only
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from agentos.abi.codec import decode
from agentos.abi.records import CapRecord, ProcessRecord
from agentos.abi.syscall import Wait
from agentos.abi.values import CapInfo
from agentos.errors import Invalid

if TYPE_CHECKING:
    import anyio

    from agentos.abi.image import AgentImage
    from agentos.kernel.budget import Account, Hold
    from agentos.kernel.tape import Tape
    from agentos.kernel.tree import Tree
    from agentos.policy import CapSpec, Stack, Verdict

__all__ = ["ENDED", "AgentProcess", "Cap", "OpenCall", "ProcessEnded", "ProcessTable"]

ENDED = frozenset({"exited", "failed", "killed"})


class ProcessEnded(BaseException):
    """Raised out of a call of a process that has ended or is being unwound, so that no program code can go on."""


class AgentProcess:
    """One process. Made by `ProcessTable.add` only."""

    __slots__ = (
        "account", "branches", "by_op", "calls_since_save", "caps", "children", "cover_cache", "cwd", "facts", "fresh",
        "generation", "host_calls", "host_scopes", "ids", "image", "intents", "interrupted", "label", "last_seq", "next_number",
        "open_calls",
        "parent", "pid", "queries", "queued", "record", "rerun", "running", "scope", "slice_start", "stack", "state", "tape",
        "tree", "unwinding", "verdict_cache", "waiting",
    )  # fmt: skip

    def __init__(self, record: ProcessRecord, parent: AgentProcess | None, image: AgentImage, account: Account) -> None:
        self.record = record
        self.pid = record.pid
        self.parent = parent
        self.children: dict[int, AgentProcess] = {}
        self.image = image
        self.account = account
        self.state = record.state
        self.label = record.label
        self.cwd = record.cwd
        self.ids: dict[str, dict[str, int]] | None = decode(record.id_map) if record.id_map else None
        self.caps: dict[int, Cap] = {}
        self.by_op: dict[str, list[Cap]] = {}
        self.generation = 0
        self.cover_cache: dict[Any, Cap] = {}
        self.verdict_cache: dict[Any, Verdict] = {}
        self.stack: Stack
        self.facts: dict[str, Any] = {}
        self.tree: Tree
        self.tape: Tape | None = None
        self.fresh = False
        self.next_number = 0
        self.calls_since_save = 0
        self.branches = 0
        self.open_calls: dict[OpenCall, None] = {}
        self.waiting = 0
        self.intents: dict[int, Hold | None] = {}  # open ones, and what they hold of the budget
        self.host_calls = 0
        self.host_scopes: dict[anyio.CancelScope, None] = {}  # of effects of the host's calls
        self.scope: anyio.CancelScope | None = None
        self.running = False
        self.queued = False
        self.rerun = False
        self.unwinding = False
        self.slice_start = 0.0
        self.last_seq = 0
        self.queries: dict[str, Any] = {}
        self.interrupted: set[str] = set()

    @property
    def ended(self) -> bool:
        """True once it has exited, failed or was killed."""
        return self.state in ENDED

    @property
    def hosted(self) -> bool:
        """True when the embedding application drives it: it has no program to run."""
        return self.record.program == "host"

    @property
    def call_label(self) -> int:
        """Label bits that its calls carry. The calls of a script were all written with its image: they carry what it was born with."""
        return self.record.birth_label if self.record.program == "script" else self.label

    @property
    def goal(self) -> Any:
        """The goal it was started with, None when there is none."""
        return decode(self.record.goal) if self.record.goal else None

    def ancestors(self) -> Iterator[AgentProcess]:
        """Yield the parent, its parent, and so on."""
        process = self.parent
        while process is not None:
            yield process
            process = process.parent

    def descendants(self) -> Iterator[AgentProcess]:
        """Yield every live descendant, parents before children."""
        for child in list(self.children.values()):
            yield child
            yield from child.descendants()

    def is_ancestor_of(self, other: AgentProcess) -> bool:
        """Say whether `other` descends from this process."""
        return any(ancestor is self for ancestor in other.ancestors())

    def forget_decisions(self) -> None:
        """Drop every cached decision: a capability or a policy layer of the process has changed."""
        self.generation += 1
        self.cover_cache.clear()
        self.verdict_cache.clear()

    def __repr__(self) -> str:
        """Return pid, image and state."""
        return f"<process {self.pid} {self.record.image} {self.state}>"


class Cap:
    """One live capability. Made by `CapTable` only."""

    __slots__ = ("children", "holder", "parent", "record", "spec")

    def __init__(self, record: CapRecord, spec: CapSpec, holder: AgentProcess, parent: Cap | None) -> None:
        self.record = record
        self.spec = spec
        self.holder = holder
        self.parent = parent
        self.children: dict[int, Cap] = {}

    @property
    def cap(self) -> int:
        """The handle."""
        return self.record.cap

    def is_live(self, now: float) -> bool:
        """True while it is neither used up nor expired."""
        return self.record.uses_left != 0 and not 0 < self.record.expires <= now

    @property
    def is_plain(self) -> bool:
        """True when it covers by op and resource alone, for as long as its holder's generation."""
        return self.spec.is_constant and self.record.uses_left < 0 and not self.record.expires

    def info(self) -> CapInfo:
        """Return it as its holder and the host see it."""
        record = self.record
        return CapInfo(
            id=record.cap,
            pid=record.pid,
            ops=tuple(sorted(self.spec.ops)),
            pattern=tuple(self.spec.patterns),
            text=record.text,
            uses_left=None if record.uses_left < 0 else record.uses_left,
            expires=record.expires or None,
            depth=None if record.depth < 0 else record.depth,
            parent=record.parent or None,
            origin=record.origin,
            state=record.state,
        )


class OpenCall:
    """One call that waits, or (with `event` None) one unwound process that waits for all its calls' reasons at once."""

    __slots__ = ("doing", "due", "event", "interrupted", "number", "parked", "process", "waits", "woken")

    def __init__(self, process: AgentProcess, number: str, waits: Iterable[Wait], due: float | None, doing: str) -> None:
        self.process = process
        self.number = number
        self.waits = tuple(waits)
        self.due = due
        self.doing = doing
        self.event: anyio.Event | None = None
        self.interrupted = False
        self.woken = False
        self.parked: tuple[str, ...] = ()  # numbers of the calls of an unwound process


class ProcessTable:
    """Pid -> process, for the living; the dead are in the store."""

    def __init__(self) -> None:
        self._live: dict[int, AgentProcess] = {}

    def add(self, process: AgentProcess) -> None:
        """Enter a process and hang it below its parent."""
        assert process.pid not in self._live, f"pid {process.pid} is taken"
        self._live[process.pid] = process
        if process.parent is not None:
            process.parent.children[process.pid] = process

    def remove(self, process: AgentProcess) -> None:
        """Take an ended process out; its children go on, hung below its parent."""
        assert process.ended
        del self._live[process.pid]
        if process.parent is not None:
            process.parent.children.pop(process.pid, None)
        for child in process.children.values():
            child.parent = process.parent
            if process.parent is not None:
                process.parent.children[child.pid] = child

    def get(self, pid: int) -> AgentProcess | None:
        """Return the live process, or None."""
        return self._live.get(pid)

    def find(self, pid: int) -> AgentProcess:
        """Return the live process.

        Raises:
            Invalid: `invalid.state`, there is no live process of that pid.
        """
        process = self._live.get(pid)
        if process is None:
            raise Invalid("state", f"process {pid} is not alive", hint="`agentos ps --all` lists ended processes too", pid=pid)
        return process

    def is_last_of_tree(self, process: AgentProcess) -> bool:
        """Say whether no other process of its tree lives."""
        tree = process.record.tree
        return not any(other.record.tree == tree and other is not process for other in self._live.values())

    def __iter__(self) -> Iterator[AgentProcess]:
        """Iterate over the living in order of birth."""
        return iter(list(self._live.values()))

    def __len__(self) -> int:
        """Return the number of live processes."""
        return len(self._live)
