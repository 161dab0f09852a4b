"""The kernel's state, and the one way it changes: `append`.

`Core` holds the tables and gives them the clock and the journal. A change is made in memory, collected as `Change`s, and appended
with the row that says why, in one step without an await. If the journal refuses (disk full, store lost), the kernel stops
acknowledging anything: memory is then ahead of the disk, which is where the next kernel starts.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio

from agentos.abi.codec import encode
from agentos.abi.limits import STEP_REPORT_S
from agentos.abi.op import OpTable
from agentos.abi.protocols import Checker, Clock, Runner
from agentos.abi.records import (
    AccountRecord,
    AskRecord,
    CapRecord,
    Change,
    MessageRecord,
    ProcessRecord,
    Row,
    StandingRecord,
    TimerRecord,
)  # fmt: skip
from agentos.kernel.ask import AskTable
from agentos.kernel.capability import CapTable
from agentos.kernel.checkpoint import CheckpointTable
from agentos.kernel.event import EventBus, event_of
from agentos.kernel.filelabel import FileLabels
from agentos.kernel.image import ImageTable
from agentos.kernel.layer import LayerTable
from agentos.kernel.message import MailTable
from agentos.kernel.overlay import OverlayTable
from agentos.kernel.process import AgentProcess, OpenCall, ProcessTable
from agentos.kernel.quota import QuotaTable
from agentos.kernel.scheduler import Scheduler
from agentos.kernel.secret import Vault
from agentos.kernel.slots import Slots
from agentos.kernel.standing import StandingTable
from agentos.kernel.timer import TimerTable
from agentos.kernel.wait import WaitTable

if TYPE_CHECKING:
    from agentos.kernel.people import People
    from agentos.policy import Policy
    from agentos.store import Store

__all__ = ["Core"]

log = logging.getLogger("agentos.kernel")


class Core:
    """Everything the kernel knows.

    Args:
        store: The open store.
        clock: Injected time.
        ops: The op table, complete with every mounted device.
        layers: The kernel's own policy layers, outermost first.
        mode: ``ask``, ``plan`` (outside effects are denied) or ``noninteractive`` (what would ask is denied).
    """

    def __init__(self, store: Store, clock: Clock, ops: OpTable, layers: Sequence[Policy], mode: str) -> None:
        self.store = store
        self.journal = store.journal
        self.clock = clock
        self.ops = ops
        self.mode = mode
        self.processes = ProcessTable()
        self.images = ImageTable()
        self.layers = LayerTable(layers, ops)
        self.events = EventBus()
        self.timers = TimerTable(partial(store.get, TimerRecord))
        self.slots: dict[str, Slots] = {}
        self.files = FileLabels()
        self.overlays = OverlayTable(store, self.files, self._placed)
        self.quotas = QuotaTable()
        self.place: Callable[[str], str] = lambda path: path  # one name for a file that two mounts show
        self.has_other_names = False  # two mounts show the same files
        self.scheduler = Scheduler(self._run, self.unwind, self._slow)
        self.waits = WaitTable(self.scheduler.ready, self._past_deadline, self.scheduler.resume)
        self.caps = CapTable(store.max_key(CapRecord) + 1)
        self.asks = AskTable(store.max_key(AskRecord) + 1)
        self.standing = StandingTable(ops, store.max_key(StandingRecord) + 1)
        self.secrets = Vault()
        self.people: People | None = None  # who may answer; None = whoever reaches the API
        self.told_up_to: Callable[[str], int | None] = lambda profile: None  # what the model of a profile may be told at most
        self.checkpoints = CheckpointTable(store)
        self.forget_names: Callable[[str], None] = lambda namespace: (
            None
        )  # names of a namespace were changed behind the memory room
        self.mail = MailTable(store.max_key(MessageRecord) + 1)
        self._next_pid = store.max_key(ProcessRecord) + 1
        self.runner: Runner
        self.checker: Checker
        self.past_deadline: Callable[[AgentProcess], None]
        self.run_process: Callable[[AgentProcess], Coroutine[Any, Any, None]]
        self.effects = 0
        self._effects_over: anyio.Event | None = None
        self.closing = False
        self.schedules: Any  # a `ScheduleTable`, which spawns, and so stands above this module
        self._after: list[tuple[int, str, dict[str, Any]]] = []

    def _placed(self, path: str) -> str:
        return self.place(path)

    def end_effect(self) -> None:
        """One effect less is under way."""
        self.effects -= 1
        if not self.effects and self._effects_over is not None:
            self._effects_over.set()

    async def effects_over(self) -> None:
        """Wait until no effect is under way."""
        while self.effects:
            self._effects_over = anyio.Event()
            await self._effects_over.wait()

    @contextmanager
    def outside(self, process: AgentProcess) -> Iterator[None]:
        """Hold a process as being in a device: it runs no code, and the kernel is not idle."""
        self.effects += 1
        self.scheduler.suspend(process)
        try:
            yield
        finally:
            self.scheduler.resume(process)
            self.end_effect()

    def write_waits(self) -> None:
        """Write down what each process that keeps its task waits for, before the kernel closes: it is what `ps` shows then.

        Such a process runs again at the next open, which is cheap and tells at once whether its program still repeats itself.
        """
        for process in self.processes:
            if process.running and not process.unwinding and process.waiting >= process.branches > 0:
                self.note(process.pid, "waits", changes=(self._waits_change(process, self.waits.union(process), parked=False),))

    def _waits_change(self, process: AgentProcess, union: tuple[Any, ...], *, parked: bool) -> Change:
        record = process.record
        replaced = record.seq
        record.waits = encode([*union, parked])
        record.resumes = 0
        if record.state != "paused":
            record.state = "waiting"
        return Change(record, replaced)

    def result_schema(self, pid: int) -> dict[str, Any] | None:
        """Return the schema that a process's result was checked against, None when its image declares none."""
        record = self.store.get(ProcessRecord, pid)
        return self.images.by_digest(record.image_digest).result_schema if record is not None else None

    def new_pid(self) -> int:
        """Return the next pid; pids are never used again."""
        pid = self._next_pid
        self._next_pid += 1
        return pid

    def append(self, row: Row, changes: Sequence[Change] = ()) -> int:
        """Append a row with its state changes and return its number. Synchronous; durable later (`journal.durable`)."""
        if len(changes) > 1:
            changes = _newest(changes)
        seq = self.journal.append(row, changes)
        if self.events.is_followed:
            self.events.publish(event_of(row))
        if self._after:
            after, self._after = self._after, []
            for pid, what, data in after:
                self.note(pid, what, data)
        return seq

    def tell_after(self, pid: int, what: str, data: dict[str, Any]) -> None:
        """Append a note right after the next row: of what that row's changes do to processes other than its own."""
        self._after.append((pid, what, data))

    def note(
        self, pid: int, what: str, data: dict[str, Any] | None = None, changes: Sequence[Change] = (), **columns: Any
    ) -> int:
        """Append a note: something the kernel or the host did, shown to followers as event `what`."""
        row = Row(
            pid=pid, number="", kind="note", op=f"note.{what}", args=encode(data) if data else b"", outcome="done", at=self.clock.now(),
            **columns,
        )  # fmt: skip
        return self.append(row, changes)

    def account_change(self, process: AgentProcess) -> Change:
        """Return the change that writes the usage of a process down."""
        replaced = process.account.record.seq
        process.account.record.floor = next(iter(process.intents), self.journal.head + 1)
        return Change(process.account.snapshot(), replaced)

    def new_account(self, pid: int) -> AccountRecord:
        """Return an empty account record."""
        return AccountRecord(pid=pid)

    def unwind(self, process: AgentProcess) -> None:
        """Give back the task and memory of a waiting process: it will run again, from its save point, when a reason comes.

        Only a process all of whose calls wait is unwound; its waits are written down, so that a reopened store knows without running
        anything that it has nothing to do yet.
        """
        assert process.scope is not None
        if process.host_calls or any(call.event is not None and call.event.is_set() for call in process.open_calls):
            return  # the host uses it, or a reason to go on has come and its task runs next
        assert process.waiting >= process.branches > 0, "only a waiting process is unwound, never a running effect"
        union = self.waits.union(process)
        change = self._waits_change(process, union, parked=True)
        process.unwinding = True
        parked = OpenCall(process, "", *union)
        parked.parked = tuple(call.number for call in process.open_calls)
        self.note(process.pid, "parked", changes=(change,))
        self.waits.enter(parked)
        process.scope.cancel()

    def _past_deadline(self, process: AgentProcess) -> None:
        self.past_deadline(process)

    async def _run(self, process: AgentProcess) -> None:
        await self.run_process(process)

    def _slow(self, process: AgentProcess, held_s: float) -> None:
        log.info("program_step_slow pid=%d held_ms=%d", process.pid, held_s * 1000)
        if held_s > STEP_REPORT_S:
            log.warning("program_held_the_loop pid=%d held_ms=%d", process.pid, held_s * 1000)
            self.note(process.pid, "slow", {"held_s": round(held_s, 3)})


def _newest(changes: Sequence[Change]) -> Sequence[Change]:
    """Make several changes of one record in one append one change: it closes the version the first of them closed."""
    first: dict[int, Change] = {}
    for change in changes:
        first.setdefault(id(change.record), change)
    return changes if len(first) == len(changes) else list(first.values())
