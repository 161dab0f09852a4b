"""Three weeks of one job, told once: everything that has to outlive a kernel, in the order in which a person meets it.

A bookkeeper sleeps a day at a time, has a child count the inbox, and at the end of each week asks a person, pays and writes a page.
Kernels crash, nobody looks for days, a person answers wrongly and goes back; at the end the run is shown to repeat itself, backed up,
archived and erased.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import agentos
from agentos.runtime.boot import Open
from agentos.runtime.kernel import Kernel
from agentos.testing import FakeClock
from tests.builders import crash, settled

pytestmark = pytest.mark.anyio
DAY, START_S, SECRET_WORD = 86_400.0, 1_800_000_000.0, "Rosinante"
GRANT = (
    "fs.read, fs.list /inbox/**", "fs.write /books/**", "bank.pay", "proc.spawn counter:1", "proc.wait", "proc.list", "msg.send",
)  # fmt: skip


@agentos.program("bookkeeper")
async def bookkeeper(sys: Any, days: int) -> dict[str, Any]:
    state = sys.state or {"day": 0, "seen": 0, "paid": []}
    while state["day"] < days:
        await sys.clock.sleep(DAY)
        await sys.proc.spawn("counter:1", args={"to": sys.pid}, grant=["fs.list /inbox/**", f"msg.send {sys.pid}"])
        message = await sys.msg.recv(channel="counts", timeout_s=3600)
        state = {**state, "day": state["day"] + 1, "seen": message.value}
        await sys.obj.append("days", {"day": state["day"], "seen": message.value})
        if state["day"] % 7 == 0:
            week = state["day"] // 7
            amount = await sys.human.ask(f"week {week}: {message.value} letters. Pay how much?", timeout_s=30 * DAY)
            await sys.bank.pay(amount=amount, memo=f"week {week} {SECRET_WORD}")
            await sys.fs.write(f"/books/week-{week}.md", f"paid {amount}\n")
            state = {**state, "paid": [*state["paid"], amount]}
        await sys.save(state)
    return {"paid": state["paid"], "days": len(await sys.obj.get("days"))}


@agentos.program("counter")
async def counter(sys: Any, to: int) -> None:
    listed = await sys.fs.list("/inbox")
    await sys.msg.send(to, len(listed["items"]), channel="counts")


@agentos.program("auditor")
async def auditor(sys: Any) -> str:
    return f"looked at {await sys.clock.now():.0f}"


class Office:
    """A workspace, a bank that keeps its payments by key, and the store in which it all happens."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace, self.store = folder, folder / "w", folder / "store.db"
        (self.workspace / "inbox").mkdir(parents=True)
        (self.workspace / "books").mkdir()
        (self.workspace / "inbox" / "letter.txt").write_text("dear all")
        self.paid: dict[str, int] = {}
        self.clock = FakeClock(START_S)

    def bank(self) -> agentos.Device:
        device = agentos.Device("bank")

        @device.op(effect="keyed")
        async def pay(ctx: agentos.Call, amount: int, memo: str) -> str:
            self.paid[ctx.key] = amount
            return memo

        return device

    def opened(self) -> Open:
        return agentos.open(
            self.store, workspace=self.workspace, devices={"bank": self.bank()}, clock=self.clock, control=False, grace_s=0.2,
            durability="fast", programs=[bookkeeper, counter, auditor],
        )  # fmt: skip

    async def days(self, kernel: Kernel, number: int) -> None:
        """Let days go by, one at a time, with whatever is due on each."""
        await settled(kernel)
        for _ in range(number):
            self.clock.advance(DAY)
            await settled(kernel)

    def crashed(self, kernel: Kernel) -> None:
        """Go on from what a crash at this instant leaves."""
        copy = self.store.with_name(f"after-{self.store.name}")
        crash(kernel, self.store, copy)
        self.store = copy


async def answer(kernel: Kernel, amount: int) -> None:
    (ask,) = await kernel.asks()
    await kernel.answer(ask.id, "approve", by="Ada", value=amount)
    await settled(kernel)


async def first_week(office: Office) -> tuple[int, int]:
    """The first seven days, and a crash while the question waits. Returns the job's pid and the schedule's number."""
    async with office.opened() as kernel:
        await kernel.register(agentos.Image.program("counter", ["fs.list /inbox/**", "msg.send"]))
        job = await kernel.spawn(agentos.Image.program("bookkeeper", GRANT), args={"days": 21}, name="books")
        schedule = await kernel.schedule(agentos.Image.program("auditor"), every=DAY, first=START_S + DAY / 2)
        await office.days(kernel, 7)
        assert [ask.kind for ask in await kernel.asks()] == ["question"]
        office.crashed(kernel)
        return job.pid, schedule


