"""The part of the embedded API for standing orders to spawn."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from agentos.abi.image import AgentImage
from agentos.abi.records import Change, ScheduleRecord
from agentos.abi.units import parse_duration_s
from agentos.abi.values import Schedule
from agentos.errors import Invalid
from agentos.kernel.schedule import Order, as_schedule
from agentos.runtime.base import KernelBase
from agentos.runtime.images import load_image
from agentos.runtime.policies import as_policies

__all__ = ["Schedules"]


class Schedules(KernelBase):
    """Standing orders to spawn; a base of `Kernel`."""

    async def schedule(  # noqa: PLR0913 - the frozen API
        self,
        image: str | Path | AgentImage,
        *,
        every: float | str | None = None,
        cron: str | None = None,
        at: float | str | datetime | None = None,
        goal: Any = None,
        args: dict[str, Any] | None = None,
        grant: Sequence[str] | None = None,
        policy: Any = None,
        budget: dict[str, Any] | None = None,
        name: str | None = None,
        weight: float = 1,
        deadline_s: float | None = None,
        overlap: str = "skip",
        zone: str = "UTC",
        first: float | str | datetime | None = None,
    ) -> int:
        """Have processes of an image started again and again, or once: give exactly one of `every`, `cron` and `at`. Returns its number.

        Runs that were due while no kernel ran become one, as soon as one runs. What a run is started with is as for `spawn`, fixed now:
        exactly this image, by its digest, and the policies as they read today.

        Args:
            image: As for `spawn`; it has a program.
            every: Seconds from one run to the next, or a duration such as ``15m``. The first is one such time from now.
            cron: Five fields, ``minute hour day-of-month month day-of-week``, or ``@daily`` and the like, read in `zone`.
            at: Of one run: seconds since the epoch, ISO text with its offset, or a datetime with its zone.
            goal: As for `spawn`.
            args: As for `spawn`.
            grant: As for `spawn`, by the host.
            policy: As for `spawn`.
            budget: As for `spawn`, of each process.
            name: As for `spawn`.
            weight: As for `spawn`.
            deadline_s: Seconds after its start at which each process is ended.
            overlap: What becomes of a run that is due while the last process lives: ``skip`` it, ``allow`` it, or ``replace`` that process,
                which is killed.
            zone: Time zone of `cron`, such as ``Europe/Berlin``.
            first: No run before this time; with `every` it is the time of the first one. Written as `at`.

        Raises:
            Invalid: the times, or what `spawn` would refuse.
            Unavailable: `unavailable.overloaded`, there are SCHEDULES_MAX.
        """
        _expect_one(every, cron, at, first)
        core = self.core
        order = Order(
            every_s=0.0 if every is None else _seconds(every), cron=cron or "", zone=zone, overlap=overlap,
            due=_moment(first, "first") if at is None else _moment(at, "at"), goal=goal, args=args, grant=grant,
            layers=[core.layers.compile(each) for each in as_policies(policy)], budget=budget, name=name, weight=weight,
            deadline_s=deadline_s,
        )  # fmt: skip
        changes: list[Change] = []
        record: ScheduleRecord = core.schedules.add(self._registered(image), order, changes)
        await self._note(record, "scheduled", changes)
        return record.schedule

    async def schedules(self, *, all: bool = False) -> list[Schedule]:  # noqa: A002 - as `Kernel.ps`
        """Return the schedules that live, paused ones too, oldest first; with `all`, those that are done or cancelled too."""
        known = {record.schedule: record for record in self.core.schedules}
        records = self.core.store.current(ScheduleRecord, live=None) if all else known.values()
        return [
            as_schedule(known.get(each.schedule, each), self.core.images.by_digest(each.image).ref) for each in records
        ]  # fmt: skip

    async def unschedule(self, schedule: int) -> None:
        """End a schedule. Processes that it has started go on.

        Raises:
            Invalid: there is no live schedule of that number.
        """
        changes: list[Change] = []
        await self._note(self.core.schedules.cancel(schedule, changes), "unscheduled", changes)

    async def pause_schedule(self, schedule: int) -> None:
        """Have a schedule start nothing until it is resumed.

        Raises:
            Invalid: as `unschedule`.
        """
        changes: list[Change] = []
        await self._note(self.core.schedules.pause(schedule, changes), "schedule.paused", changes)

    async def resume_schedule(self, schedule: int) -> None:
        """Have a schedule start runs again. What was due meanwhile is not made up for, but the one run of `at` is.

        Raises:
            Invalid: as `unschedule`.
        """
        changes: list[Change] = []
        await self._note(self.core.schedules.resume(schedule, changes), "schedule.resumed", changes)

    def _registered(self, image: str | Path | AgentImage) -> AgentImage:
        """Return a registered image; its row is its own, so that it stays when the order is refused."""
        core = self.core
        changes: list[Change] = []
        found = image if isinstance(image, AgentImage) else load_image(core, image, changes)
        found = core.images.register(found, changes, core.clock.now())
        if changes:
            core.note(0, "image", {"image": found.ref, "digest": found.digest}, changes)
        return found

    async def _note(self, record: ScheduleRecord, what: str, changes: list[Change]) -> None:
        data = {"schedule": record.schedule, "state": record.state, "due": record.due}
        seq = self.core.note(0, what, data, changes)
        self.core.schedules.changed()
        await self.core.journal.durable(seq)


def _expect_one(every: object, cron: object, at: object, first: object) -> None:
    """Refuse an order that has none of the three times, or several."""
    if sum(each is not None for each in (every, cron, at)) != 1:
        raise Invalid("argument", "a schedule has one of every, cron and at", hint='for example every="1h"', field="every")
    if first is not None and at is not None:
        raise Invalid("argument", "`at` is the only run, and so the first", hint="leave `first` out", field="first")


def _seconds(every: float | str) -> float:
    try:
        seconds = parse_duration_s(every) if isinstance(every, str) else float(every)
    except (TypeError, ValueError, OverflowError) as error:
        raise Invalid("argument", f"every: {error}", hint="give seconds, or for example 15m", field="every") from error
    if isinstance(every, bool) or not seconds > 0:
        raise Invalid("argument", f"every is `{every}`", hint="give seconds, or for example 15m", field="every")
    return seconds


_FAR: Final = 1e15
"""Past every time that a schedule takes, in seconds; a whole number may be larger than any float."""


def _moment(at: float | str | datetime | None, field: str) -> float:
    """Return a time in seconds since the epoch, 0 for None.

    Raises:
        Invalid: it is no time, or does not say in which zone it is meant.
    """
    if at is None:
        return 0.0
    if isinstance(at, int | float) and not isinstance(at, bool):
        return float(max(-1.0, min(at, _FAR)))
    hint = "write for example 2030-01-31T06:00:00+01:00"
    try:
        moment = datetime.fromisoformat(at) if isinstance(at, str) else at
    except ValueError as error:
        raise Invalid("argument", f"`{at}` is no time: {error}"[:300], hint=hint, field=field) from error
    if not isinstance(moment, datetime):
        raise Invalid("argument", f"{field} is a `{type(at).__name__}`", hint=hint, field=field)
    if moment.utcoffset() is None:
        raise Invalid("argument", f"`{at}` does not say in which zone it is meant", hint=hint, field=field)
    return moment.timestamp()
