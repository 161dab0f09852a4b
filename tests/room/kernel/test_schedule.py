"""Schedules: when runs are started, what becomes of missed ones, and that none is lost, doubled or started by a wrong kernel."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.abi.codec import decode
from agentos.abi.limits import SCHEDULES_AT_ONCE_MAX
from agentos.abi.values import Schedule
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock, Ledger
from tests.builders import advance, opened, refused, rows, settled

pytestmark = pytest.mark.anyio


@agentos.program("tick")
async def tick(sys: Any, *, stay: bool = False) -> float:
    """Return when it ran; or stay until it is told to go."""
    at = await sys.clock.now()
    if stay:
        await sys.msg.recv()
    return float(at)


IMAGE = agentos.Image.program("tick", version="1")
STAY: dict[str, Any] = {"args": {"stay": True}}


@asynccontextmanager
async def ticking(store: str | Path = ":memory:", clock: FakeClock | None = None, **options: Any) -> AsyncIterator[Kernel]:
    async with opened(store, clock=clock or FakeClock(1_800_000_000.0), **options) as kernel:
        yield kernel


async def passed(kernel: Kernel, *seconds: float) -> list[int]:
    """Let time pass in steps, and return the pids of the processes that there were so far."""
    for each in seconds:
        advance(kernel, each)
        await settled(kernel)
    return [info.pid for info in await kernel.ps(all=True)]


async def only(kernel: Kernel) -> Schedule:
    [found] = await kernel.schedules(all=True)
    return found


# --- times ----------------------------------------------------------------------------------------------------------------


async def test_a_run_is_started_every_so_often() -> None:
    async with ticking() as kernel:
        assert await kernel.schedule(IMAGE, every="1h", goal="look", name="hourly") == 1
        assert await passed(kernel, 3599) == []
        assert await passed(kernel, 1, 3600, 1800) == [1, 2]
        info = kernel.process(2).info
        assert (info.goal, info.name, info.exit and info.exit.value) == ("look", "hourly", 1_800_007_200.0)
        assert (await only(kernel)).runs == 2
        assert [decode(row.args)["schedule"] for row in rows(kernel, notes=True) if row.op == "note.spawned"] == [1, 1]


async def test_a_calendar_is_read_in_its_zone() -> None:
    start = datetime(2026, 3, 27, 12, tzinfo=UTC)
    async with ticking(clock=FakeClock(start.timestamp())) as kernel:
        await kernel.schedule(IMAGE, cron="30 2 * * *", zone="Europe/Berlin")
        values = [kernel.process(pid).info.exit.value for pid in await passed(kernel, *[3600] * 72)]  # type: ignore[union-attr]
        assert [datetime.fromtimestamp(value, UTC).isoformat()[:13] for value in values] == [
            "2026-03-28T02", "2026-03-29T01", "2026-03-30T01",
        ]  # fmt: skip
        assert (await only(kernel)).zone == "Europe/Berlin"


@pytest.mark.parametrize(
    "at",
    [
        1_800_000_060, "2027-01-15T08:01:00Z", "2027-01-15T09:01+01:00", datetime(2027, 1, 15, 8, 1, tzinfo=UTC),
        datetime(2027, 1, 15, 3, 1, tzinfo=timezone(timedelta(hours=-5))),
    ],
)  # fmt: skip
async def test_an_order_for_one_run_is_done_after_it(at: Any) -> None:
    async with ticking() as kernel:
        await kernel.schedule(IMAGE, at=at)
        assert (await only(kernel)).due == 1_800_000_060
        assert await passed(kernel, 59) == []
        assert await passed(kernel, 1, 86_400) == [1]
        done = await only(kernel)
        assert (done.state, done.due, done.runs) == ("done", None, 1)
        assert await kernel.schedules() == []


async def test_the_first_run_may_be_put_off() -> None:
    async with ticking() as kernel:
        await kernel.schedule(IMAGE, every=60, first=1_800_001_000)
        await kernel.schedule(IMAGE, cron="* * * * *", first="2027-01-15T09:00Z")
        assert await passed(kernel, 999) == []
        assert await passed(kernel, 1) == [1]
        assert [each.due for each in await kernel.schedules()] == [1_800_001_060, 1_800_003_600]


BAD: list[dict[str, Any]] = [
    {}, {"every": 60, "cron": "@daily"}, {"every": 0}, {"every": -5}, {"every": 0.5}, {"every": "soon"}, {"every": float("nan")},
    {"every": True}, {"every": 1e12}, {"every": [1]}, {"cron": "61 * * * *"}, {"cron": ""}, {"cron": "@daily", "zone": "Mars/Olympus"},
    {"at": 10**309}, {"at": -(10**309)}, {"every": 10**309},
    {"at": 5}, {"at": 0}, {"at": "yesterday"}, {"at": "2027-02-01T06:00"}, {"at": datetime(2027, 2, 1)}, {"at": 1_800_000_060_000},  # noqa: DTZ001
    {"at": float("nan")}, {"at": True}, {"at": 1_800_000_060, "first": 1_800_000_070}, {"every": 60, "first": 7},
    {"every": 60, "overlap": "queue"}, {"every": 60, "grant": ["nonsense.op"]}, {"every": 60, "budget": {"beer": 1}},
    {"every": 60, "policy": "no policy\nat all"}, {"every": 60, "name": ""}, {"every": 60, "weight": 0}, {"every": 60, "deadline_s": 0},
    {"every": 60, "goal": "x" * 300_000}, {"every": 60, "image": "missing:1"}, {"every": 60, "image": agentos.Image.host()},
]  # fmt: skip


@pytest.mark.parametrize("order", BAD, ids=str)
async def test_what_is_no_order_is_refused_and_leaves_nothing(order: dict[str, Any]) -> None:
    async with ticking() as kernel:
        assert (await refused(kernel.schedule(order.pop("image", IMAGE), **order))).startswith("invalid.")
        assert await kernel.schedules(all=True) == []
        assert await passed(kernel, 3600) == []


async def test_an_image_whose_order_was_refused_can_be_spawned_and_found_again(tmp_path: Path) -> None:
    async with ticking(tmp_path / "a.db") as kernel:
        assert await refused(kernel.schedule(IMAGE, every=60, weight=-1)) == "invalid.argument"
        await kernel.spawn(IMAGE, **STAY)
        await settled(kernel)
    async with ticking(tmp_path / "a.db") as kernel:
        assert kernel.process(1).info.digest == IMAGE.digest


# --- what a run gets --------------------------------------------------------------------------------------------------------


async def test_a_run_has_the_rights_policy_budget_and_deadline_that_were_ordered(tmp_path: Path) -> None:
    @agentos.program("spender")
    async def spender(sys: Any) -> list[str]:
        codes = []
        for path in ("/a", "/b", "/b"):
            try:
                await sys.fs.list(path)
                codes.append("done")
            except agentos.AgentOSError as error:
                codes.append(error.code)
        return codes

    image = agentos.Image.program("spender", capabilities=["fs.list /**"])
    order = {"grant": ["fs.list /b"], "policy": 'restrict "p"\ndeny fs.list when proc.goal == "stop"', "budget": {"calls": 1}}
    (tmp_path / "b").mkdir()
    async with ticking(workspace=tmp_path, programs=[spender]) as kernel:
        await kernel.schedule(image, every=60, goal="go", **order)
        await kernel.schedule(image, every=60, goal="stop", **order)
        await passed(kernel, 60)
        found = [kernel.process(pid).info.exit for pid in (1, 2)]
        assert [found[0] and found[0].value, found[1] and found[1].value] == [
            ["denied.capability", "done", "denied.budget"], ["denied.capability", "denied.policy", "denied.policy"],
        ]  # fmt: skip


async def test_a_run_is_ended_when_its_time_is_over() -> None:
    async with ticking() as kernel:
        await kernel.schedule(IMAGE, every=60, deadline_s=30, **STAY)
        await passed(kernel, 60, 30)
        ended = kernel.process(1).info.exit
        assert ended is not None
        assert (ended.state, ended.error and ended.error.code) == ("failed", "unavailable.timeout")


async def test_the_image_is_the_one_of_when_the_order_was_given() -> None:
    async with ticking() as kernel:
        await kernel.schedule(IMAGE, every=60)
        await kernel.register(agentos.Image.program("tick", version="1", limits={"calls": 0}))
        await passed(kernel, 60)
        assert kernel.process(1).info.digest == IMAGE.digest
        assert (await only(kernel)).digest == IMAGE.digest


# --- overlap ----------------------------------------------------------------------------------------------------------------


async def test_a_run_that_is_due_while_the_last_one_lives_is_skipped_and_counted() -> None:
    async with ticking() as kernel:
        await kernel.schedule(IMAGE, every=60, **STAY)
        assert await passed(kernel, 60, 60, 60) == [1]
        assert (await only(kernel)).skipped == 2
        await kernel.process(1).send("go")
        assert await passed(kernel, 60) == [1, 2]


async def test_overlapping_runs_may_be_allowed() -> None:
    async with ticking() as kernel:
        await kernel.schedule(IMAGE, every=60, overlap="allow", **STAY)
        assert await passed(kernel, 60, 60, 60) == [1, 2, 3]
        assert len(await kernel.ps()) == 3


async def test_a_run_may_replace_the_last_one_with_all_it_started() -> None:
    async with ticking() as kernel:
        await kernel.schedule(IMAGE, every=60, overlap="replace", **STAY)
        await passed(kernel, 60)
        child = await kernel.spawn(agentos.Image.host(), parent=1)
        await passed(kernel, 60)
        assert [info.pid for info in await kernel.ps()] == [3]
        assert [kernel.process(pid).info.state for pid in (1, child.pid)] == ["killed", "killed"]


async def test_a_run_that_cannot_replace_the_last_one_leaves_it_alone(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    image = agentos.Image.program("tick", capabilities=["ledger.*"])
    async with ticking(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel:
        await kernel.schedule(image, every=60, overlap="replace", **STAY)
        await passed(kernel, 60)
    async with ticking(tmp_path / "a.db", clock=FakeClock(1_800_000_060.0)) as kernel:
        await passed(kernel, 60)
        assert [info.state for info in await kernel.ps()] == ["waiting"]
        assert [row.op for row in rows(kernel, 0, notes=True)][-1] == "note.schedule.failed"


# --- what goes wrong --------------------------------------------------------------------------------------------------------


async def test_a_run_that_cannot_be_started_is_noted_and_the_next_one_is(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger")
    image = agentos.Image.program("tick", capabilities=["ledger.*"])
    async with ticking(tmp_path / "a.db", devices={"ledger": ledger.device}) as kernel:
        await kernel.schedule(image, every=60)
    async with ticking(tmp_path / "a.db") as kernel:
        assert await passed(kernel, 60) == []
        [failed] = [decode(row.args) for row in rows(kernel, notes=True) if row.op == "note.schedule.failed"]
        assert failed["schedule"] == 1
        assert "ledger" in failed["error"]
        kernel.mount("ledger", ledger.device)
        assert await passed(kernel, 60) == [1]
        assert (await only(kernel)).skipped == 1


async def test_a_kernel_without_the_program_leaves_the_run_to_one_that_has_it(tmp_path: Path) -> None:
    async def rare(sys: Any) -> str:
        return "ran"

    rare.__dict__["__agentos_program__"] = "rare"  # for one kernel, not for this interpreter
    clock = FakeClock(1_800_000_000.0)
    async with ticking(tmp_path / "a.db", clock, programs=[rare]) as kernel:
        await kernel.schedule(agentos.Image.program("rare"), every=60)
    async with ticking(tmp_path / "a.db", clock) as kernel:
        assert await passed(kernel, 60, 60) == []
        assert (await only(kernel)).skipped == 0
    async with ticking(tmp_path / "a.db", clock, programs=[rare]) as kernel:
        assert await passed(kernel, 0) == [1]
        assert ((await only(kernel)).runs, (await only(kernel)).skipped) == (1, 1)


async def test_missed_runs_become_one_and_the_rest_is_counted(tmp_path: Path) -> None:
    clock = FakeClock(1_800_000_000.0)
    async with ticking(tmp_path / "a.db", clock) as kernel:
        await kernel.schedule(IMAGE, every=60)
        await kernel.schedule(IMAGE, cron="*/5 * * * *")
    clock.advance(1000)
    async with ticking(tmp_path / "a.db", clock) as kernel:
        await settled(kernel)
        assert [(each.runs, each.skipped, each.due) for each in await kernel.schedules()] == [
            (1, 15, 1_800_001_020), (1, 2, 1_800_001_200),
        ]  # fmt: skip
        assert await passed(kernel, 20) == [1, 2, 3]


async def test_a_clock_that_is_set_back_starts_nothing_twice(tmp_path: Path) -> None:
    """due-times-rise"""
    async with ticking(tmp_path / "a.db") as kernel:
        await kernel.schedule(IMAGE, every=60)
        await kernel.schedule(IMAGE, cron="* * * * *")
        assert await passed(kernel, 60) == [1, 2]
        dues = [each.due for each in await kernel.schedules()]
    async with ticking(tmp_path / "a.db", FakeClock(1_799_990_000.0)) as kernel:
        assert await passed(kernel, 60, 60, 3600) == [1, 2]
        assert [each.due for each in await kernel.schedules()] == dues
        assert await passed(kernel, 6400) == [1, 2, 3, 4]


async def test_very_many_missed_runs_of_a_calendar_are_counted_to_a_limit(tmp_path: Path) -> None:
    clock = FakeClock(1_800_000_000.0)
    async with ticking(tmp_path / "a.db", clock) as kernel:
        await kernel.schedule(IMAGE, cron="* * * * *")
    clock.advance(30 * 86_400)
    async with ticking(tmp_path / "a.db", clock) as kernel:
        await settled(kernel)
        found = await only(kernel)
        assert (found.runs, found.skipped, found.due) == (1, 1_000, clock.now() + 60)


# --- changing them ----------------------------------------------------------------------------------------------------------


async def test_an_unscheduled_order_starts_nothing_more_and_what_it_started_goes_on() -> None:
    async with ticking() as kernel:
        await kernel.schedule(IMAGE, every=60, **STAY)
        await passed(kernel, 60)
        await kernel.unschedule(1)
        assert await passed(kernel, 600) == [1]
        assert kernel.process(1).info.state == "waiting"
        assert (await only(kernel)).state == "cancelled"
        assert await refused(kernel.unschedule(1)) == "invalid.argument"
        assert await refused(kernel.pause_schedule(7)) == "invalid.argument"


async def test_a_paused_order_makes_up_for_nothing_but_the_one_run_of_an_order_for_one() -> None:
    async with ticking() as kernel:
        await kernel.schedule(IMAGE, every=60)
        await kernel.schedule(IMAGE, at=1_800_000_100)
        for schedule in (1, 2):
            await kernel.pause_schedule(schedule)
        assert await passed(kernel, 150) == []
        assert [each.state for each in await kernel.schedules()] == ["paused", "paused"]
        for schedule in (1, 2):
            await kernel.resume_schedule(schedule)
        await settled(kernel)
        assert [each.last_pid for each in await kernel.schedules(all=True)] == [0, 1]
        assert await passed(kernel, 30) == [1, 2]


async def test_orders_outlive_their_kernel(tmp_path: Path) -> None:
    clock = FakeClock(1_800_000_000.0)
    async with ticking(tmp_path / "a.db", clock) as kernel:
        await kernel.schedule(IMAGE, every=60, goal={"a": 1}, overlap="allow")
        await kernel.schedule(IMAGE, every=60)
        await kernel.pause_schedule(2)
        before = await kernel.schedules()
    async with ticking(tmp_path / "a.db", clock) as kernel:
        assert await kernel.schedules() == before
        assert await kernel.schedule(IMAGE, every=60) == 3
        assert await passed(kernel, 60) == [1, 2]


# --- being a good neighbour -------------------------------------------------------------------------------------------------


async def test_a_far_order_leaves_the_kernel_idle_and_a_due_one_does_not() -> None:
    async with ticking() as kernel:
        await kernel.schedule(IMAGE, every=60)
        await kernel.run_until_idle(1)
        advance(kernel, 60)
        await kernel.run_until_idle(1)
        assert kernel.process(1).info.state == "exited"


async def test_a_kernel_that_resumes_nothing_starts_no_runs_either(tmp_path: Path) -> None:
    clock = FakeClock(1_800_000_000.0)
    async with ticking(tmp_path / "a.db", clock) as kernel:
        await kernel.schedule(IMAGE, every=60)
    clock.advance(100)
    async with ticking(tmp_path / "a.db", clock, resume=False) as kernel:
        assert await passed(kernel, 100) == []


async def test_a_kernel_starts_only_the_runs_that_are_its_own(tmp_path: Path) -> None:
    async with ticking(tmp_path / "a.db") as kernel:
        await kernel.schedule(IMAGE, every=60)
        await kernel.schedule(IMAGE, every=60)
    opening = opened(tmp_path / "a.db", clock=FakeClock(1_800_000_000.0))
    opening.owns = lambda schedule: schedule == 2
    async with opening as kernel:
        assert await passed(kernel, 60, 60) == [1, 2]
        assert [each.runs for each in await kernel.schedules()] == [0, 2]


async def test_more_runs_than_are_started_at_once_are_all_started() -> None:
    async with ticking() as kernel:
        for _ in range(SCHEDULES_AT_ONCE_MAX + 5):
            await kernel.schedule(IMAGE, every=60)
        assert len(await passed(kernel, 60)) == SCHEDULES_AT_ONCE_MAX + 5
