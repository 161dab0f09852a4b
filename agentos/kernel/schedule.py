"""Schedules: standing orders to spawn, every so often, by a calendar, or once.

    fire      the new process, and when the schedule is due next, are one append: a crash can neither lose a run nor double it
    missed    runs that were due while no kernel ran become one, at once; the others are counted as skipped
    overlap   a run that is due while the last process lives: ``skip`` it, ``allow`` it, or ``replace`` that process, which is killed
    failed    a run that cannot be started (a device is gone, a policy does not compile) is a note; the schedule goes on

The image is pinned when the order is given, by digest: a newer one of the same name needs a new order. A kernel that lacks the image's
program leaves the run to one that has it, as recovery does.

INVARIANT due-times-rise: what a schedule is due at only ever rises, and past the present; a clock that is set back fires nothing twice.

Time is told by the one sleeper of `WaitTable`, which asks for `earliest` and calls `ring`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agentos.abi.codec import decode, encode
from agentos.abi.limits import (
    MISSED_COUNTED_MAX,
    SCHEDULE_EVERY_S_MAX,
    SCHEDULE_EVERY_S_MIN,
    SCHEDULES_AT_ONCE_MAX,
    SCHEDULES_MAX,
)
from agentos.abi.probe import reached
from agentos.abi.records import Change, ScheduleRecord
from agentos.abi.values import Schedule
from agentos.errors import AgentOSError, Invalid, Unavailable
from agentos.kernel.budget import parse_limits
from agentos.kernel.cron import parse_cron, parse_zone
from agentos.kernel.grant import plan
from agentos.kernel.lifecycle import Birth, check_birth, kill, spawn
from agentos.policy import Layer, Policy

if TYPE_CHECKING:
    from agentos.abi.image import AgentImage
    from agentos.kernel.core import Core

__all__ = ["OVERLAPS", "Order", "ScheduleTable", "as_schedule"]

log = logging.getLogger("agentos.kernel")

OVERLAPS: Final = ("skip", "allow", "replace")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a schedule starts, and when: one of `every_s`, `cron` and neither (once, at `due`).

    Attributes:
        due: First run, in seconds since the epoch; 0 is one `every_s` from now, or the calendar's next.
        layers: Policy layers pushed on top of its processes' stacks.
        deadline_s: Seconds after its start at which a process is ended, None for no end.
    """

    every_s: float = 0.0
    cron: str = ""
    zone: str = "UTC"
    due: float = 0.0
    overlap: str = "skip"
    goal: Any = None
    args: dict[str, Any] | None = None
    grant: Sequence[str] | None = None
    layers: Sequence[Layer] = field(default_factory=tuple)
    budget: dict[str, Any] | None = None
    name: str | None = None
    weight: float = 1.0
    deadline_s: float | None = None