async def paid_and_named(office: Office, job: int) -> str:
    """The answer of the first week, a checkpoint, and a crash right after it. Returns the checkpoint."""
    async with office.opened() as kernel:
        await settled(kernel)
        await answer(kernel, 70)
        saved = await kernel.process(job).checkpoint("week 1 is paid")
        office.crashed(kernel)
    assert (list(office.paid.values()), (office.workspace / "books" / "week-1.md").read_text()) == ([70], "paid 70\n")
    return saved


async def wrong_and_back(office: Office, job: int, schedule: int, saved: str) -> None:
    """Five days without a kernel, a second week that is paid wrongly, its page undone, the job restored, and paid rightly."""
    office.clock.advance(5 * DAY)
    async with office.opened() as kernel:
        await settled(kernel)
        (order,) = await kernel.schedules()
        assert (order.id, order.runs + order.skipped >= 11, order.runs) == (
            schedule,
            True,
            8,
        )  # all that was missed became one run
        await office.days(kernel, 6)
        await answer(kernel, 999)
        assert (office.workspace / "books" / "week-2.md").read_text() == "paid 999\n"
        plan = await kernel.undo(checkpoint=saved, dry_run=True)
        undone = await kernel.undo(checkpoint=saved)
        assert plan.deleted == undone.deleted == ("/books/week-2.md",)
        assert [effect["op"] for effect in undone.not_covered] == ["bank.pay"]
        report = await kernel.restore(saved)
        assert report.pids == {job: job}
        effects = [(effect["op"], effect["undoable"]) for effect in report.effects if effect["op"] != "msg.send"]
        assert effects == [("bank.pay", False), ("fs.write", True)]
        await office.days(kernel, 7)
        await answer(kernel, 80)
        office.crashed(kernel)


async def ended_and_replayed(office: Office, kernel: Kernel, job: int) -> None:
    """The third week, the end, and the proof that the run repeats itself."""
    await settled(kernel)
    await office.days(kernel, 7)
    await answer(kernel, 90)
    assert (await kernel.process(job).wait(5)).value == {"paid": [70, 80, 90], "days": 21}
    assert list(office.paid.values()) == [70, 999, 80, 90]
    replayed = await kernel.replay(job)
    assert (replayed.ok, replayed.exit_equal, replayed.divergence) == (True, True, None)


async def tried_otherwise(office: Office, kernel: Kernel, saved: str) -> int:
    """What if week 2 had been dearer? Returns the pid of who found out."""
    other = await kernel.fork(checkpoint=saved)
    await office.days(kernel, 7)
    await answer(kernel, 800)
    assert (office.workspace / "books" / "week-2.md").read_text() == "paid 800\n"
    assert (await kernel.diff(saved)).items
    await other.signal("kill")
    return other.pid


async def put_away(office: Office, kernel: Kernel, job: int, other: int) -> None:
    """Backed up, archived, still readable, then erased: nothing of it is left in the store's files."""
    await kernel.backup(office.folder / "backup.db")
    moved = await kernel.archive()
    assert moved.rows > 100
    assert [entry.op async for entry in kernel.audit(pid=job, op="bank.pay")] == ["bank.pay"] * 4
    assert (await kernel.replay(job)).ok
    await kernel.erase(tree=job)
    await kernel.erase(tree=other)
    assert (await kernel.verify_audit()).ok
    assert {finding.state for finding in await kernel.inspect()} == {"ok"}
    held = b"".join(path.read_bytes() for path in office.folder.glob(f"{office.store.name}*"))
    assert SECRET_WORD.encode() not in held


async def test_a_job_of_three_weeks_outlives_its_kernels_and_a_wrong_answer(tmp_path: Path) -> None:
    office = Office(tmp_path)
    job, schedule = await first_week(office)
    saved = await paid_and_named(office, job)
    await wrong_and_back(office, job, schedule, saved)
    async with office.opened() as kernel:
        await ended_and_replayed(office, kernel, job)
        other = await tried_otherwise(office, kernel, saved)
        await kernel.unschedule(schedule)
        await kernel.drop_checkpoint(saved)
        await put_away(office, kernel, job, other)
    office.store = tmp_path / "backup.db"
    async with office.opened() as kernel:
        assert (await kernel.verify_audit()).ok
        assert (await kernel.process(job).wait()).value == {"paid": [70, 80, 90], "days": 21}
        assert SECRET_WORD in str([entry.args async for entry in kernel.audit(pid=job, op="bank.pay")])
