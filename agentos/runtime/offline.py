"""What a store says while no kernel runs: the looking half of the embedded API, and the one change that needs none, an answer.

Everything is read from the store's tables as the last kernel left them; nothing runs, nothing is decided. `answer` takes the writer's
lease for the moment of one append, so it and a kernel never write together.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import anyio.to_thread

from agentos.abi.codec import encode
from agentos.abi.limits import PAGE_ROWS, STANDING_GRANTS_MAX
from agentos.abi.place import Dsn, Place
from agentos.abi.records import (
    AccountRecord,
    AskRecord,
    CapRecord,
    Change,
    CheckpointRecord,
    ImageRecord,
    ProcessRecord,
    RetentionRecord,
    Row,
    ScheduleRecord,
    StandingRecord,
)
from agentos.abi.values import CapInfo, Checkpoint, Event, Exit, ProcessInfo, ReplayReport, Schedule
from agentos.errors import Invalid, Unavailable
from agentos.kernel.ask import Answer, Ask, AskTable, Standing, as_ask
from agentos.kernel.budget import used_by
from agentos.kernel.event import event_of
from agentos.kernel.holding import with_lineage
from agentos.kernel.info import exit_from, from_record
from agentos.kernel.standing import as_standing, grant_of
from agentos.runtime.asklink import Keys, link_of, url_of
from agentos.runtime.audit import entries
from agentos.runtime.clock import SystemClock
from agentos.runtime.forward import no_kernel, refusing
from agentos.runtime.outcome import Entry
from agentos.store import AuditReport, Store, open_store

if TYPE_CHECKING:
    from agentos.kernel.retention import Retention
    from agentos.store.backup import BackupReport
    from agentos.store.inspect import Finding

__all__ = ["StoreView", "StoredProcess"]

_OPS: Final = re.compile(r"[\w.]+(?:, [\w.]+)*")
_CLAUSE: Final = re.compile(r"when\s|uses\s+\S|depth\s+\S|for\s+[0-9]")
_PATTERN: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s,"]+)')


class StoreView:
    """A store that no kernel holds: the methods of `Kernel`. What only looks works; what changes anything but an ask is `invalid.state`.

    Attributes:
        held_by: None; a `RemoteKernel` has the host pid of its kernel here.
    """

    held_by: int | None = None

    spawn = refusing("spawn")
    register = refusing("register")
    grant = refusing("grant")
    revoke = refusing("revoke")
    revoke_standing = refusing("revoke_standing")
    run_until_idle = refusing("run_until_idle")
    undo = refusing("undo")
    merge = refusing("merge")
    drop = refusing("drop")
    schedule = refusing("schedule")
    unschedule = refusing("unschedule")
    pause_schedule = refusing("pause_schedule")
    resume_schedule = refusing("resume_schedule")
    retain = refusing("retain")
    forget_retention = refusing("forget_retention")
    archive = refusing("archive")
    erase = refusing("erase")
    tidy = refusing("tidy")
    check = refusing("check")
    mount = refusing("mount")
    drop_checkpoint = refusing("drop_checkpoint")
    restore = refusing("restore")
    fork = refusing("fork")
    diff = refusing("diff")
    commit_image = refusing("commit_image")

    def __init__(self, path: Place) -> None:
        self._path = path
        self._clock = SystemClock()
        self._store = open_store(path, writer=False, clock=self._clock)
        self._keys = Keys(path)

    def close(self) -> None:
        """Close the store. Idempotent."""
        self._store.close()

    # --- processes ----------------------------------------------------------------------------------------------------------

    def process(self, pid: int) -> StoredProcess:
        """Return the handle of a process.

        Raises:
            Invalid: there never was one of that pid.
        """
        if self._store.get(ProcessRecord, pid) is None:
            raise Invalid("argument", f"there is no process {pid}", hint="see `agentos ps --all`", pid=pid)
        return StoredProcess(self, self._store, pid)

    async def ps(self, *, all: bool = False) -> list[ProcessInfo]:  # noqa: A002 - as `Kernel.ps`
        """Return the processes that have not ended, in order of birth; with `all`, ended ones too."""
        return shown(self._store, self._store.current(ProcessRecord, live=None if all else True))

    async def tree(self, pid: int | None = None) -> list[ProcessInfo]:
        """Return a process and its descendants that have not ended, parents first; without `pid`, every tree."""
        store = self._store
        living = {info.pid: info for info in shown(store, store.current(ProcessRecord, live=True))}
        if pid is not None and pid not in living:
            raise Invalid("state", f"process {pid} is not alive", hint="`agentos ps --all` lists ended processes too", pid=pid)
        below: dict[int, list[int]] = {}
        for child, info in living.items():
            below.setdefault(_living_parent(store, info.ppid, living), []).append(child)
        return [living[found] for root in ([pid] if pid is not None else below.get(0, [])) for found in _preorder(root, below)]

    # --- authority and people -----------------------------------------------------------------------------------------------

    async def caps(self, pid: int | None = None) -> list[CapInfo]:
        """Return the live capabilities of one process, or all."""
        found = self._store.current(CapRecord, live=True)
        known = {record.cap: record for record in found}
        return [with_lineage(_cap_info(record), record, known.get) for record in found if pid is None or record.pid == pid]

    async def asks(self, state: str | None = "pending") -> list[Ask]:
        """Return the asks in a state (pending, decided, consumed, withdrawn, expired; None: all), oldest first."""
        live = True if state in ("pending", "decided") else None
        return [
            as_ask(record) for record in self._store.current(AskRecord, live=live) if state is None or record.state == state
        ]

    async def ask(self, ask_id: int) -> Ask:
        """Return one ask. What its offer would have covered only a kernel can say.

        Raises:
            Invalid: there never was one of that number.
        """
        record = self._store.get(AskRecord, ask_id)
        if record is None:
            raise Invalid("argument", f"there is no ask {ask_id}", hint="see `agentos asks --all`", ask=ask_id)
        return as_ask(record)

    async def standing(self) -> list[Standing]:
        """Return the standing grants that are live, oldest first."""
        found = self._store.current(StandingRecord, live=True)
        return [as_standing(record, self._store) for record in found if not 0 < record.expires <= self._clock.now()]

    async def answer(
        self, ask_id: int, verdict: str, *, by: str, scope: str = "once", edit: dict[str, Any] | None = None, reason: str | None = None,
        **value: Any,
    ) -> Ask:  # fmt: skip
        """Answer an ask, as `Kernel.answer`: the answer is durable, and the next kernel acts on it.

        A kernel on another machine that has the store, in a database, is asked to take it.

        Raises:
            Invalid: it is not pending, or the answer does not fit; `invalid.store`, reason held: a kernel has opened the store meanwhile.
        """
        if set(value) - {"value"}:
            raise Invalid(
                "argument", f"answer has no argument `{min(set(value) - {'value'})}`", hint="value=...", field="value"
            )
        answer = Answer(verdict, by, scope, edit, value.get("value"), "value" in value, reason, self._clock.now())
        try:
            return await anyio.to_thread.run_sync(self._write_answer, ask_id, answer)
        except Invalid as error:
            if error.reason != "held" or not isinstance(self._path, Dsn):
                raise
        from agentos.runtime.inbox import send_answer  # noqa: PLC0415 - only where a kernel on another machine has the store

        words = {"ask_id": ask_id, "verdict": verdict, "by": by, "scope": scope, "edit": edit, "reason": reason}
        answered: Ask = await send_answer(self._path, {**words, **value})
        return answered

    def _write_answer(self, ask_id: int, answer: Answer) -> Ask:
        with open_store(self._path, clock=self._clock) as store:
            table = AskTable()
            for pending in store.current(AskRecord, live=True, ask=ask_id):
                table.load(pending)
            changes: list[Change] = []
            record = table.answer(ask_id, answer, changes)
            data = {"verdict": answer.verdict, "by": answer.by}
            if answer.scope != "once":
                data |= _write_grant(store, record, answer, changes)
            note = Row(
                pid=record.pid, number="", kind="note", op="note.answered", args=encode(data), outcome="done", ask=ask_id,
                rule=record.rule, at=answer.at,
            )  # fmt: skip
            store.journal.append(note, changes)
            store.journal.flush()
            return as_ask(record)

    async def ask_link(self, ask_id: int, *, base_url: str, for_: str | None = None) -> str:
        """Return a link to answer an ask with, as `Kernel.ask_link`; whether `for_` may answer, the next kernel looks at.

        Raises:
            Invalid: there is no such ask, or it is not pending; `base_url` is none that a link may lead to.
        """
        ask = await self.ask(ask_id)
        return link_of(ask, self._keys.key("link"), base_url=base_url, name=for_ or "", now=self._clock.now())

    async def notify(self, ask_id: int, url: str, *, base_url: str, for_: str | None = None) -> dict[str, Any]:
        """Tell an endpoint that an ask waits, as `Kernel.notify`; the number and the link alone: here nobody knows the secrets.

        Raises:
            Invalid: as `ask_link`; `invalid.store`, reason held: a kernel has opened the store meanwhile.
        """
        from agentos.runtime.notice import deliver, notice_of  # noqa: PLC0415 - looking does without

        about = {"to": url_of(url, "url").netloc, "for": for_ or ""}
        link = await self.ask_link(ask_id, base_url=base_url, for_=for_)
        ask = await self.ask(ask_id)
        said = notice_of(ask, link, name=for_ or "", now=self._clock.now(), scrub=None)
        await anyio.to_thread.run_sync(self._write_note, ask, "notifying", about)
        result = await deliver(url, said, self._keys.key("notice"), lambda: self._is_pending(ask_id))
        await anyio.to_thread.run_sync(self._write_note, ask, "notified", {**about, **result})
        return result

    def _is_pending(self, ask_id: int) -> bool:
        record = self._store.get(AskRecord, ask_id)
        return record is not None and record.state == "pending"

    def _write_note(self, ask: Ask, what: str, data: dict[str, Any]) -> None:
        note = Row(
            pid=ask.pid, number="", kind="note", op=f"note.{what}", args=encode(data), outcome="done", ask=ask.id,
            at=self._clock.now(),
        )  # fmt: skip
        with open_store(self._path, clock=self._clock) as store:
            store.journal.append(note, [])
            store.journal.flush()

    # --- looking ------------------------------------------------------------------------------------------------------------

    async def audit(
        self, *, since: int = 0, pid: int | None = None, op: str | None = None, outcome: str | None = None
    ) -> AsyncIterator[Entry]:
        """Yield the audit trail after row `since`, one entry per call, denials included."""
        for entry in entries(self._store, since=since, pid=pid, op=op, outcome=outcome):
            yield entry

    async def schedules(self, *, all: bool = False) -> list[Schedule]:  # noqa: A002 - as `Kernel.schedules`
        """Return the schedules that live, oldest first; with `all`, those that are done or cancelled too."""
        from agentos.kernel.schedule import as_schedule  # noqa: PLC0415 - `agentos ps` does without

        store = self._store
        found = store.current(ScheduleRecord, live=None if all else True)
        images = {digest: store.get(ImageRecord, digest) for digest in {record.image for record in found}}
        refs = {digest: f"{image.name}:{image.version}" if image is not None else "" for digest, image in images.items()}
        return [as_schedule(record, refs[record.image]) for record in found]

    async def checkpoints(self, pid: int | None = None) -> list[Checkpoint]:
        """Return the checkpoints of a process, or all, oldest first."""
        from agentos.kernel.checkpoint import as_checkpoint  # noqa: PLC0415 - `agentos ps` does without

        found = [as_checkpoint(r) for r in self._store.current(CheckpointRecord, live=True) if pid is None or r.pid == pid]
        return sorted(found, key=lambda checkpoint: checkpoint.seq)

    async def verify_audit(self, head: str | None = None) -> AuditReport:
        """Check the whole hash chain, against the stored head and, if given, one kept elsewhere (``SEQ:HEX``)."""
        return await anyio.to_thread.run_sync(self._store.verify, head)

    async def retention(self) -> list[Retention]:
        """Return the retention rules, oldest first."""
        from agentos.kernel.retention import as_retention  # noqa: PLC0415 - `agentos ps` does without

        return [as_retention(record) for record in self._store.current(RetentionRecord, live=True)]

    async def inspect(self, *, repair: bool = False) -> list[Finding]:
        """Look whether the store is in order, as `Kernel.inspect`.

        Raises:
            Invalid: `repair`: a kernel does that.
        """
        from agentos.store.inspect import inspect  # noqa: PLC0415 - `agentos ps` does without

        if repair:
            raise no_kernel("inspect(repair=True)")
        return await anyio.to_thread.run_sync(inspect, self._store)

    async def backup(self, path: str | Path) -> BackupReport:
        """Copy the store into a new file, as `Kernel.backup`."""
        from agentos.store.backup import backup  # noqa: PLC0415 - `agentos ps` does without

        return await anyio.to_thread.run_sync(lambda: backup(self._store, Path(path).expanduser().absolute()))

    async def export(self, path: str | Path, *, since: int = 0, pid: int | None = None) -> int:
        """Write the journal into a new file, as `Kernel.export`."""
        from agentos.store.export import export  # noqa: PLC0415 - `agentos ps` does without

        return await anyio.to_thread.run_sync(partial(export, self._store, Path(path), since=since, pid=pid))

    async def replay(self, pid: int, *, upto: int | None = None) -> ReplayReport:
        """Run a process again from its journal, as `Kernel.replay`, with the programs that this interpreter has registered."""
        from agentos.abi.ops import builtin  # noqa: PLC0415 - looking does without
        from agentos.programs.aside import replayed  # noqa: PLC0415
        from agentos.programs.registry import Programs  # noqa: PLC0415

        return await replayed(self._store, builtin(), Programs(), pid, upto=upto)

    async def events(self, since: int | None = None) -> AsyncIterator[Event]:
        """Yield what happened after row `since` and end at the last row; without `since`, nothing: nothing happens any more."""
        while since is not None:
            rows = self._store.rows(since, PAGE_ROWS)
            for row in rows:
                since = row.seq
                yield event_of(row)
            if len(rows) < PAGE_ROWS:
                return


class StoredProcess:
    """One process of a store that no kernel holds: the methods of `Process`.

    Attributes:
        pid: Its pid.
    """

    call = refusing("call")
    calls = refusing("calls")
    signal = refusing("signal")
    send = refusing("send")
    exit = refusing("exit")
    fork = refusing("fork")
    checkpoint = refusing("checkpoint")
    query = refusing("query")

    def __init__(self, view: StoreView, store: Store, pid: int) -> None:
        self._view = view
        self._store = store
        self.pid = pid

    def __repr__(self) -> str:
        """Return the pid."""
        return f"<agentos.StoredProcess {self.pid}>"

    async def wait(self, timeout_s: float | None = None) -> Exit:
        """Return how the process ended.

        Raises:
            Invalid: `invalid.state`, it has not ended, and nothing runs that could end it.
        """
        record = self._record()
        if not record.exit:
            raise no_kernel("wait")
        return exit_from(record)

    async def stream(self, text: Any = None, *, since: int | None = None) -> AsyncIterator[Event]:
        """Refuse: nothing happens.

        Raises:
            Invalid: always, `invalid.state`; `StoreView.events` has what happened.
        """
        raise no_kernel("stream")
        yield  # what makes it a stream

    async def caps(self) -> list[CapInfo]:
        """Return its live capabilities."""
        return await self._view.caps(self.pid)

    @property
    def info(self) -> ProcessInfo:
        """What `ps` shows of it, ended or not."""
        return shown(self._store, [self._record()])[0]

    @property
    def usage(self) -> dict[str, float]:
        """What it and its descendants had used."""
        return self.info.usage

    def _record(self) -> ProcessRecord:
        record = self._store.get(ProcessRecord, self.pid)
        assert record is not None, "no process is ever forgotten"
        return record


# --- what a kernel would know from memory -------------------------------------------------------------------------------------


def shown(store: Store, records: list[ProcessRecord]) -> list[ProcessInfo]:
    """Describe processes: with the calls that were counted in the journal only, and those of living descendants."""
    if not any(record.live for record in records):
        return [from_record(record, store.get(AccountRecord, record.pid)) for record in records]
    living = store.current(ProcessRecord, live=True)
    accounts = {record.pid: store.get(AccountRecord, record.pid) for record in (*living, *records)}
    infos = {record.pid: from_record(record, accounts[record.pid]) for record in (*living, *records)}
    alive = {record.pid: infos[record.pid] for record in living}
    for record in reversed(living):
        account, mine = accounts[record.pid], infos[record.pid]
        mine.usage.setdefault("calls", 0)
        _add(mine.usage, _tail(store, record.pid, account.seq if account else 0))
        above = _living_parent(store, record.ppid, alive)
        if above:
            _add(alive[above].usage, mine.usage)
    return [infos[record.pid] for record in records]


def _write_grant(store: Store, ask: AskRecord, answer: Answer, changes: list[Change]) -> dict[str, Any]:
    """Make the standing grant that an answer gives, and return what its note says. The next kernel has it answer what it covers."""
    if len(store.current(StandingRecord, live=True, limit=STANDING_GRANTS_MAX)) >= STANDING_GRANTS_MAX:
        hint = "revoke some: `agentos asks --standing` lists them"
        raise Unavailable("overloaded", f"there are {STANDING_GRANTS_MAX} standing grants", hint=hint)
    process = store.get(ProcessRecord, ask.pid)
    assert process is not None, "an ask that is open belongs to a process"
    grant = grant_of(ask, process, answer, store.max_key(StandingRecord) + 1)
    changes.append(Change(grant))
    return {"scope": answer.scope, "standing": grant.standing, "rule": grant.text}


def _tail(store: Store, pid: int, after: int) -> dict[str, float]:
    """Return what a process used after its account was last written down."""
    used: dict[str, float] = {}
    while rows := store.tape(pid, after, PAGE_ROWS):
        for row in rows:
            _add(used, used_by(row))
        after = rows[-1].seq
    return used


def _add(to: dict[str, float], used: dict[str, float]) -> None:
    for name, amount in used.items():
        to[name] = to.get(name, 0) + amount


def _living_parent(store: Store, ppid: int, living: dict[int, Any]) -> int:
    """Return the nearest ancestor that has not ended, 0 when there is none."""
    while ppid and ppid not in living:
        dead = store.get(ProcessRecord, ppid)
        ppid = dead.ppid if dead is not None else 0
    return ppid


def _preorder(root: int, below: dict[int, list[int]]) -> Iterator[int]:
    yield root
    for child in below.get(root, ()):
        yield from _preorder(child, below)


def _cap_info(record: CapRecord) -> CapInfo:
    ops, patterns = _parts(record.text)
    return CapInfo(
        id=record.cap, pid=record.pid, ops=ops, pattern=patterns, text=record.text,
        uses_left=None if record.uses_left < 0 else record.uses_left, expires=record.expires or None,
        depth=None if record.depth < 0 else record.depth, parent=record.parent or None, origin=record.origin, state=record.state,
    )  # fmt: skip


def _parts(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split a capability's canonical text into ops and patterns; the ops of a device that is not mounted here are names like any other."""
    match = _OPS.match(text)
    assert match is not None, "a canonical text begins with its ops"
    patterns: list[str] = []
    rest = text[match.end() :].lstrip()
    while rest and not _CLAUSE.match(rest) and (found := _PATTERN.match(rest)):
        quoted, bare = found.groups()
        patterns.append(bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        rest = rest[found.end() :].removeprefix(",").lstrip()
    return tuple(sorted(match.group().split(", "))), tuple(patterns)