class ScheduleTable:
    """The schedules that live.

    Attributes:
        earliest: When the next run is due, None when none is.
        is_running: False until the kernel has come up; then nothing is due.
        owns: Says whether this kernel may start the runs of a schedule; others wait for one that may.
        started: Is told of each process that was started.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._live: dict[int, ScheduleRecord] = {}
        self._left: set[int] = set()  # due ones that another kernel has to start
        self._next = core.store.max_key(ScheduleRecord) + 1
        self.earliest: float | None = None
        self.is_running = False
        self.owns: Callable[[int], bool] = lambda schedule: True
        self.started: Callable[[int], None] = lambda pid: None

    def load(self, record: ScheduleRecord) -> None:
        """Enter a schedule read from the store."""
        self._live[record.schedule] = record

    def start(self) -> None:
        """From now on runs are started, those that were missed first."""
        self.is_running = True
        self._look()

    def __iter__(self) -> Iterator[ScheduleRecord]:
        """Iterate over the live and the paused, oldest first."""
        return iter(list(self._live.values()))

    def find(self, schedule: int) -> ScheduleRecord:
        """Return a schedule that lives.

        Raises:
            Invalid: `invalid.argument`, there is none of that number.
        """
        record = self._live.get(schedule)
        if record is None:
            raise Invalid(
                "argument", f"there is no live schedule {schedule}", hint="see `agentos schedules`", schedule=schedule
            )
        return record

    # --- orders -------------------------------------------------------------------------------------------------------------

    def add(self, image: AgentImage, order: Order, changes: list[Change]) -> ScheduleRecord:
        """Make a schedule; it is due once the caller's append is made and `changed` was called.

        Raises:
            Invalid: the time, or what a spawn would refuse.
            Unavailable: `unavailable.overloaded`, there are SCHEDULES_MAX.
        """
        core = self._core
        if len(self._live) >= SCHEDULES_MAX:
            raise Unavailable(
                "overloaded", f"there are {SCHEDULES_MAX} schedules", hint="end some: `agentos schedules` lists them"
            )
        now = core.clock.now()
        due = _first_due(order, now)
        options = {
            "grant": None if order.grant is None else list(order.grant), "policy": [[each.source, each.text] for each in order.layers],
            "budget": order.budget, "name": order.name, "weight": order.weight, "deadline_s": order.deadline_s,
        }  # fmt: skip
        record = ScheduleRecord(
            schedule=self._next, image=image.digest, every_s=order.every_s, cron=order.cron, zone=order.zone, overlap=order.overlap,
            goal=encode(order.goal) if order.goal is not None else b"", args=encode(order.args) if order.args else b"",
            options=encode(options), due=due, created=now,
        )  # fmt: skip
        if image.body.kind == "host":
            raise Invalid(
                "argument", "a host process has no program to run", hint="schedule an image with a program", field="image"
            )
        self._birth(image, record, now)
        self._next += 1
        self._live[record.schedule] = record
        changes.append(Change(record))
        return record

    def changed(self) -> None:
        """The caller's append is made: look again when the next run is due."""
        self._left.clear()
        self._look()

    def cancel(self, schedule: int, changes: list[Change]) -> ScheduleRecord:
        """End a schedule; processes that it started go on."""
        return self._change(self.find(schedule), changes, state="cancelled", live=0)

    def pause(self, schedule: int, changes: list[Change]) -> ScheduleRecord:
        """Start no further run until `resume`."""
        return self._change(self.find(schedule), changes, state="paused")

    def resume(self, schedule: int, changes: list[Change]) -> ScheduleRecord:
        """Start runs again: what was due in the pause is not made up for, except the one run of an order for one."""
        record = self.find(schedule)
        now = self._core.clock.now()
        due = record.due
        if record.state == "paused" and due <= now:
            due = _following(record, now)[1] or due
        return self._change(record, changes, state="live", due=due)

    def _change(self, record: ScheduleRecord, changes: list[Change], **columns: Any) -> ScheduleRecord:
        changes.append(Change(record, record.seq))
        for name, value in columns.items():
            setattr(record, name, value)
        if not record.live:
            del self._live[record.schedule]
        return record

    # --- runs ---------------------------------------------------------------------------------------------------------------

    def ring(self, now: float) -> None:
        """Start the runs that are due, SCHEDULES_AT_ONCE_MAX at most; `earliest` then says that there are more."""
        if not self.is_running or self._core.closing:
            return
        due = [record for record in self._live.values() if self._is_due(record, now)]
        for record in sorted(due, key=lambda record: (record.due, record.schedule))[:SCHEDULES_AT_ONCE_MAX]:
            self._fire(record, now)
        self._look(tell=False)

    def _is_due(self, record: ScheduleRecord, now: float) -> bool:
        return record.state == "live" and record.due <= now and record.schedule not in self._left

    def _fire(self, record: ScheduleRecord, now: float) -> None:
        core = self._core
        image = core.images.by_digest(record.image)
        if not (self.owns(record.schedule) and core.runner.has_program(image)):
            log.warning("schedule_left schedule=%d image=%s", record.schedule, image.ref)
            self._left.add(record.schedule)
            return
        reached("schedule.due")
        try:
            self._start(image, record, now)
        except AgentOSError as error:
            self._note_failure(record, error, now)
        reached("schedule.fired")

    def _start(self, image: AgentImage, record: ScheduleRecord, now: float) -> None:
        core = self._core
        missed, due = _following(record, now)
        last = core.processes.get(record.last_pid) if record.overlap != "allow" else None
        changes: list[Change] = []
        if last is not None and record.overlap == "skip":
            self._go_on(record, due, missed + 1, changes)
            core.note(0, "skipped", {"schedule": record.schedule, "lives": last.pid, "runs": missed + 1}, changes)
            return
        birth = self._birth(image, record, now)
        if last is not None:
            kill(core, last, changes, by=0, why=f"schedule {record.schedule} replaced it")
            core.note(last.pid, "state", {"signal": "kill", "state": last.state, "schedule": record.schedule}, changes)
            changes = []
            reached("schedule.replaced")
        process = spawn(core, image, birth, None, changes)
        record.runs += 1
        record.last_pid = process.pid
        self._go_on(record, due, missed, changes)
        data = {"image": image.ref, "parent": 0, "name": process.record.name, "schedule": record.schedule}
        core.note(process.pid, "spawned", {**data, **({"missed": missed} if missed else {})}, changes)
        self.started(process.pid)

    def _go_on(self, record: ScheduleRecord, due: float | None, skipped: int, changes: list[Change]) -> None:
        """Make the schedule due next time; one that has no next time has done its work."""
        more = {"due": due} if due is not None else {"state": "done", "live": 0}
        self._change(record, changes, skipped=record.skipped + skipped, **more)

    def _note_failure(self, record: ScheduleRecord, error: AgentOSError, now: float) -> None:
        """Say why a run was not started. A schedule whose next time cannot be told either is paused."""
        changes: list[Change] = []
        try:
            missed, due = _following(record, now)
            self._go_on(record, due, missed + 1, changes)
        except AgentOSError:
            self._change(record, changes, state="paused")
        data = {"schedule": record.schedule, "error": str(error), "code": error.code}
        self._core.note(0, "schedule.failed", data, changes)

    def _birth(self, image: AgentImage, record: ScheduleRecord, now: float) -> Birth:
        """Return what a run is started with.

        Raises:
            Invalid: what a spawn would refuse, before anything has changed.
        """
        core, options = self._core, decode(record.options)
        layers = [core.layers.compile(Policy(text, source=source)) for source, text in options["policy"]]
        deadline_s = options["deadline_s"]
        if deadline_s is not None and not deadline_s > 0:
            raise Invalid("argument", f"deadline_s is `{deadline_s}`", hint="give seconds after the start", field="deadline_s")
        birth = Birth(
            goal=decode(record.goal) if record.goal else None, args=decode(record.args) if record.args else None, grant=options["grant"],
            layers=layers, budget=options["budget"], name=options["name"], weight=options["weight"],
            deadline=now + deadline_s if deadline_s is not None else 0.0, options={"snapshot": "changed"},
        )  # fmt: skip
        check_birth(birth)
        parse_limits(birth.budget)
        plan(core, image, birth.grant, None)
        return birth

    def _look(self, *, tell: bool = True) -> None:
        """Find out when the next run is due, and tell the sleeper."""
        if not self.is_running:
            return
        dues = [each.due for each in self._live.values() if each.state == "live" and each.schedule not in self._left]
        self.earliest = min(dues, default=None)
        if tell:
            self._core.waits.timer_changed.set()


