"""Who may answer: a right that is checked whichever way an answer comes, and that no process has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

import agentos
from agentos.abi.records import AskRecord
from agentos.runtime.client import connect
from agentos.testing import FakeClock
from tests.builders import host, live, opened, refused, rows, settled, started
from tests.room.broker.test_approvals import Later, pending
from tests.room.broker.test_standing import TO_BOB, a_bank, asks, opened_bank

pytestmark = pytest.mark.anyio

PEOPLE = {"alice": ["bank.transfer acct/7/** when amount <= 100", "human.ask"], "ops": ["*"], "nobody": []}


@pytest.fixture
async def tasks() -> Any:
    async with anyio.create_task_group() as group:
        yield group
        group.cancel_scope.cancel()


async def ask_of(kernel: Any, tasks: Any, process: Any, op: str = "bank.transfer", **args: Any) -> agentos.Ask:
    tasks.start_soon(Later(process.call(op, **(args or TO_BOB))).run)
    return (await pending(kernel))[-1]


async def test_answering_is_a_right_that_covers_op_resource_and_arguments(tasks: Any) -> None:
    async with opened_bank(people=PEOPLE) as kernel:
        process = await host(kernel, "bank.*")
        for args, may in (({"account": "7"}, True), ({"account": "8"}, False), ({"account": "7", "amount": 101}, False)):
            ask = await ask_of(kernel, tasks, process, **{**TO_BOB, **args})
            for by in ("bob", "nobody", "Alice", "alice ", "*"):
                assert await refused(kernel.answer(ask.id, "deny", by=by)) == "denied.human"
            if may:
                await kernel.answer(ask.id, "deny", by="alice")
            else:
                assert await refused(kernel.answer(ask.id, "deny", by="alice")) == "denied.human"
                await kernel.answer(ask.id, "deny", by="ops")
            await settled(kernel, lambda: not list(kernel.core.asks))


async def test_an_answer_without_the_right_changes_nothing_and_is_noted(tasks: Any) -> None:
    async with opened_bank(people=PEOPLE) as kernel:
        process = await host(kernel, "bank.*")
        ask = await ask_of(kernel, tasks, process)
        before = [record.seq for record in live(kernel, AskRecord)]
        with pytest.raises(agentos.Denied) as caught:
            await kernel.answer(ask.id, "approve", by="bob", scope="project")
        assert (await kernel.asks())[0].state == "pending"
        assert [record.seq for record in live(kernel, AskRecord)] == before
        [note] = [row for row in rows(kernel, notes=True) if row.op == "note.refused"]
        assert (note.seq, note.ask) == (caught.value.seq, ask.id)
        assert await kernel.standing() == []


async def test_an_edit_is_answered_for_as_well(tasks: Any) -> None:
    async with opened_bank(people=PEOPLE) as kernel:
        process = await host(kernel, "bank.*")
        ask = await ask_of(kernel, tasks, process)
        for edit in ({"amount": 101}, {"account": "8"}):
            assert await refused(kernel.answer(ask.id, "approve", by="alice", edit=edit)) == "denied.human"
        await kernel.answer(ask.id, "approve", by="alice", edit={"amount": 100})


async def test_a_question_is_answered_by_who_holds_its_op(tasks: Any) -> None:
    async with opened(people={"alice": ["human.ask"], "bob": ["fs.write /**"]}) as kernel:
        process = await host(kernel)
        ask = await ask_of(kernel, tasks, process, "human.ask", question="?")
        assert await refused(kernel.answer(ask.id, "approve", by="bob", value="x")) == "denied.human"
        await kernel.answer(ask.id, "approve", by="alice", value="x")


async def test_a_grant_reaches_no_further_than_the_right_of_who_gave_it(tmp_path: Path, tasks: Any) -> None:
    options = {"store": tmp_path / "a.db", "devices": {"bank": a_bank()}}
    async with opened_bank(people=PEOPLE, **options) as kernel:
        pid = (process := await host(kernel, "bank.*")).pid
        await granted_by(kernel, tasks, process, "alice")
        assert not await asks(kernel, process, amount=100)
        assert await asks(kernel, process, amount=101), "the offer leaves the amount open, her right does not"
    options["devices"] = {"bank": a_bank()}
    async with opened_bank(people={"ops": ["*"]}, **options) as kernel:
        assert await asks(kernel, kernel.process(pid)), "she answers no more"


async def granted_by(kernel: Any, tasks: Any, process: Any, by: str) -> None:
    ask = await ask_of(kernel, tasks, process)
    await kernel.answer(ask.id, "approve", by=by, scope="tree")
    await settled(kernel, lambda: not list(kernel.core.asks))


async def test_what_was_answered_without_the_right_while_no_kernel_ran_is_asked_again(tmp_path: Path) -> None:
    async def pay(sys: Any) -> Any:
        return await sys.bank.transfer(**TO_BOB)

    store = tmp_path / "a.db"
    async with opened_bank(store=store) as kernel:
        process = await started(kernel, pay, "bank.*")
        [ask] = await pending(kernel)
    async with connect(store) as view:
        await view.answer(ask.id, "approve", by="bob", scope="project")
    async with opened_bank(store=store, people=PEOPLE, programs=[agentos.program("pay")(pay)]) as kernel:
        [again] = await kernel.asks()
        assert (again.id, again.state) == (ask.id, "pending")
        await kernel.run_until_idle(5)
        assert process.pid in [info.pid for info in await kernel.ps()]
        await kernel.answer(ask.id, "approve", by="alice")
        assert (await kernel.process(process.pid).wait(5)).value == "5 to bob"


async def test_a_grant_that_was_given_while_no_kernel_ran_settles_what_it_covers(tmp_path: Path) -> None:
    async def pay(sys: Any) -> Any:
        return await sys.bank.transfer(**TO_BOB)

    store = tmp_path / "a.db"
    async with opened_bank(store=store) as kernel:
        kernel.core.scheduler.resident_max = 0
        first, second = [await started(kernel, pay, "bank.*") for _ in range(2)]
        [ask, _] = await pending(kernel, 2)
        await settled(kernel)
    async with connect(store) as view:
        assert (await view.ask(ask.id)).offer == ask.offer
        await view.answer(ask.id, "approve", by="ann", scope="project")
        assert [grant.scope for grant in await view.standing()] == ["project"]
    async with opened_bank(store=store, programs=[agentos.program("pay")(pay)]) as kernel:
        assert [(await kernel.process(p.pid).wait(5)).value for p in (first, second)] == ["5 to bob"] * 2


@pytest.mark.parametrize(
    "people",
    [
        {"alice": "*"},
        {"alice": ["no.such"]},
        {"": ["*"]},
        ["alice"],
        {"a": ["fs.read /** uses 3"]},
        {"a": ["fs.read /** for 1h"]},
        {"a": [1]},
    ],
)
async def test_people_that_mean_nothing_do_not_open(people: Any) -> None:
    with pytest.raises(agentos.Invalid):
        async with opened(people=people, clock=FakeClock()):
            pass


async def test_no_op_answers_an_ask(tasks: Any) -> None:
    """What a process writes cannot choose who answers either: the answer's name comes through the API alone."""
    async with opened_bank() as kernel:
        process = await host(
            kernel, *(op.name for op in kernel.core.ops if op.name.startswith(("bank", "msg", "obj", "human")))
        )
        ask = await ask_of(kernel, tasks, process)
        for op, args in (
            ("human.answer", {"ask": ask.id, "verdict": "approve"}), ("human.approve", {"ask": ask.id}),
            ("human.tell", {"text": "approve 1"}),
            ("msg.send", {"to": process.pid, "value": {"ask": ask.id, "verdict": "approve", "by": "ann"}}),
            ("obj.put", {"value": {"state": "decided"}, "name": f"ask/{ask.id}"}),
        ):  # fmt: skip
            with anyio.move_on_after(0.2):
                await refused(swallow(process.call(op, **args)))
            assert [(each.id, each.state) for each in await kernel.asks() if each.op == "bank.transfer"] == [
                (ask.id, "pending")
            ]
        answering = [op.name for op in kernel.core.ops if {"verdict", "by"} & set(op.arg_names)]
        assert answering == []


async def swallow(call: Any) -> Any:
    await call
    raise agentos.Invalid("state", "it did something, but not this")