def as_schedule(record: ScheduleRecord, ref: str) -> Schedule:
    """Return a schedule as the API shows it; `ref` is the name of its image."""
    options = decode(record.options)
    grant = options["grant"]
    return Schedule(
        id=record.schedule, state=record.state, image=ref, digest=record.image, every_s=record.every_s or None, cron=record.cron,
        zone=record.zone, due=record.due if record.state == "live" else None, overlap=record.overlap,
        goal=decode(record.goal) if record.goal else None, args=decode(record.args) if record.args else None,
        grant=None if grant is None else tuple(grant), name=options["name"] or "", runs=record.runs, skipped=record.skipped,
        last_pid=record.last_pid, created=record.created,
    )  # fmt: skip


def _first_due(order: Order, now: float) -> float:
    """Check when an order is due, and return its first time.

    Raises:
        Invalid: a time, zone or overlap that there is none of.
    """
    if order.overlap not in OVERLAPS:
        raise Invalid("argument", f"there is no overlap `{order.overlap}`", hint=f"use {', '.join(OVERLAPS)}", field="overlap")
    zone = parse_zone(order.zone)
    if (order.due or not (order.every_s or order.cron)) and not now < order.due < _TIME_MAX:
        raise Invalid("argument", "the first run would be in the past", hint="give a time that is still to come", field="at")
    if order.cron:
        return parse_cron(order.cron).next_after(max(now, order.due - 1), zone)
    if not order.every_s:
        return order.due
    if not SCHEDULE_EVERY_S_MIN <= order.every_s <= SCHEDULE_EVERY_S_MAX:
        hint = f"give {SCHEDULE_EVERY_S_MIN:g} to {SCHEDULE_EVERY_S_MAX:g} seconds"
        raise Invalid("argument", f"every is `{order.every_s}` seconds", hint=hint, field="every")
    return order.due or now + order.every_s


def _following(record: ScheduleRecord, now: float) -> tuple[int, float | None]:
    """Return how many runs after the one that is due were missed too, and when the next is due; None when there is none."""
    if record.cron:
        cron, zone = parse_cron(record.cron), parse_zone(record.zone)
        due, missed = cron.next_after(record.due, zone), 0
        while due <= now:
            missed += 1
            due = cron.next_after(due if missed < MISSED_COUNTED_MAX else now, zone)
        return missed, due
    if not record.every_s:
        return 0, None
    missed = max(int((now - record.due) // record.every_s), 0)
    due = record.due + (missed + 1) * record.every_s
    return missed, due if due > now else due + record.every_s


_TIME_MAX: Final = 32_503_680_000.0  # the year 3000: dates beyond are mistakes, milliseconds most of all
